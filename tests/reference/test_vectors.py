"""The vectors hold here, and are what their scripts make."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import write_vectors
from mrtd.errors import MalformedStatement
from mrtd.reference import (
    ReferenceValues,
    encode_statement,
    launch_bytes,
    launch_digest,
    mrtd_digest,
    read_reference_values,
    read_statement,
    revocations_bytes,
    revocations_digest,
    subjects,
)
from mrtd.registers import LAUNCH_REGISTERS, Sha384

FOLDER: Final = write_vectors.FOLDER
FILES: Final = sorted(FOLDER.glob("*.json"))
Case = dict[str, Any]


def vectors(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in vectors(name)["cases"]]


def test_files_are_current() -> None:
    write_vectors.main(["--check"])


def test_drift_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(write_vectors, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"stale: digests\.json, .*matching\.json; run python -m"):
        write_vectors.main(["--check"])
    write_vectors.main([])
    write_vectors.main(["--check"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_layout_is_that_of_the_readme(path: Path) -> None:
    found = vectors(path.name)
    assert found["schema"] == "mrtd.vectors/1"
    assert found["about"]
    names = [case["name"] for case in found["cases"]]
    assert len(names) == len({*names}) > 0
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def registers(case: Case) -> list[Sha384]:
    return [Sha384.fromhex(case[name]) for name in ("mrtd", "rtmr1", "rtmr2") if name in case]


def check_revocations_digest(case: Case) -> None:
    where = case["repository"], case["channel"]
    if "wrong_sha256" in case:
        assert revocations_digest(*where) != case["wrong_sha256"]
        assert case["why"]
    else:
        assert revocations_digest(*where) == case["sha256"]
        assert revocations_bytes(*where).hex() == case["bytes"]


def test_every_kind_of_digest_has_vectors() -> None:
    kinds = {case["kind"] for case in vectors("digests.json")["cases"] if "sha256" in case}
    assert kinds == {"mrtd", "launch", "revocations"}


@pytest.mark.parametrize("case", cases("digests.json"))
def test_digests(case: Case) -> None:
    if case["kind"] == "revocations":
        check_revocations_digest(case)
        return
    digest: Callable[..., str] = mrtd_digest if case["kind"] == "mrtd" else launch_digest
    if "refused" in case:
        with pytest.raises(MalformedStatement, match=f"{case['refused']}: is zero"):
            digest(*registers(case))
        return
    found = digest(*registers(case))
    if "wrong_sha256" in case:
        assert found != case["wrong_sha256"]
        assert case["why"]
    else:
        assert found == case["sha256"]
    if "bytes" in case:
        mrtd, rtmr1, rtmr2 = registers(case)
        assert launch_bytes(mrtd, rtmr1, rtmr2).hex() == case["bytes"]


def test_figures_that_others_have_published() -> None:
    # shared/facts: computed with coreutils, over raw bytes 0..47 and over their hex text
    by_name = {case["name"]: case for case in vectors("digests.json")["cases"]}
    right = "4dbdc2b2b62cb00749785bc84202236dbc3777d74660611b8e58812f0cfde6c3"
    assert by_name["bytes 0 to 47"]["sha256"] == right
    wrong = by_name["bytes 0 to 47, hashed as hex text"]["wrong_sha256"]
    assert wrong.startswith("68781a3a")
    assert wrong.endswith("f6262")


@pytest.mark.parametrize("case", cases("statements.json"))
def test_statements(case: Case) -> None:
    payload = case["statement"].encode()
    values = read_statement(payload, origin="vector")
    assert values == read_reference_values(json.dumps(case["document"]).encode())
    assert encode_statement(values) == payload
    assert [{"name": s.name, "digest": s.digest} for s in subjects(values)] == case["subjects"]


def test_subjects_come_in_any_order() -> None:
    for case in vectors("statements.json")["cases"]:
        statement = json.loads(case["statement"])
        statement["subject"].reverse()
        read_statement(json.dumps(statement).encode(), origin="vector")


def patched(base: Any, patch: list[dict[str, Any]]) -> Any:
    """As much of JSON Patch (RFC 6902) as the vectors need."""
    made = copy.deepcopy(base)
    for step in patch:
        *way, last = step["path"].split("/")[1:]
        at = made
        for key in way:
            at = at[int(key)] if isinstance(at, list) else at[key]
        place = int(last) if isinstance(at, list) and last != "-" else last
        if step["op"] == "remove":
            del at[place]
        elif last == "-":
            at.append(step["value"])
        else:
            assert (step["op"] == "add") != (isinstance(at, list) or place in at)
            at[place] = step["value"]
    return made


def payload_of(case: Case) -> bytes:
    if "base64" in case:
        return base64.b64decode(case["base64"])
    base = json.loads(vectors("invalid-statements.json")["base"])
    return json.dumps(patched(base, case["patch"])).encode()


def test_base_of_invalid_statements_is_valid() -> None:
    read_statement(vectors("invalid-statements.json")["base"].encode(), origin="vector")


# A document that contradicts itself is wrong in two places, and the reader names the other one;
# what is not even strict JSON has no fields.
ELSEWHERE: Final = {
    "sequence beyond 2**53 - 1": "",
    "a subject is missing": "subject",
    "another RTMR1 than the subject": "subject[1]",
    "measured by an unpinned register": "predicate.launches[0].coverage[1]",
}


@pytest.mark.parametrize("case", cases("invalid-statements.json"))
def test_invalid_statements(case: Case) -> None:
    payload = payload_of(case)
    assert payload != vectors("invalid-statements.json")["base"].encode()
    with pytest.raises(MalformedStatement) as caught:
        read_statement(payload, origin="vector")
    assert str(caught.value).startswith("vector: ")
    if "patch" in case:
        path = case["patch"][0]["path"]
        dotted = "".join(
            "[" if part == "-" else f"[{part}]" if part.isdigit() else f".{part}"
            for part in path.split("/")[1:]
        ).lstrip(".")
        field = caught.value.field or ""
        expected = ELSEWHERE.get(case["name"], dotted)
        assert bool(field) == bool(expected), caught.value
        assert field.startswith(expected) or expected.startswith(field), caught.value


def answer(values: ReferenceValues, case: Case) -> dict[str, Any]:
    """What `mrtd.verifier` has to find, in the fewest words."""
    found = {name: Sha384.fromhex(case["registers"][name]) for name in LAUNCH_REGISTERS}
    policy = case["policy"]
    needed = ["mrtd"] if policy["mrtd_only"] else list(found)

    def refusal(reason: str) -> dict[str, Any]:
        return {"match": False, "shape": None, "reason": reason}

    if any(found[name].is_zero for name in LAUNCH_REGISTERS if name in needed):
        return refusal("register_not_measured")
    revoked = {(row.kind, row.value) for row in values.lifecycle.revoked}
    digest = launch_digest(found[LAUNCH_REGISTERS[0]], *(found[n] for n in LAUNCH_REGISTERS[2:]))
    if revoked & {("mrtd", case["registers"]["mrtd"]), ("launch", digest)}:
        return refusal("revoked")
    reason = "registers_differ"
    for launch in values.launches:
        rules = [(name, launch.registers[name]) for name in LAUNCH_REGISTERS if name in needed]
        if any(rule.value not in {None, found[name]} for name, rule in rules):
            continue
        unpinned = {str(name) for name, rule in rules if rule.value is None}
        if unpinned <= ({"rtmr0"} if policy["allow_unpinned_rtmr0"] else set()):
            return {"match": True, "shape": launch.shape, "reason": None}
        reason = "register_unpinned"
    return refusal(reason)


@pytest.mark.parametrize("case", cases("matching.json"))
def test_matching(case: Case) -> None:
    document = vectors("matching.json")["documents"][case["document"]]
    values = read_reference_values(json.dumps(document).encode())
    assert answer(values, case) == case["expected"]
