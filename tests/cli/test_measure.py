"""``mrtd measure`` as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures.bzimage import build_bzimage, default_sections
from mrtd.cli.main import main
from mrtd.cli.run import BROKEN_PIPE
from tests.conftest import DebianParts
from tests.launches import Launch
from tests.processes import gone, wait_for


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def document(
    capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0
) -> dict[str, Any]:
    assert run("measure", *arguments, "--json") == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_document_has_registers_and_rules_at_its_top(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, Launch().write(tmp_path))
    assert found["schema"] == "mrtd.measurement/1"
    assert list(found["registers"]) == ["mrtd", "rtmr0", "rtmr1", "rtmr2"]
    assert all(len(value) == 96 for value in found["registers"].values())
    assert {name: rule["rule"] for name, rule in found["rules"].items()} == dict.fromkeys(
        found["registers"], "exact"
    )


def test_document_is_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch().write(tmp_path)
    assert document(capsys, spec) == document(capsys, spec)


def test_table_fits_80_columns_and_names_every_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch().write(tmp_path)
    events = document(capsys, spec)["events"]
    assert run("measure", spec) == 0
    out = capsys.readouterr().out
    table, _, registers = out.partition("\nRegisters\n")
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "\x1b[" not in out
    for event in events:
        assert event["digest"][:16] in table
    for name, value in document(capsys, spec)["registers"].items():
        assert f"{name.upper():<7}{value}\n" in registers


def test_quiet_prints_the_registers_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("measure", Launch().write(tmp_path), "--quiet") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.split()[0] for line in lines] == ["Registers", "MRTD", "RTMR0", "RTMR1", "RTMR2"]


def test_kernel_without_cc_measurement_is_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = build_bzimage(sections=default_sections(measures=False))
    spec = Launch(files={"vmlinuz": old}).write(tmp_path)
    found = document(capsys, spec)
    assert found["registers"]["rtmr2"] == "00" * 48
    assert [n["code"] for n in found["notes"] if n["level"] == "alarm"] == ["rtmr2_not_extended"]
    covered = {line["input"]: line["status"] for line in found["coverage"]}
    assert covered["cmdline"] == covered["initrd"] == covered["rootfs"] == "not measured"


def test_firmware_that_extends_nothing_is_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch(firmware='profile = "edk2-202211"').write(tmp_path)
    found = document(capsys, spec)
    assert {found["registers"][f"rtmr{n}"] for n in range(3)} == {"00" * 48}
    assert "rtmr_not_extended" in [n["code"] for n in found["notes"] if n["level"] == "alarm"]
    assert run("measure", spec) == 0
    assert "ALARM" in capsys.readouterr().out
    assert run("measure", spec, "--strict") == 1
    assert "nothing is extended into rtmr0, rtmr1, rtmr2" in capsys.readouterr().err


def test_smbios_leaves_rtmr0_unpinned_unless_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = 'profile = "edk2-202508"'
    found = document(capsys, Launch(firmware=profile).write(tmp_path))
    assert found["registers"]["rtmr0"] is None
    assert found["rules"]["rtmr0"]["rule"] == "unpinned"
    assert "SMBIOS" in found["rules"]["rtmr0"]["reason"]
    assert found["registers"]["rtmr1"] is not None
    unconfirmed = [e for e in found["events"] if e.get("unconfirmed")]
    assert {e["type_name"] for e in unconfirmed} == {
        "EV_PLATFORM_CONFIG_FLAGS",
        "EV_EFI_HANDOFF_TABLES",
        "EV_EFI_VARIABLE_BOOT",
    }
    given = Launch(
        firmware=profile + '\n[smbios]\nmeasured = "smbios.bin"',
        files={"smbios.bin": b"filtered table"},
    ).write(tmp_path)
    assert document(capsys, given)["rules"]["rtmr0"] == {"rule": "exact"}


def test_strict_refuses_an_unpinned_register(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch(acpi="").write(tmp_path)
    assert run("measure", spec, "--qemu", "none") == 0
    assert "unpinned" in capsys.readouterr().out
    assert run("measure", spec, "--qemu", "none", "--strict") == 1
    assert "--strict: rtmr0 not pinned" in capsys.readouterr().err


def test_host_cpu_without_phys_bits_leaves_rtmr0_unpinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, Launch(acpi="").write(tmp_path), "--qemu", tmp_path / "unused")
    assert "phys_bits" in found["rules"]["rtmr0"]["reason"]
    assert "phys_bits_unknown" in [note["code"] for note in found["notes"]]


def test_missing_qemu_says_how_to_do_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Launch(machine="phys_bits = 46", acpi="").write(tmp_path)
    assert run("measure", spec, "--qemu", tmp_path / "nowhere") == 3
    assert "acpi.tables" in capsys.readouterr().err


def test_other_qemu_version_leaves_rtmr0_unpinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho 'QEMU emulator version 9.0.1 (fake)'\n", encoding="utf-8")
    fake.chmod(0o755)
    spec = Launch(machine="phys_bits = 46", acpi="").write(tmp_path)
    found = document(capsys, spec, "--qemu", fake)
    assert "9.0.1" in found["rules"]["rtmr0"]["reason"]
    assert "10.1.0" in found["rules"]["rtmr0"]["reason"]
    assert document(capsys, spec, "--qemu", fake, "--strict", code=1)["registers"]["rtmr0"] is None


def test_output_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Launch().write(tmp_path)
    target = tmp_path / "out.json"
    shown = document(capsys, spec, "--output", target)
    assert json.loads(target.read_bytes()) == shown
    assert run("measure", spec, "--output", tmp_path / "no" / "out.json", "--quiet") == 2
    assert "--output" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_failure_leaves_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Launch(files={"OVMF.fd": b"no firmware"}).write(tmp_path)
    target = tmp_path / "out.json"
    assert run("measure", spec, "--output", target) == 2
    assert not target.exists()
    assert "OVMF.fd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        (Launch(files={"vmlinuz": None}), "boot.kernel"),
        (Launch(files={"initrd.img": None}), "boot.initrd"),
        (Launch(files={"acpi_tables.bin": b"FACP"}), "acpi_tables.bin"),
        (Launch(files={"vmlinuz": b"\x7fELF no PE"}), "not an ELF vmlinux"),
        (Launch(firmware='profile = "edk2-201911"'), "edk2-202411-inteltdx"),
        (Launch(firmware='porfile = "edk2-202502"'), "porfile"),
        (Launch(machine="phys_bits = 7"), "phys_bits"),
        (Launch(boot="loader = 3"), "loader"),
        (Launch(acpi='rsdp = "initrd.img"'), "acpi.tables"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launch: Launch, said: str
) -> None:
    spec = launch.write(tmp_path)
    assert run("measure", spec) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert run("measure", spec, "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"]
    assert error["message"]


def test_missing_spec_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("measure", tmp_path / "none.toml") == 2
    assert "none.toml" in capsys.readouterr().err


def test_tpm_target_names_pcrs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, Launch().write(tmp_path), "--target", "tpm")
    assert found["target"] == "tpm"
    assert found["td_build"] == []
    assert set(found["registers"]) == {f"pcr{n}" for n in (*range(8), 9)}
    assert run("measure", tmp_path / "launch.toml", "--target", "tpm") == 0
    assert "PCR4" in capsys.readouterr().out


def test_code_only_firmware_with_vars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = Launch().write(tmp_path)
    whole = document(capsys, spec)
    image = (tmp_path / "OVMF.fd").read_bytes()
    cfv = next(step for step in whole["td_build"] if step["type"] == "CFV")
    size = cfv["file_size"]
    (tmp_path / "VARS.fd").write_bytes(image[:size])
    (tmp_path / "OVMF.fd").write_bytes(image[size:])
    assert run("measure", spec) == 2
    assert "--vars" in capsys.readouterr().err
    joined = document(capsys, spec, "--vars", tmp_path / "VARS.fd")
    assert joined["registers"] == whole["registers"]


def test_a_closed_pipe_is_neither_success_nor_mismatch(tmp_path: Path) -> None:
    spec = Launch().write(tmp_path)
    command = [sys.executable, "-m", "mrtd.cli.main", "measure", str(spec), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == BROKEN_PIPE


def test_interrupt_ends_quietly_and_leaves_no_qemu(tmp_path: Path) -> None:
    """Ctrl-C while QEMU is being asked: exit 130, no traceback, no child."""
    fake = tmp_path / "qemu"
    started = tmp_path / "pid"
    fake.write_text(f"#!/bin/sh\necho $$ > {started}.new\nmv {started}.new {started}\n"
                    "exec sleep 600\n", encoding="utf-8")  # fmt: skip
    fake.chmod(0o755)
    spec = Launch(machine="phys_bits = 46", acpi="").write(tmp_path)
    command = [sys.executable, "-m", "mrtd.cli.main", "measure", str(spec), "--qemu", str(fake)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not started.exists():
            assert process.poll() is None
        child = int(started.read_text(encoding="utf-8"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
    assert "Traceback" not in err
    # without a chance to clean up it is the kernel that ends QEMU, shortly after
    wait_for(lambda: gone(child))


def test_golden_rtmr0_from_the_tables_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    corpus: Path,
    debian: DebianParts,
) -> None:
    """Corpus README: 507b21cc... with a blank CFV, the 0x811000 layout, edk2 2025.02, 4 GiB."""
    spec = Launch(
        files={
            "OVMF.fd": debian.ovmf_2025_02.read_bytes(),
            "acpi_tables.bin": (corpus / "acpi" / "q35-with-hpet.tables").read_bytes(),
        }
    ).write(tmp_path)
    spec.write_text(spec.read_text(encoding="utf-8").replace("2 GiB", "4 GiB"), encoding="utf-8")
    registers = document(capsys, spec)["registers"]
    assert registers["rtmr0"] == (
        "507b21ccfe504463c9a324a440e19707ef84e03663cf6c6013540ce79131f967"
        "5a7852cfa65303d931c2a79389ffff49"
    )


@pytest.mark.parametrize("text", ["mrtd=00", "none.json"])
def test_what_can_be_expected_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main(["measure", str(Launch().write(tmp_path)), "--expect", text]) == 2
    assert "REGISTER=VALUE" in capsys.readouterr().err
