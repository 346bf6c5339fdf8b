"""``mrtd inspect`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.bzimage import build_bzimage
from fixtures.tdvf import build_tdvf
from fixtures.varstore import GLOBAL, Variable
from mrtd.boot.pe import authenticode
from mrtd.boot.qemu_header import patched_header
from mrtd.cli.main import main
from mrtd.firmware.td_build import fold, td_build
from mrtd.firmware.tdvf import read_tdvf
from mrtd.launch.spec import PageOrder
from tests.conftest import DebianParts
from tests.launches import MODULES


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["inspect", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_firmware_has_its_mrtd_in_both_page_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = build_tdvf(modules=MODULES, variables=[Variable(GLOBAL, "PK", b"key")])
    path = tmp_path / "OVMF.fd"
    path.write_bytes(image)
    found = inspected(capsys, path)
    view = memoryview(image)
    tdvf = read_tdvf(view, origin="image")
    assert found["mrtd"] == {
        "per-page": str(fold(td_build(tdvf, PageOrder.PER_PAGE), view)),
        "two-pass": str(fold(td_build(tdvf, PageOrder.TWO_PASS), view)),
    }
    assert [s["type"] for s in found["sections"]][:2] == ["BFV", "CFV"]
    assert [v["name"] for v in found["variables"]] == ["PK"]
    assert found["signals"]["TdTcg2Dxe"] is True


def test_unknown_profile_is_shown_and_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "OVMF.fd"
    path.write_bytes(build_tdvf(modules=MODULES[2:4]))
    profile = inspected(capsys, path)["profile"]
    assert profile["name"] is None
    assert profile["reason"]
    assert main(["inspect", str(path)]) == 0
    assert "firmware.profile" in capsys.readouterr().out


def test_kernel_is_hashed_plain_and_as_qemu_patches_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = build_bzimage()
    path, initrd = tmp_path / "vmlinuz", tmp_path / "initrd.img"
    path.write_bytes(image)
    initrd.write_bytes(bytes(5000))
    view = memoryview(image)
    head = patched_header(view, memory=1 << 30, initrd_size=5000, cmdline="quiet", origin="vmlinuz")
    expected = {
        "plain": str(authenticode(view, origin="vmlinuz")),
        "patched": str(authenticode(view, origin="vmlinuz", header=head)),
    }
    options = ["--memory", "1 GiB", "--cmdline", "quiet"]
    by_file = inspected(capsys, path, *options, "--initrd", initrd)
    by_size = inspected(capsys, path, *options, "--initrd-size", 5000)
    assert by_file["authenticode"] == by_size["authenticode"] == expected
    assert by_file["cc_measurement"] is True
    assert expected["plain"] != expected["patched"]


def test_tables_fit_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in (("OVMF.fd", build_tdvf(modules=MODULES)), ("vmlinuz", build_bzimage())):
        path = tmp_path / name
        path.write_bytes(image)
        assert main(["inspect", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"{path}: ")
        digests = [line for line in lines[1:] if len(line) > 80]
        assert all(len(line.split()[-1]) == 96 for line in digests)
        assert len(digests) == 2


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF", b"something else"])
def test_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(path) in captured.err


def test_vmlinux_shows_its_build_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ELF file with one note section, laid out by hand (System V gABI, chapters 4 and 5)."""
    build_id = bytes(range(20))
    note = b"\x04\0\0\0" + len(build_id).to_bytes(4, "little") + b"\x03\0\0\0GNU\0" + build_id
    names = b"\0.note.gnu.build-id\0.shstrtab\0"
    banner = b"Linux version 6.12.1-test (somebody) #1\0"
    body = note + names + banner
    at = 64
    sections = [
        bytes(64),
        _section(1, 7, at, len(note)),
        _section(20, 3, at + len(note), len(names)),
    ]
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(16)
    header += (at + len(body)).to_bytes(8, "little") + bytes(4)
    header += b"".join(n.to_bytes(2, "little") for n in (64, 0, 0, 64, 3, 2))
    path = tmp_path / "vmlinux"
    path.write_bytes(header + body + b"".join(sections))
    found = inspected(capsys, path)
    assert found["kind"] == "vmlinux"
    assert found["build_id"] == build_id.hex()
    assert found["version"] == "6.12.1-test"
    assert main(["inspect", str(path)]) == 0
    assert "bzImage" in capsys.readouterr().out


def _section(name: int, kind: int, offset: int, size: int) -> bytes:
    fields = name.to_bytes(4, "little") + kind.to_bytes(4, "little") + bytes(16)
    return (
        fields
        + offset.to_bytes(8, "little")
        + size.to_bytes(8, "little")
        + bytes(8)
        + (4).to_bytes(8, "little")
        + bytes(8)
    )


def test_real_firmware_names_its_profile(
    debian: DebianParts, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        name: inspected(capsys, path)["profile"]
        for name, path in (
            ("bookworm", debian.ovmf_2022_11),
            ("trixie", debian.ovmf_2025_02),
            ("sid", debian.ovmf_2026_08),
            ("inteltdx", debian.inteltdx_2026_08),
        )
    }
    assert found["bookworm"]["name"] == "edk2-202211"
    assert found["bookworm"]["extends_rtmrs"] is False
    assert found["trixie"]["name"] == "edk2-202502"
    assert found["sid"]["name"] == "edk2-202608"
    assert found["inteltdx"]["name"] == "edk2-202608-inteltdx"
    assert found["sid"]["unconfirmed"]
    assert main(["inspect", str(debian.ovmf_2022_11)]) == 0
    assert "extends no RTMR" in capsys.readouterr().out


def test_code_only_firmware_needs_its_vars(
    debian: DebianParts, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = debian.ovmf_folders["trixie"]
    code, variables = folder / "OVMF_CODE_4M.fd", folder / "OVMF_VARS_4M.fd"
    assert main(["inspect", str(code)]) == 2
    err = capsys.readouterr().err
    assert "VARS" in err
    assert "--vars" in err
    joined = inspected(capsys, code, "--vars", variables)
    assert joined["mrtd"] == inspected(capsys, debian.ovmf_2025_02)["mrtd"]
