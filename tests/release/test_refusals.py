"""What is not signed: every reason, all of them at once, each with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures import reference
from mrtd.document import MeasurementDocument, NoteEntry, RuleEntry, encode
from mrtd.errors import MalformedDocument, ReleaseRefused
from mrtd.launches import Measured, launch_of
from mrtd.notes import notes_of
from mrtd.reference import encode_result, read_result
from mrtd.registers import ZERO
from mrtd.verifier.policy import MeasurementPolicy
from release.refusals import (
    Refusal,
    ResultFile,
    confirmations_of,
    of_coverage,
    of_documents,
    of_registers,
    refuse,
    warnings_of,
)
from tests.release.stage import Ran, Stage, measured

STRICT = MeasurementPolicy()


def unpinned(document: MeasurementDocument, name: str, reason: str) -> MeasurementDocument:
    return msgspec.structs.replace(
        document,
        registers=document.registers | {name: None},
        rules=document.rules | {name: RuleEntry("unpinned", reason)},
    )


def kernel_that_measures_nothing() -> MeasurementDocument:
    """As of Linux 6.8: RTMR2 stays zero."""
    made = measured()
    rows = tuple(
        row
        if "rtmr2" not in row.registers
        else msgspec.structs.replace(row, status="not measured", registers=(), note="nowhere")
        for row in made.coverage
    )
    return msgspec.structs.replace(
        made,
        registers=made.registers | {"rtmr2": str(ZERO)},
        events=tuple(event for event in made.events if event.register != "rtmr2"),
        coverage=rows,
    )


def of(document: MeasurementDocument, shape: str = "shape") -> Measured:
    return Measured(shape, document, "doc.json")


def codes(refusals: Any) -> list[str]:
    found = list(refusals)
    assert all(isinstance(one, Refusal) and one.remedy and one.text for one in found)
    return [one.code for one in found]


def write(lab: Stage, document: MeasurementDocument, name: str) -> Path:
    path = lab.folder / name
    path.write_bytes(encode(document))
    return path


def refused(ran: Ran) -> list[str]:
    assert ran.code == 1, ran.err
    return [one["code"] for one in ran.json["error"]["refusals"]]


def test_everything_is_said_at_once(lab: Stage) -> None:
    zero = write(lab, kernel_that_measures_nothing(), "zero.json")
    same = write(lab, unpinned(measured(), "rtmr0", "no ACPI tables"), "same.json")
    ran = lab.attest(zero, same, "--accept-unmeasured", "colour=blue", "--require-confirmation",
                     "dcap", "--json", GITHUB_EVENT_NAME="pull_request_target")  # fmt: skip
    assert set(refused(ran)) == {
        "duplicate_shape", "register_zero", "register_unpinned", "input_not_measured",
        "acceptance_unknown", "confirmation_missing", "identity",
    }  # fmt: skip
    assert "rootfs is not measured" in ran.err
    assert "--accept-unmeasured 'rootfs=REASON'" in ran.err
    assert lab.github.stored == []
    assert lab.server.counts == {}


def test_nothing_of_a_good_launch_is_refused() -> None:
    launch = launch_of(of(measured()))
    assert codes(of_documents([of(measured())])) == []
    assert codes(of_registers(launch, STRICT)) == []
    assert codes(of_coverage([launch], {}, STRICT)) == []


def test_zero_register_is_never_signed_as_a_value() -> None:
    launch = launch_of(of(kernel_that_measures_nothing()))
    assert launch.registers.rtmr2.rule == "unpinned"
    assert launch.registers.rtmr2.value is None
    assert launch.launch_digest is None
    assert codes(of_registers(launch, STRICT)) == ["register_zero"]
    only = MeasurementPolicy(mrtd_only=True, required_coverage=("firmware",))
    assert codes(of_registers(launch, only)) == []
    assert codes(of_coverage([launch], {}, STRICT)) == ["input_not_measured"] * 3


def test_unpinned_register_is_refused_unless_policy_does_not_demand_it() -> None:
    launch = launch_of(of(unpinned(measured(), "rtmr0", "no tables")))
    assert codes(of_registers(launch, STRICT)) == ["register_unpinned"]
    assert codes(of_registers(launch, MeasurementPolicy(allow_unpinned_rtmr0=True))) == []
    rows = {row.input: row.status for row in launch.coverage}
    assert (rows["acpi"], rows["kernel"]) == ("unpinned", "measured")
    assert launch.components.acpi is not None, "the digests are known all the same"


def test_other_qemu_is_refused_whatever_the_policy(lab: Stage) -> None:
    reason = "the installed QEMU is 10.2.0, the spec says 10.1.0: ACPI tables differ"
    note = NoteEntry("warning", "qemu_version_differs", reason)
    made = unpinned(msgspec.structs.replace(measured(), notes=(note,)), "rtmr0", reason)
    path = write(lab, made, "qemu.json")
    for variables in ({}, {"DD_TRUSTED_ALLOW_UNPINNED_RTMR0": "1"}):
        ran = lab.attest(path, "--dry-run", "--json", **variables)
        assert refused(ran) == ["qemu_version_differs"]
        assert "--qemu PATH" in ran.err


def test_measuring_notes_another_qemu_by_a_stable_code(tmp_path: Path) -> None:
    from mrtd.launch.spec import read_spec_file
    from mrtd.measure import measure
    from mrtd.qemu.vmm import OTHER_VERSION
    from mrtd.registers import Exact, RegisterName, Registers, Unpinned
    from tests.launches import Launch
    from tests.sides import OFFLINE

    derivation = measure(read_spec_file(Launch().write(tmp_path)), tmp_path, OFFLINE)
    rules = dict(derivation.registers.rules)
    assert isinstance(rules[RegisterName.RTMR0], Exact)
    assert "qemu_version_differs" not in {note.code for note in notes_of(derivation)}
    rules[RegisterName.RTMR0] = Unpinned(f"{OTHER_VERSION} 10.2.0, the spec says 10.1.0: ...")
    changed = msgspec.structs.replace(derivation, registers=Registers(tuple(rules.items())))
    assert "qemu_version_differs" in {note.code for note in notes_of(changed)}


def test_document_of_a_tpm_is_refused(lab: Stage) -> None:
    path = write(lab, msgspec.structs.replace(measured(), target="tpm"), "tpm.json")
    assert refused(lab.attest(path, "--dry-run", "--json")) == ["wrong_target"]


def test_shapes_are_told_apart_by_name(lab: Stage) -> None:
    document = lab.document()
    assert refused(lab.attest(document, document, "--json")) == ["duplicate_shape"]
    named = lab.attest(f"small={document}", f"large={document}", "--dry-run", "--json")
    assert named.code == 0, named.err
    assert [one["shape"] for one in named.json["values"]["launches"]] == ["small", "large"]
    assert refused(lab.attest(f"a b={document}", "--json")) == ["shape_name"]


def test_accepted_input_is_recorded_with_its_reason() -> None:
    accepted = {"cmdline": "old kernel", "initrd": "old kernel", "rootfs": "ext4, see #12"}
    launch = launch_of(of(kernel_that_measures_nothing()), accepted=accepted)
    assert codes(of_coverage([launch], accepted, STRICT)) == []
    rows = {row.input: row.accepted for row in launch.coverage}
    assert rows["rootfs"] == "ext4, see #12"
    assert rows["kernel"] is None


def test_acceptances_of_nothing_are_refused() -> None:
    launch = launch_of(of(measured()))
    wrong = {"rootfs": "why not", "colour": "blue"}
    assert codes(of_coverage([launch], wrong, STRICT)) == [
        "acceptance_superfluous", "acceptance_unknown"
    ]  # fmt: skip


def result(outcome: str = "confirmed", **changes: Any) -> bytes:
    """A result document for the tests' launch."""
    registers = [
        {
            "register": name,
            "outcome": "match",
            "expected": value,
            "observed": value,
        }
        for name, value in measured().registers.items()
    ]
    made: dict[str, Any] = {
        "schema": "mrtd.result/1",
        "kind": "derived",
        "shape": "shape",
        "outcome": outcome,
        "registers": registers,
        "programs": [],
        "evidence": [],
        "created": "2026-11-23T21:00:00Z",
        "notes": [],
    }
    data = reference.encoded(made | changes)
    assert encode_result(read_result(data)) == data
    return data


def checked(*results: bytes, required: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    launch = launch_of(of(measured()))
    files = [ResultFile(data, f"result-{number}") for number, data in enumerate(results)]
    found, refusals = confirmations_of([launch], files, required)
    return found["shape"], codes(refusals)


def test_required_confirmation() -> None:
    assert checked(required=("derived",)) == ((), ["confirmation_missing"])
    (found,), none = checked(result(), required=("derived", "derived"))
    assert (found.kind, found.outcome, none) == ("derived", "confirmed", [])
    absent = result("not-checked", registers=[], notes=["no TDX here"])
    assert checked(absent, required=("derived",))[1] == ["confirmation_missing"]
    assert checked(absent)[1] == [], "nobody asked for it"


def test_refuted_confirmation_is_refused_whoever_asked() -> None:
    rows = [
        {"register": "mrtd", "outcome": "differs", "expected": measured().registers["mrtd"],
         "observed": reference.register("another")}
    ]  # fmt: skip
    assert checked(result("refuted", registers=rows))[1] == ["confirmation_refuted"]


@pytest.mark.parametrize(
    "data",
    [
        result(shape="other"),
        result(
            registers=[
                {
                    "register": "mrtd",
                    "outcome": "match",
                    "expected": reference.register("x"),
                    "observed": reference.register("x"),
                }
            ]
        ),
        b"{}",
    ],
    ids=["shape", "figures", "garbage"],
)
def test_confirmation_of_another_launch(data: bytes) -> None:
    assert checked(data, required=())[1] == ["confirmation_of_another"]


def test_two_results_of_a_kind() -> None:
    assert checked(result(), result(notes=["again"]))[1] == ["confirmation_twice"]


def test_guesses_are_shown_as_warnings() -> None:
    note = NoteEntry("warning", "unconfirmed_events", "2 events marked '?': nobody has seen them")
    made = msgspec.structs.replace(measured(), notes=(note,))
    assert warnings_of(of(made)) == (f"shape: {note.text}",)
    assert warnings_of(of(measured())) == ()


def test_all_refusals_are_in_the_error() -> None:
    rows = [Refusal("a", "here", "is wrong", "mend it"), Refusal("b", "there", "too", "and it")]
    with pytest.raises(ReleaseRefused, match="for 2 reasons") as caught:
        refuse(rows)
    assert [code for code, _ in caught.value.refusals] == ["a", "b"]
    assert caught.value.exit_code == 1
    refuse([])


@pytest.mark.parametrize(
    "changes",
    [
        {"registers": measured().registers | {"rtmr1": reference.register("another")}},
        {"registers": measured().registers | {"rtmr1": None}},
        {"rules": measured().rules | {"rtmr1": RuleEntry("unpinned", "why")}},
    ],
    ids=["not what its events fold to", "exact without value", "unpinned with one"],
)
def test_document_that_contradicts_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocument, match="rtmr1"):
        launch_of(of(msgspec.structs.replace(measured(), **changes)))


def test_sequence_behind_the_channel(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    assert lab.attest().code == 0
    lab.environ["GITHUB_SHA"] = "HEAD~2"
    assert refused(lab.attest("--json", "--dry-run", tag="v0.9.0")) == ["sequence_behind"]


def test_second_tag_for_a_commit(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    assert lab.attest().code == 0
    assert refused(lab.attest("--json", "--dry-run", tag="v1.0.1")) == ["release_exists"]


def test_token_of_another_workflow_signs_nothing(lab: Stage) -> None:
    lab.claims["event_name"] = "workflow_dispatch"
    ran = lab.attest("--json")
    assert refused(ran) == ["identity"]
    assert "workflow_dispatch" in ran.err
    assert "nothing is published" in ran.err
    assert lab.github.stored == []
    assert lab.server.certificates == []


def test_token_of_another_commit_signs_nothing(lab: Stage) -> None:
    lab.claims["sha"] = "e" * 40
    assert refused(lab.attest("--json")) == ["commit"]
    assert lab.server.certificates == []


def test_previous_document_that_is_not_genuine(lab: Stage) -> None:
    release = lab.github.release("v0.9.0")
    lab.github.put(release, "mrtd-reference.sigstore.json", b"{}")
    ran = lab.attest("--json", "--dry-run")
    assert refused(ran) == ["previous_not_genuine"]
    assert "--previous FILE" in ran.err
    assert lab.attest("--dry-run", "--previous", "none").code == 0


def test_what_is_wrong_here_is_said_although_github_cannot_be_asked(lab: Stage) -> None:
    note = NoteEntry("warning", "qemu_version_differs", "the installed QEMU is 9.9.9")
    made = unpinned(msgspec.structs.replace(measured(), notes=(note,)), "rtmr0", note.text)
    path = write(lab, made, "offline.json")
    ran = lab.attest(path, "--dry-run", "--json", GITHUB_API_URL="http://127.0.0.1:9")
    assert refused(ran) == ["qemu_version_differs"]
    assert "GitHub could not be asked" in ran.err
    assert "[qemu_version_differs]" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tag", "v1 beta"], "is no tag: 1 to 200 printable"),
        (["--identity-token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.sig"], "takes a file or env"),
        (["--cosign", "/nowhere/cosign"], "is no program that can be run"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_before_anything_is_done(
    lab: Stage, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        lab.attest(lab.image(0), "--dry-run", *words)
    said = capsys.readouterr().err
    assert (ended.value.code, told in said) == (2, True)
    assert "eyJzdWIiOiJ4In0" not in said


def test_an_api_without_tls_is_refused(lab: Stage) -> None:
    ran = lab.attest(lab.image(0), "--dry-run", GITHUB_API_URL="http://github.example/api/v3")
    assert (ran.code, "https" in ran.err) == (2, True)
