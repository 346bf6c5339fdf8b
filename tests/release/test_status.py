"""What ``status`` shows, and what ``recheck`` says as time goes by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fixtures.dcap import World, authority
from fixtures.quotes import Td
from mrtd.evidence import manifest as names
from mrtd.evidence.bundle import bundle_of, encode_bundle, read_bundle, write_bundle
from mrtd.registers import LAUNCH_REGISTERS
from release.recheck import until
from tests.lab.trusted_root import Windows
from tests.release.stage import Ran, Stage, measured, stage

DAY = 86400.0
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def release(lab: Stage, *tags: str) -> None:
    for number, tag in enumerate(tags):
        lab.github.release(tag)
        ran = lab.attest(lab.image(number), tag=tag)
        assert ran.code == 0, ran.err
        lab.commit(2)


def test_status_shows_states_and_runs(lab: Stage) -> None:
    release(lab, "v1.0.0", "v1.1.0", "v1.2.0")
    ran = lab.run("revoke", "--release-tag", "v1.1.0", "--reason", "key leaked", "--out",
                  lab.folder / "out")  # fmt: skip
    assert ran.code == 0, ran.err
    shown = lab.run("status")
    assert shown.code == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    states = {row["tag"]: row["state"] for row in lab.run("status", "--json").json["rows"]}
    assert states == {
        "revocation-11": "revocation", "v1.2.0": "current", "v1.1.0": "revoked", "v1.0.0": "retired"
    }  # fmt: skip
    assert "30000003" in shown.out
    assert "key leaked" in shown.out


def test_status_needs_no_token(lab: Stage) -> None:
    release(lab, "v1.0.0")
    del lab.environ["GITHUB_TOKEN"]
    assert "current" in lab.run("status").out


def test_status_of_nothing(lab: Stage) -> None:
    ran = lab.run("status")
    assert (ran.code, "nothing is attested" in ran.out) == (0, True)


def test_announced_release_is_shown(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    coming = f"v1.1.0={'a' * 40}:99"
    assert lab.attest("--next", coming).code == 0
    rows = lab.run("status", "--json").json["rows"]
    assert [(row["tag"], row["state"]) for row in rows] == [
        ("v1.1.0", "next"), ("v1.0.0", "current")
    ]  # fmt: skip


def findings(ran: Ran) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in ran.json["findings"]}


def test_recheck_of_a_fresh_release(lab: Stage) -> None:
    release(lab, "v1.0.0")
    ran = lab.run("recheck")
    assert ran.code == 0, ran.out
    assert "holds" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    found = findings(lab.run("recheck", "--json"))
    assert found["verifier"]["outcome"] == "ok"
    assert found["trust_root_age"]["days"] >= 178
    assert found["dcap"]["outcome"] == "not checked"


@pytest.mark.parametrize(("days", "outcome"), [(100, "ok"), (170, "soon"), (181, "failed")])
def test_root_gets_old(lab: Stage, days: int, outcome: str) -> None:
    release(lab, "v1.0.0")
    lab.moment.ahead = days * DAY
    ran = lab.run("recheck", "--json")
    found = findings(ran)["trust_root_age"]
    assert (found["outcome"], ran.code) == (outcome, 0 if outcome == "ok" else 1)
    assert outcome == "ok" or "root" in found["remedy"]


def test_key_that_ends_soon_is_named(tmp_path: Path) -> None:
    with stage(tmp_path) as lab:
        release(lab, "v1.0.0")
        soon = datetime.now(UTC) + timedelta(days=5)
        window = Windows().rekor_v1
        assert window is not None
        windows = Windows(rekor_v1=replace(window, end=soon))
        root = json.loads(lab.server.instance.trusted_root_json(windows))
        config = json.loads((tmp_path / "trust.json").read_bytes())
        (tmp_path / "trust.json").write_text(json.dumps(config | {"trustedRoot": root}))
        ran = lab.run("recheck", "--json")
        found = findings(ran)["log_key"]
        assert (ran.code, found["outcome"], found["days"]) == (1, "soon", 4)
        lab.moment.ahead = 10 * DAY
        assert findings(lab.run("recheck", "--json"))["log_key"]["outcome"] == "ok"
        assert lab.run("recheck", "--min-days", "3", "--json").code == 0


def test_recheck_of_a_revoked_release(lab: Stage) -> None:
    release(lab, "v1.0.0")
    lab.run("revoke", "--release-tag", "v1.0.0", "--reason", "x", "--out", lab.folder / "o")
    ran = lab.run("recheck", "--json")
    assert ran.code == 1
    found = findings(ran)
    assert found["life_cycle"]["observed"].startswith("revoked")
    assert found["verifier"]["outcome"] == "failed"


def test_recheck_without_a_release(lab: Stage) -> None:
    ran = lab.run("recheck")
    assert (ran.code, "has no attested release" in ran.err) == (1, True)


def test_deleted_attestation_is_noticed(lab: Stage) -> None:
    release(lab, "v1.0.0")
    lab.github.remove(lab.github.stored[0])
    ran = lab.run("recheck", "--json")
    assert ran.code == 1
    assert "attest" in findings(ran)["verifier"]["remedy"] + findings(ran)["verifier"]["observed"]


@pytest.mark.parametrize(
    ("left", "outcome", "days"),
    [(None, "ok", None), (30, "ok", 30), (14, "ok", 14), (13, "soon", 13), (0, "failed", 0)],
)
def test_until(left: int | None, outcome: str, days: int | None) -> None:
    end = None if left is None else NOW + timedelta(days=left)
    found = until("it", end, now=NOW, days=14, remedy="renew it")
    assert (found.outcome, found.days) == (outcome, days)
    assert found.remedy == ("" if outcome == "ok" else "renew it")


def platform(days: int, **changes: Any) -> World:
    """A platform that runs the tests' launch, whose collateral ends in so many days."""
    values = [bytes.fromhex(measured().registers[name] or "") for name in LAUNCH_REGISTERS]
    td = Td(mr_td=values[0], rtmrs=(values[1], values[2], values[3], bytes(48)))
    return World(td=td, expires=datetime.now(UTC) + timedelta(days=days, hours=1), **changes)


def archive(lab: Stage, world: World) -> tuple[Path, Path]:
    """Evidence and collateral of a platform, as files."""
    quote, collateral = world.build()
    evidence, parts = lab.folder / "boot.zip", lab.folder / "collateral.json"
    write_bundle(bundle_of({names.QUOTE: quote, names.UNAME: b"Linux 6.12 x86_64\n"}), evidence)
    parts.write_text(json.dumps(collateral))
    return evidence, parts


def root_ca(lab: Stage) -> Path:
    path = lab.folder / "root.der"
    path.write_bytes(authority().root.der)
    return path


def test_evidence_is_archived_redacted_and_rechecked(lab: Stage) -> None:
    published = lab.github.release("v1.0.0")
    evidence, collateral = archive(lab, platform(20))
    options = ("--evidence", evidence, "--full-evidence", "evidence-full.zip")
    ran = lab.attest(*options)
    assert ran.code == 0, ran.err
    assert "the repository is public" in ran.out
    assert "evidence.zip" in published.names()
    assert "evidence-full.zip" not in published.names()
    (lab.folder / "public.zip").write_bytes(published.data("evidence.zip"))
    assert read_bundle(lab.folder / "public.zip").redacted
    full = lab.folder / "out-v1.0.0" / "evidence-full.zip"
    attested = {artifact.name: artifact.sha256 for artifact in lab.stored()[0].artifacts}
    assert attested["evidence-full.zip"] == hashlib.sha256(full.read_bytes()).hexdigest()
    assert attested["evidence.zip"] == hashlib.sha256(published.data("evidence.zip")).hexdigest()

    words = ("--evidence", full, "--collateral", collateral, "--root-ca", root_ca(lab), "--json")
    ran = lab.run("recheck", *words)
    assert ran.code == 0, ran.out
    found = findings(ran)
    assert found["evidence"]["observed"] == "registers of q35-2cpu-2gib"
    assert found["dcap"]["observed"] == "UpToDate"
    assert found["dcap_collateral"]["days"] == 20
    assert findings(lab.run("recheck", *words, "--min-days", "21"))["dcap_collateral"][
        "outcome"
    ] == "soon"  # fmt: skip
    lab.moment.ahead = 21 * DAY
    ran = lab.run("recheck", *words)
    assert ran.code == 1
    assert findings(ran)["dcap"]["outcome"] == "failed"

    public = lab.run("recheck", "--evidence", lab.folder / "public.zip", "--json")
    assert findings(public)["evidence"]["outcome"] == "not checked"
    other = lab.run("recheck", "--evidence", evidence.with_name("trust.json"), "--json")
    assert findings(other)["evidence"]["outcome"] == "failed"


def test_platform_that_will_be_out_of_date_is_noticed_early(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    evidence, collateral = archive(lab, platform(20))
    assert lab.attest("--evidence", evidence, "--full-evidence", "full.zip").code == 0
    _, early = platform(20, status="OutOfDate").build()
    (lab.folder / "early.json").write_text(json.dumps(early))
    ran = lab.run(
        "recheck", "--evidence", lab.folder / "out-v1.0.0" / "full.zip",
        "--collateral", collateral, "--early-collateral", lab.folder / "early.json",
        "--root-ca", root_ca(lab), "--json",
    )  # fmt: skip
    found = findings(ran)
    assert (found["dcap"]["outcome"], found["dcap_early"]["outcome"]) == ("ok", "failed")
    assert "OutOfDate" in found["dcap_early"]["observed"]
    assert ran.code == 1


def test_private_repository_gets_the_full_copy(lab: Stage) -> None:
    lab.github.private = True
    published = lab.github.release("v1.0.0")
    evidence, _ = archive(lab, platform(20))
    assert lab.attest("--evidence", evidence, "--full-evidence", "full.zip").code == 0
    assert published.data("full.zip") == encode_bundle(read_bundle(evidence))
