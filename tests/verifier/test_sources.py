"""Bundles of a directory."""

from __future__ import annotations

import errno
import json
import os
from base64 import b64encode
from pathlib import Path

import pytest

from mrtd.reference import PREDICATE_TYPE
from mrtd.verifier import sources
from mrtd.verifier.lookup import BUNDLE_LIMIT, Lookup
from mrtd.verifier.sources import directory_bundles
from mrtd.verifier.verdict import Reason

DIGEST = "ab" * 32
OTHER = "cd" * 32


def bundle(*digests: str, predicate_type: str = PREDICATE_TYPE, mark: int = 0) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": digest}} for digest in digests],
        "predicateType": predicate_type,
        "predicate": {"mark": mark},
    }
    payload = b64encode(json.dumps(statement).encode()).decode()
    return json.dumps({"dsseEnvelope": {"payload": payload}}).encode()


def found(lookup: Lookup) -> list[bytes]:
    return [one.bundle for one in lookup.bundles]


def test_bundles_of_a_digest_by_name(tmp_path: Path) -> None:
    ours = [bundle(DIGEST, mark=n) for n in range(3)]
    (tmp_path / "c.json").write_bytes(ours[2])
    (tmp_path / "a.json").write_bytes(ours[0])
    (tmp_path / "b.json").write_bytes(bundle(OTHER, DIGEST, mark=9))
    (tmp_path / "other.json").write_bytes(bundle(OTHER))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert found(lookup) == [ours[0], bundle(OTHER, DIGEST, mark=9), ours[2]]
    assert [one.source for one in lookup.bundles] == [
        f"directory, '{name}.json'" for name in ("a", "b", "c")
    ]
    assert lookup.reason is None


def test_several_in_one_file(tmp_path: Path) -> None:
    ours = [bundle(DIGEST, mark=n) for n in range(2)]
    lines = [ours[0], b"", bundle(OTHER), ours[1], b""]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == (ours, None)


def test_a_bundle_of_several_lines(tmp_path: Path) -> None:
    indented = json.dumps(json.loads(bundle(DIGEST)), indent=2).encode()
    (tmp_path / "a.json").write_bytes(indented)
    assert found(directory_bundles(tmp_path, DIGEST)) == [indented]


def test_other_predicate_types_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bundle(DIGEST, predicate_type="https://slsa.dev/x"))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == ([], None)


@pytest.mark.parametrize("text", [b"", b"{}", b"no JSON", b'{"dsseEnvelope":{"payload":"?"}}'])
def test_what_cannot_be_read_is_kept_for_the_verifier(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == ([text], None)


def test_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == ([], None)


def test_empty_directory(tmp_path: Path) -> None:
    assert directory_bundles(tmp_path, DIGEST).reason is None


@pytest.mark.parametrize("name", ["absent", "file", "loop", "nul\0"])
def test_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    assert directory_bundles(tmp_path / name, DIGEST).reason is Reason.LOOKUP_UNAVAILABLE


def incomplete(folder: Path) -> Lookup:
    """The answer where one file is wrong: another one is found all the same."""
    good = bundle(DIGEST)
    (folder / "z.json").write_bytes(good)
    lookup = directory_bundles(folder, DIGEST)
    assert found(lookup) == [good]
    assert lookup.reason is Reason.LOOKUP_INCOMPLETE
    return lookup


def test_links_inside_are_followed(tmp_path: Path) -> None:
    # as Kubernetes mounts a ConfigMap: a.json -> ..data/a.json, ..data -> ..2026_11_23
    (tmp_path / "..2026_11_23").mkdir()
    (tmp_path / "..2026_11_23" / "a.json").write_bytes(bundle(DIGEST))
    (tmp_path / "..data").symlink_to("..2026_11_23")
    (tmp_path / "a.json").symlink_to("..data/a.json")
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == ([bundle(DIGEST)], None)


def test_a_directory_that_is_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_bytes(bundle(DIGEST))
    (tmp_path / "link").symlink_to("real")
    assert found(directory_bundles(tmp_path / "link", DIGEST)) == [bundle(DIGEST)]


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.json", tmp_path / "folder"
    folder.mkdir()
    outside.write_bytes(bundle(DIGEST, mark=1))
    (folder / "a.json").symlink_to(outside)
    assert "leads out" in incomplete(folder).message


def test_links_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("absent")
    assert "'a.json'" in incomplete(tmp_path).message


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("a.json")
    incomplete(tmp_path)


def test_a_directory_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    incomplete(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert "is no file" in incomplete(tmp_path).message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(bundle(DIGEST))

    opened = os.open

    def denied(path: Path, flags: int) -> int:
        if Path(path).name == "a.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", denied)  # chmod(0) would not stop root
    assert "Permission denied" in incomplete(tmp_path).message


def test_names_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "\x1b[31m.json").mkdir()
    assert "\x1b" not in incomplete(tmp_path).message


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_too_large_a_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b" " * BUNDLE_LIMIT + b"{")
    incomplete(tmp_path)


def test_too_many_bundles_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" * (sources.COUNT_LIMIT + 1))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (found(lookup), lookup.reason) == ([], Reason.LOOKUP_INCOMPLETE)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "COUNT_LIMIT", 2)
    for name in "abc":
        (tmp_path / f"{name}.json").write_bytes(bundle(DIGEST))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert len(lookup.bundles) == 2
    assert lookup.reason is Reason.LOOKUP_INCOMPLETE
    assert "more than 2 files" in lookup.message


def test_too_much_altogether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TOTAL_LIMIT", len(bundle(DIGEST)) + 1)
    for name in "ab":
        (tmp_path / f"{name}.json").write_bytes(bundle(DIGEST))
    lookup = directory_bundles(tmp_path, DIGEST)
    assert (len(lookup.bundles), lookup.reason) == (1, Reason.LOOKUP_INCOMPLETE)
