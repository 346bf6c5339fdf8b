"""Whatever documents, registers and policies come together: nobody is admitted who should not be.

The oracle is written from the design (DESIGN 4 and 5), over plain JSON and without the verifier's
code: somebody is admitted only if it says so, and refused only if it does not.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures import reference
from fixtures.reference import ZERO, exact, register, revocation, unpinned
from tests.lab.identity import GitHubIdentity
from tests.lab.world import World, claims_of

Json = dict[str, Any]

NAMES: Final = ("mrtd", "rtmr0", "rtmr1", "rtmr2")
VALUES: Final = [register("x"), register("y")]
INPUTS: Final = {
    "firmware": "mrtd", "kernel": "rtmr1", "cmdline": "rtmr2", "initrd": "rtmr2", "rootfs": "rtmr2",
}  # fmt: skip
SEQUENCES: Final = (10, 11)


def commit(sequence: int) -> str:
    return f"{sequence:040x}"


def ref(sequence: int) -> Json:
    return {"tag": f"v{sequence}", "commit": commit(sequence), "sequence": sequence}


@st.composite
def launches(draw: st.DrawFn, shape: str) -> Json:
    """A launch with few possible values, so that launches and TDs often agree."""
    made = reference.launch(shape)
    for name in NAMES:
        made["registers"][name] = exact(draw(st.sampled_from([VALUES[0], *VALUES])))
    if draw(st.integers(0, 4)) == 0:
        made["registers"]["rtmr0"] = unpinned()
    made["coverage"] = []
    for name, measured_by in INPUTS.items():
        status = draw(st.sampled_from(["measured"] * 60 + ["not measured", "absent", "missing"]))
        if status != "missing":
            made["coverage"].append({
                "input": name,
                "status": status,
                "registers": [measured_by] if status == "measured" else [],
                "note": "x",
                "accepted": "x" if status == "not measured" else None,
            })  # fmt: skip
    made["confirmations"] = []
    if (outcome := draw(st.sampled_from([None, None, "confirmed", "refuted"]))) is not None:
        row = {"kind": "dcap", "sha256": "ab" * 32, "outcome": outcome}
        made["confirmations"].append(row)
    return made


@st.composite
def documents(draw: st.DrawFn) -> Json:
    made = reference.document(
        *(draw(launches(f"shape-{number}")) for number in range(draw(st.integers(1, 2))))
    )
    sequence = draw(st.sampled_from(SEQUENCES))
    made["release"] |= ref(sequence)
    made["artifacts"] = []
    cycle: Json = {"current": [], "next": [], "retired": [], "revoked": []}
    other = next(number for number in SEQUENCES if number != sequence)
    place = draw(st.sampled_from(["nowhere", "current", "next", "retired"]))
    if place != "nowhere":
        cycle[place] = [ref(other)]
    if draw(st.integers(0, 5)) == 0:
        kind, value = draw(
            st.sampled_from([("tag", f"v{other}"), ("commit", commit(other)), ("mrtd", VALUES[1])])
        )
        row = revocation(kind, value, sequence)
        if reference_allows(made, cycle, row):
            cycle["revoked"] = [row]
    made["lifecycle"] = cycle
    return made


def reference_allows(made: Json, cycle: Json, row: Json) -> bool:
    """Nothing is vouched for and revoked at once; such a document would not be read."""
    named = {value for entry in (*cycle["current"], *cycle["next"]) for value in entry.values()}
    own = {entry["registers"]["mrtd"]["value"] for entry in made["launches"]}
    return row["value"] not in named | own


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Json], list[bool], dict[str, str], Json]:
    found = draw(st.lists(documents(), min_size=1, max_size=3))
    genuine = [draw(st.integers(0, 3)) > 0 for _ in found]
    chosen = draw(st.sampled_from([entry for made in found for entry in made["launches"]]))
    td = {name: chosen["registers"][name]["value"] or VALUES[0] for name in NAMES}
    if draw(st.integers(0, 2)) == 0:
        td[draw(st.sampled_from(NAMES))] = draw(st.sampled_from([*VALUES, ZERO]))
    policy = {
        "allow_unpinned_rtmr0": draw(st.booleans()),
        "mrtd_only": draw(st.integers(0, 4)) == 0,
        "confirmed": draw(st.integers(0, 3)) == 0,
        "minimum": draw(st.sampled_from([0, 0, 0, 11, 12])),
        "rootfs": draw(st.integers(0, 3)) > 0,
    }
    return found, genuine, td, policy


def settings_of(policy: Json) -> str:
    coverage = ["firmware"] if policy["mrtd_only"] else [*INPUTS]
    if not policy["rootfs"] and "rootfs" in coverage:
        coverage.remove("rootfs")
    return (
        '[lookup]\ngithub = "off"\n[measurements]\n'
        f"allow_unpinned_rtmr0 = {str(policy['allow_unpinned_rtmr0']).lower()}\n"
        f"mrtd_only = {str(policy['mrtd_only']).lower()}\n"
        f"required_coverage = {coverage!r}\n"
        f"required_confirmations = {['dcap'] if policy['confirmed'] else []!r}\n"
        f"[release]\nminimum_sequence = {policy['minimum']}\n"
    ).replace("'", '"')


def required(policy: Json) -> set[str]:
    if policy["mrtd_only"]:
        return {"mrtd"}
    return {*NAMES} - ({"rtmr0"} if policy["allow_unpinned_rtmr0"] else set())


def is_the_launch(entry: Json, td: dict[str, str], policy: Json) -> bool:
    """All of one launch or none; what is pinned is compared even where it need not be pinned."""
    for name in NAMES:
        value = entry["registers"][name]["value"]
        if value is None and name in required(policy):
            return False
        compared = name == "mrtd" or not policy["mrtd_only"]
        if value is not None and compared and value != td[name]:
            return False
    return True


def is_covered(entry: Json, policy: Json) -> bool:
    wanted = {"firmware"} if policy["mrtd_only"] else {*INPUTS}
    wanted -= set() if policy["rootfs"] else {"rootfs"}
    compared = {
        name
        for name in NAMES
        if entry["registers"][name]["value"] and (name == "mrtd" or not policy["mrtd_only"])
    }
    good = {
        row["input"]
        for row in entry["coverage"]
        if (row["status"] == "measured" and compared & {*row["registers"]})
        or (row["status"] == "absent" and row["input"] not in {"firmware", "kernel"})
    }
    return wanted <= good


def is_confirmed(entry: Json, policy: Json) -> bool:
    outcomes = [row["outcome"] for row in entry["confirmations"]]
    return "refuted" not in outcomes and (not policy["confirmed"] or "confirmed" in outcomes)


def may_run(made: Json, all_read: list[Json], policy: Json) -> bool:
    """Sequence: the newest, or named by every document of the newest; never what one retired."""
    own = {name: made["release"][name] for name in ("tag", "commit", "sequence")}
    newest = max(other["release"]["sequence"] for other in all_read)
    cycles = [o["lifecycle"] for o in all_read if o["release"]["sequence"] == newest]
    named = all(own in (*cycle["current"], *cycle["next"]) for cycle in cycles)
    retired = any(own in cycle["retired"] for cycle in cycles)
    sequence = own["sequence"]
    return sequence >= policy["minimum"] and (sequence == newest or named) and not retired


def is_revoked(made: Json, all_read: list[Json]) -> bool:
    rows = {(r["kind"], r["value"]) for other in all_read for r in other["lifecycle"]["revoked"]}
    own = made["release"]
    return bool(rows & {("tag", own["tag"]), ("commit", own["commit"])})


def same_image(entry: Json, td: dict[str, str]) -> bool:
    return all(entry["registers"][name]["value"] == td[name] for name in ("mrtd", "rtmr1", "rtmr2"))


def should_be_admitted(all_read: list[Json], td: dict[str, str], policy: Json) -> bool:
    if any(td[name] == ZERO for name in required(policy)):
        return False
    rows = {(r["kind"], r["value"]) for made in all_read for r in made["lifecycle"]["revoked"]}
    if ("mrtd", td["mrtd"]) in rows:
        return False
    passes = False
    for made in all_read:
        revoked = is_revoked(made, all_read)
        for entry in made["launches"]:
            runs = is_the_launch(entry, td, policy)
            if revoked and (runs or (same_image(entry, td) and not policy["mrtd_only"])):
                return False
            good = is_covered(entry, policy) and is_confirmed(entry, policy)
            passes |= runs and good and not revoked and may_run(made, all_read, policy)
    return passes


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(scenes())
def test_the_verifier_admits_whom_the_design_admits(
    scene: tuple[list[Json], list[bool], dict[str, str], Json],
) -> None:
    found, genuine, td, policy = scene
    world = World(settings_of(policy))
    bundles = []
    for made, good in zip(found, genuine, strict=True):
        signer = GitHubIdentity.of_run(
            commit=made["release"]["commit"], trigger="push" if good else "pull_request_target"
        )
        bundles.append(world.mint(made, signer))
    runs = {"registers": {name: {"value": value} for name, value in td.items()}}
    verdict = world.verifier.verify_claims(claims_of(runs), bundles=bundles)
    read = [made for made, good in zip(found, genuine, strict=True) if good]
    expected = should_be_admitted(read, td, policy)
    assert verdict.allowed == expected, (verdict.message, policy)
    # the answer does not depend on the order in which documents are found
    backwards = world.another().verify_claims(claims_of(runs), bundles=bundles[::-1])
    assert backwards.allowed == expected
    if verdict.allowed:
        assert ("image_unmeasured" in verdict.labels) == policy["mrtd_only"]


@pytest.mark.parametrize("admitted", [True, False])
def test_the_oracle_says_both(admitted: bool) -> None:  # noqa: FBT001 - parametrised
    made = reference.document()
    td = {name: made["launches"][0]["registers"][name]["value"] for name in NAMES}
    policy = {
        "allow_unpinned_rtmr0": False, "mrtd_only": False, "confirmed": False, "minimum": 0,
        "rootfs": True,
    }  # fmt: skip
    if not admitted:
        td["rtmr2"] = VALUES[0]
    assert should_be_admitted([made], td, policy) == admitted
