"""VMM profiles: what each kind of VMM accepts, adds, measures and hands over, with the source.

What a VMM does differently from QEMU and is not modelled is said here as a reason, and the events
that depend on it are unpinned with it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.firmware.tdvf import SectionType
from mrtd.launch.spec import PageOrder, Vmm
from mrtd.qemu.vmm import PAGE_ORDERS, QEMU_SECTION_TYPES, PageOrderRow, version_tuple

_ALL: Final = ((0,), (10**4,))


class VmmProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of VMM.

    Attributes:
        kind: ``vmm.kind`` of a spec.
        name: what people call it.
        sections: TDVF section types that it accepts; it refuses an image with another one.
        adds_augmented: whether it adds PAGE.AUG sections at build time all the same.
        page_orders: default page order by version; a version without a row has none.
        hob: why its TD HOB is not modelled; empty where it is QEMU's.
        tables: why its ACPI tables and fw_cfg items are not modelled; empty where QEMU is asked.
        patches_header: whether it may patch a kernel's setup header, as QEMU's rows say.
        source: where that is known from.
    """

    kind: str
    name: str
    sections: frozenset[SectionType]
    adds_augmented: bool
    page_orders: tuple[PageOrderRow, ...]
    hob: str = ""
    tables: str = ""
    patches_header: bool = False
    source: str


_QEMU: Final = VmmProfile(
    kind="qemu",
    name="QEMU",
    sections=QEMU_SECTION_TYPES,
    adds_augmented=True,
    page_orders=PAGE_ORDERS,
    patches_header=True,
    source="qemu hw/i386/tdvf.c, tdvf-hob.c, target/i386/kvm/tdx.c",
)
VMM_PROFILES: Final = (
    _QEMU,
    msgspec.structs.replace(
        _QEMU,
        kind="qemu-canonical",
        name="Canonical's QEMU",
        page_orders=(
            PageOrderRow(
                (9, 2), (9, 3), PageOrder.PER_PAGE,
                "Canonical's 9.2.1+tdx2.0 of Ubuntu 25.04 (virtee/tdx-measure PR 20)",
            ),
            PageOrderRow(
                (8, 2), (8, 3), PageOrder.TWO_PASS,
                "Canonical's 8.2.2+tdx of Ubuntu 24.04 (canonical/tdx, virtee/tdx-measure 18)",
            ),
        ),
        source="qemu hw/i386/tdvf.c; the orders as its rows say, since its builds differ",
    ),
    VmmProfile(
        kind="cloud-hypervisor",
        name="cloud-hypervisor",
        sections=frozenset(SectionType) - {SectionType.TD_PARAMS},
        adds_augmented=False,
        page_orders=(
            PageOrderRow(
                *_ALL, PageOrder.PER_PAGE,
                "its TDX branch ran on the out-of-tree KVM before v19, which extends each page",
            ),
        ),
        hob="cloud-hypervisor's TD HOB (other attributes, GUID HOBs, ACPI tables) is not modelled",
        tables="cloud-hypervisor makes its own ACPI tables and hands them over in the TD HOB",
        source="cloud-hypervisor arch/src/x86_64/tdx/mod.rs (old TDX branch)",
    ),
    VmmProfile(
        kind="gce",
        name="Google Compute Engine",
        sections=QEMU_SECTION_TYPES,
        adds_augmented=True,
        page_orders=(PageOrderRow(*_ALL, PageOrder.PER_PAGE, "google/gce-tcb-verifier tdx"),),
        hob="the TD HOB of GCE (a low-memory split of 3 GiB, machine shapes) is not modelled",
        tables="GCE makes its own ACPI tables, which are not modelled",
        source="google/gce-tcb-verifier tdx",
    ),
)  # fmt: skip


def vmm_profile(vmm: Vmm) -> VmmProfile:
    """The profile of a spec's VMM."""
    return next(profile for profile in VMM_PROFILES if profile.kind == vmm.kind)


def page_order_row(vmm: Vmm) -> PageOrderRow:
    """The default page order of a VMM. Raises `SpecError` where its version has none."""
    profile, version = vmm_profile(vmm), version_tuple(vmm.version)
    for row in profile.page_orders:
        if row.first <= version < row.before:
            return row
    raise SpecError(
        f"the page order of {profile.name} {vmm.version} is not known",
        origin="launch spec",
        field="vmm.page_order",
        hint="set it to per-page or two-pass; builds differ",
    )
