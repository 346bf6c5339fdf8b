"""A wheel or sdist with anything but the library in it is found."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ci.package import problems
from mrtd import __version__

METADATA = f"""\
Metadata-Version: 2.4
Name: mrtd
Version: {__version__}
License-Expression: Apache-2.0
Requires-Python: >=3.11
Description-Content-Type: text/markdown

text
"""
GOOD = ("mrtd/__init__.py", "mrtd/py.typed")


def built(
    folder: Path, *wheel: str, sdist: tuple[str, ...] = (), metadata: str = METADATA
) -> list[str]:
    with zipfile.ZipFile(folder / "w.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, b"")
        archive.writestr(f"mrtd-{__version__}.dist-info/METADATA", metadata)
    with tarfile.open(folder / "s.tar.gz", "w:gz") as tar:
        for name in ("PKG-INFO", "mrtd/__init__.py", *sdist):
            tar.addfile(tarfile.TarInfo(f"mrtd-{__version__}/{name}"), io.BytesIO())
    return problems(folder / "w.whl", folder / "s.tar.gz")


def test_the_library_and_nothing_else(tmp_path: Path) -> None:
    assert built(tmp_path, *GOOD, sdist=("tests/a.py", "docs/b.md")) == []


@pytest.mark.parametrize("stranger", ["ci/apt.py", "release/sign.py", "tests/a.py", "images/x"])
def test_a_stranger_in_the_wheel(tmp_path: Path, stranger: str) -> None:
    top = stranger.partition("/")[0]
    assert built(tmp_path, *GOOD, stranger) == [f"wheel: {top} does not belong there"]


def test_a_job_in_the_sdist(tmp_path: Path) -> None:
    found = built(tmp_path, *GOOD, sdist=("release/sign.py",))
    assert found == ["sdist: release does not belong there"]


def test_types_are_part_of_it(tmp_path: Path) -> None:
    assert built(tmp_path, "mrtd/__init__.py") == ["wheel: mrtd/py.typed is missing"]


def test_metadata_has_to_be_whole(tmp_path: Path) -> None:
    found = built(tmp_path, *GOOD, metadata=METADATA.replace("Requires-Python: >=3.11\n", ""))
    assert found == ["metadata: no 'Requires-Python: >=3.11'"]
