"""Build twice, in different places and times, and compare bytes.

``python -m ci.reproduce`` builds the wheel, the sdist and the example in two copies of the checkout
whose paths, clocks' zones, locales, hash seeds and file times differ, and says for each file
whether both are the same; of an archive that is not, which member.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import MrtdError, ToolFailed

ROOT: Final = Path(__file__).resolve().parents[1]
_SECONDS: Final = 900
_KEPT: Final = ("HOME", "PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a build happens.

    Attributes:
        folder: name of the copy's folder.
        variables: of the environment.
        file_time: modification time of every file, Unix time in seconds.
    """

    folder: str
    variables: Mapping[str, str]
    file_time: int


PLACES: Final = (
    Place("a", {"TZ": "UTC", "LANG": "C", "PYTHONHASHSEED": "1"}, 1_500_000_000),
    Place(
        "another/and/longer place",
        {"TZ": "Pacific/Kiritimati", "LANG": "C.UTF-8", "PYTHONHASHSEED": "2", "COLUMNS": "200"},
        1_700_000_001,
    ),
)
# What is built, by the command that builds it below OUT.
BUILDS: Final[Mapping[str, tuple[str, ...]]] = {
    "package": ("-m", "build", "--no-isolation", "--outdir", "OUT"),
    "example": ("-m", "ci.example", "--out", "OUT"),
}
# Says where this machine's QEMU is; nothing of it is measured.
_OF_THE_MACHINE: Final = ("example/options.txt",)


@dataclass(frozen=True, slots=True)
class Compared:
    """A file of both builds.

    Attributes:
        name: its path.
        sha256: of the first one's bytes.
        difference: what differs; empty if nothing does.
    """

    name: str
    sha256: str
    difference: str


def compare(first: Path, second: Path) -> tuple[Compared, ...]:
    """Every file of two folders, by name; one that only one of them has differs."""
    names = sorted({p.relative_to(f) for f in (first, second) for p in f.rglob("*") if p.is_file()})
    return tuple(
        _compared(str(name), first / name, second / name)
        for name in names
        if str(name) not in _OF_THE_MACHINE
    )


def _compared(name: str, first: Path, second: Path) -> Compared:
    if not (first.is_file() and second.is_file()):
        return Compared(name, "", "only one build made it")
    one, other = first.read_bytes(), second.read_bytes()
    return Compared(name, hashlib.sha256(one).hexdigest(), difference(one, other))


def difference(one: bytes, other: bytes) -> str:
    """What differs between two files, down to the member of an archive; empty if nothing does."""
    if one == other:
        return ""
    mine, others = _members(one), _members(other)
    for name in sorted(mine.keys() | others.keys()):
        if mine.get(name) != others.get(name):
            return f"member {name}"
    if len(one) != len(other):
        return f"{len(one)} and {len(other)} bytes"
    at = next(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return f"from byte {at:#x} on"


def _members(data: bytes) -> dict[str, tuple[bytes, object]]:
    """Content and header of each member of a zip or tar archive; nothing of another file."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {i.filename: (archive.read(i), (i.date_time, i.external_attr))
                    for i in archive.infolist()}  # fmt: skip
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return {m.name: ((tar.extractfile(m) or io.BytesIO()).read(), (m.mtime, m.mode, m.uid))
                    for m in tar if m.isfile()}  # fmt: skip
    except tarfile.TarError:
        return {}


def build(names: Sequence[str], folder: Path, place: Place) -> Path:
    """Copy the checkout into a folder and build there; where the results are.

    Raises:
        ToolFailed: a build does not succeed.
    """
    copy, out = folder / place.folder / "checkout", folder / place.folder / "out"
    for name in _git("ls-files", "-z").split("\0")[:-1]:
        if not (ROOT / name).is_file():
            continue  # deleted, and not committed yet
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
        os.utime(copy / name, (place.file_time, place.file_time))
    if (ROOT / ".cache" / "parts").is_dir():
        (copy / ".cache").mkdir()
        (copy / ".cache" / "parts").symlink_to(ROOT / ".cache" / "parts")
    epoch = _git("log", "-1", "--format=%ct").strip()
    environment = {k: v for k, v in os.environ.items() if k in _KEPT}
    for name in names:
        target = out / name
        target.mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, *(str(target) if w == "OUT" else w for w in BUILDS[name])],
            capture_output=True,
            check=False,
            cwd=copy,
            env={**environment, **place.variables, "SOURCE_DATE_EPOCH": epoch},
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ToolFailed(f"ended with {done.returncode}: {''.join(last)}", origin=name)
    return out


def _git(*arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise ToolFailed(done.stderr.decode("utf-8", "replace").strip()[:300], origin="git")
    return done.stdout.decode()


def main(words: list[str] | None = None) -> int:
    """Build, compare and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci.reproduce", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BUILDS)}; or all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(words)
    if unknown := sorted(set(given.names) - set(BUILDS)):
        parser.error(f"no {', '.join(unknown)}: there are {', '.join(BUILDS)}")
    try:
        with tempfile.TemporaryDirectory(prefix="mrtd-reproduce-") as folder:
            outs = [build(given.names or list(BUILDS), Path(folder), place) for place in PLACES]
            found = compare(*outs)
    except MrtdError as error:
        print(f"ci.reproduce: error: {error}", file=sys.stderr)
        return error.exit_code
    differ = [one for one in found if one.difference]
    if given.json:
        rows = {one.name: {"sha256": one.sha256, "difference": one.difference} for one in found}
        print(json.dumps({"reproducible": bool(found) and not differ, "files": rows}, indent=2))
        return 1 if differ or not found else 0
    for one in found:
        print(f"{'DIFFERS' if one.difference else 'SAME':8} {one.name}")
        print(f"         {one.difference or one.sha256}")
    return 1 if differ or not found else 0


if __name__ == "__main__":
    sys.exit(main())
