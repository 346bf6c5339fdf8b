"""Evidence of real machines, without any launch to compare with."""

from __future__ import annotations

from pathlib import Path

from mrtd.explain.explanation import explain
from mrtd.explain.findings import Explanation, FindingKind
from mrtd.explain.known import known_digests
from mrtd.explain.memory import LAYOUTS, hob_digests
from mrtd.explain.skeleton import rank_profiles
from mrtd.registers import RegisterName
from mrtd.sources import load_side


def text(found: Explanation, register: RegisterName, event: int | None) -> str:
    return next(f.text for f in found.findings if f.register is register and f.event_index == event)


def test_direct_boot_of_qemu(corpus: Path) -> None:
    side = load_side(corpus / "eventlogs" / "ovmf-direct-2gib.ccel")
    found = explain(side)
    assert "TD HOB of 2 GiB of memory with layout 0x810000" in text(found, RegisterName.RTMR0, 0)
    assert "exactly that of edk2-202302" in text(found, RegisterName.RTMR0, None)
    assert "blank 4 MiB" in text(found, RegisterName.RTMR0, 1)
    unknown = [f for f in found.findings if f.kind is FindingKind.UNEXPLAINED]
    assert {f.event_index for f in unknown if f.register is RegisterName.RTMR0} == {None, 8, 9, 10}
    assert any("--acpi" in step for step in found.next_steps)


def test_disk_boot_of_qemu(corpus: Path) -> None:
    found = explain(load_side(corpus / "eventlogs" / "ovmf-shim-grub.ccel"))
    assert "10 GiB of memory" in text(found, RegisterName.RTMR0, 0)
    assert "SecureBoot on" in text(found, RegisterName.RTMR0, 2)


def test_a_foreign_vmm_is_named(corpus: Path) -> None:
    found = explain(load_side(corpus / "eventlogs" / "gce-cos-113.ccel"))
    assert "Google Compute Engine" in text(found, RegisterName.RTMR0, 0)
    assert not found.explained
    older = load_side(corpus / "eventlogs" / "gce-cos-113-dupe-separator.ccel")
    assert rank_profiles(older)[0].profile.name == "edk2-202302"


def test_a_report_of_a_quote_with_its_log(corpus: Path) -> None:
    found = explain(load_side(corpus / "quotes" / "dstack-quote-report.json"))
    assert "64 GiB of memory" in text(found, RegisterName.RTMR0, 0)
    assert "exactly that of edk2-202411" in text(found, RegisterName.RTMR0, None)
    assert "belongs to the software" in text(found, RegisterName.RTMR3, None)


def test_a_quote_alone_says_what_to_collect(corpus: Path) -> None:
    found = explain(load_side(corpus / "quotes" / "gce-cos-113.quote"))
    assert not found.explained
    assert any("CCEL" in step for step in found.next_steps)


def test_td_hob_figures_of_real_logs() -> None:
    # 2 and 64 GiB with 0x810000, 4 GiB with 0x811000: QEMU TDs of other projects
    first, second, third = (
        {str(digest)[:8]: size >> 20 for digest, size in hob_digests(layout).items()}
        for layout in LAYOUTS
    )
    assert (first["0b8772e5"], first["8ae1e425"]) == (2 << 10, 64 << 10)
    assert (second["02a008e6"], third["c345d1e1"]) == (4 << 10, 1 << 10)


def test_constants_have_the_digests_that_logs_show() -> None:
    by_prefix = {str(digest)[:8]: meaning for digest, meaning in known_digests().items()}
    for prefix, meaning in {
        "394341b7": "separator",
        "9dc3a1f8": "SecureBoot absent",
        "cfa4e2c6": "SecureBoot off",
        "2cded0c6": "SecureBoot on",
        "6f2e3cbc": "PK empty",
        "18cc6e01": "dbx empty",
        "1dd6f7b4": "boot order 0000",
        "52b9a02d": "boot order 0000, 0001",
        "f143e294": "first SBAT level",
    }.items():
        assert by_prefix[prefix] == meaning
