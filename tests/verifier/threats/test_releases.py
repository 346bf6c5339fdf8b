"""Old, retired and revoked releases."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pytest

from fixtures import reference
from fixtures.reference import launch, register, revocation
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.lab.answers import ADMITTED, Answer, answer, failed, observed
from tests.lab.identity import GitHubIdentity
from tests.lab.world import RELEASE, World, claims_of, launch_digest_of
from tests.lab.world import REVOCATIONS as CHANNEL

Json = dict[str, Any]

ROLLED_BACK: Final[Answer] = (403, Reason.RELEASE_ROLLED_BACK, "sequence")
RETIRED: Final[Answer] = (403, Reason.RELEASE_RETIRED, "sequence")
BY_LAUNCH: Final[Answer] = (403, Reason.REVOKED, "launch_not_revoked")
BY_RELEASE: Final[Answer] = (403, Reason.REVOKED, "release_not_revoked")
NOTHING: Final[Json] = {"current": [], "next": [], "retired": [], "revoked": []}


def commit_of(sequence: int) -> str:
    return hashlib.sha1(str(sequence).encode(), usedforsecurity=False).hexdigest()


def ref(sequence: int) -> Json:
    """The release of a sequence, as others name it."""
    return {"tag": f"v{sequence}", "commit": commit_of(sequence), "sequence": sequence}


def image(sequence: int) -> Json:
    """What the release of a sequence launches, on firmware that all releases have."""
    return launch(image=f"image {sequence}")


def release(sequence: int, *launches: Json, **cycle: Any) -> Json:
    """The document of a release; ``cycle`` is what it says about others."""
    made = reference.document(*(launches or (image(sequence),)))
    made["release"] |= ref(sequence)
    made["artifacts"] = []
    made["lifecycle"] = NOTHING | cycle
    return made


def signer(sequence: int) -> GitHubIdentity:
    return GitHubIdentity.of_run(commit=commit_of(sequence), run=str(30_000_000 + sequence))


def publish(world: World, made: Json) -> bytes:
    return world.publish(made, signer(made["release"]["sequence"]))


def pure(sequence: int, *revoked: Json, **cycle: Any) -> Json:
    """A document that vouches for nothing and revokes."""
    return release(sequence, image(0)) | {
        "launches": [],
        "lifecycle": NOTHING | cycle | {"revoked": list(revoked)},
    }


def judged(world: World, sequence: int, verifier: Verifier | None = None) -> Answer:
    """Whether a VM of a release is admitted."""
    return answer((verifier or world.verifier).verify_claims(claims_of(image(sequence))))


def launch_digest(sequence: int) -> str:
    return launch_digest_of(image(sequence))


def test_an_older_release_is_refused_once_a_newer_one_was_seen() -> None:
    world = World()
    for sequence in (500, 501):
        publish(world, release(sequence))
    assert judged(world, 500) == ADMITTED  # nothing newer has been seen yet
    assert judged(world, 501) == ADMITTED
    assert judged(world, 500) == ROLLED_BACK
    assert judged(world, 501) == ADMITTED


@pytest.mark.parametrize("role", ["current", "next"])
def test_a_release_that_the_newest_names_is_admitted(role: str) -> None:
    world = World()
    publish(world, release(500))
    publish(world, release(501, **{role: [ref(500)]}))
    assert judged(world, 501) == ADMITTED
    assert judged(world, 500) == ADMITTED


def test_a_retired_release_is_refused() -> None:
    world = World()
    publish(world, release(500))
    publish(world, release(501, retired=[ref(500)]))
    assert judged(world, 501) == ADMITTED
    assert judged(world, 500) == RETIRED


def test_only_the_newest_document_says_what_is_current() -> None:
    world = World()
    publish(world, release(500))
    publish(world, release(501, current=[ref(500)]))
    publish(world, release(502, current=[ref(501)]))
    for sequence in (501, 502):
        assert judged(world, sequence) == ADMITTED
    assert judged(world, 500) == ROLLED_BACK


@pytest.mark.parametrize("field", ["tag", "commit"])
def test_current_names_a_release_and_not_only_its_sequence(field: str) -> None:
    world = World()
    publish(world, release(500))
    other = ref(500) | {field: ref(499)[field]}
    publish(world, release(501, current=[other]))
    assert judged(world, 501) == ADMITTED
    assert judged(world, 500) == ROLLED_BACK


def test_of_two_documents_of_the_newest_release_the_stricter_one_counts() -> None:
    for documents in ([True, False], [False, True]):
        world = World()
        publish(world, release(500))
        for generous in documents:
            shape = launch("x" if generous else "y", image="image 501")
            publish(world, release(501, shape, current=[ref(500)] if generous else []))
        for name in ("x", "y"):
            claims = claims_of(launch(name, image="image 501"))
            assert answer(world.verifier.verify_claims(claims)) == ADMITTED
        assert judged(world, 500) == ROLLED_BACK


def test_the_operators_minimum_holds_whatever_documents_name() -> None:
    world = World("[release]\nminimum_sequence = 501\n")
    publish(world, release(500))
    assert judged(world, 500) == ROLLED_BACK
    publish(world, release(501, current=[ref(500)]))
    assert judged(world, 501) == ADMITTED
    assert judged(world, 500) == ROLLED_BACK


def test_the_same_image_attested_again_by_a_newer_release_is_admitted() -> None:
    world = World()
    publish(world, release(500))
    publish(world, release(501))
    assert judged(world, 501) == ADMITTED
    publish(world, release(502, image(500)))
    world.times.pass_by(600)
    verdict = world.verifier.verify_claims(claims_of(image(500)))
    assert answer(verdict) == ADMITTED
    assert verdict.release is not None
    assert verdict.release.sequence == 502


REVOCATIONS: Final = {
    "launch": (revocation("launch", launch_digest(500), 501), BY_LAUNCH),
    "mrtd": (revocation("mrtd", register("firmware"), 501), BY_LAUNCH),
    "tag": (revocation("tag", "v500", 501), BY_RELEASE),
    "commit": (revocation("commit", commit_of(500), 501), BY_RELEASE),
}


def other_firmware(sequence: int) -> Json:
    made = image(sequence)
    made["registers"]["mrtd"] = reference.exact(register("newer firmware"))
    return made


@pytest.mark.parametrize("kind", REVOCATIONS)
@pytest.mark.parametrize("order", ["seen before", "seen after"])
def test_what_a_later_release_revokes_is_refused_although_it_is_current(
    kind: str, order: str
) -> None:
    """The later document is seen when another VM, which runs it, asks."""
    row, expected = REVOCATIONS[kind]
    world = World()
    publish(world, release(500))
    newer = other_firmware(501)
    cycle = {} if kind in {"tag", "commit"} else {"current": [ref(500)]}
    later = world.mint(release(501, newer, revoked=[row], **cycle), signer(501))
    world.github.add(later, launch_digest_of(newer))
    if order == "seen after":
        assert judged(world, 500) == ADMITTED
    assert answer(world.verifier.verify_claims(claims_of(newer))) == ADMITTED
    status, reason, _ = judged(world, 500)
    assert (status, reason) == expected[:2]
    world.times.pass_by(2 * 86400)
    assert judged(world, 500)[:2] == expected[:2], "revocations do not wear off"


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_revocation_beats_every_attestation_that_passes(kind: str) -> None:
    """Many releases attest the image; one that revokes is enough."""
    row, _ = REVOCATIONS[kind]
    world = World()
    publish(world, release(500))
    for sequence in (502, 503, 504):
        publish(world, release(sequence, image(500)))
    assert judged(world, 500) == ADMITTED
    later = release(505, other_firmware(505), revoked=[row], current=[ref(504)])
    checks = world.verifier.learn(world.mint(later, signer(505)))
    assert all(c.ok for c in checks)
    status, reason, _ = judged(world, 500)
    assert (status, reason) == (403, Reason.REVOKED)


@pytest.mark.parametrize("kind", ["launch"])
def test_a_pure_revocation_is_found_by_what_it_revokes(kind: str) -> None:
    row, expected = REVOCATIONS[kind]
    world = World()
    publish(world, release(500))
    publish(world, pure(501, row, current=[ref(500)]))
    assert judged(world, 500) == expected


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_pure_revocation_is_found_by_who_only_ever_asks_for_launches(kind: str) -> None:
    """Nothing of it is about the launch but the list of what the channel has revoked."""
    row, expected = REVOCATIONS[kind]
    cycle = {"current": [ref(500)]} if kind in {"launch", "mrtd"} else {}
    world = World()
    publish(world, release(500))
    world.github.add(world.mint(pure(501, row, **cycle), signer(501)), CHANNEL)
    assert judged(world, 500)[:2] == expected[:2]
    assert world.github.about == {launch_digest(500): 1, CHANNEL: 1}
    assert failed(world.another().verify_claims(claims_of(image(500)))) >= {expected[2]}


@pytest.mark.parametrize("kind", REVOCATIONS)
def test_a_revocation_is_found_when_the_list_is_due_again(kind: str) -> None:
    row, expected = REVOCATIONS[kind]
    world = World()
    publish(world, release(500))
    assert judged(world, 500) == ADMITTED
    world.github.add(world.mint(pure(501, row), signer(501)), CHANNEL)
    world.times.pass_by(world.policy.cache.soft_seconds - 1)
    assert judged(world, 500) == ADMITTED
    world.times.pass_by(1)
    assert judged(world, 500)[:2] == expected[:2]


def test_a_document_that_revokes_nothing_new_is_not_among_the_channels_revocations() -> None:
    """The list stays short; what it repeats was on it when it was new."""
    row, _ = REVOCATIONS["tag"]
    older, newer = release(502, revoked=[row]), release(501, revoked=[row])
    assert CHANNEL not in {s["digest"]["sha256"] for s in reference.subjects(older)}
    assert CHANNEL in {s["digest"]["sha256"] for s in reference.subjects(newer)}
    world = World()
    publish(world, older)
    publish(world, newer)
    assert len(world.github.listed[CHANNEL]) == 1
    assert judged(world, 502) == ADMITTED


def test_revocations_of_another_channel_are_on_another_list() -> None:
    made = pure(501, REVOCATIONS["tag"][0])
    for field, value in (("repository", "devopsdefender/dd2"), ("channel", "refs/heads/main2")):
        other = made | {"release": made["release"] | {field: value}}
        assert CHANNEL not in {s["digest"]["sha256"] for s in reference.subjects(other)}


def test_a_stranger_on_the_list_of_revocations_neither_revokes_nor_blocks() -> None:
    world = World()
    publish(world, release(500))
    stranger = RELEASE.change(build_trigger="pull_request", source_repository_digest=commit_of(501))
    for row, _ in REVOCATIONS.values():
        world.github.add(world.mint(pure(501, row), stranger), CHANNEL)
    assert judged(world, 500) == ADMITTED


@pytest.mark.parametrize("mode", ["off", "preferred", "required"])
@pytest.mark.parametrize("new", [True, False], ids=["new", "repeated"])
@pytest.mark.parametrize("kind", REVOCATIONS)
def test_every_revocation_in_the_operators_folder_counts(
    kind: str,
    new: bool,  # noqa: FBT001
    mode: str,
    tmp_path: Any,
) -> None:
    """The folder is read anyway; what it says about other launches is a release's word, too."""
    world = World(f'[lookup]\ngithub = "{mode}"\ndirectory = "{tmp_path}"\n')
    row, expected = REVOCATIONS[kind]
    sequence = 501 if new else 502
    cycle = {"current": [ref(500)]} if kind in {"launch", "mrtd"} else {}
    (tmp_path / "a.json").write_bytes(world.mint(release(500), signer(500)))
    assert judged(world, 500) == ADMITTED
    later = release(sequence, other_firmware(sequence), revoked=[row], **cycle)
    (tmp_path / "b.json").write_bytes(world.mint(later, signer(sequence)))
    assert answer(world.another().verify_claims(claims_of(image(500))))[:2] == expected[:2]
    world.times.pass_by(world.policy.cache.soft_seconds)
    assert judged(world, 500)[:2] == expected[:2]
    assert (world.github.asked == []) is (mode == "off")


def test_a_revoked_release_is_refused_on_every_shape_of_machine() -> None:
    """Another release attested the same image, for another shape: the image is still the same."""
    world = World('[release.revoked]\ntags = ["v500"]\n')
    small, large = (launch(shape, image="same") for shape in ("small", "large"))
    publish(world, release(500, small))
    publish(world, release(501, large))
    verdict = world.verifier.verify_claims(claims_of(large))
    assert answer(verdict) == (403, Reason.REVOKED, "attestations_not_revoked")
    assert observed(verdict, "attestations_not_revoked") == "that of release v500 is"


def test_a_revoked_release_that_left_rtmr0_open_is_refused_where_another_pins_it() -> None:
    world = World('[release.revoked]\ncommits = ["' + commit_of(500) + '"]\n')
    unpinned, pinned = launch("any"), launch("pinned")
    unpinned["registers"]["rtmr0"] = reference.unpinned()
    unpinned["coverage"] = [row for row in unpinned["coverage"] if row["input"] != "acpi"]
    publish(world, release(500, unpinned))
    publish(world, release(501, pinned))
    verdict = world.verifier.verify_claims(claims_of(pinned))
    assert answer(verdict) == (403, Reason.REVOKED, "attestations_not_revoked")


def test_a_revoked_release_does_not_take_other_images_of_its_firmware_with_it() -> None:
    world = World('[release.revoked]\ntags = ["v500"]\n')
    publish(world, release(500))
    publish(world, release(501))
    assert judged(world, 501) == ADMITTED


RUN: Final = "https://github.com/devopsdefender/dd/actions/runs/30000500"
BY_OPERATOR: Final = {
    "mrtds": register("firmware"),
    "launches": launch_digest(500),
    "tags": "v500",
    "commits": commit_of(500),
    "runs": f"{RUN}/attempts/1",
}


@pytest.mark.parametrize("kind", BY_OPERATOR)
def test_what_the_operator_revokes_is_refused(kind: str) -> None:
    world = World(f'[release.revoked]\n{kind} = ["{BY_OPERATOR[kind]}"]\n')
    publish(world, release(500))
    assert judged(world, 500)[:2] == (403, Reason.REVOKED)


def test_a_run_is_revoked_with_all_its_attempts_by_the_address_that_github_shows() -> None:
    world = World(f'[release.revoked]\nruns = ["{RUN}"]\n')
    publish(world, release(500))
    publish(world, release(501))
    assert judged(world, 500)[:2] == (403, Reason.REVOKED)
    assert judged(world, 501) == ADMITTED


def test_a_run_whose_number_begins_alike_is_another_one() -> None:
    world = World(f'[release.revoked]\nruns = ["{RUN[:-1]}"]\n')
    publish(world, release(500))
    assert judged(world, 500) == ADMITTED


def test_another_attempt_is_not_revoked_with_a_single_one() -> None:
    world = World(f'[release.revoked]\nruns = ["{RUN}/attempts/2"]\n')
    publish(world, release(500))
    assert judged(world, 500) == ADMITTED


def test_what_was_admitted_and_kept_is_refused_at_once_when_it_is_revoked() -> None:
    world = World()
    publish(world, release(500))
    for _ in range(3):
        assert judged(world, 500) == ADMITTED
    asked = len(world.github.asked)
    row, _ = REVOCATIONS["launch"]
    world.verifier.learn(world.mint(pure(501, row, current=[ref(500)]), signer(501)))
    assert judged(world, 500) == BY_LAUNCH
    assert len(world.github.asked) == asked, "no lookup was due"


def test_a_presented_revocation_counts_although_presented_bundles_do_not_admit() -> None:
    world = World()
    publish(world, release(500))
    row, _ = REVOCATIONS["launch"]
    bundle = world.mint(pure(501, row, current=[ref(500)]), signer(501))
    verdict = world.verifier.verify_claims(claims_of(image(500)), bundles=[bundle])
    assert answer(verdict) == BY_LAUNCH


def test_nobody_else_can_revoke() -> None:
    world = World()
    publish(world, release(500))
    row, _ = REVOCATIONS["launch"]
    stranger = RELEASE.change(build_trigger="pull_request", source_repository_digest=commit_of(501))
    world.publish(pure(501, row, current=[ref(500)]), stranger)
    assert judged(world, 500) == ADMITTED


def test_learning_says_what_is_wrong_and_learns_nothing_then() -> None:
    world = World()
    publish(world, release(500))
    row, _ = REVOCATIONS["launch"]
    stranger = RELEASE.change(build_trigger="pull_request", source_repository_digest=commit_of(501))
    checks = world.verifier.learn(world.mint(pure(501, row), stranger))
    assert {c.name for c in checks if not c.ok} == {"identity.trigger"}
    assert judged(world, 500) == ADMITTED


def test_a_release_that_is_only_a_revocation_vouches_for_nobody() -> None:
    world = World()
    world.github.add(
        world.mint(pure(501, revocation("launch", "ab" * 32, 501)), signer(501)),
        launch_digest(500),
    )
    verdict = world.verifier.verify_claims(claims_of(image(500)))
    assert not verdict.allowed
    assert verdict.reason is Reason.REGISTERS_DIFFER
