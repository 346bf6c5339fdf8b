"""The life of releases, as pure functions: carried on, kept, retired, revoked for good."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import reference
from mrtd.errors import SpecError
from mrtd.reference import (
    ReferenceValues,
    ReleaseRef,
    Revocation,
    encode_statement,
    read_reference_values,
)
from mrtd.verifier.ledger import Ledger
from mrtd.verifier.policy import ReleasePolicy
from release import git as release_git
from release.lifecycle import (
    RETIRED_LIMIT,
    State,
    continued,
    of_lifecycle,
    ref_of,
    revocations,
    state_of,
)
from release.statement import document
from tests.release.stage import git


def ref(sequence: int) -> ReleaseRef:
    made = reference.release(sequence)
    return ReleaseRef(tag=made["tag"], commit=made["commit"], sequence=sequence)


def made(state: State, sequence: int, *, releases: bool = True, **options: Any) -> ReferenceValues:
    """The next document of a channel."""
    own = ref(sequence)
    launches = (reference.launch(image=f"image {sequence}"),) if releases else ()
    base = read_reference_values(reference.encoded(reference.document(*launches)))
    release = msgspec.structs.replace(
        base.release, tag=own.tag, commit=own.commit, sequence=own.sequence
    )
    cycle = continued(state, own, releases=releases, **options)
    return document(release, cycle, base.launches if releases else ())


def channel(*sequences: int, **options: Any) -> State:
    documents: list[ReferenceValues] = []
    for sequence in sequences:
        documents.append(made(state_of(documents), sequence, **options))
    return state_of(documents)


def sequences(refs: tuple[ReleaseRef, ...]) -> list[int]:
    return [one.sequence for one in refs]


@pytest.mark.parametrize(
    ("keep", "current", "retired"),
    [(0, [7], [5, 3, 1]), (1, [7, 5], [3, 1]), (2, [7, 5, 3], [1]), (9, [7, 5, 3, 1], [])],
)
def test_older_releases_are_kept_and_retired(
    keep: int, current: list[int], retired: list[int]
) -> None:
    state = channel(1, 3, 5, 7, keep=keep)
    assert (sequences(state.current), sequences(state.retired)) == (current, retired)


def test_announced_release_becomes_current() -> None:
    first = made(State(), 1, coming=(ref(5),))
    state = state_of([first])
    assert sequences(state.next) == [5]
    state = state_of([first, made(state, 3)])
    assert sequences(state.next) == [5], "another release in between"
    state = state_of([*state.documents, made(state, 5)])
    assert (sequences(state.next), sequences(state.current)) == ([], [5, 3])


def test_revoked_release_is_retired_and_never_comes_back() -> None:
    state = channel(1, 3)
    rows = revocations([("tag", ref(3).tag)], reason="leak", sequence=4)
    launch = state.documents[0].launches[0].launch_digest or ""
    rows += revocations([("launch", launch)], reason="leak", sequence=4)
    only = made(state, 4, releases=False, revoke=rows)
    assert not only.launches
    state = state_of([*state.documents, only])
    assert (sequences(state.current), sequences(state.retired)) == ([1], [3])
    after = state_of([*state.documents, made(state, 5)])
    assert after.revoked == rows
    assert sequences(after.current) == [5, 1]
    assert [one.code for one in of_lifecycle(after, ref(3), (), made(after, 6).lifecycle)]


def test_same_release_again_says_the_same() -> None:
    state = channel(1, 3, 5)
    newest = state.documents[0]
    again = made(state, 5)
    assert again.lifecycle == newest.lifecycle


def test_of_two_documents_of_a_sequence_the_stricter_counts() -> None:
    state = channel(1, 3)
    rows = revocations([("commit", ref(1).commit), ("mrtd", "ab" * 48)], reason="x", sequence=3)
    both = state_of([*state.documents, made(state, 3, releases=False, revoke=rows)])
    assert sequences(both.current) == [3]
    assert both.revoked == rows


def test_revocation_of_a_lost_newest_document_is_found_in_an_older_one() -> None:
    state = channel(1)
    rows = revocations([("mrtd", "ab" * 48)], reason="x", sequence=2)
    revoking = made(state, 2, releases=False, revoke=rows)
    unaware = made(state, 3)  # by somebody whose tools did not see the revocation
    assert state_of([*state.documents, revoking, unaware]).revoked == rows


def test_first_reason_stays() -> None:
    rows = revocations([("mrtd", "ab" * 48)] * 2, reason="first", sequence=1)
    assert len(rows) == 1
    state = state_of([made(State(), 1, releases=True, revoke=rows)])
    other = revocations([("mrtd", "ab" * 48)], reason="second", sequence=2)
    assert made(state, 2, revoke=other).lifecycle.revoked == rows


def test_a_launch_that_was_revoked_is_not_released_again() -> None:
    state = channel(1)
    launch = state.documents[0].launches[0]
    rows = revocations([("launch", launch.launch_digest or "")], reason="leak", sequence=2)
    cycle = continued(state, ref(3), releases=True, revoke=rows)
    (refusal,) = of_lifecycle(state, ref(3), [launch], cycle)
    assert refusal.code == "revoked"
    assert "leak" in refusal.text
    mrtd = revocations([("mrtd", str(launch.registers.mrtd.value))], reason="x", sequence=2)
    cycle = continued(state, ref(3), releases=True, revoke=mrtd)
    assert [one.code for one in of_lifecycle(state, ref(3), [launch], cycle)] == ["revoked"]


def test_list_of_retired_releases_is_bounded() -> None:
    many = tuple(ref(number) for number in range(1, RETIRED_LIMIT + 50))
    cycle = continued(State(retired=many), ref(1000), releases=True)
    assert sequences(cycle.retired)[0] == RETIRED_LIMIT + 49
    assert len(cycle.retired) == RETIRED_LIMIT


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 8), st.booleans()), max_size=8
    )
)
def test_every_document_can_be_signed_and_verifiers_agree(
    steps: list[tuple[bool, int, int, bool]],
) -> None:
    """Whatever happens to a channel: documents are consistent, and a ledger lets run the same."""
    documents: list[ReferenceValues] = []
    ledger = Ledger(ReleasePolicy())
    for sequence, (releases, keep, victim, revokes) in zip(itertools.count(1), steps, strict=False):
        state = state_of(documents)
        rows: tuple[Revocation, ...] = ()
        if revokes or not releases:
            rows = revocations(
                [("tag", ref(victim + 500).tag), ("mrtd", f"{victim + 1:096x}")],
                reason="why", sequence=sequence,
            )  # fmt: skip
            if victim and victim < sequence:
                rows += revocations([("commit", ref(victim).commit)], reason="w", sequence=sequence)
        values = made(state, sequence, releases=releases, keep=keep, revoke=rows)
        encode_statement(values)
        documents.append(values)
        ledger.learn(values)
    state = state_of(documents)
    for values in documents:
        if values.launches:
            may_run = ledger.check_sequence(values.release).ok and (
                ledger.check_origin(values.release, "").ok
            )
            assert may_run == (ref_of(values) in state.current), ref_of(values)


def test_sequence_counts_first_parents(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for _ in range(2):
        git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "main")
    git(tmp_path, "checkout", "--quiet", "-b", "side")
    for _ in range(5):
        git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "side")
    git(tmp_path, "checkout", "--quiet", "main")
    git(tmp_path, "merge", "--quiet", "--no-ff", "-m", "merge", "side")
    head = release_git.commit_of(tmp_path)
    assert release_git.sequence_of(tmp_path, head) == 3
    assert release_git.sequence_of(tmp_path, "side") == 7


def test_shallow_clone_cannot_be_counted(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    git(tmp_path / "whole", "init", "--quiet", "--initial-branch", "main")
    for _ in range(3):
        git(tmp_path / "whole", "commit", "--quiet", "--allow-empty", "-m", "x")
    address = (tmp_path / "whole").as_uri()
    git(tmp_path, "clone", "--quiet", "--depth", "1", address, "shallow")
    with pytest.raises(SpecError, match="shallow") as caught:
        release_git.sequence_of(tmp_path / "shallow", "HEAD")
    assert "fetch-depth: 0" in (caught.value.hint or "")


def test_no_repository_and_no_commit(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="git rev-parse"):
        release_git.commit_of(tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    with pytest.raises(SpecError):
        release_git.commit_of(tmp_path, "--upload-pack=evil")
