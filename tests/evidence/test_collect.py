"""The collector, run by every shell that is here, over a made-up system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from mrtd.evidence.bundle import bundle_from_collected
from mrtd.evidence.collected import read_collected
from mrtd.evidence.collector import COLLECTOR, collector_script
from tests.conftest import require_tool

SHELLS: Final = ("busybox", "dash")
REPORT_DATA: Final = bytes(range(0xC0, 0x100))
QUOTE: Final = b"a quote\0with any bytes\xff"

# What configfs-tsm does, for a shell whose mkdir, cat and rmdir come from PATH (dash's do):
# a new directory gets its attributes, and generation counts the write to inblob.
FAKES: Final = {
    "mkdir": """\
#!/bin/sh
/bin/mkdir "$@" || exit
for last; do :; done
case $last in */tsm/report/*)
    echo tdx_guest > "$last/provider"
    printf 'a quote\\000with any bytes\\377' > "$last/outblob"
    : > "$last/inblob"
esac
""",
    "cat": """\
#!/bin/sh
case $1 in */generation)
    if [ -s "${1%/*}/inblob" ]; then
        /bin/cat "${1%/*}/inblob" > "$FAKE_INBLOB"
        echo "${FAKE_GENERATION:-1}"
    else
        echo 0
    fi
    exit ;;
esac
exec /bin/cat "$@"
""",
    "rmdir": '#!/bin/sh\nexec rm -r "$@"\n',
}


def shell(name: str) -> list[str]:
    program = str(require_tool(name))
    return [program, "sh"] if name == "busybox" else [program]


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder with proc and sys as a TD shows them, without configfs-tsm."""
    root = tmp_path / "system"
    files = {
        "proc/cmdline": b"console=ttyS0\n",
        "sys/firmware/acpi/tables/data/CCEL": bytes(range(256)),
        "sys/firmware/acpi/tables/CCEL": b"CCEL",
        "sys/devices/virtual/misc/tdx_guest/measurements/mrtd:sha384": b"\x11" * 48,
        "sys/devices/virtual/misc/tdx_guest/measurements/rtmr0:sha384": b"\x12" * 48,
        "sys/devices/virtual/misc/tdx_guest/measurements/rtmr1": b"\x13" * 48,
        "sys/firmware/qemu_fw_cfg/by_name/etc/acpi/tables/raw": b"tables",
        "sys/firmware/qemu_fw_cfg/by_name/etc/boot/kernel/raw": b"hangs",
        "sys/firmware/dmi/tables/DMI": b"dmi",
        "sys/class/tpm/tpm0/pcr-sha384/0": b"00" * 48,
    }
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


def collect(
    name: str, *options: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*shell(name), str(COLLECTOR), *options],
        capture_output=True,
        check=False,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.parametrize("name", SHELLS)
def test_what_there_is(name: str, system: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    done = collect(name, "-n", "-s", str(system), environment={"TMPDIR": str(tmp_path / "tmp")})
    assert done.returncode == 0
    files = read_collected(done.stdout, origin="collector", framed=True)
    messages = files.pop("collector/messages").decode()
    assert files.pop("proc/uname").startswith(b"Linux ")
    assert files == {
        "collector/version": b"mrtd.collect/1\n",
        "proc/cmdline": b"console=ttyS0\n",
        "log/CCEL": bytes(range(256)),
        "log/CCEL.table": b"CCEL",
        "tdx/mrtd": b"\x11" * 48,
        "tdx/rtmr0": b"\x12" * 48,
        "tdx/rtmr1": b"\x13" * 48,
        "fw_cfg/etc/acpi/tables": b"tables",
        "dmi/DMI": b"dmi",
        "pcr-sha384/0": b"00" * 48,
    }
    for line in (
        "tdx/quote: not asked for",
        "tdx/rtmr2: there is no ",
        "log/binary_bios_measurements: the TPM has no log here: ",
        "pcr-sha384/23: there is no ",
        "dmi/smbios_entry_point: there is no ",
    ):
        assert line in messages
        assert f"mrtd: {line}" in done.stderr.decode()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert bundle_from_collected(done.stdout).cmdline == "console=ttyS0"


@pytest.mark.parametrize("name", SHELLS)
def test_a_machine_that_has_nothing(name: str, tmp_path: Path) -> None:
    done = collect(name, "-s", str(tmp_path), "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (0, b"")
    files = read_collected((tmp_path / "out").read_bytes(), origin="out", framed=True)
    assert set(files) == {"collector/version", "collector/messages", "proc/uname"}
    assert "tdx/quote: there is no" in files["collector/messages"].decode()


@pytest.mark.parametrize("name", SHELLS)
def test_report_data_are_repeated_where_there_is_no_quote(name: str, tmp_path: Path) -> None:
    done = collect(name, "-r", REPORT_DATA.hex(), "-s", str(tmp_path))
    files = read_collected(done.stdout, origin="collector", framed=True)
    assert files["tdx/report_data"] == REPORT_DATA
    assert "tdx/quote" not in files


@pytest.fixture
def tsm(system: Path, tmp_path: Path) -> dict[str, str]:
    """The environment in which `system` has a configfs-tsm."""
    (system / "sys/kernel/config/tsm/report").mkdir(parents=True)
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name, text in FAKES.items():
        (fakes / name).write_text(text, encoding="ascii")
        (fakes / name).chmod(0o755)
    return {
        "PATH": f"{fakes}{os.pathsep}{os.environ['PATH']}",
        "FAKE_INBLOB": str(tmp_path / "inblob"),
    }


def test_a_quote_is_asked_for(system: Path, tsm: dict[str, str], tmp_path: Path) -> None:
    done = collect("dash", "-r", REPORT_DATA.hex().upper(), "-s", str(system), environment=tsm)
    files = read_collected(done.stdout, origin="collector", framed=True)
    assert files["tdx/quote"] == QUOTE
    assert files["tdx/provider"] == b"tdx_guest\n"
    assert files["tdx/report_data"] == REPORT_DATA
    assert (tmp_path / "inblob").read_bytes() == REPORT_DATA
    assert list((system / "sys/kernel/config/tsm/report").iterdir()) == []


def test_the_report_data_are_zero_unless_given(system: Path, tsm: dict[str, str]) -> None:
    done = collect("dash", "-s", str(system), environment=tsm)
    assert read_collected(done.stdout, origin="collector")["tdx/report_data"] == bytes(64)


def test_a_quote_that_somebody_else_asked_for(system: Path, tsm: dict[str, str]) -> None:
    done = collect("dash", "-s", str(system), environment={**tsm, "FAKE_GENERATION": "2"})
    files = read_collected(done.stdout, origin="collector", framed=True)
    assert "tdx/quote" not in files
    assert "somebody else wrote to the request" in files["collector/messages"].decode()
    assert done.returncode == 0


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-r", "00"], "2 digits, not 128"),
        (["-r", "z" * 128], "not hex digits"),
        (["-x"], "usage: "),
        (["more"], "unexpected: more"),
    ],
)
def test_wrong_usage(name: str, options: list[str], reason: str) -> None:
    done = collect(name, *options)
    assert done.returncode == 2
    assert reason in done.stderr.decode()


@pytest.mark.parametrize("name", SHELLS)
def test_an_output_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    done = collect(name, "-n", "-s", str(tmp_path), "-o", str(tmp_path / "none" / "out"))
    assert done.returncode != 0


@pytest.mark.parametrize("name", SHELLS)
def test_the_shells_can_parse_it(name: str) -> None:
    subprocess.run([*shell(name), "-n", str(COLLECTOR)], check=True, timeout=60)
    assert collector_script() == COLLECTOR.read_bytes()


def test_shellcheck_finds_nothing() -> None:
    init = Path(__file__).resolve().parents[2] / "ci" / "guest" / "init.sh"
    scripts = [str(COLLECTOR), str(init)]
    subprocess.run(
        [require_tool("shellcheck"), "--norc", "--shell=dash", *scripts], check=True, timeout=120
    )
