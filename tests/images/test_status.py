"""The colour of a deployment: what was found of its digest, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.images.outcome import (
    Kind,
    NotChecked,
    NotSigned,
    Refused,
    SignatureOutcome,
    Signed,
)
from mrtd.images.reference import ImageReference
from mrtd.images.status import (
    Code,
    Colour,
    Deployment,
    DeploymentStatus,
    ImageCheck,
    ImageStatus,
    Subject,
    appraise,
    judge,
)
from tests.lab.agents import LENIENT, NOW, OURS, RUNS, THEIRS, digest, settings

IMAGE: Final = ImageReference.read(f"{OURS}@{digest('1')}")
SETTINGS: Final = settings()
REQUIRED, OPTIONAL = (SETTINGS.source(name) for name in (OURS, LENIENT))
assert REQUIRED is not None
assert OPTIONAL is not None


def outcome(word: str, kind: Kind) -> SignatureOutcome:
    made: dict[str, SignatureOutcome] = {
        "signed": Signed(IMAGE, kind, "who"),
        "missing": NotSigned(IMAGE, kind, "none"),
        "refused": Refused(IMAGE, kind, "another's"),
        "away": NotChecked(IMAGE, kind, "timeout"),
    }
    return made[word]


def status(deployment: Deployment, now: datetime = NOW) -> ImageStatus:
    found = appraise(deployment, SETTINGS, now)
    assert isinstance(found, ImageStatus)
    return found


# key, workflow -> colour where the workflow's signature is required, and where it is optional
TABLE: Final = {
    ("signed", "signed"): (Code.SIGNED, Code.SIGNED),
    ("signed", "missing"): (Code.NOT_SIGNED, Code.WORKFLOW_OPTIONAL),
    ("signed", "refused"): (Code.REFUSED, Code.REFUSED),
    ("signed", "away"): (Code.NOT_CHECKED, Code.WORKFLOW_OPTIONAL),
    ("missing", "signed"): (Code.NOT_SIGNED, Code.NOT_SIGNED),
    ("missing", "missing"): (Code.NOT_SIGNED, Code.NOT_SIGNED),
    ("missing", "refused"): (Code.REFUSED, Code.REFUSED),
    ("missing", "away"): (Code.NOT_SIGNED, Code.NOT_SIGNED),
    ("refused", "signed"): (Code.REFUSED, Code.REFUSED),
    ("refused", "missing"): (Code.REFUSED, Code.REFUSED),
    ("refused", "refused"): (Code.REFUSED, Code.REFUSED),
    ("refused", "away"): (Code.REFUSED, Code.REFUSED),
    ("away", "signed"): (Code.NOT_CHECKED, Code.NOT_CHECKED),
    ("away", "missing"): (Code.NOT_SIGNED, Code.NOT_CHECKED),
    ("away", "refused"): (Code.REFUSED, Code.REFUSED),
    ("away", "away"): (Code.NOT_CHECKED, Code.NOT_CHECKED),
}


@pytest.mark.parametrize("words", TABLE, ids="-".join)
def test_what_was_found_of_both_signatures_decides(words: tuple[str, str]) -> None:
    check = ImageCheck(outcome(words[0], Kind.KEY), outcome(words[1], Kind.KEYLESS))
    assert REQUIRED is not None
    assert OPTIONAL is not None
    found = tuple(judge(source, check, NOW).code for source in (REQUIRED, OPTIONAL))
    assert found == TABLE[words]


def test_green_is_two_signatures_and_nothing_less() -> None:
    greens = {words for words, codes in TABLE.items() if Code.SIGNED in codes}
    assert greens == {("signed", "signed")}
    assert len(TABLE) == 16
    colours = {code: ImageStatus(code=code, reason="", checked_at=NOW).colour for code in Code}
    assert [code for code, colour in colours.items() if colour is Colour.GREEN] == [Code.SIGNED]


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ("exception", Code.EXCEPTION),
        ("expired", Code.EXCEPTION_EXPIRED),
        ("stranger", Code.NOT_ALLOWED),
        ("moved", Code.DIGEST_DIFFERS),
        ("no container", Code.NOT_REPORTED),
    ],
)
def test_what_needs_no_signature_to_be_decided(run: str, code: Code) -> None:
    assert status(RUNS[run]).code is code


def test_an_exception_ends_on_its_day_in_utc() -> None:
    cache = RUNS["exception"]
    last = datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC)
    assert status(cache, last).colour is Colour.YELLOW
    over = status(cache, last + timedelta(seconds=1))
    assert over.colour is Colour.RED
    assert "platform team" in over.reason
    assert "2027-01-31" in over.reason


def test_an_exception_is_for_one_digest() -> None:
    other = Deployment("cache", f"{THEIRS}:latest", digest("0"))
    assert status(other).code is Code.NOT_ALLOWED


def test_the_digest_wins_over_the_tag_that_moved_since() -> None:
    # what runs was pulled as :v1 before the tag moved: it is judged by what it is
    for tag in ("v1", "v2", "latest"):
        found = appraise(Deployment("a", f"{OURS}:{tag}", digest("7")), SETTINGS, NOW)
        assert isinstance(found, Subject)
        assert found.image.digest == digest("7")


@pytest.mark.parametrize("name", ["alpine", "", "UPPER.example/x", f"{OURS}:bad tag", "a/b/../c"])
def test_a_name_that_says_nothing_is_no_repository_of_ours(name: str) -> None:
    wanted = Code.NOT_ALLOWED if name else Code.NOT_REPORTED
    assert status(Deployment("a", name, digest("1"))).code is wanted


@pytest.mark.parametrize("text", ["sha256:", "sha512:" + "1" * 128, "1" * 64, "sha256:" + "A" * 64])
def test_what_is_no_digest_is_never_green(text: str) -> None:
    assert status(Deployment("a", f"{OURS}:v1", text)).code is Code.NOT_ALLOWED


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_hostile_names_are_refused_in_one_printable_line(app: str, image: str, text: str) -> None:
    found = appraise(Deployment(app, image, text), SETTINGS, NOW)
    if isinstance(found, ImageStatus):
        assert found.colour in {Colour.RED, Colour.UNKNOWN}
        assert found.reason.isprintable()
        assert len(found.reason) <= 300


def test_the_entry_has_the_six_fields_that_readers_know() -> None:
    entry = DeploymentStatus.of(RUNS["exception"], status(RUNS["exception"]))
    assert entry.__struct_fields__ == (
        "app_name", "image", "image_digest", "attestation_status", "reason", "checked_at",
    )  # fmt: skip
    assert entry.checked_at == "2026-11-23T12:00:00Z"
    assert entry.attestation_status == "yellow"
