"""Layers: the same files give the same bytes, and tar reads what went in."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.oci_layer import Entry, MalformedLayer, layer

PARTS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60
).filter(lambda part: part not in {".", ".."} and not part.startswith(".wh."))
PATHS = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "/layer/" + "/".join(parts))
ENTRIES = st.builds(Entry, st.binary(max_size=2000), executable=st.booleans())


def prefixes(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:count]) for count in range(1, len(parts))}


@given(st.dictionaries(PATHS, ENTRIES, max_size=8))
def test_tar_reads_what_went_in(files: dict[str, Entry]) -> None:
    folders = {folder for path in files for folder in prefixes(path)}
    if folders & files.keys():
        with pytest.raises(MalformedLayer):
            layer(files, root="/layer")
        return
    made = layer(files, root="/layer")
    data = gzip.decompress(made.compressed)
    assert made.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert made.size == len(data)
    assert len(data) % 10240 == 0
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
            if member.isdir():
                assert f"/{member.name}" in folders
            else:
                file = archive.extractfile(member)
                assert file is not None
                found[f"/{member.name}"] = Entry(file.read(), executable=member.mode == 0o755)
    assert found == files


def test_order_of_files_does_not_matter() -> None:
    files = {f"/opt/{name}": Entry(name.encode()) for name in ("b", "a", "c/d", "c/a")}
    backwards = dict(reversed(files.items()))
    assert layer(files, root="/opt") == layer(backwards, root="/opt")
    assert layer(files, root="/opt") != layer(files | {"/opt/a": Entry(b"")}, root="/opt")


def test_golden_bytes() -> None:
    """The archive of one file; the same since the format is what it is. Source: this code, read
    by GNU tar 1.34 and Python's tarfile."""
    made = layer({"/opt/a/run": Entry(b"#!/bin/sh\n", executable=True)}, root="/opt/a")
    assert made.compressed[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert made.diff_id == "sha256:8cbfd8c61dbbd2d7f0895a51fca94902a211dc7464f5f504fb7c54025de592e7"


def test_gnu_tar_lists_long_names(tmp_path: Path) -> None:
    name = "/opt/" + "/".join(["a-long-folder-name"] * 12) + "/ü"
    (tmp_path / "layer.tar.gz").write_bytes(layer({name: Entry(b"x")}, root="/opt").compressed)
    listed = subprocess.run(
        ["tar", "--quoting-style=literal", "-tzf", "layer.tar.gz"],
        cwd=tmp_path, check=True, capture_output=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    assert listed.splitlines()[-1] == name[1:]


def test_folders_above_the_root_are_the_base_images() -> None:
    data = gzip.decompress(layer({"/usr/lib/x/y": Entry(b"")}, root="/usr/lib/x").compressed)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["usr/lib/x", "usr/lib/x/y"]


@pytest.mark.parametrize(
    "path",
    [
        "relative", "/a/../b", "/a//b", "/", "/a/", "/a/.", "/a\0b", "/opt/.wh.passwd",
        "/opt/.wh.bin/a",
    ],
)  # fmt: skip
def test_paths_that_mean_something_else(path: str) -> None:
    with pytest.raises(MalformedLayer):
        layer({path: Entry(b"")}, root="/opt")
