"""``mrtd measure --libvirt`` and ``--qemu-cmdline`` as a user types them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.acpi import build_tables
from fixtures.domains import HOST_DEVICE, build_domain
from mrtd.cli.main import main
from mrtd.launch.spec import read_spec
from tests.launches import Launch

VERSION = ("--vmm-version", "10.1.0")
LINE = (
    "qemu-system-x86_64 -nodefaults -machine q35,hpet=off -m 2G -smp 2 -cpu host,phys-bits=46 "
    "-bios {0}/OVMF.fd -kernel {0}/vmlinuz -initrd {0}/initrd.img -append 'console=ttyS0'"
)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    Launch().write(tmp_path)
    return tmp_path


def line(folder: Path, more: str = "") -> Path:
    path = folder / "qemu.sh"
    path.write_text(LINE.format(folder) + more + "\n", encoding="utf-8")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert run("measure", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_command_line_is_a_spec_that_measures_the_same(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--qemu-cmdline", line(files), *VERSION)
    assert run("measure", *given, "--print-spec") == 0
    out, err = capsys.readouterr()
    assert err == ""
    spec = files / "printed.toml"
    spec.write_text(out, encoding="utf-8")
    first = printed(capsys, *given, "--qemu", "none")
    again = printed(capsys, spec, "--qemu", "none")
    assert first == again
    assert first["registers"]["mrtd"] is not None


def test_what_cannot_be_said_unpins_and_is_in_the_document(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = line(files, " -numa node,nodeid=0 -device vfio-pci,host=17:00.0")
    given = ("--qemu-cmdline", path, *VERSION)
    assert run("measure", *given, "--print-spec") == 0
    out, err = capsys.readouterr()
    assert "mrtd: warning: numa_nodes: -numa node,nodeid=0: SRAT" in err
    assert [i.code for i in read_spec(out, origin="x").machine.not_modelled] == [
        "numa_nodes", "passthrough_device",
    ]  # fmt: skip
    found = printed(capsys, *given)
    assert found["rules"]["rtmr0"]["rule"] == "unpinned"
    assert found["rules"]["rtmr1"]["rule"] == "unpinned", "an option ROM may run"
    assert found["rules"]["rtmr2"]["rule"] == "exact"
    codes = {note["code"] for note in found["notes"]}
    assert {"numa_nodes", "passthrough_device"} <= codes
    assert all(event["digest"] is None for event in found["events"] if event["input"] == "acpi")
    assert run("measure", *given, "--strict") == 1


def test_given_tables_do_not_make_it_known(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--qemu-cmdline", line(files, " -numa node"), *VERSION)
    assert run("measure", *given, "--print-spec") == 0
    spec = files / "printed.toml"
    text = capsys.readouterr().out + '\n[acpi]\ntables = "tables.bin"\n'
    spec.write_text(text, encoding="utf-8")
    (files / "tables.bin").write_bytes(build_tables(hpet=False))
    assert printed(capsys, spec)["rules"]["rtmr0"]["rule"] == "unpinned"


def test_json_says_what_became_of_each_argument(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "--qemu-cmdline", line(files, " -name x -zzz"), *VERSION,
                    "--print-spec")  # fmt: skip
    assert found["spec"]["schema"] == "mrtd.launch/1"
    treated = {a["text"]: a["treatment"] for a in found["arguments"]}
    assert treated["-name x"] == "no influence"
    assert treated["-zzz"] == "warning"
    assert treated["-m 2G"] == "modelled"


def test_a_domain_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.TextIOWrapper(io.BytesIO(build_domain(devices=HOST_DEVICE)))
    monkeypatch.setattr(sys, "stdin", data)
    assert run("measure", "--libvirt", "-", *VERSION, "--print-spec", "--phys-bits", 46) == 0
    out, err = capsys.readouterr()
    assert "passthrough_device" in err
    assert read_spec(out, origin="x").machine.phys_bits == 46


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--libvirt", "x.xml"), "--vmm-version"),
        (("--libvirt", "missing.xml", *VERSION), "cannot be read"),
        (("--qemu-cmdline", "/dev/null", *VERSION), "-bios"),
        (("--qemu-cmdline", "/dev/zero", *VERSION), "larger"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run("measure", *arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ("--vmm-version", "10.1.0"),
        ("--page-order", "per-page"),
        ("--phys-bits", 46),
        ("--processor-id", "00"),
        ("--boot-disk", "disk0"),
        ("--disk-format", "disk0=raw"),
    ],
)
def test_what_a_spec_says_itself_is_no_option(
    files: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, object]
) -> None:
    assert run("measure", files / "launch.toml", *option) == 2
    assert f"{option[0]}: not for a launch spec" in capsys.readouterr().err


def test_a_command_line_in_place_of_a_spec(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("measure", line(files)) == 2
    assert "--qemu-cmdline FILE" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("spec.toml", "--libvirt", "x")])
def test_one_launch_is_measured(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("measure", *arguments)
    assert ended.value.code == 2
    assert "--qemu-cmdline" in capsys.readouterr().err


def test_a_format_is_raw_or_qcow2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("measure", "--qemu-cmdline", "x", "--disk-format", "a=vmdk")
    assert ended.value.code == 2
    assert "NAME=qcow2" in capsys.readouterr().err


def test_the_version_is_asked_of_a_named_qemu(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho QEMU emulator version 10.1.3\n", encoding="utf-8")
    qemu.chmod(0o755)
    given = ("--qemu-cmdline", line(files), "--qemu", qemu, "--print-spec")
    assert run("measure", *given) == 0
    assert read_spec(capsys.readouterr().out, origin="x").vmm.version == "10.1.3"
