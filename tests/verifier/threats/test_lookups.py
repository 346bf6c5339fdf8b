"""What is admitted while GitHub, the folder or the disk say little, nothing or something old."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import reference
from fixtures.reference import launch, revocation
from mrtd.verifier.bundle import LateSigstore, Opened, bundle_digest
from mrtd.verifier.verdict import Reason, check
from tests.lab.answers import ADMITTED, Answer, answer
from tests.lab.flaws import Flaw
from tests.lab.identity import GitHubIdentity
from tests.lab.world import LAUNCH, RELEASE, REVOCATIONS, SIGNED, World, claims_of

Json = dict[str, Any]

DOCUMENT: Final = reference.document()
LATE: Final = Opened(
    (check("gh", Reason.TOOL_MISSING, ok=False, expected="x", observed="y", source="gh"),), None
)
"""Where ``gh`` has no answer in time."""
DOWN: Final[Answer] = (503, Reason.LOOKUP_UNAVAILABLE, "lookup")
UNREAD: Final[Answer] = (503, Reason.LOOKUP_UNAVAILABLE, "revocations")
"""It is not known what the channel has revoked: never read, or too long ago."""
ABSENT: Final[Answer] = (403, Reason.NOT_ATTESTED, "attested")
SOFT, HARD = 600, 86400


def mode(name: str, folder: Path | None = None) -> str:
    directory = "" if folder is None else f'directory = "{folder}"\n'
    return f'[lookup]\ngithub = "{name}"\n{directory}'


def judged(world: World, *bundles: bytes) -> Answer:
    return answer(world.verifier.verify_claims(claims_of(), bundles=bundles))


def test_what_github_lists_admits_in_required_mode_and_nothing_else() -> None:
    world = World()
    presented = world.mint(DOCUMENT)
    assert judged(world, presented) == ABSENT
    world.times.pass_by(world.policy.cache.negative_seconds)
    world.publish(DOCUMENT)
    assert judged(world, presented) == ADMITTED


def test_an_attestation_that_was_deleted_does_not_come_back_with_its_agent() -> None:
    world = World()
    bundle = world.publish(DOCUMENT)
    for _ in range(2):
        assert judged(world, bundle) == ADMITTED
    world.github.listed.clear()
    world.times.pass_by(SOFT)
    assert judged(world, bundle) == ABSENT
    world.github.down = True
    world.times.pass_by(SOFT)
    assert judged(world, bundle) == DOWN


@pytest.mark.parametrize("warm", [True, False])
def test_a_presented_bundle_does_not_bridge_an_outage_in_required_mode(
    warm: bool,  # noqa: FBT001
) -> None:
    world = World()
    if warm:
        assert judged(world) == ABSENT
        world.times.pass_by(SOFT)
    world.github.down = True
    assert judged(world, world.mint(DOCUMENT)) == (DOWN if warm else UNREAD)


def test_preferred_mode_takes_a_presented_bundle_only_during_an_outage() -> None:
    world = World(mode("preferred"))
    bundle = world.mint(DOCUMENT)
    assert judged(world, bundle) == ABSENT
    world.github.down = True
    world.times.pass_by(SOFT)
    verdict = world.verifier.verify_claims(claims_of(), bundles=[bundle])
    assert answer(verdict) == ADMITTED
    assert "freshness_unchecked" in verdict.labels
    world.github.down = False
    world.times.pass_by(SOFT)
    assert judged(world, bundle) == ABSENT


def test_what_a_presented_bundle_admitted_is_not_kept_for_others() -> None:
    world = World(mode("preferred"))
    world.github.down = True
    bundle = world.mint(DOCUMENT)
    for _ in range(3):
        assert judged(world, bundle) == ADMITTED
        assert judged(world) == UNREAD


def test_off_mode_asks_nobody_and_says_so() -> None:
    world = World(mode("off"))
    verdict = world.verifier.verify_claims(claims_of(), bundles=[world.mint(DOCUMENT)])
    assert answer(verdict) == ADMITTED
    assert "github_not_asked" in verdict.labels
    assert world.github.asked == []
    assert judged(world) == ABSENT


def test_of_presented_bundles_only_the_first_few_are_read() -> None:
    world = World(mode("off"))
    flood = [world.mint(DOCUMENT, flaw=Flaw.NO_SCT) for _ in range(8)]
    assert judged(world, *flood, world.mint(DOCUMENT))[:2] == (403, Reason.BUNDLE_INVALID)


@pytest.mark.parametrize("flaw", [Flaw.NO_SCT, Flaw.PAYLOAD_ALTERED, Flaw.DUPLICATE_MEMBER])
def test_a_bad_bundle_that_is_presented_besides_disturbs_nobody(flaw: Flaw) -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world, world.mint(DOCUMENT, flaw=flaw), b"", b"{") == ADMITTED


@pytest.mark.parametrize("name", ["off", "preferred", "required"])
@pytest.mark.parametrize("broken", ["file", "folder"])
def test_a_presented_bundle_does_not_make_up_for_a_folder_that_cannot_be_read(
    name: str, broken: str, tmp_path: Path
) -> None:
    """What cannot be read may be a revocation."""
    folder = tmp_path / "bundles"
    if broken == "file":
        folder.mkdir()
        (folder / "revocation.json").mkdir()
    for down in (False, True):
        world = World(mode(name, folder))
        world.github.down = down
        status, reason, check = judged(world, world.mint(DOCUMENT))
        assert (status, check) == (503, "revocations")
        assert reason in {Reason.LOOKUP_INCOMPLETE, Reason.LOOKUP_UNAVAILABLE}


def test_a_bundle_of_the_folder_admits_and_says_where_it_is_from(tmp_path: Path) -> None:
    for name in ("off", "required"):
        world = World(mode(name, tmp_path))
        (tmp_path / "dd.json").write_bytes(world.mint(DOCUMENT))
        verdict = world.verifier.verify_claims(claims_of())
        assert answer(verdict) == ADMITTED
        assert verdict.attestation is not None
        assert verdict.attestation.source == "directory, 'dd.json'"


def test_a_revocation_in_the_folder_beats_what_github_lists(tmp_path: Path) -> None:
    world = World(mode("required", tmp_path))
    world.publish(DOCUMENT)
    values = launch()["registers"]
    digest = reference.launch_digest(*(values[n]["value"] for n in ("mrtd", "rtmr1", "rtmr2")))
    revoking = reference.revoking(revocation("launch", digest))
    revoking["release"] |= {"tag": "v1.4.1", "sequence": 413}
    (tmp_path / "revoked.json").write_bytes(world.mint(revoking))
    assert judged(world)[:2] == (403, Reason.REVOKED)


def test_a_stale_admission_says_so_and_ends() -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.down = True
    world.times.pass_by(SOFT - 1)
    assert world.verifier.verify_claims(claims_of()).labels == ()
    world.times.pass_by(1)
    verdict = world.verifier.verify_claims(claims_of())
    assert answer(verdict) == ADMITTED
    assert verdict.labels == ("stale",)
    assert verdict.age == SOFT
    world.times.pass_by(HARD - SOFT - 1)
    verdict = world.verifier.verify_claims(claims_of())
    assert (answer(verdict), verdict.age) == (ADMITTED, HARD - 1)
    world.times.pass_by(1)
    assert judged(world) == UNREAD
    world.github.down = False
    world.times.pass_by(SOFT)
    assert judged(world) == ADMITTED


def test_a_wall_clock_that_is_set_back_makes_nothing_younger() -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.down = True
    world.times.pass_by(HARD - 1)
    world.times.wall -= 2 * HARD
    world.times.steady += 1
    assert judged(world) == UNREAD


def test_not_attested_holds_only_for_a_while() -> None:
    world = World()
    for _ in range(3):
        assert judged(world) == ABSENT
    by_mrtd = reference.mrtd_digest(launch()["registers"]["mrtd"]["value"])
    once = {LAUNCH: 1, by_mrtd: 1, REVOCATIONS: 1}
    assert world.github.about == once
    world.publish(DOCUMENT)
    assert judged(world) == ABSENT
    assert world.github.about == once
    assert world.github.asked == [LAUNCH, by_mrtd, REVOCATIONS]
    world.times.pass_by(world.policy.cache.negative_seconds)
    assert judged(world) == ADMITTED
    assert world.github.about == once | {LAUNCH: 2}


def kept(folder: Path) -> str:
    return f'[cache]\ndirectory = "{folder}"\n'


def newer() -> Json:
    made = reference.document(launch(image="newer"))
    made["release"] |= {"tag": "v1.5.0", "commit": "ab" * 20, "sequence": 413}
    made["lifecycle"] = {"current": [], "next": [], "retired": [], "revoked": []}
    return made


NEWER: Final = RELEASE.of_run(commit="ab" * 20)


def test_a_restart_forgets_no_release(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    world.publish(newer(), NEWER)
    claims = claims_of(launch(image="newer"))
    assert answer(world.verifier.verify_claims(claims)) == ADMITTED
    world.verifier = world.another()
    assert judged(world) == (403, Reason.RELEASE_ROLLED_BACK, "sequence")


def test_without_a_store_a_restart_forgets() -> None:
    """Why the operator wants one, or a minimum sequence."""
    world = World()
    world.publish(DOCUMENT)
    world.publish(newer(), NEWER)
    assert answer(world.verifier.verify_claims(claims_of(launch(image="newer")))) == ADMITTED
    assert judged(world) == (403, Reason.RELEASE_ROLLED_BACK, "sequence")
    world.verifier = world.another()
    assert judged(world) == ADMITTED


def test_an_attestation_that_was_deleted_does_not_come_back_from_the_disk(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.listed.clear()
    world.times.pass_by(SOFT)
    assert judged(world) == ABSENT
    world.verifier = world.another()
    assert judged(world) == ABSENT
    world.github.down = True
    world.verifier = world.another()
    assert judged(world) == UNREAD


def test_a_stored_bundle_that_was_tampered_with_teaches_nothing(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    world.verifier.learn(world.mint(newer(), NEWER))
    (file,) = (tmp_path / "store").glob("*.sigstore.json")
    bundle = json.loads(file.read_bytes())
    envelope = bundle["dsseEnvelope"]
    altered = bundle | {"dsseEnvelope": envelope | {"payload": envelope["payload"][:-4]}}
    world.verifier = world.another()
    assert judged(world) == (403, Reason.RELEASE_ROLLED_BACK, "sequence")
    for text in (json.dumps(altered).encode(), b"", b"{}"):
        file.write_bytes(text)
        for down, expected in ((True, UNREAD), (False, ADMITTED)):
            world.github.down = down
            world.verifier = world.another()
            assert judged(world) == expected


@pytest.mark.parametrize("made", ["attestation", "revocation"])
def test_a_strangers_bundle_in_the_store_admits_nobody_and_teaches_nothing(
    made: str, tmp_path: Path
) -> None:
    world = World(kept(tmp_path / "store"))
    file = tmp_path / "store" / f"{413:016d}-{'ab' * 32}.sigstore.json"
    document, signer = (DOCUMENT, RELEASE) if made == "attestation" else (revoking(), NEWER)
    stranger = signer.change(build_trigger="pull_request_target")
    for bundle in (
        world.mint(document, stranger),
        world.mint(document, signer, flaw=Flaw.NO_SCT),
    ):
        file.write_bytes(bundle)
        world.github.listed.clear()
        for down, expected in ((True, UNREAD), (False, ABSENT)):
            world.github.down = down
            world.verifier = world.another()
            assert judged(world) == expected
        world.publish(DOCUMENT)
        world.verifier = world.another()
        assert judged(world) == ADMITTED


def test_a_policy_that_became_stricter_holds_for_the_disk_too(tmp_path: Path) -> None:
    """What another channel revoked on this disk is nobody's business any more."""
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    world.verifier.learn(world.mint(revoking(), NEWER))
    assert answer(world.another().verify_claims(claims_of()))[:2] == (403, Reason.REVOKED)
    strict = World(f'{kept(tmp_path / "store")}[identity]\ntriggers = ["release"]\n')
    strict.publish(DOCUMENT, GitHubIdentity.of_run(commit=reference.COMMIT, trigger="release"))
    assert judged(strict) == ADMITTED


@pytest.mark.parametrize("reason", [r for r in Reason if r.could_not_check])
def test_a_bundle_that_cannot_be_verified_for_now_may_be_a_revocation(reason: Reason) -> None:
    """As where ``gh`` has no answer in time: one that passes does not outweigh it."""
    world = World()
    world.publish(DOCUMENT)
    odd = world.publish(DOCUMENT)
    genuine = LateSigstore(world.root)

    class Hesitant:
        def open(self, bundle: bytes, *, now: datetime) -> Opened:
            if bundle_digest(bundle) != bundle_digest(odd):
                return genuine.open(bundle, now=now)
            refused = check("gh", reason, ok=False, expected="x", observed="y", source="gh")
            return Opened((refused,), None)

    verdict = world.another(opener=Hesitant()).verify_claims(claims_of())
    assert answer(verdict) == (503, reason, "gh")


def unreadable(world: World) -> bytes:
    """Signed by the trusted workflow, in a format that is not ours."""
    odd = reference.changed(reference.statement(DOCUMENT), "predicate.comment", "x")
    return world.mint(reference.encoded(odd))


def test_what_a_partial_list_has_that_cannot_be_read_is_not_outweighed_by_an_older_list() -> None:
    """GitHub lists an unreadable document of the trusted workflow, and an entry without bundle."""
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.add(unreadable(world), LAUNCH)
    world.github.add(b"null", LAUNCH)
    world.times.pass_by(SOFT)
    assert judged(world) == (403, Reason.STATEMENT_MALFORMED, "statement")


def test_what_the_disk_has_counts_although_it_cannot_be_verified_at_the_start(
    tmp_path: Path,
) -> None:
    """As where ``gh`` is slow to start: the newer release in the store must not be forgotten."""
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    world.publish(newer(), NEWER)
    assert answer(world.verifier.verify_claims(claims_of(launch(image="newer")))) == ADMITTED
    genuine = LateSigstore(world.root)
    calls: list[bytes] = []

    class SlowToStart:
        def open(self, bundle: bytes, *, now: datetime) -> Opened:
            calls.append(bundle)
            return genuine.open(bundle, now=now) if len(calls) > 1 else LATE

    world.verifier = world.another(opener=SlowToStart())
    assert judged(world) == (503, Reason.TOOL_MISSING, "gh")
    for _ in range(2):  # the next one tries again
        assert judged(world) == (403, Reason.RELEASE_ROLLED_BACK, "sequence")


@pytest.mark.parametrize("name", ["off", "preferred", "required"])
def test_while_the_disk_cannot_be_verified_nobody_is_admitted_by_what_he_presents(
    name: str, tmp_path: Path
) -> None:
    world = World(kept(tmp_path / "store") + mode(name))
    old, new = world.publish(DOCUMENT), world.publish(newer(), NEWER)
    assert all(c.ok for c in world.verifier.learn(new))
    genuine = LateSigstore(world.root)
    late = {bundle_digest(new)}

    class Hesitant:
        def open(self, bundle: bytes, *, now: datetime) -> Opened:
            return LATE if bundle_digest(bundle) in late else genuine.open(bundle, now=now)

    world.verifier = world.another(opener=Hesitant())
    for bundles in ((), (old,)):
        for _ in range(2):
            assert judged(world, *bundles) == (503, Reason.TOOL_MISSING, "gh")
    late.clear()
    rolled_back = (403, Reason.RELEASE_ROLLED_BACK, "sequence")
    assert judged(world, old) == rolled_back
    assert judged(world) == (ABSENT if name == "off" else rolled_back)


def test_what_the_disk_has_is_tried_once_for_all_who_wait(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.verifier.learn(world.mint(DOCUMENT))
    waiting, go, tries = threading.Semaphore(0), threading.Event(), []

    class Hanging:
        def open(self, bundle: bytes, *, now: datetime) -> Opened:  # noqa: ARG002
            tries.append(bundle)
            assert go.wait(60)
            return LATE

    class Watched:
        """A lock that says who comes."""

        lock = threading.Lock()

        def __enter__(self) -> None:
            waiting.release()
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    verifier = world.another(opener=Hanging())
    verifier.attestations._loading = Watched()  # type: ignore[assignment]
    everybody = [claims_of(launch(image=f"image {number}")) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(verifier.verify_claims, claims) for claims in everybody]
        assert all(waiting.acquire(timeout=60) for _ in everybody)
        go.set()
        answers = {answer(future.result(60)) for future in asking}
    assert answers == {(503, Reason.TOOL_MISSING, "gh")}
    assert len(tries) == 1
    assert answer(verifier.verify_claims(claims_of())) == (503, Reason.TOOL_MISSING, "gh")
    assert len(tries) == 2


def test_what_the_disk_has_counts_although_the_clock_was_behind_at_the_start(
    tmp_path: Path,
) -> None:
    """As before NTP: the newer release's signature is of the future, and it may revoke."""
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT, at=SIGNED - timedelta(hours=3))
    world.publish(newer(), NEWER)
    assert answer(world.verifier.verify_claims(claims_of(launch(image="newer")))) == ADMITTED
    world.times.wall -= 2 * 3600
    world.verifier = world.another()
    assert judged(world) == (403, Reason.SIGNING_TIME, "not_in_the_future")
    world.times.wall += 2 * 3600
    assert judged(world) == (403, Reason.RELEASE_ROLLED_BACK, "sequence")


# --- the list of the channel's revocations


def hesitant(world: World, *late: bytes) -> Any:
    """Opens all bundles but these."""
    genuine, digests = LateSigstore(world.root), {bundle_digest(bundle) for bundle in late}

    class Hesitant:
        def open(self, bundle: bytes, *, now: datetime) -> Opened:
            return LATE if bundle_digest(bundle) in digests else genuine.open(bundle, now=now)

    return Hesitant()


def revoking() -> Json:
    made = reference.revoking(revocation("launch", LAUNCH, 413))
    made["release"] |= {"tag": "v1.5.0", "commit": "ab" * 20, "sequence": 413}
    made["lifecycle"] |= {"current": [], "retired": []}
    return made


def test_an_unreadable_document_among_the_channels_revocations_blocks() -> None:
    world = World()
    world.publish(DOCUMENT)
    world.github.add(unreadable(world), REVOCATIONS)
    for _ in range(2):
        assert judged(world) == (403, Reason.STATEMENT_MALFORMED, "statement")
    world.github.listed[REVOCATIONS].clear()
    world.times.pass_by(SOFT)
    assert judged(world) == ADMITTED


def test_an_unreadable_document_that_appears_among_the_revocations_blocks() -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.add(unreadable(world), REVOCATIONS)
    world.times.pass_by(SOFT)
    assert judged(world) == (403, Reason.STATEMENT_MALFORMED, "statement")
    world.github.down = True
    world.times.pass_by(SOFT)
    assert judged(world) == (403, Reason.STATEMENT_MALFORMED, "statement")


def test_a_revocation_that_cannot_be_verified_for_now_is_tried_again_soon() -> None:
    world = World()
    world.publish(DOCUMENT)
    revoked = world.mint(revoking(), NEWER)
    world.github.add(revoked, REVOCATIONS)
    world.verifier = world.another(opener=hesitant(world, revoked))
    assert judged(world) == (503, Reason.TOOL_MISSING, "gh")
    world.verifier.attestations._opener = LateSigstore(world.root)
    world.times.pass_by(world.policy.cache.negative_seconds)
    assert judged(world)[:2] == (403, Reason.REVOKED)


def test_without_the_channels_revocations_nobody_is_admitted() -> None:
    world = World()
    world.publish(DOCUMENT)
    world.github.down_for = {REVOCATIONS}
    for _ in range(2):
        assert judged(world) == UNREAD
    world.github.down_for.clear()
    world.times.pass_by(HARD)
    assert judged(world) == ADMITTED


def test_an_old_list_of_revocations_is_stale_and_ends() -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.down_for = {REVOCATIONS}
    world.times.pass_by(SOFT - 1)
    assert world.verifier.verify_claims(claims_of()).labels == ()
    world.times.pass_by(1)
    verdict = world.verifier.verify_claims(claims_of())
    assert (answer(verdict), verdict.labels, verdict.age) == (ADMITTED, ("stale",), SOFT)
    world.times.pass_by(HARD - SOFT - 1)
    verdict = world.verifier.verify_claims(claims_of())
    assert (answer(verdict), verdict.labels, verdict.age) == (ADMITTED, ("stale",), HARD - 1)
    world.times.pass_by(1)
    assert judged(world) == UNREAD
    world.github.down_for.clear()
    world.times.pass_by(SOFT)
    verdict = world.verifier.verify_claims(claims_of())
    assert (answer(verdict), verdict.labels) == (ADMITTED, ())


def test_an_admission_with_a_stale_list_of_revocations_is_not_kept() -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.down_for = {REVOCATIONS}
    world.times.pass_by(SOFT)
    assert judged(world) == ADMITTED
    world.github.down_for.clear()
    world.github.add(world.mint(revoking(), NEWER), REVOCATIONS)
    world.times.pass_by(31)  # no pause any more
    assert judged(world)[:2] == (403, Reason.REVOKED)


def test_a_presented_bundle_bridges_the_list_of_revocations_only_in_preferred_mode() -> None:
    for name in ("preferred", "required"):
        world = World(mode(name))
        bundle = world.mint(DOCUMENT)
        world.github.down_for = {REVOCATIONS}
        verdict = world.verifier.verify_claims(claims_of(), bundles=[bundle])
        if name == "required":
            assert answer(verdict) == UNREAD
        else:
            assert (answer(verdict), verdict.labels) == (ADMITTED, ("freshness_unchecked",))


@pytest.mark.parametrize("down", ["both lists", "the launch's", "the channel's"])
def test_a_restart_during_an_outage_admits_nobody(down: str, tmp_path: Path) -> None:
    """What the disk has is an attestation, and who may run is for GitHub's lists to say."""
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    assert list((tmp_path / "store").iterdir())
    world.github.down_for = {
        "both lists": {LAUNCH, REVOCATIONS}, "the launch's": {LAUNCH},
        "the channel's": {REVOCATIONS},
    }[down]  # fmt: skip
    assert judged(world) == ADMITTED  # without a restart
    world.verifier = world.another()
    for _ in range(2):
        verdict = world.verifier.verify_claims(claims_of())
        assert answer(verdict) == (DOWN if down == "the launch's" else UNREAD)
        assert verdict.labels == ()
        world.times.pass_by(SOFT)
    world.github.down_for.clear()
    world.times.pass_by(SOFT)
    assert judged(world) == ADMITTED


def test_a_restart_does_not_unblock_what_an_unreadable_revocation_blocks(tmp_path: Path) -> None:
    """It is not on the disk; nor is anything else there that would admit."""
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    odd = unreadable(world)
    late = world.mint(revoking(), NEWER)
    for listed, reason in ((odd, Reason.STATEMENT_MALFORMED), (late, Reason.TOOL_MISSING)):
        world.github.listed[REVOCATIONS] = [listed]
        world.verifier = world.another(opener=hesitant(world, late))
        assert judged(world)[1] is reason
        world.github.down = True
        assert answer(world.another().verify_claims(claims_of())) == UNREAD
        world.github.down = False


@pytest.mark.parametrize("beside", ["unreadable", "not verified", "no bundle"])
def test_a_restart_does_not_unblock_what_blocks_beside_an_attestation(
    beside: str, tmp_path: Path
) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    late = world.mint(DOCUMENT)
    odd = {"unreadable": unreadable(world), "not verified": late, "no bundle": b"null"}[beside]
    reason = {
        "unreadable": Reason.STATEMENT_MALFORMED,
        "not verified": Reason.TOOL_MISSING,
        "no bundle": Reason.LOOKUP_INCOMPLETE,
    }[beside]
    world.github.add(odd, LAUNCH)
    for restart in (False, True, False):
        if restart:
            world.verifier = world.another()
        world.verifier.attestations._opener = hesitant(world, late)
        assert judged(world)[1] is reason
        stranger = claims_of(launch(image="another"))  # reads the MRTD's list, and its own
        assert not world.verifier.verify_claims(stranger).allowed
        world.times.pass_by(SOFT)
    world.github.down = True
    assert answer(world.another().verify_claims(claims_of())) == UNREAD
    world.github.down = False
    world.github.listed[LAUNCH].remove(odd)
    world.verifier = world.another()
    assert judged(world) == ADMITTED


def test_a_revocation_that_was_on_the_list_outlasts_restarts(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    world.github.add(world.mint(revoking(), NEWER), REVOCATIONS)
    assert judged(world)[:2] == (403, Reason.REVOKED)
    world.github.down = True
    world.times.pass_by(SOFT)
    assert answer(world.another().verify_claims(claims_of()))[:2] == (403, Reason.REVOKED)
    assert answer(world.another().verify_claims(claims_of(launch(image="x")))) == UNREAD
    world.github.down = False
    world.github.listed[REVOCATIONS].clear()
    assert answer(world.another().verify_claims(claims_of()))[:2] == (403, Reason.REVOKED)


# --- lists that are read in part


@pytest.mark.parametrize("listed", [LAUNCH, REVOCATIONS], ids=["the launch's", "the channel's"])
@pytest.mark.parametrize("beside", ["unreadable", "not verified"])
def test_what_a_partial_list_has_that_cannot_be_read_blocks_during_the_next_outage_too(
    beside: str, listed: str
) -> None:
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    late = world.mint(revoking(), NEWER)
    odd = unreadable(world) if beside == "unreadable" else late
    reason = Reason.STATEMENT_MALFORMED if beside == "unreadable" else Reason.TOOL_MISSING
    world.verifier.attestations._opener = hesitant(world, late)
    world.github.add(odd, listed)
    world.github.add(b"null", listed)
    world.times.pass_by(SOFT)
    assert judged(world)[1] is reason
    for down in (True, True, False):
        world.github.down = down
        world.times.pass_by(SOFT)
        assert judged(world)[1] is reason
    world.github.listed[listed] = [
        b for b in world.github.listed[listed] if b not in {odd, b"null"}
    ]
    world.times.pass_by(SOFT)
    assert judged(world) == ADMITTED


@pytest.mark.parametrize("listed", [LAUNCH, REVOCATIONS], ids=["the launch's", "the channel's"])
@pytest.mark.parametrize("name", ["required", "preferred"])
def test_what_a_partial_list_has_that_cannot_be_read_is_said_without_an_older_list(
    name: str, listed: str
) -> None:
    world = World(mode(name))
    bundle = world.publish(DOCUMENT)
    world.github.add(unreadable(world), listed)
    world.github.add(b"null", listed)
    for bundles in ((), (bundle,), (world.mint(DOCUMENT),)):
        verdict = world.verifier.verify_claims(claims_of(), bundles=bundles)
        assert not verdict.allowed
        found = {c.reason for c in verdict.checks if not c.ok}
        assert found >= {Reason.STATEMENT_MALFORMED, Reason.LOOKUP_INCOMPLETE}


@pytest.mark.parametrize("listed", [LAUNCH, REVOCATIONS], ids=["the launch's", "the channel's"])
def test_a_presented_bundle_does_not_make_up_for_a_partial_list(listed: str) -> None:
    world = World(mode("preferred"))
    world.github.add(b"null", listed)
    name = "lookup" if listed == LAUNCH else "revocations"
    for _ in range(2):
        assert judged(world, world.mint(DOCUMENT)) == (503, Reason.LOOKUP_INCOMPLETE, name)
        world.times.pass_by(SOFT)


def test_a_presented_bundle_does_not_make_up_for_a_budget_that_is_spent() -> None:
    """Who presents what was deleted could spend it himself."""
    world = World(mode("preferred") + "requests_per_hour = 40\nreserve_percent = 0\n")
    bundle = world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    world.github.listed.clear()
    world.times.pass_by(SOFT)
    assert judged(world, bundle) == ABSENT
    world.times.pass_by(world.policy.cache.negative_seconds)
    for number in range(40):
        world.verifier.verify_claims(claims_of(launch(image=f"stranger {number}")))
    assert judged(world, bundle) == (503, Reason.LOOKUP_BUDGET, "lookup")


# --- the operator's folder, which is read now and then


def test_the_folder_is_not_read_again_for_every_stranger(tmp_path: Path) -> None:
    world = World(mode("required", tmp_path))
    (tmp_path / "dd.json").write_bytes(world.mint(DOCUMENT))
    folder, reads = world.verifier.attestations._folder, []
    assert folder is not None

    def counted() -> Any:
        reads.append(1)
        return folder()

    world.verifier.attestations._folder = counted
    for number in range(10):
        stranger = claims_of(launch(image=f"stranger {number}"))
        assert not world.verifier.verify_claims(stranger).allowed
    assert judged(world) == ADMITTED
    assert len(reads) == 1
    world.times.pass_by(world.policy.cache.negative_seconds - 1)
    world.verifier.verify_claims(claims_of(launch(image="another stranger")))
    assert len(reads) == 1
    (tmp_path / "revoked.json").write_bytes(world.mint(revoking(), NEWER))
    world.times.pass_by(1)
    world.verifier.verify_claims(claims_of(launch(image="yet another")))
    assert len(reads) == 2
    assert judged(world)[:2] == (403, Reason.REVOKED)


def test_a_folder_that_could_not_be_read_is_read_again_at_once(tmp_path: Path) -> None:
    world = World(mode("required", tmp_path))
    world.publish(DOCUMENT)
    (tmp_path / "revocation.json").mkdir()
    assert judged(world)[0] == 503
    (tmp_path / "revocation.json").rmdir()
    assert judged(world) == ADMITTED


# --- whom the budget is for


@pytest.mark.parametrize(
    ("known", "asks", "left"),
    [("nothing", "a stranger", 100), ("the firmware", "a new image", 50), ("it", "again", 0)],
)
def test_the_reserve_is_shared_by_what_is_known_already(known: str, asks: str, left: int) -> None:
    """Anybody may boot our firmware: half of the reserve is for what is attested already."""
    world = World()
    if known != "nothing":
        world.publish(DOCUMENT)
        assert judged(world) == ADMITTED
        world.times.pass_by(SOFT)
    shares: dict[str, float] = {}
    real = world.verifier.attestations._ask
    assert real is not None

    def noted(digest: str, *, priority: float) -> Any:
        shares[digest] = priority
        return real(digest, priority=priority)

    world.verifier.attestations._ask = noted
    claims = claims_of() if known != "the firmware" else claims_of(launch(image=asks))
    world.verifier.verify_claims(claims)
    assert shares.pop(REVOCATIONS) == 1.0
    assert set(shares.values()) == {1.0 - left / 100}
