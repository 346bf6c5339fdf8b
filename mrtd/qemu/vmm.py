"""VMM profiles: what the host's QEMU and KVM decide about a measurement, by version.

Rows are facts with a source; the first one that fits a version counts.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.firmware.tdvf import SectionType
from mrtd.launch.spec import PageOrder

Version = tuple[int, ...]

# qemu hw/i386/tdvf.c: other types are "unsupported section type"
QEMU_SECTION_TYPES: Final = frozenset(
    {SectionType.BFV, SectionType.CFV, SectionType.TD_HOB, SectionType.TEMP_MEM}
)
# First upstream release with the tdx-guest object (qemu target/i386/kvm/tdx.c)
FIRST_UPSTREAM_TDX: Final = (10, 1)
OTHER_VERSION: Final = "the installed QEMU is"
"""How the reason begins why a QEMU was not asked that is not the one of the spec."""


class PageOrderRow(msgspec.Struct, frozen=True):
    """Default page order for versions ``first <= version < before``.

    Attributes:
        first: first version.
        before: first version that it does not describe.
        order: how pages are added and extended.
        source: where that is known from.
        upstream: whether it is the order of upstream KVM and QEMU, and not of a patched host.
    """

    first: Version
    before: Version
    order: PageOrder
    source: str
    upstream: bool = False


PAGE_ORDERS: Final = (
    PageOrderRow(
        FIRST_UPSTREAM_TDX,
        (10**4,),
        PageOrder.PER_PAGE,
        "upstream KVM >= 6.16: tdx_gmem_post_populate adds, then extends each page",
        upstream=True,
    ),
    PageOrderRow(
        (9,),
        FIRST_UPSTREAM_TDX,
        PageOrder.PER_PAGE,
        "Canonical's 9.2.1+tdx2.0 of Ubuntu 25.04",
    ),
    PageOrderRow(
        (8, 2),
        (9,),
        PageOrder.TWO_PASS,
        "KVM TDX v19 hosts: Canonical's 8.2.2+tdx of Ubuntu 24.04, qemu-tdx upstream-v5",
    ),
    PageOrderRow((0,), (8, 2), PageOrder.PER_PAGE, "out-of-tree KVM before v19, QEMU 7.2 to 8.1"),
)


class HeaderRow(msgspec.Struct, frozen=True):
    """Whether the firmware sees a patched setup header; None in a condition means either.

    Attributes:
        first: first version.
        before: first version that it does not describe.
        confidential: for a TD, or for a plain VM.
        named_blobs: for a firmware that reads ``etc/boot/kernel``, or one that does not.
        linux: for a Linux kernel ("HdrS"), or another EFI application.
        patched: the answer.
        source: where that is known from.
    """

    first: Version
    before: Version
    confidential: bool | None
    named_blobs: bool | None
    patched: bool
    source: str
    linux: bool | None = None


_ONLY_LINUX: Final = "qemu 57e2cc9abf5d (10.0, 9.2.1, 9.1.3, 8.2.9, 7.2.16): only Linux is patched"
HEADER_ROWS: Final = (
    HeaderRow((9, 2, 1), (10**4,), None, None, False, _ONLY_LINUX, linux=False),
    HeaderRow((9, 1, 3), (9, 2), None, None, False, _ONLY_LINUX, linux=False),
    HeaderRow((8, 2, 9), (9,), None, None, False, _ONLY_LINUX, linux=False),
    HeaderRow((7, 2, 16), (8,), None, None, False, _ONLY_LINUX, linux=False),
    HeaderRow((10, 2), (10**4,), True, None, False, "qemu a7542a38f399: never for a TD"),
    HeaderRow((10,), (10**4,), None, True, False, "etc/boot/kernel holds the file as it is"),
    HeaderRow((0,), (10**4,), None, None, True, "qemu x86_load_linux patches the legacy item"),
)


def version_tuple(text: str) -> Version:
    """``10.1.0`` as numbers; the text is a spec's or a QEMU's, already checked."""
    return tuple(int(part) for part in text.split("."))


def same_version(wanted: str, found: str) -> bool:
    """Whether ``found`` is the wanted version; parts that are not given match any."""
    numbers = version_tuple(wanted)
    return version_tuple(found)[: len(numbers)] == numbers


def header_patched(
    version: str, *, confidential: bool, named_blobs: bool, linux: bool = True
) -> HeaderRow:
    """The row that says whether the measured kernel has a patched setup header.

    Args:
        version: QEMU's.
        confidential: whether it launches a TD.
        named_blobs: whether the firmware reads ``etc/boot/kernel``.
        linux: whether the image has a Linux setup header at all.
    """
    numbers = version_tuple(version)
    return next(
        row
        for row in HEADER_ROWS
        if row.first <= numbers < row.before
        and row.confidential in {None, confidential}
        and row.named_blobs in {None, named_blobs}
        and row.linux in {None, linux}
    )
