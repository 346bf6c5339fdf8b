"""What is admitted while GitHub, the folder or the disk say little, nothing or something old."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import reference
from fixtures.reference import launch, revocation
from mrtd.verifier.bundle import LateSigstore, Opened, bundle_digest
from mrtd.verifier.verdict import Reason, check
from tests.lab.answers import ADMITTED, Answer, answer
from tests.lab.flaws import Flaw
from tests.lab.world import RELEASE, World, claims_of

Json = dict[str, Any]

DOCUMENT: Final = reference.document()
DOWN: Final[Answer] = (503, Reason.LOOKUP_UNAVAILABLE, "lookup")
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


def test_a_presented_bundle_does_not_bridge_an_outage_in_required_mode() -> None:
    world = World()
    world.github.down = True
    assert judged(world, world.mint(DOCUMENT)) == DOWN


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
        assert judged(world) == DOWN


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
        assert (status, check) == (503, "lookup")
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
    assert judged(world) == DOWN
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
    assert judged(world) == DOWN


def test_not_attested_holds_only_for_a_while() -> None:
    world = World()
    for _ in range(3):
        assert judged(world) == ABSENT
    asked = len(world.github.asked)
    world.publish(DOCUMENT)
    assert judged(world) == ABSENT
    assert len(world.github.asked) == asked == 2, "by launch, then by MRTD; once each"
    world.times.pass_by(world.policy.cache.negative_seconds)
    assert judged(world) == ADMITTED


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
    world.github.down = True
    world.verifier = world.another()
    assert judged(world) == DOWN


def stored(folder: Path) -> Path:
    (file,) = folder.glob("*.sigstore.json")
    return file


def test_a_stored_bundle_that_was_tampered_with_admits_nobody(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    file = stored(tmp_path / "store")
    bundle = json.loads(file.read_bytes())
    envelope = bundle["dsseEnvelope"]
    altered = bundle | {"dsseEnvelope": envelope | {"payload": envelope["payload"][:-4]}}
    for text in (json.dumps(altered).encode(), b"", b"{}"):
        file.write_bytes(text)
        os.utime(file, (world.times.wall, world.times.wall))
        world.github.down = True
        world.verifier = world.another()
        assert judged(world) == DOWN


def test_a_strangers_bundle_in_the_store_admits_nobody(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    name = f"{412:016d}-{'ab' * 32}.sigstore.json"
    stranger = RELEASE.change(build_trigger="pull_request_target")
    bundles = (world.mint(DOCUMENT, stranger), world.mint(DOCUMENT, flaw=Flaw.NO_SCT))
    for bundle in bundles:
        (tmp_path / "store" / name).write_bytes(bundle)
        os.utime(tmp_path / "store" / name, (world.times.wall, world.times.wall))
        world.github.down = True
        world.verifier = world.another()
        assert judged(world) == DOWN


def test_a_policy_that_became_stricter_holds_for_the_disk_too(tmp_path: Path) -> None:
    world = World(kept(tmp_path / "store"))
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    strict = World(f'{kept(tmp_path / "store")}[identity]\nref = "refs/heads/stable"\n')
    strict.github.down = True
    assert judged(strict) == DOWN


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


def test_what_a_partial_list_has_that_cannot_be_read_is_not_outweighed_by_an_older_list() -> None:
    """GitHub lists an unreadable document of the trusted workflow, and an entry without bundle."""
    world = World()
    world.publish(DOCUMENT)
    assert judged(world) == ADMITTED
    digest = reference.subjects(DOCUMENT)[1]["digest"]["sha256"]
    unreadable = reference.changed(reference.statement(DOCUMENT), "predicate.comment", "x")
    world.github.add(world.mint(reference.encoded(unreadable)), digest)
    world.github.add(b"null", digest)
    world.times.pass_by(SOFT)
    assert judged(world) == (403, Reason.STATEMENT_MALFORMED, "statement")


@pytest.mark.xfail(strict=True, reason="DEFECT: what the disk has is read once, verified or not")
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
            if len(calls) > 1:
                return genuine.open(bundle, now=now)
            late = check(
                "gh", Reason.TOOL_MISSING, ok=False, expected="x", observed="y", source="gh"
            )
            return Opened((late,), None)

    verdict = world.another(opener=SlowToStart()).verify_claims(claims_of())
    assert not verdict.allowed
