"""Bundles with one flaw each, and keys that were not in use when they signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import pytest

from fixtures import reference
from mrtd.verifier.verdict import Reason
from tests.lab.answers import ADMITTED, Answer, answer, failed
from tests.lab.flaws import Flaw, Log, applies
from tests.lab.instance import github_private_instance
from tests.lab.rekor import RekorLog
from tests.lab.trusted_root import Window, Windows
from tests.lab.world import NOW, RELEASE, SIGNED, World, claims_of, root_of

OFF: Final = '[lookup]\ngithub = "off"\n'
INVALID: Final[Answer] = (403, Reason.BUNDLE_INVALID, "sigstore")
MALFORMED: Final[Answer] = (403, Reason.BUNDLE_MALFORMED, "sigstore")

# What is accepted with its flaw, and why nobody gains by it.
HARMLESS: Final = {
    Flaw.NO_SKI: "RFC 5280 section 4.2.1.2 does not demand it of leaf certificates",
    Flaw.LEAF_KEY_P384: "a stronger key of the signer's; Fulcio certified it",
    Flaw.BODY_OF_OTHER_ENVELOPE: "payload, signature and certificate are compared one by one",
    Flaw.LOG_INDEX_UNSIGNED: "the index that is proven is the one that verdicts show",
    Flaw.CHECKPOINT_OF_OTHER_SIZE: "signed by the log, over the root hash that was proven",
    Flaw.CHECKPOINT_OF_OTHER_ORIGIN: "signed by the log, over the root hash that was proven",
    Flaw.MEDIA_TYPE_V02: "an older form of the same; all of it is verified",
}
# With log v1's signed time, a timestamp proves nothing more; it can only contradict.
HARMLESS_WITH_BOTH: Final = {
    Flaw.NO_SET: "the timestamp proves the time, the checkpoint the inclusion",
    Flaw.NO_TIMESTAMP: "the log's signed time proves it",
    Flaw.TIMESTAMP_BY_FOREIGN_AUTHORITY: "the log's signed time proves it",
    Flaw.TIMESTAMP_OF_OTHER_SIGNATURE: "the log's signed time proves it",
    Flaw.TIMESTAMP_CORRUPTED: "the log's signed time proves it",
}
OTHERWISE: Final[dict[Flaw, Answer]] = {
    Flaw.SCT_TIME_FAR_OFF: (403, Reason.SIGNING_TIME, "sct_time"),
    Flaw.CERTIFICATE_BY_ROOT: (403, Reason.SIGNING_TIME, "ca_period"),
    Flaw.CERTIFICATE_LONG_LIVED: (403, Reason.SIGNING_TIME, "certificate_lifetime"),
    Flaw.DUPLICATE_MEMBER: MALFORMED,
    Flaw.NOT_JSON: MALFORMED,
}
WITNESSES: Final = [
    pytest.param(Log.REKOR_V1, False, id="v1"),
    pytest.param(Log.REKOR_V1, True, id="v1 and timestamp"),
    pytest.param(Log.REKOR_V2, True, id="v2"),
]


@cache
def shared() -> World:
    """Only genuine bundles leave traces in it, and they are all of one document."""
    return World(OFF)


def judged(bundle: bytes, world: World | None = None) -> Answer:
    """A bundle that the agent presents: its bytes arrive as they are."""
    return answer((world or shared()).verifier.verify_claims(claims_of(), bundles=[bundle]))


@pytest.mark.parametrize(("log", "timestamped"), WITNESSES)
def test_a_genuine_bundle_is_accepted(log: Log, timestamped: bool) -> None:  # noqa: FBT001
    bundle = shared().mint(reference.document(), log=log, timestamped=timestamped)
    assert judged(bundle) == ADMITTED


@pytest.mark.parametrize(("log", "timestamped"), WITNESSES)
@pytest.mark.parametrize("flaw", Flaw, ids=lambda flaw: flaw.name)
def test_a_bundle_with_one_flaw_is_refused_unless_it_is_harmless(
    flaw: Flaw,
    log: Log,
    timestamped: bool,  # noqa: FBT001 - parametrised
) -> None:
    both = log is Log.REKOR_V1 and timestamped
    if not applies(flaw, log, timestamped=timestamped):
        return  # there is no such bundle
    bundle = shared().mint(reference.document(), log=log, timestamped=timestamped, flaw=flaw)
    expected = OTHERWISE.get(flaw, INVALID)
    if flaw in HARMLESS or (both and flaw in HARMLESS_WITH_BOTH):
        expected = ADMITTED
    assert judged(bundle) == expected


def test_the_list_of_harmless_flaws_stays_short() -> None:
    assert len(HARMLESS) + len(HARMLESS_WITH_BOTH) <= len(Flaw) // 6


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_bundle_is_refused(text: bytes) -> None:
    status, reason, check = answer(shared().verifier.verify_claims(claims_of(), bundles=[text]))
    assert (status, check) == (403, "sigstore")
    assert reason in {Reason.BUNDLE_MALFORMED, Reason.BUNDLE_INVALID}


PAST: Final = Window(end=NOW - timedelta(days=30))
FUTURE: Final = Window(start=NOW - timedelta(minutes=30))
KEYS: Final[list[Any]] = [
    ("certificate_authority", Log.REKOR_V1, (403, Reason.SIGNING_TIME, "ca_period")),
    ("certificate_authority", Log.REKOR_V2, (403, Reason.SIGNING_TIME, "ca_period")),
    ("rekor_v1", Log.REKOR_V1, (403, Reason.SIGNING_TIME, "log_key_period")),
    ("rekor_v2", Log.REKOR_V2, (403, Reason.SIGNING_TIME, "log_key_period")),
    ("ct_log", Log.REKOR_V1, (403, Reason.SIGNING_TIME, "ct_log_key_period")),
    ("timestamp_authority", Log.REKOR_V2, INVALID),
]


@pytest.mark.parametrize("window", [PAST, FUTURE], ids=["ended before", "began after"])
@pytest.mark.parametrize(("key", "log", "expected"), KEYS)
def test_a_key_counts_only_while_it_was_in_use(
    key: str, log: Log, expected: Answer, window: Window
) -> None:
    world = World(OFF, windows=Windows(**{key: window}))
    assert judged(world.mint(reference.document(), log=log), world) == expected


@pytest.mark.parametrize(("key", "log", "expected"), KEYS)
def test_a_key_that_was_in_use_then_and_has_ended_since_still_counts(
    key: str, log: Log, expected: Answer
) -> None:
    del expected
    world = World(OFF, windows=Windows(**{key: Window(end=NOW - timedelta(minutes=30))}))
    assert judged(world.mint(reference.document(), log=log), world) == ADMITTED


@pytest.mark.parametrize(
    ("key", "log"),
    [
        ("rekor_v1", Log.REKOR_V1),
        ("rekor_v2", Log.REKOR_V2),
        ("timestamp_authority", Log.REKOR_V2),
    ],
)
def test_a_key_that_is_not_in_the_root_does_not_count(key: str, log: Log) -> None:
    world = World(OFF, windows=Windows(**{key: None}))
    assert judged(world.mint(reference.document(), log=log), world) == INVALID


def test_a_log_whose_key_has_ended_cannot_speak_in_the_name_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sigstore tries all keys where it does not know a log's id, as of Rekor v2's."""
    world = World(OFF, windows=Windows(rekor_v1=PAST))
    lab = world.instance
    host = lab.rekor_v2.base_url.removeprefix("https://")

    class Impostor(RekorLog):
        def entry(self, body: bytes) -> dict[str, Any]:
            return self._entry("hashedrekord", "0.0.2", body, 0)

    old_key = Impostor(host, lab.rekor_v2.origin, lab.rekor_v1.key, lab.rekor_v2.log_id)
    monkeypatch.setattr(lab, "rekor_v2", old_key)
    bundle = world.mint(reference.document(), log=Log.REKOR_V2)
    assert judged(bundle, world) == INVALID


@pytest.mark.parametrize(
    "ahead", [timedelta(minutes=6), timedelta(hours=2), timedelta(days=400)], ids=str
)
@pytest.mark.parametrize("log", [Log.REKOR_V1, Log.REKOR_V2])
def test_a_bundle_from_the_future_is_refused(log: Log, ahead: timedelta) -> None:
    bundle = shared().mint(reference.document(), at=NOW + ahead, log=log)
    assert judged(bundle) == (403, Reason.SIGNING_TIME, "not_in_the_future")


def test_clocks_may_differ_a_little() -> None:
    world = World(OFF)
    bundle = world.mint(reference.document(), at=NOW + timedelta(minutes=4))
    assert judged(bundle, world) == ADMITTED


def test_a_bundle_from_before_all_keys_is_refused() -> None:
    bundle = shared().mint(reference.document(), at=datetime(2019, 6, 1, tzinfo=UTC))
    status, reason, _ = judged(bundle)
    assert (status, reason) in {(403, Reason.SIGNING_TIME), (403, Reason.BUNDLE_INVALID)}


def test_an_attestation_that_is_too_old_for_the_policy_is_refused() -> None:
    world = World(f"{OFF}[release]\nmaximum_age_seconds = 3600\n")
    old = world.mint(reference.document(), at=NOW - timedelta(hours=1, minutes=1))
    assert judged(old, world) == (403, Reason.ATTESTATION_TOO_OLD, "signature_age")
    young = world.mint(reference.document(), at=NOW - timedelta(minutes=59))
    assert judged(young, world) == ADMITTED


def test_an_attestation_that_becomes_too_old_is_refused_from_then_on() -> None:
    world = World("[release]\nmaximum_age_seconds = 3660\n[cache]\nsoft_seconds = 600\n")
    world.publish(reference.document())
    for _ in range(2):  # the first time teaches, the second is kept
        assert answer(world.verifier.verify_claims(claims_of())) == ADMITTED
    world.times.pass_by(61)
    verdict = world.verifier.verify_claims(claims_of())
    assert answer(verdict) == (403, Reason.ATTESTATION_TOO_OLD, "signature_age")


def test_a_bundle_of_another_instance_is_refused() -> None:
    world = World(OFF)
    statement = reference.encoded(reference.statement(reference.document()))
    bundle = world.instance.foreign.mint(statement, RELEASE, at=SIGNED)
    assert judged(bundle, world) == INVALID


def test_a_bundle_of_githubs_private_instance_is_refused_where_the_policy_says_public() -> None:
    statement = reference.encoded(reference.statement(reference.document()))
    private = github_private_instance().mint(statement, RELEASE, at=SIGNED)
    assert judged(private) == INVALID


def test_the_private_instance_is_refused_although_its_root_is_trusted_by_another_world() -> None:
    """No failure selects an instance: without a log there is no answer, whoever signed."""
    world = World(OFF)
    private = github_private_instance()
    statement = reference.encoded(reference.statement(reference.document()))
    bundle = private.mint(
        statement, RELEASE.change(source_repository_visibility="private"), at=SIGNED
    )
    assert judged(bundle, world) == INVALID
    assert failed(world.verifier.verify_claims(claims_of(), bundles=[bundle])) >= {"sigstore"}


@pytest.mark.parametrize("field", ["integratedTime", "inclusionPromise", "logId", "kindVersion"])
@pytest.mark.parametrize("both", [True, False], ids=["besides", "instead"])
def test_a_member_in_protobufs_other_spelling_is_not_overlooked(
    field: str,
    both: bool,  # noqa: FBT001 - parametrised
) -> None:
    """sigstore reads ``integrated_time`` too; what it reads and what is checked must be one."""
    bundle = json.loads(shared().mint(reference.document()))
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in field)
    entry[snake] = entry[field] if both else entry.pop(field)
    verdict = judged(json.dumps(bundle).encode())
    assert verdict == INVALID


def test_the_lab_has_one_root_for_all() -> None:
    """What is refused above is refused for its flaw, not for its root."""
    assert root_of(shared().instance).logs.keys() == shared().root.logs.keys()
