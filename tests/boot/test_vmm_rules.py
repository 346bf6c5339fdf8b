"""What QEMU's version decides: patched or plain kernel header, page order, section types."""

from __future__ import annotations

import itertools
from typing import Literal, get_args, get_type_hints

import pytest

from mrtd.errors import SpecError
from mrtd.launch.spec import PageOrder, Vmm
from mrtd.qemu.vmm import (
    PAGE_ORDERS,
    QEMU_SECTION_TYPES,
    header_patched,
    same_version,
)
from mrtd.qemu.vmm_profiles import VMM_PROFILES, page_order_row

VERSIONS = ["7.2.0", "8.2.2", "9.2.1", "10.0.0", "10.1.3", "10.2.0", "11.1.3"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("named_blobs", [True, False])
def test_the_header_of_a_td_is_patched_by_the_rule_of_the_facts(
    version: str,
    named_blobs: bool,  # noqa: FBT001 - parametrised
) -> None:
    # facts 4.1: patched iff QEMU < 10.2 and not (QEMU >= 10.0 and OVMF knows named blobs)
    numbers = tuple(int(part) for part in version.split("."))
    expected = numbers < (10, 2) and not (numbers >= (10,) and named_blobs)
    row = header_patched(version, confidential=True, named_blobs=named_blobs)
    assert row.patched is expected
    assert row.source


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("named_blobs", [True, False])
def test_the_header_of_a_plain_vm_is_patched_unless_the_firmware_reads_the_plain_item(
    version: str,
    named_blobs: bool,  # noqa: FBT001 - parametrised
) -> None:
    # facts/qemu.md: QEMU 11.1 with OVMF 2022.11 patches, with OVMF 2025.02 it does not
    numbers = tuple(int(part) for part in version.split("."))
    row = header_patched(version, confidential=False, named_blobs=named_blobs)
    assert row.patched is not (numbers >= (10,) and named_blobs)


@pytest.mark.parametrize(
    ("version", "order"),
    [  # facts 2.2
        ("7.2.0", PageOrder.PER_PAGE),  # out-of-tree KVM before v19
        ("8.1.0", PageOrder.PER_PAGE),
        ("8.2.2", PageOrder.TWO_PASS),  # Canonical's noble
        ("8.2.50", PageOrder.TWO_PASS),  # qemu-tdx upstream-v5
        ("9.2.1", PageOrder.PER_PAGE),  # Canonical's 25.04
        ("10.0.0", PageOrder.PER_PAGE),
        ("10.1.0", PageOrder.PER_PAGE),  # upstream KVM
        ("10.1", PageOrder.PER_PAGE),
        ("11.1.3", PageOrder.PER_PAGE),
        ("9999.9999.9999", PageOrder.PER_PAGE),
        ("0.0", PageOrder.PER_PAGE),
    ],
)
def test_default_page_order_of_each_version(version: str, order: PageOrder) -> None:
    row = page_order_row(Vmm(kind="qemu", version=version))
    assert row.order is order
    assert row.source


def test_only_upstream_s_order_is_called_upstream() -> None:
    assert page_order_row(Vmm(kind="qemu", version="10.1.0")).upstream
    assert not page_order_row(Vmm(kind="qemu", version="10.0.9")).upstream
    assert not page_order_row(Vmm(kind="qemu", version="8.2.2")).upstream


@pytest.mark.parametrize(
    ("kind", "version", "order"),
    [
        ("qemu-canonical", "8.2.2", PageOrder.TWO_PASS),  # facts 2.2: Ubuntu 24.04
        ("qemu-canonical", "9.2.1", PageOrder.PER_PAGE),  # facts 2.2: Ubuntu 25.04
        ("cloud-hypervisor", "30.0", PageOrder.PER_PAGE),
        ("gce", "1.0", PageOrder.PER_PAGE),
    ],
)
def test_page_order_of_other_vmms(
    kind: Literal["qemu-canonical", "cloud-hypervisor", "gce"], version: str, order: PageOrder
) -> None:
    row = page_order_row(Vmm(kind=kind, version=version))
    assert row.order is order
    assert row.source
    assert not row.upstream


def test_a_build_that_no_row_describes_has_no_default() -> None:
    with pytest.raises(SpecError, match="page_order"):
        page_order_row(Vmm(kind="qemu-canonical", version="10.1.0"))


def test_every_kind_of_a_spec_has_a_profile() -> None:
    kinds = get_args(get_type_hints(Vmm)["kind"])
    assert [profile.kind for profile in VMM_PROFILES] == list(kinds)
    for profile in VMM_PROFILES:
        assert profile.source
        assert bool(profile.hob) == bool(profile.tables), "both are QEMU's, or neither"
        assert profile.patches_header == (not profile.tables)


def test_page_orders_leave_no_version_out() -> None:
    rows = sorted(PAGE_ORDERS, key=lambda row: row.first)
    assert rows[0].first == (0,)
    assert all(before.before == after.first for before, after in itertools.pairwise(rows))


def test_qemu_launches_four_section_types() -> None:
    # facts 2.4
    assert sorted(kind.name for kind in QEMU_SECTION_TYPES) == ["BFV", "CFV", "TD_HOB", "TEMP_MEM"]


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ("10.1.0", "10.1.0", True),
        ("10.1", "10.1.3", True),
        ("10.1.0", "10.1.3", False),
        ("10.1", "10.10.1", False),
        ("10.1.0", "10.1", False),
    ],
)
def test_parts_of_a_version_that_are_not_given_match_any(
    wanted: str,
    found: str,
    same: bool,  # noqa: FBT001 - parametrised
) -> None:
    assert same_version(wanted, found) is same


@pytest.mark.parametrize(
    ("version", "patched"),
    [
        ("7.2.15", True), ("7.2.16", False), ("7.2.22", False), ("8.1.5", True), ("8.2.8", True),
        ("8.2.9", False), ("9.0.4", True), ("9.1.2", True), ("9.1.3", False), ("9.2.0", True),
        ("9.2.1", False), ("10.0.0", False), ("11.1.3", False),
    ],
)  # fmt: skip
def test_which_qemu_patches_what_is_no_linux_kernel(
    version: str,
    patched: bool,  # noqa: FBT001 - parametrised
) -> None:
    """Commit 57e2cc9abf5d and its backports; 7.2.22 and 11.1.3 booted a UKI (``tests/ci``)."""
    row = header_patched(version, confidential=False, named_blobs=False, linux=False)
    assert row.patched is patched
