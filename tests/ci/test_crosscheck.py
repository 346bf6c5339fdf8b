"""The cross-check: of a real boot without TDX, and of TDs whose quotes a PKI of our own signed."""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from ci import __main__ as command_line
from ci import crosscheck_command
from ci.crosscheck import CrossCheck, Mark, crosscheck
from ci.crosscheck_appraisal import Appraised, appraised
from ci.crosscheck_command import World
from ci.crosscheck_evidence import Evidence, read_evidence
from ci.crosscheck_launch import Launched
from ci.crosscheck_machine import plain_machine
from ci.crosscheck_results import KINDS, Facts, results
from ci.errors import LaunchFailed
from ci.example import main as example
from ci.ita_check import RoundTrip, SecondOpinion
from ci.ita_command import Outside
from ci.outcome import Outcome
from ci.payload import CHANNEL_DEVICES
from fixtures.quotes import SEPT_VE_DISABLE
from mrtd.derive import Derivation
from mrtd.errors import MalformedBundle, SpecError, TransportError
from mrtd.eventlog import EventType
from mrtd.eventlog.event import Event, InputName, Origin
from mrtd.eventlog.replay import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.eventlog.writer import write_log
from mrtd.evidence.bundle import Bundle, bundle_from_collected, bundle_of, read_bundle, write_bundle
from mrtd.evidence.tcb import TcbStatus
from mrtd.launch.spec import LaunchSpec, read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.reference.result import confirmation_of, read_result
from mrtd.registers import Exact, RegisterName, Sha384, Target
from tests.boots import Boots, Scenario
from tests.conftest import DebianParts, require_tool
from tests.launches import Launch
from tests.tds import MOMENT, ROOT_CA, FakeTd, derive, written

GENUINE: Final = SecondOpinion(None, False, TcbStatus.UP_TO_DATE)
PEI: Final = "cannot be predicted: PEI firmware volume"


def marks(check: CrossCheck) -> dict[str, str]:
    return {line.name: str(line.mark) for line in check.lines}


def details(check: CrossCheck, name: str) -> str:
    return "\n".join(next(line for line in check.lines if line.name == name).details)


def vouched(dcap: SecondOpinion | str | None = GENUINE) -> Appraised:
    return appraised("no API key", dcap)


# ---- the plain mode, for real


@dataclass(frozen=True, slots=True)
class Ran:
    """The example, cross-checked once."""

    spec: Path
    options: list[str]
    bundle: Path
    results: Path
    code: int
    output: dict[str, Any]


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, debian: DebianParts) -> Ran:
    """One boot in a session, whichever worker asks first."""
    require_tool("swtpm")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "crosscheck"
    folder.mkdir(exist_ok=True)
    spec, bundle, out = folder / "example" / "launch.toml", folder / "boot.zip", folder / "out.json"
    options = ["--qemu", str(debian.qemu_11)]
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            assert example(["--out", str(spec.parent)]) == 0
            words = ["crosscheck", str(spec), *options, "--json", "--save", str(bundle)]
            words += ["--results", str(folder / "results"), "--shape", "q35-2cpu-2gib"]
            arguments = command_line.parser("crosscheck").parse_args(words)
            stream = folder / "stdout"
            with stream.open("w", encoding="utf-8") as target, pytest.MonkeyPatch.context() as p:
                p.setattr("sys.stdout", target)
                code = crosscheck_command.run(arguments)
            found = {"code": code, "output": json.loads(stream.read_text(encoding="utf-8"))}
            out.write_text(json.dumps(found), encoding="utf-8")
    found = json.loads(out.read_text(encoding="utf-8"))
    return Ran(spec, options, bundle, folder / "results", found["code"], found["output"])


@pytest.mark.boot
def test_the_example_is_what_was_derived(ran: Ran) -> None:
    lines = {line["name"]: line for line in ran.output["lines"]}
    assert ran.code == ran.output["exit_code"] == 0
    assert lines["log replays"]["mark"] == "MATCH"
    matching = [name for name, line in lines.items() if line["mark"] == "MATCH"]
    assert matching[1:] == [*(f"pcr{n}" for n in (*range(1, 10), *range(11, 16))), "events"]
    # what no input tells is named, and what only a TD has is not passed off as checked
    assert lines["pcr0"]["mark"] == "NOT CHECKED"
    assert lines["pcr0"]["details"][0].startswith(PEI)
    for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "quote == replay", "ita", "dcap"):
        assert (lines[name]["mark"], lines[name]["beyond_this_mode"]) == ("NOT CHECKED", True)
    assert ran.output["machine_changes"][0] == "cpu host is qemu64: TCG has no host CPU"


@pytest.mark.boot
def test_the_example_leaves_documents_for_the_attestation(ran: Ran) -> None:
    for kind in KINDS:
        data = (ran.results / f"{kind}.json").read_bytes()
        outcome = "confirmed" if kind == "tpm-crosscheck" else "not-checked"
        assert confirmation_of(data).outcome == outcome
        assert read_result(data).shape == "q35-2cpu-2gib"
        assert confirmation_of(data).sha256 == ran.output["results"][kind]["sha256"]
    told = read_result((ran.results / "tpm-crosscheck.json").read_bytes())
    assert any(PEI in note for note in told.notes)
    assert {p.name for p in told.programs} == {"mrtd", "qemu", "linux"}


def changed(ran: Ran, folder: Path, *, cmdline: str | None = None, initrd: bytes = b"") -> Path:
    """A copy of the example with another command line, or a longer initrd."""
    folder.mkdir()
    for path in ran.spec.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spec = folder / ran.spec.name
    text = spec.read_text(encoding="utf-8")
    if cmdline is not None:
        text = text.replace('cmdline = "console=ttyS0 panic=-1"', f'cmdline = "{cmdline}"')
    spec.write_text(text, encoding="utf-8")
    with (folder / "initrd.img").open("ab") as file:
        file.write(initrd)
    return spec


@pytest.mark.boot
def test_another_command_line_is_explained(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = changed(ran, tmp_path / "other", cmdline="console=ttyS0 panic=-1 debug")
    out = tmp_path / "results"
    words = ["crosscheck", str(spec), *ran.options, "--evidence", str(ran.bundle), "--json"]
    assert command_line.main([*words, "--results", str(out)]) == 1
    lines = {line["name"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert [n for n, line in lines.items() if line["mark"] == "DIFFERS"] == ["pcr9", "events"]
    why = "\n".join(lines["pcr9"]["details"])
    assert "the kernel command line: expected 'console=ttyS0 panic=-1 debug'" in why
    assert "observed 'console=ttyS0 panic=-1'" in why
    assert lines["events"]["text"].startswith("26 of 28 match, 1 differ")
    found = read_result((out / "tpm-crosscheck.json").read_bytes())
    assert found.outcome == "refuted"
    assert [r.register for r in found.registers if r.outcome == "differs"] == ["pcr9"]


@pytest.mark.boot
def test_another_initrd_is_explained(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = changed(ran, tmp_path / "other", initrd=b"\0")
    words = ["crosscheck", str(spec), *ran.options, "--evidence", str(ran.bundle)]
    assert command_line.main(words) == 1
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "the launch is not what was derived" in output
    text = " ".join(output.split())
    initrd = Sha384.of((spec.parent / "initrd.img").read_bytes())
    assert f"initrd: which file, or whether there is one: expected '{str(initrd)[:16]}'" in text
    assert "PCR9 DIFFERS 1 of 2 events differ" in text


def tampered(bundle: Bundle, *, register: str, fold: bool) -> Bundle:
    """Evidence of a boot in which one more event was measured; ``fold``: its PCR shows it."""
    log = read_log(bundle.tpm_log or b"", origin="log", target=Target.TPM)
    more = Event(
        RegisterName(register), EventType.EV_IPL, Sha384.of(b"x"), None, Origin(InputName.LOG, "")
    )
    # every digest of the real log but SHA-384 is left out
    data = write_log([*log, more], target=Target.TPM)
    files = {**bundle.files, "log/binary_bios_measurements": data}
    if fold:
        rule = replay([*log, more])[RegisterName(register)]
        assert isinstance(rule, Exact)
        number = register.removeprefix("pcr")
        files[f"pcr-sha384/{number}"] = f"{rule.value}\n".encode()
    return bundle_of(files)


@pytest.fixture(scope="session")
def plain(ran: Ran) -> Derivation:
    machine = plain_machine(read_spec_file(ran.spec))
    options = MeasureOptions(target=Target.TPM, qemu=Path(ran.options[1]))
    return measure(machine.spec, ran.spec.parent, options)


@pytest.mark.boot
@pytest.mark.parametrize("register", ["pcr0", "pcr9", "pcr14"])
def test_one_event_more_is_noticed_in_every_register(
    ran: Ran, plain: Derivation, register: str
) -> None:
    bundle = read_bundle(ran.bundle)
    check = crosscheck(plain, read_evidence(tampered(bundle, register=register, fold=True)))
    assert (check.exit_code, marks(check)["log replays"]) == (1, "MATCH")
    assert marks(check)[register] == "DIFFERS"
    hidden = crosscheck(plain, read_evidence(tampered(bundle, register=register, fold=False)))
    assert (hidden.exit_code, marks(hidden)["log replays"]) == (1, "DIFFERS")


@pytest.mark.boot
def test_another_pei_volume_is_not_hidden_by_its_neighbours(ran: Ran, plain: Derivation) -> None:
    """PCR 0 must be what its predictable events and the logged PEI volume fold to."""
    bundle = read_bundle(ran.bundle)
    wrong = f"{Sha384.of(b'another')}\n".encode()
    check = crosscheck(plain, read_evidence(bundle_of({**bundle.files, "pcr-sha384/0": wrong})))
    assert (check.exit_code, marks(check)["pcr0"]) == (1, "DIFFERS")


@pytest.mark.boot
def test_pcrs_that_are_missing_are_no_agreement(ran: Ran, plain: Derivation) -> None:
    files = dict(read_bundle(ran.bundle).files)
    del files["pcr-sha384/4"]
    check = crosscheck(plain, read_evidence(bundle_of(files)))
    assert (check.exit_code, marks(check)["pcr4"]) == (3, "NOT CHECKED")
    none = {name: data for name, data in files.items() if not name.startswith("pcr-")}
    check = crosscheck(plain, read_evidence(bundle_of(none)))
    assert (check.exit_code, marks(check)["log replays"]) == (3, "NOT CHECKED")


@pytest.mark.boot
def test_acpi_tables_that_nobody_asked_for_are_no_agreement(ran: Ran) -> None:
    """An input that is missing is not an event that cannot be predicted."""
    machine = plain_machine(read_spec_file(ran.spec))
    options = MeasureOptions(target=Target.TPM, ask_qemu=False)
    derivation = measure(machine.spec, ran.spec.parent, options)
    check = crosscheck(derivation, read_evidence(read_bundle(ran.bundle)))
    assert check.exit_code == 3
    assert marks(check)["pcr1"] == marks(check)["events"] == "NOT CHECKED"
    assert "QEMU was not to be asked" in details(check, "pcr1")


@pytest.mark.boot
def test_firmware_of_2026_leaves_nothing_unpredicted(boots: Boots, debian: DebianParts) -> None:
    booted = boots(Scenario(firmware=debian.ovmf_2026_08, kernel=debian.kernel_6_12))
    derivation = measure(booted.spec, booted.folder, MeasureOptions(target=Target.TPM))
    check = crosscheck(derivation, read_evidence(bundle_from_collected(booted.result.files)))
    assert check.exit_code == 0
    assert {line.mark for line in check.lines if not line.beyond} == {Mark.MATCH}
    assert marks(check)["pcr0"] == "MATCH"


def test_what_the_plain_mode_changes_is_said(tmp_path: Path) -> None:
    machine = 'devices = ["vhost-vsock-pci,guest-cid=3,addr=0x5", "virtio-rng-pci"]'
    spec = read_spec_file(written(tmp_path, Launch(machine=machine)))
    found = plain_machine(spec)
    assert found.spec.machine.devices[:2] == ("virtio-rng-pci,addr=0x5", "virtio-rng-pci")
    assert len(found.changes) == 3
    again = plain_machine(found.spec)
    assert (again.spec, again.changes) == (found.spec, ())
    assert plain_machine(spec, accel="kvm").spec.machine.cpu == "host"
    disk = replace(spec.machine, devices=("ide-hd,drive=d0",))
    with pytest.raises(SpecError, match="ide-hd needs drive of the host"):
        plain_machine(replace(spec, machine=disk))


def test_the_disks_of_a_spec_are_launched() -> None:
    """Only a disk that the launch is not given is replaced."""
    spec = msgspec.convert(
        {
            "schema": "mrtd.launch/1",
            "vmm": {"kind": "qemu", "version": "7.2.0"},
            "machine": {
                "memory": "1 GiB",
                "vcpus": 1,
                "devices": ["virtio-blk-pci,drive=ours", "virtio-blk-pci,drive=theirs"],
            },
            "firmware": {"path": "OVMF.fd"},
            "disks": [{"name": "ours", "path": "disk.raw", "format": "raw"}],
            "boot": {"kind": "disk", "disk": "ours"},
        },
        LaunchSpec,
    )
    devices = plain_machine(spec).spec.machine.devices
    assert devices[:2] == ("virtio-blk-pci,drive=ours", "virtio-rng-pci")


# ---- TDs that never ran


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return written(tmp_path / "launch")


def td_evidence(path: Path, **changes: Any) -> tuple[Derivation, Evidence]:
    derivation = derive(path)
    td = FakeTd(derivation=derivation, **changes)
    return derivation, read_evidence(td.bundle(td.build()[0], path))


def test_a_td_that_is_what_was_derived(spec: Path) -> None:
    derivation, evidence = td_evidence(spec)
    check = crosscheck(derivation, evidence, appraised=vouched().lines)
    assert check.exit_code == 0
    found = marks(check)
    assert {found[n] for n in ("quote == replay", "mrtd", "rtmr0", "rtmr1", "rtmr2", "events")} == {
        "MATCH"
    }
    assert (found["ita"], found["dcap"]) == ("NOT CHECKED", "MATCH")


def test_a_quote_that_nobody_vouches_for_is_no_agreement(spec: Path) -> None:
    derivation, evidence = td_evidence(spec)
    check = crosscheck(derivation, evidence, appraised=vouched(None).lines)
    assert check.exit_code == 3
    assert {line.mark for line in check.lines if not line.beyond} == {Mark.MATCH, Mark.NOT_CHECKED}


@pytest.mark.parametrize(
    ("dcap", "code", "mark"),
    [
        (SecondOpinion("no genuine platform", refused=True), 1, "DIFFERS"),
        (SecondOpinion("collateral has expired", refused=False), 3, "NOT CHECKED"),
    ],
)
def test_dcap_decides(spec: Path, dcap: SecondOpinion, code: int, mark: str) -> None:
    derivation, evidence = td_evidence(spec)
    check = crosscheck(derivation, evidence, appraised=vouched(dcap).lines)
    assert (check.exit_code, marks(check)["dcap"]) == (code, mark)


def test_a_service_that_is_down_is_no_agreement() -> None:
    def down() -> RoundTrip:
        raise TransportError("Intel Trust Authority: down")

    found = appraised(down)
    assert [(line.mark, line.beyond) for line in found.lines] == [(Mark.NOT_CHECKED, False)] * 2
    assert found.lines[0].text == "Intel Trust Authority: down"


def test_the_log_of_another_boot(spec: Path) -> None:
    own = derive(spec)
    derivation, evidence = td_evidence(spec, log=own.log[:-1])
    check = crosscheck(derivation, evidence, appraised=vouched().lines)
    assert (check.exit_code, marks(check)["quote == replay"]) == (1, "DIFFERS")
    assert marks(check)["rtmr0"] == "MATCH"


def test_an_empty_log_does_not_explain_a_quote(spec: Path) -> None:
    derivation, evidence = td_evidence(spec, log=())
    assert crosscheck(derivation, evidence, appraised=vouched().lines).exit_code == 1


def run_on(
    spec: Path, tmp_path: Path, *more: str, td_of: Path | None = None, **changes: Any
) -> int:
    """The verb on a TD's evidence, with collateral."""
    td = FakeTd(derivation=derive(td_of or spec), **changes)
    quote, collateral = td.build()
    write_bundle(td.bundle(quote, td_of or spec), tmp_path / "td.zip")
    (tmp_path / "collateral.json").write_bytes(collateral)
    words = ["crosscheck", str(spec), "--qemu", "none", "--evidence", str(tmp_path / "td.zip")]
    words += ["--collateral", str(tmp_path / "collateral.json"), *more]
    arguments = command_line.parser("crosscheck").parse_args(words)

    def unused(*_: object) -> Any:
        raise AssertionError

    outside = Outside({}, unused, unused, root_ca=ROOT_CA)
    return crosscheck_command.run(arguments, World({}, now=lambda: MOMENT, ita=outside))


def test_the_verb_with_evidence_of_a_td(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "theirs.json"
    document.write_bytes(FakeTd(derivation=derive(spec)).bundle(b"", spec).document or b"")
    out = tmp_path / "results"
    more = ["--json", "--results", str(out), "--document", str(document)]
    assert run_on(spec, tmp_path, *more) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "tdx"
    outcomes = {kind: read_result((out / f"{kind}.json").read_bytes()).outcome for kind in KINDS}
    assert outcomes == {
        "derived": "confirmed",
        "tpm-crosscheck": "not-checked",
        "launched-tdx": "confirmed",
        "ita": "not-checked",
        "dcap": "confirmed",
    }


def test_another_command_line_in_a_td_is_explained(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "other")
    text = other.read_text(encoding="utf-8").replace("console=ttyS0", "console=ttyS0 quiet")
    other.write_text(text, encoding="utf-8")
    out = tmp_path / "results"
    assert run_on(other, tmp_path, "--results", str(out), td_of=spec) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "RTMR2 DIFFERS 1 of 2 events differ" in text
    assert "RTMR2 matches with command line without 'quiet'" in text
    assert read_result((out / "launched-tdx.json").read_bytes()).outcome == "refuted"
    assert read_result((out / "dcap.json").read_bytes()).outcome == "refuted"


def test_a_debug_td_is_refused_by_the_appraisal(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_on(spec, tmp_path, td={"attributes": SEPT_VE_DISABLE | 1}) == 1
    assert "DCAP DIFFERS" in " ".join(capsys.readouterr().out.split())


def test_a_register_of_zeros_is_evidence_of_nothing(spec: Path) -> None:
    """Firmware that extends no RTMR would match any image."""
    derivation, evidence = td_evidence(spec)
    zero = Exact(Sha384(bytes(48)))
    rules = tuple(
        (name, zero if name is RegisterName.RTMR2 else rule)
        for name, rule in derivation.registers.rules
    )
    registers = replace(derivation.registers, rules=rules)
    side = replace(
        evidence.side, registers={**evidence.side.registers, RegisterName.RTMR2: zero}, log=None
    )
    blank = Evidence(
        evidence.bundle, evidence.target, evidence.quote, {}, None, evidence.folded, side
    )
    check = crosscheck(replace(derivation, registers=registers), blank, appraised=vouched().lines)
    assert marks(check)["rtmr2"] == "NOT CHECKED"
    assert check.exit_code == 3


def test_a_td_is_launched(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent's part is played here; the rest is as with a real one."""
    td = FakeTd(derivation=derive(spec))
    quote, _ = td.build()
    files = {k: v for k, v in td.bundle(quote, spec).files.items() if "/" in k}

    def launch(*_: object, **__: object) -> Launched:
        return Launched(bundle_of(files), "11.1.3")

    saved = tmp_path / "td.zip"
    arguments = command_line.parser("crosscheck").parse_args(
        ["crosscheck", str(spec), "--mode", "tdx", "--qemu", "none", "--save", str(saved)]
    )
    assert crosscheck_command.run(arguments, World({}, launch_tdx=launch)) == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "RTMR2 MATCH value and 2 events as derived" in text
    assert "ITA NOT CHECKED no API key: DD_ITA_API_KEY or ITA_API_KEY is not set" in text
    assert read_bundle(saved).spec == spec.read_text(encoding="utf-8")


def test_evidence_of_a_real_td(
    spec: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quote and event log of one boot of a TD at Google: whole, and not what is derived here."""
    files = {
        "tdx/quote": (corpus / "quotes" / "gce-cos-113.quote").read_bytes(),
        "log/CCEL": (corpus / "eventlogs" / "gce-cos-113.ccel").read_bytes(),
    }
    write_bundle(bundle_of(files), tmp_path / "gce.zip")
    words = ["crosscheck", str(spec), "--qemu", "none", "--evidence", str(tmp_path / "gce.zip")]
    arguments = command_line.parser("crosscheck").parse_args(words)
    assert crosscheck_command.run(arguments, World({})) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "quote == replay MATCH the log folds to the quote's RTMRs" in text
    assert "MRTD DIFFERS the values differ" in text
    assert "RTMR2 DIFFERS" in text
    assert "depends on another VMM: this rule is QEMU's" in text


@pytest.mark.qemu
def test_a_host_without_tdx_says_so(tmp_path: Path, debian: DebianParts) -> None:
    devices = ", ".join(f'"{device}"' for device in CHANNEL_DEVICES)
    path = written(tmp_path / "launch", Launch(machine=f"devices = [{devices}]"))
    arguments = command_line.parser("crosscheck").parse_args(
        ["crosscheck", str(path), "--mode", "tdx", "--qemu", str(debian.qemu_11)]
    )
    with pytest.raises(LaunchFailed) as failure:
        crosscheck_command.run(arguments, World({}))
    assert failure.value.code in {Outcome.NO_TDX_IN_KVM, Outcome.NO_KVM}
    assert failure.value.exit_code == 3


def test_mode_and_evidence_have_to_agree(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(MalformedBundle, match="target cc, not of mode tpm"):
        run_on(spec, tmp_path, "--mode", "tpm")
    with pytest.raises(MalformedBundle, match="neither quote nor event log"):
        read_evidence(bundle_of({"proc/cmdline": b"x"}))


def test_a_shape_is_a_name(spec: Path) -> None:
    derivation, evidence = td_evidence(spec)
    check = crosscheck(derivation, evidence, appraised=vouched().lines)
    with pytest.raises(SpecError, match="--shape"):
        Facts("two words", MOMENT, {})
    made = results(check, Facts("a", MOMENT, {"qemu": "11.1.3"}), appraised=vouched())
    assert read_result(made["launched-tdx"]).outcome == "confirmed"


def test_another_qemu_than_the_specs_boots_nothing(
    spec: Path, debian: DebianParts, capsys: pytest.CaptureFixture[str]
) -> None:
    other = spec.with_name("other.toml")
    text = spec.read_text(encoding="utf-8")
    other.write_text(re.sub(r'version = "[0-9.]+"', 'version = "9.2.0"', text), encoding="utf-8")
    words = ["crosscheck", str(other), "--mode", "tpm", "--qemu", str(debian.qemu_10)]
    assert command_line.main(words) == 3
    assert "--qemu" in capsys.readouterr().err
