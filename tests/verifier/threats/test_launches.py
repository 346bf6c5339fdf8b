"""A TD that runs something else than what was attested, or more than is measured."""

from __future__ import annotations

from typing import Any, Final

import pytest

from fixtures import reference
from fixtures.reference import exact, launch, register, unpinned
from mrtd.registers import ZERO, Sha384
from mrtd.verifier.verdict import Reason, Verdict
from tests.lab.answers import ADMITTED, Answer, answer, failed, observed
from tests.lab.world import World, claims_of

Json = dict[str, Any]

REGISTERS: Final = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
ANY_HOST: Final = "[measurements]\nallow_unpinned_rtmr0 = true\n"
FIRMWARE_ONLY: Final = '[measurements]\nmrtd_only = true\nrequired_coverage = ["firmware"]\n'


def differs(name: str) -> Answer:
    return (403, Reason.REGISTERS_DIFFER, f"attested.{name}")


def td(**values: str) -> Json:
    """What a TD runs: the usual launch, but for some registers."""
    made = launch()
    made["registers"] |= {name: exact(value) for name, value in values.items()}
    return made


def listed_for(runs: Json, *documents: Json, policy: str = "") -> Verdict:
    """Documents listed for what the TD runs, however little they have to do with it."""
    world = World(policy)
    digests = {s["digest"]["sha256"] for s in reference.subjects(reference.document(runs))}
    for made in documents:
        own = {s["digest"]["sha256"] for s in reference.subjects(made)}
        world.github.add(world.mint(made), *sorted(digests | own))
    return world.verifier.verify_claims(claims_of(runs))


CHANGED: Final = {"firmware": "mrtd", "ACPI": "rtmr0", "kernel": "rtmr1", "initrd": "rtmr2"}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_input_is_refused_and_its_register_named(what: str) -> None:
    name = CHANGED[what]
    runs = td(**{name: register(f"another {what}")})
    verdict = listed_for(runs, reference.document())
    assert answer(verdict) == differs(name)
    assert failed(verdict, "attested.") == {f"attested.{name}"}
    assert observed(verdict, f"attested.{name}") == register(f"another {what}")
    # it is measured, and differs: nothing says that it is not measured
    assert failed(verdict, "coverage.") == set()
    assert not [label for label in verdict.labels if label.endswith("_unmeasured")]
    unchecked = {c.observed for c in verdict.checks if c.name.startswith("coverage.")}
    if name != "rtmr0":  # of which no input that is demanded depends
        assert f"{name} differs" in " ".join(unchecked)


@pytest.mark.parametrize("what", ["firmware", "kernel", "initrd"])  # RTMR0 is in no digest
def test_a_changed_input_finds_no_attestation_at_all(what: str) -> None:
    world = World("[lookup]\nby_mrtd = false\n")
    world.publish(reference.document())
    verdict = world.verifier.verify_claims(claims_of(td(**{CHANGED[what]: register("x")})))
    assert answer(verdict) == (403, Reason.NOT_ATTESTED, "attested")


A: Final = launch("a", image="a")
B: Final = launch("b", image="b")
B["registers"]["mrtd"] = exact(register("other firmware"))


def mixtures() -> dict[str, Json]:
    """Registers of two launches, each genuine, together nobody's: every way to mix two."""
    found = {}
    for bits in range(1, 15):
        takes = [name for index, name in enumerate(REGISTERS) if bits >> index & 1]
        mixed = launch("a", image="a")
        mixed["registers"] = A["registers"] | {name: B["registers"][name] for name in takes}
        found[f"{' '.join(takes)} of B"] = mixed
    return found


MIXED: Final = mixtures()


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("together", [True, False], ids=["one document", "two documents"])
def test_registers_of_two_launches_do_not_make_one(
    name: str,
    together: bool,  # noqa: FBT001 - parametrised
) -> None:
    other = reference.changed(reference.document(B), "artifacts", [])
    documents = [reference.document(A, B)] if together else [reference.document(A), other]
    verdict = listed_for(MIXED[name], *documents)
    assert (verdict.status, verdict.reason) == (403, Reason.REGISTERS_DIFFER)
    assert verdict.shape is None
    assert verdict.release is None


@pytest.mark.parametrize("runs", [A, B], ids="AB")
@pytest.mark.parametrize("together", [True, False], ids=["one document", "two documents"])
def test_either_of_two_launches_is_admitted_whole(
    runs: Json,
    together: bool,  # noqa: FBT001 - parametrised
) -> None:
    other = reference.changed(reference.document(B), "artifacts", [])
    documents = [reference.document(A, B)] if together else [reference.document(A), other]
    verdict = listed_for(runs, *documents)
    assert answer(verdict) == ADMITTED
    assert verdict.shape == runs["shape"]


@pytest.mark.parametrize("name", REGISTERS)
def test_a_register_that_nothing_was_measured_into_is_refused_before_any_lookup(
    name: str,
) -> None:
    world = World()
    world.publish(reference.document())
    verdict = world.verifier.verify_claims(claims_of(td(**{name: reference.ZERO})))
    assert answer(verdict) == (403, Reason.REGISTER_NOT_MEASURED, f"{name}_measured")
    assert world.github.asked == []


@pytest.mark.parametrize("policy", [ANY_HOST, FIRMWARE_ONLY])
def test_a_relaxed_policy_does_not_take_zero_for_a_required_register(policy: str) -> None:
    world = World(policy)
    verdict = world.verifier.verify_claims(claims_of(td(mrtd=reference.ZERO)))
    assert answer(verdict) == (403, Reason.REGISTER_NOT_MEASURED, "mrtd_measured")


def open_host() -> Json:
    made = launch("any-q35")
    made["registers"]["rtmr0"] = unpinned()
    for row in made["coverage"]:
        if row["input"] == "acpi":
            row["status"] = "unpinned"
    return made


def test_an_unpinned_rtmr0_is_refused_by_default() -> None:
    verdict = listed_for(open_host(), reference.document(open_host()))
    assert answer(verdict) == (403, Reason.REGISTER_UNPINNED, "attested.rtmr0")


def test_an_unpinned_rtmr0_is_admitted_by_name_and_labelled() -> None:
    verdict = listed_for(open_host(), reference.document(open_host()), policy=ANY_HOST)
    assert answer(verdict) == ADMITTED
    assert "host_acpi_unmeasured" in verdict.labels


def test_a_pinned_rtmr0_is_compared_whatever_the_policy_allows() -> None:
    runs = td(rtmr0=register("another host"))
    assert answer(listed_for(runs, reference.document(), policy=ANY_HOST)) == differs("rtmr0")


def test_a_pinned_and_equal_rtmr0_is_not_labelled() -> None:
    verdict = listed_for(launch(), reference.document(), policy=ANY_HOST)
    assert answer(verdict) == ADMITTED
    assert verdict.labels == ()


@pytest.mark.parametrize("name", ["rtmr1", "rtmr2"])
def test_no_switch_opens_the_registers_of_the_image(name: str) -> None:
    made = launch()
    made["registers"][name] = unpinned("GRUB")
    for row in made["coverage"]:
        if name in row["registers"]:
            row |= {"status": "unpinned", "accepted": "for this test"}
    verdict = listed_for(made, reference.document(made), policy=ANY_HOST)
    assert (verdict.status, verdict.reason) == (403, Reason.REGISTER_UNPINNED)
    assert f"attested.{name}" in failed(verdict)


def test_mrtd_only_is_labelled_as_what_it_is() -> None:
    runs = launch("elsewhere", image="whatever")
    verdict = listed_for(runs, reference.document(), policy=FIRMWARE_ONLY)
    assert answer(verdict) == ADMITTED
    assert {"image_unmeasured", "host_acpi_unmeasured", "kernel_unmeasured"} <= {*verdict.labels}


def test_mrtd_only_still_compares_mrtd() -> None:
    runs = td(mrtd=register("another firmware"))
    assert answer(listed_for(runs, reference.document(), policy=FIRMWARE_ONLY)) == differs("mrtd")


INPUTS: Final = ("firmware", "kernel", "cmdline", "initrd", "rootfs")


def without(name: str, **row: object) -> Json:
    """A launch in whose coverage one input is not measured."""
    made = launch()
    for entry in made["coverage"]:
        if entry["input"] == name:
            entry.update({"status": "not measured", "registers": [], "accepted": None} | row)
    return made


@pytest.mark.parametrize("accepted", [None, "the disk is read only"])
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_nothing_measures_is_refused_although_the_signer_took_it(
    name: str, accepted: str | None
) -> None:
    made = without(name, accepted=accepted)
    verdict = listed_for(made, reference.document(made))
    assert answer(verdict) == (403, Reason.INPUT_NOT_MEASURED, f"coverage.{name}")


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_the_document_does_not_mention_is_not_measured(name: str) -> None:
    made = launch()
    made["coverage"] = [row for row in made["coverage"] if row["input"] != name]
    verdict = listed_for(made, reference.document(made))
    assert answer(verdict) == (403, Reason.INPUT_NOT_MEASURED, f"coverage.{name}")


@pytest.mark.parametrize("name", INPUTS)
def test_absent_is_an_answer_only_for_what_a_launch_can_do_without(name: str) -> None:
    made = without(name, status="absent")
    expected: Answer = ADMITTED
    if name in {"firmware", "kernel"}:
        expected = (403, Reason.INPUT_NOT_MEASURED, f"coverage.{name}")
    assert answer(listed_for(made, reference.document(made))) == expected


def test_an_input_that_only_an_open_register_measures_is_not_measured() -> None:
    made = open_host()
    for row in made["coverage"]:
        if row["input"] == "rootfs":
            row |= {"status": "unpinned", "registers": ["rtmr0"], "accepted": "for this test"}
    verdict = listed_for(made, reference.document(made), policy=ANY_HOST)
    assert answer(verdict) == (403, Reason.INPUT_NOT_MEASURED, "coverage.rootfs")


def test_relaxed_coverage_is_labelled() -> None:
    made = without("rootfs", accepted="the disk is read only")
    policy = '[measurements]\nrequired_coverage = ["firmware", "kernel", "cmdline", "initrd"]\n'
    verdict = listed_for(made, reference.document(made), policy=policy)
    assert answer(verdict) == ADMITTED
    assert "rootfs_unmeasured" in verdict.labels


def confirmed(kind: str, outcome: str) -> Json:
    row = {"kind": kind, "sha256": "ab" * 32, "outcome": outcome}
    return launch(confirmations=[row])


NEEDS_TD: Final = '[measurements]\nrequired_confirmations = ["launched-tdx"]\n'


@pytest.mark.parametrize(
    ("made", "policy", "expected"),
    [
        (confirmed("launched-tdx", "confirmed"), NEEDS_TD, ADMITTED),
        (confirmed("launched-tdx", "not-checked"), NEEDS_TD, "launched-tdx"),
        (confirmed("launched-tdx", "refuted"), NEEDS_TD, "launched-tdx"),
        (confirmed("derived", "confirmed"), NEEDS_TD, "launched-tdx"),
        (launch(confirmations=[]), NEEDS_TD, "launched-tdx"),
        (launch(confirmations=[]), "", ADMITTED),
        (confirmed("tpm-crosscheck", "not-checked"), "", ADMITTED),
        (confirmed("tpm-crosscheck", "refuted"), "", "tpm-crosscheck"),
    ],
)
def test_cross_checks_that_are_demanded_confirm_and_none_refutes(
    made: Json, policy: str, expected: Answer | str
) -> None:
    if isinstance(expected, str):
        expected = (403, Reason.CONFIRMATION_MISSING, f"confirmation.{expected}")
    assert answer(listed_for(made, reference.document(made), policy=policy)) == expected


def expecting(field: str, value: str, mask: str) -> Json:
    made = launch()
    made["expectations"][field] = {"value": value, "mask": mask}
    return made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (expecting("xfam", "0000000000061ae7", "f" * 16), ADMITTED),
        (expecting("xfam", "0000000000061ae6", "f" * 16), (403, Reason.XFAM, "attested.xfam")),
        (expecting("xfam", "0000000000000100", "0000000000000100"),
         (403, Reason.XFAM, "attested.xfam")),
        (expecting("td_attributes", "0000000010000000", "f" * 16), ADMITTED),
        (expecting("td_attributes", "0000000050000000", "f" * 16),
         (403, Reason.TD_ATTRIBUTES, "attested.td_attributes")),
    ],
)  # fmt: skip
def test_a_td_has_the_attributes_that_the_document_expects(made: Json, expected: Answer) -> None:
    assert answer(listed_for(made, reference.document(made))) == expected


def test_the_report_is_compared_and_no_digest_of_it() -> None:
    """Bytes behind equal digests cannot differ; but no digest is all that is compared."""
    world = World()
    world.publish(reference.document())
    report = claims_of().report
    rtmrs = (Sha384.of(b"other ACPI"), *report.rtmrs[1:3], ZERO)
    assert answer(world.verifier.verify_claims(claims_of(rtmrs=rtmrs))) == differs("rtmr0")
