"""Variable stores for firmware: a blank one with variables put in, such as a boot entry.

OVMF given by ``-bios`` starts from the store in front of its code only where it is built with
Secure Boot; of Debian's, that is 2022.11.

Sources: edk2 MdeModulePkg/Include/Guid/VariableFormat.h; UEFI 2.10, 3.1.3 (load options) and
10.3.5 (media device paths).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import Final

from fixtures.varstore import Variable, variable
from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import AUTHENTICATED_VARIABLE, GLOBAL_VARIABLE

_STORE_HEADER: Final = 28
_ACTIVE: Final = 1
_END: Final = b"\x7f\xff\4\0"


def with_variables(blank: bytes, variables: Sequence[Variable]) -> bytes:
    """A store that holds variables.

    Args:
        blank: an authenticated variable store without variables (``OVMF_VARS*.fd``).
        variables: what to put in.

    Raises:
        MalformedFirmware: no blank store of this kind.
    """
    at = int.from_bytes(blank[48:50], "little")
    if blank[at : at + 16] != AUTHENTICATED_VARIABLE:
        raise MalformedFirmware("no authenticated variable store", origin="OVMF_VARS", offset=at)
    start = at + _STORE_HEADER
    written = b"".join(map(variable, variables))
    if blank[start : start + len(written)].strip(b"\xff"):
        raise MalformedFirmware("not blank", origin="OVMF_VARS", offset=start)
    return blank[:start] + written + blank[start + len(written) :]


def boot_entry(
    *, partition: str, first: int, sectors: int, path: str, options: str, name: str = "mrtd example"
) -> list[Variable]:
    """``Boot0000`` and a ``BootOrder`` with it alone.

    Args:
        partition: unique GUID of the first partition of a GPT disk.
        first: its first sector.
        sectors: its length.
        path: of an EFI file on it, such as ``EFI/BOOT/BOOTX64.EFI``.
        options: the file's load options, its command line.
        name: what menus show.
    """
    hard_drive = struct.pack("<BBHIQQ16sBB", 4, 1, 42, 1, first, sectors,
                             uuid.UUID(partition).bytes_le, 2, 2)  # fmt: skip
    file = ("\\" + path.replace("/", "\\") + "\0").encode("utf-16-le")
    where = hard_drive + struct.pack("<BBH", 4, 4, 4 + len(file)) + file + _END
    data = struct.pack("<IH", _ACTIVE, len(where)) + (name + "\0").encode("utf-16-le")
    data += where + (options + "\0").encode("utf-16-le")
    return [
        Variable(GLOBAL_VARIABLE, "Boot0000", data),
        Variable(GLOBAL_VARIABLE, "BootOrder", b"\0\0"),
    ]
