"""What differs between two builds is found, and named down to the member."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ci import reproduce
from ci.reproduce import compare, difference


def a_zip(members: dict[str, bytes], *, year: int = 2026) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def a_tar(members: dict[str, bytes], *, time: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), time
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (b"same", b"same", ""),
        (b"same!", b"some!", "from byte 0x1 on"),
        (b"short", b"longer", "5 and 6 bytes"),
        (a_zip({"a": b"1", "b": b"2"}), a_zip({"a": b"1", "b": b"3"}), "member b"),
        (a_zip({"a": b"1"}), a_zip({"a": b"1"}, year=2027), "member a"),
        (a_zip({"a": b"1"}), a_zip({"a": b"1", "c": b""}), "member c"),
        (a_tar({"x": b"1"}), a_tar({"x": b"2"}), "member x"),
        (a_tar({"x": b"1"}), a_tar({"x": b"1"}, time=5), "member x"),
    ],
    ids=["same", "byte", "size", "zip", "zip time", "zip member", "tar", "tar time"],
)
def test_the_difference_is_named(one: bytes, other: bytes, told: str) -> None:
    assert difference(one, other) == told


def test_a_file_of_one_build_only_differs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "example").mkdir(parents=True)
        (tmp_path / name / "example" / "kernel").write_bytes(b"x")
        (tmp_path / name / "example" / "options.txt").write_text(name)  # of the machine
    (tmp_path / "b" / "extra").write_bytes(b"")
    found = {one.name: one.difference for one in compare(tmp_path / "a", tmp_path / "b")}
    assert found == {"example/kernel": "", "extra": "only one build made it"}


def test_nothing_built_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reproduce, "build", lambda *_: tmp_path)
    assert reproduce.main(["example"]) == 1


def test_an_unknown_build_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["nothing"])
    assert ended.value.code == 2


def test_the_places_differ_in_all_that_may_leak_into_a_build() -> None:
    first, second = reproduce.PLACES
    assert first.file_time != second.file_time
    for name in ("TZ", "LANG", "PYTHONHASHSEED"):
        assert first.variables[name] != second.variables[name]
