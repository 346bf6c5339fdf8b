"""Memory sizes as people write them."""

from __future__ import annotations

import re
from typing import Final

from mrtd.errors import SpecError

_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LARGEST: Final = 1 << 52  # the widest guest physical address space
_SIZE: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,6}))?\s*([KMGT])(?:iB)?")


def memory_bytes(text: str, *, origin: str, field: str) -> int:
    """Bytes of a size such as ``2 GiB``, ``3.5GiB`` or ``4096M``.

    Units are binary, with or without ``iB``: QEMU's ``-m 4G`` is 4 GiB too. A bare number has no
    unit and ``GB`` is decimal by the book but binary to many tools, so both are refused.

    Raises:
        SpecError: not a size, no whole number of MiB, or more than a guest can address.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise SpecError(
            f"{text!r} is not a memory size",
            origin=origin,
            field=field,
            hint="write a number with a binary unit, such as 2 GiB, 3.5 GiB or 4096M",
        )
    whole, fraction, unit = match.groups()
    scale = _UNITS[unit]
    digits: str = fraction or ""
    numerator = int(whole + digits) * scale
    size, rest = divmod(numerator, int("1" + "0" * len(digits)))
    if rest or size == 0 or size % (1 << 20):
        raise SpecError(f"{text!r} is not a whole number of MiB", origin=origin, field=field)
    if size > _LARGEST:
        raise SpecError(f"{text!r} is more than 4 PiB", origin=origin, field=field)
    return size


def format_bytes(size: int) -> str:
    """A size in the largest binary unit that keeps it a whole number, such as ``3584 MiB``."""
    for unit, scale in reversed(_UNITS.items()):
        if size and size % scale == 0:
            return f"{size // scale} {unit}iB"
    return f"{size} B"
