"""Revocations take effect: in verifiers that know nothing, and in those that knew the release."""

from __future__ import annotations

from typing import Any

import pytest

from mrtd.reference import Launch, ReferenceValues
from mrtd.verifier.clock import Clock
from mrtd.verifier.policy import Policy
from mrtd.verifier.trust_root import TrustRoot, read_trust_root
from mrtd.verifier.verdict import Reason, Verdict
from mrtd.verifier.verifier import Verifier
from release.selfcheck import claims_of
from tests.lab.world import policy_of
from tests.release.stage import Ran, Stage


def root_of(lab: Stage) -> TrustRoot:
    raw = lab.server.instance.trusted_root_json()
    return read_trust_root(raw, source="lab", dated=lab.job().now)


class ControlPlane:
    """A verifier as a control plane has it, with clocks of its own."""

    def __init__(self, lab: Stage, policy: str = "") -> None:
        self.policy: Policy = policy_of(policy)
        self.later = 0.0
        clock = Clock(wall=lab.moment.wall, steady=lambda: 1000 + self.later)
        self.verifier = Verifier(
            self.policy, fetch=lab.github.fetch, clock=clock, trust_root=root_of(lab)
        )

    def ask(self, launch: Launch) -> Verdict:
        return self.verifier.verify_claims(claims_of(launch, self.policy))


def released(lab: Stage, *tags: str) -> list[ReferenceValues]:
    """Releases of different images, two commits apart."""
    for number, tag in enumerate(tags):
        lab.github.release(tag)
        ran = lab.attest(lab.image(number), tag=tag)
        assert ran.code == 0, ran.err
        lab.commit(2)
    return lab.stored()


def revoke(lab: Stage, *words: str) -> Ran:
    ran = lab.run("revoke", *words, "--reason", "key leaked", "--out", lab.folder / "revoked")
    assert ran.code == 0, ran.err
    return ran


def test_revoked_launch_is_refused_by_verifiers_old_and_new(lab: Stage) -> None:
    one, two = released(lab, "v1.0.0", "v1.1.0")
    old = ControlPlane(lab)
    assert old.ask(one.launches[0]).allowed
    assert old.ask(two.launches[0]).allowed
    digest = one.launches[0].launch_digest or ""
    ran = revoke(lab, "--launch", digest)
    assert "the verifier refuses q35-2cpu-2gib as revoked" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80

    new = ControlPlane(lab)
    verdict = new.ask(one.launches[0])
    assert (verdict.reason, verdict.status) == (Reason.REVOKED, 403)
    assert "key leaked" in verdict.message
    assert new.ask(two.launches[0]).allowed
    old.later = 601  # its answer is due to be looked up again
    assert old.ask(one.launches[0]).reason is Reason.REVOKED
    assert old.ask(two.launches[0]).allowed


def test_revoked_release_is_refused_with_its_launches(lab: Stage) -> None:
    one, two = released(lab, "v1.0.0", "v1.1.0")
    revoke(lab, "--release-tag", "v1.1.0")
    newest = lab.stored()[-1]
    assert newest.launches == ()
    assert {(row.kind, row.value) for row in newest.lifecycle.revoked} == {
        ("tag", "v1.1.0"), ("launch", two.launches[0].launch_digest)
    }  # fmt: skip
    assert [r.tag for r in newest.lifecycle.current] == ["v1.0.0"]
    plane = ControlPlane(lab)
    assert plane.ask(two.launches[0]).reason is Reason.REVOKED
    assert plane.ask(one.launches[0]).allowed


def test_one_bundle_tells_a_verifier_that_asks_nobody(lab: Stage) -> None:
    (one,) = released(lab, "v1.0.0")
    plane = ControlPlane(lab)
    assert plane.ask(one.launches[0]).allowed
    revoke(lab, "--commit", one.release.commit)
    checks = plane.verifier.learn(lab.github.stored[-1].bundle)
    assert all(c.ok for c in checks)
    assert plane.ask(one.launches[0]).reason is Reason.REVOKED, "at once: what it knew is void"


def test_revoked_firmware_is_refused_on_every_image(lab: Stage) -> None:
    one, two = released(lab, "v1.0.0", "v1.1.0")
    revoke(lab, "--mrtd", str(one.launches[0].registers.mrtd.value))
    plane = ControlPlane(lab, "[lookup]\nby_mrtd = true\n")
    checks = plane.verifier.learn(lab.github.stored[-1].bundle)
    assert all(c.ok for c in checks)
    assert plane.ask(one.launches[0]).reason is Reason.REVOKED
    assert plane.ask(two.launches[0]).reason is Reason.REVOKED


def test_revocations_are_carried_on_by_releases_and_revocations(lab: Stage) -> None:
    one, _ = released(lab, "v1.0.0", "v1.1.0")
    revoke(lab, "--launch", one.launches[0].launch_digest or "")
    revoke(lab, "--mrtd", "ab" * 48)
    lab.commit()
    lab.github.release("v1.2.0")
    assert lab.attest(lab.image(5), tag="v1.2.0").code == 0
    newest = lab.stored()[-1]
    assert [row.kind for row in newest.lifecycle.revoked] == ["launch", "mrtd"]
    assert [row.sequence for row in newest.lifecycle.revoked] == [9, 9]
    ran = lab.attest(lab.image(0), "--json", tag="v1.2.0")
    assert ran.code == 1, "the same image is not released again"
    assert "revoked" in [one["code"] for one in ran.json["error"]["refusals"]]


def test_revocation_whose_asset_was_deleted_is_found_in_the_store(lab: Stage) -> None:
    one, _ = released(lab, "v1.0.0", "v1.1.0")
    revoke(lab, "--launch", one.launches[0].launch_digest or "")
    for release in lab.github.releases:
        release.assets = [a for a in release.assets if not a.name.startswith("mrtd-revocation")]
    lab.commit()
    assert lab.attest(lab.image(5), tag="v1.2.0").code == 0
    assert [row.kind for row in lab.stored()[-1].lifecycle.revoked] == ["launch"]


def test_revoking_again_adds_nothing(lab: Stage) -> None:
    (one,) = released(lab, "v1.0.0")
    digest = one.launches[0].launch_digest or ""
    revoke(lab, "--launch", digest)
    count = len(lab.github.stored)
    ran = revoke(lab, "--launch", digest)
    assert len(lab.github.stored) == count
    assert "nothing that was not revoked before" in ran.out


def test_revoking_the_release_of_this_very_commit(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    assert lab.attest().code == 0
    revoke(lab, "--release-tag", "v1.0.0")
    newest = lab.stored()[-1]
    assert (newest.release.tag, newest.release.sequence) == ("v1.0.0", 5)
    assert ControlPlane(lab).ask(lab.stored()[0].launches[0]).reason is Reason.REVOKED


def test_dry_run_signs_nothing(lab: Stage) -> None:
    released(lab, "v1.0.0")
    count = len(lab.server.certificates)
    assert "nothing was signed" in revoke(lab, "--release-tag", "v1.0.0", "--dry-run").out
    assert len(lab.server.certificates) == count


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--release-tag", "v9"], 1, "no document of this release was found"),
        (["--commit", "e" * 40], 1, "--launch DIGEST"),
        ([], 2, "names nothing to revoke"),
    ],
)
def test_revoking_what_is_not_known(lab: Stage, words: list[str], code: int, text: str) -> None:
    place: list[Any] = ["--out", lab.folder / "out"]
    ran = lab.run("revoke", *words, "--reason", "x", *place)
    assert ran.code == code
    assert text in ran.err
    assert lab.github.stored == []


def test_unknown_release_can_be_revoked_with_its_launch(lab: Stage) -> None:
    revoke(lab, "--release-tag", "v9", "--launch", "ab" * 32)
    assert {row.kind for row in lab.stored()[-1].lifecycle.revoked} == {"tag", "launch"}


def test_release_that_shares_what_is_revoked_is_named(lab: Stage) -> None:
    one, _ = released(lab, "v1.0.0", "v1.1.0")
    mrtd = str(one.launches[0].registers.mrtd.value)
    ran = lab.run("revoke", "--mrtd", mrtd, "--reason", "x", "--json", "--dry-run")
    assert ran.code == 0
    assert [text.split()[1] for text in ran.json["warnings"]] == ["v1.1.0", "v1.0.0"]


def test_revocation_from_an_old_commit_is_refused(lab: Stage) -> None:
    released(lab, "v1.0.0")
    lab.environ["GITHUB_SHA"] = "HEAD~4"
    ran = lab.run("revoke", "--release-tag", "v1.0.0", "--reason", "x", "--json")
    assert [one["code"] for one in ran.json["error"]["refusals"]] == ["sequence_behind"]
