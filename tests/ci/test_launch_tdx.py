"""TDX mode: a fake QEMU that replays real evidence, and the real one as far as it goes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci.errors import LaunchFailed
from ci.launch import Mode, boot_plain, boot_tdx
from ci.outcome import Outcome
from ci.tdx import UnixSocket, Vsock, read_quote_service
from fixtures.quotes import Td, build_quote
from mrtd.errors import SpecError
from mrtd.eventlog import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.evidence.quote import read_quote
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import Exact, RegisterName, Target
from tests.conftest import DebianParts, require_tool
from tests.lab.bench import SPEC, Bench, payload, shutdown, spec_of

REPORT_DATA = bytes(range(64))
TD = SPEC.replace('cpu = "qemu64"', 'cpu = "host"')
MESSAGES = "collector/messages"


def evidence(report_data: bytes = REPORT_DATA) -> dict[str, bytes]:
    return {
        "tdx/quote": build_quote(Td(report_data=report_data)),
        "tdx/report_data": report_data,
        "log/CCEL": b"log",
        "proc/cmdline": b"console=ttyS0\n",
    }


def sending(files: dict[str, bytes]) -> dict[str, Any]:
    return {"asks": True, "payload": payload(files), "events": [shutdown()], "exit": 0}


def test_real_evidence_comes_through(bench: Bench, corpus: Path) -> None:
    quote = (corpus / "quotes/gce-cos-113.quote").read_bytes()
    ccel = (corpus / "eventlogs/gce-cos-113.ccel").read_bytes()
    report = read_quote(quote, origin="corpus").report
    files = evidence(report.report_data) | {"tdx/quote": quote, "log/CCEL": ccel}
    result = bench.boot_td(sending(files), report_data=report.report_data)
    assert (result.mode, result.accel, result.pcrs) == (Mode.TDX, "kvm", {})
    assert (result.quote, result.log) == (quote, ccel)
    values = replay(read_log(result.log, origin="guest", target=Target.CC))
    for register in (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2):
        assert values[register] == Exact(read_quote(quote, origin="").registers[register])


def test_the_question_reaches_the_agent(bench: Bench) -> None:
    bench.boot_td(sending(evidence()), report_data=REPORT_DATA)
    asked = (bench.bin / "question").read_text(encoding="ascii")
    assert asked == f"mrtd.request/1 {REPORT_DATA.hex()}\n"
    bench.boot_td(sending(evidence()))
    assert (bench.bin / "question").read_text(encoding="ascii") == "mrtd.request/1 -\n"


def test_the_question_has_64_bytes(bench: Bench) -> None:
    with pytest.raises(SpecError, match="report_data: 63 bytes, not 64"):
        bench.boot_td({}, report_data=bytes(63))


def test_the_command_line_of_a_td(bench: Bench) -> None:
    line = " ".join(bench.boot_td(sending(evidence()), spec=TD).arguments)
    assert "-accel kvm" in line
    assert (
        '-object {"qom-type": "tdx-guest", "id": "tdx0", "quote-generation-socket": '
        '{"type": "vsock", "cid": "2", "port": "4050"}}'
    ) in line
    assert "-object memory-backend-ram,id=mem0,size=1073741824" in line
    assert "-machine confidential-guest-support=tdx0,memory-backend=mem0" in line
    assert "-machine q35,kernel_irqchip=split,smm=off,pic=off -m 1024M" in line
    assert "-cpu host" in line
    assert f"-bios {bench.folder}/OVMF.fd" in line
    assert "tpm" not in line.replace("mrtd-", "")


def test_where_quotes_are_made_can_be_chosen(bench: Bench) -> None:
    line = " ".join(
        bench.boot_td(sending(evidence()), quote_service=UnixSocket(Path("/run/qgs"))).arguments
    )
    assert '"quote-generation-socket": {"type": "unix", "path": "/run/qgs"}' in line
    line = " ".join(bench.boot_td(sending(evidence()), quote_service=None).arguments)
    assert "quote-generation-socket" not in line


def test_addresses_of_quote_services() -> None:
    assert read_quote_service("vsock:2:4050") == Vsock(2, 4050)
    assert read_quote_service("unix:/run/qgs.socket") == UnixSocket(Path("/run/qgs.socket"))


@pytest.mark.parametrize("text", ["", "vsock:2", "vsock:2:4294967296", "unix:qgs", "tcp:a:1"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is no address"):
        read_quote_service(text)


def without(name: str, message: str = "") -> dict[str, bytes]:
    files = {other: body for other, body in evidence().items() if other != name}
    return files | {MESSAGES: message.encode()}


@pytest.mark.parametrize(
    ("files", "code", "reason"),
    [
        (
            without("tdx/quote", "tdx/quote: cat: read error: Input/output error\n"),
            Outcome.QUOTE_REFUSED,
            "the guest got no quote: cat: read error: Input/output error",
        ),
        (evidence() | {"tdx/quote": b""}, Outcome.QUOTE_REFUSED, "the guest got no quote"),
        (
            without("tdx/quote", "tdx/quote: \x1b[31mred\n"),
            Outcome.QUOTE_REFUSED,
            r"no quote: \\x1b\[31mred",
        ),
        (
            without(
                "tdx/quote",
                "tdx/quote: there is no /sys/kernel/config/tsm/report: not a TD, or no tdx_guest "
                "module, or configfs is not mounted\n",
            ),
            Outcome.NO_QUOTE_INTERFACE,
            "the guest's kernel offers no quotes: there is no /sys/kernel/config",
        ),
        (without("log/CCEL"), Outcome.NO_EVENT_LOG, "CCEL event log is missing or empty"),
        (evidence() | {"tdx/quote": b"?"}, Outcome.PAYLOAD_MALFORMED, "tdx/quote"),
        (without("proc/cmdline"), Outcome.PAYLOAD_MALFORMED, "the guest sent no proc/cmdline"),
        (
            evidence(bytes(64)),
            Outcome.REPORT_DATA_DIFFERS,
            f"the quote has {'00' * 64}, and 000102",
        ),
        (
            evidence() | {"tdx/report_data": b"?"},
            Outcome.REPORT_DATA_DIFFERS,
            "the guest was asked with 3f, and 000102",
        ),
        (without("tdx/report_data"), Outcome.REPORT_DATA_DIFFERS, "was asked with none, and"),
    ],
)
def test_evidence_that_is_none(
    bench: Bench, files: dict[str, bytes], code: Outcome, reason: str
) -> None:
    with pytest.raises(LaunchFailed, match=reason) as failure:
        bench.boot_td(sending(files), report_data=REPORT_DATA)
    assert failure.value.code is code
    assert failure.value.reason.isprintable()


def test_a_td_that_gives_up_says_why(bench: Bench) -> None:
    info = {"type": "tdx", "error-code": 1, "message": "\x1b[1mno memory"}
    panic = {"event": "GUEST_PANICKED", "data": {"action": "pause", "info": info}}
    with pytest.raises(LaunchFailed, match=r"'message': '\\x1b\[1mno memory'") as failure:
        bench.boot_td({"events": [panic]})
    assert failure.value.code is Outcome.GUEST_PANICKED


REFUSALS = {
    "-object x: Parameter 'qom-type' does not accept value 'tdx-guest'": Outcome.NO_TDX_OBJECT,
    "-accel kvm: vm-type TDX not supported by KVM": Outcome.NO_TDX_IN_KVM,
    "Could not access KVM kernel module: No such file or directory": Outcome.NO_KVM,
    "-accel kvm: failed to initialize kvm: Permission denied": Outcome.NO_KVM,
    "cannot set up private guest memory for tdx-guest: KVM required": Outcome.NO_KVM,
    "-bios x: could not load PC BIOS 'x'": Outcome.QEMU_REFUSED,
}


@pytest.mark.parametrize("line", REFUSALS)
def test_refusals_are_told_apart(bench: Bench, line: str) -> None:
    said = f"warning: something\nqemu-system-x86_64: {line}\n"
    with pytest.raises(LaunchFailed, match=r"did not start \(exit status 1\)") as failure:
        bench.boot_td({"refuses": True, "exit": 1, "stderr": said})
    assert failure.value.code is REFUSALS[line]
    assert f"qemu-system-x86_64: {line}" in failure.value.evidence["qemu-system-x86_64"]


def a_machine(debian: DebianParts, folder: Path) -> LaunchSpec:
    """With the host's CPU, as a TD has it."""
    (folder / "OVMF.fd").write_bytes(debian.ovmf_2025_02.read_bytes())
    (folder / "vmlinuz").write_bytes(debian.kernel_6_12.read_bytes())
    (folder / "initrd").write_bytes(b"")
    return spec_of(TD)


def real_td(qemu: Path, debian: DebianParts, folder: Path) -> LaunchFailed:
    """What a real QEMU says to a TD."""
    with pytest.raises(LaunchFailed) as failure:
        boot_tdx(a_machine(debian, folder), folder=folder, qemu=qemu, timeout=60)
    return failure.value


@pytest.mark.qemu
def test_qemu_11_without_tdx_in_kvm(debian: DebianParts, tmp_path: Path) -> None:
    if Path("/sys/module/kvm_intel/parameters/tdx").exists():
        pytest.skip("this KVM may have TDX")
    failure = real_td(debian.qemu_11, debian, tmp_path)
    said = failure.evidence["qemu-system-x86_64"]
    if any("vm-type TDX" in line for line in said):
        assert failure.code is Outcome.NO_TDX_IN_KVM
    else:  # no /dev/kvm, or none for us
        assert failure.code is Outcome.NO_KVM


@pytest.mark.qemu
def test_a_qemu_that_knows_no_td(debian: DebianParts, tmp_path: Path) -> None:
    failure = real_td(debian.qemu_10, debian, tmp_path)  # the last one before 10.1
    assert failure.code is Outcome.NO_TDX_OBJECT


@pytest.mark.qemu
def test_the_hosts_cpu_needs_kvm(debian: DebianParts, tmp_path: Path) -> None:
    require_tool("swtpm")
    spec = a_machine(debian, tmp_path)
    with pytest.raises(LaunchFailed, match="requires KVM") as failure:
        boot_plain(spec, folder=tmp_path, qemu=debian.qemu_11, timeout=60, accel="tcg")
    assert failure.value.code is Outcome.NO_KVM
