"""The rendered folder: written whole or not at all, and compared with what would be rendered."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from mrtd.errors import SpecError
from release.policy_render import EXECUTABLE, LAUNCHER, POLICY, REGISTRIES, WORKLOAD


class Drift(msgspec.Struct, frozen=True):
    """A file that is not as it would be rendered.

    Attributes:
        kind: ``missing``, ``differs``, ``mode`` or ``unexpected``.
        name: relative to the folder.
    """

    kind: str
    name: str


def drift(folder: Path, files: Mapping[str, bytes]) -> tuple[Drift, ...]:
    """How a folder differs from rendered files; nothing if it does not. Raises `SpecError`."""
    try:
        return tuple(_drift(folder, files))
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(folder)) from error


def _drift(folder: Path, files: Mapping[str, bytes]) -> Iterator[Drift]:
    there = _names(folder)
    for name, data in files.items():
        path = folder / name
        if name not in there:
            yield Drift("missing", name)
        elif path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            yield Drift("differs", name)
        elif bool(path.stat().st_mode & stat.S_IXUSR) != (name in EXECUTABLE):
            yield Drift("mode", name)
    for name in sorted(there - files.keys()):
        yield Drift("unexpected", name)


def write(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write the files as a folder, in the place of an older rendering; whether it was another.

    The new folder is complete under a temporary name before the old one moves out of its way; if
    it cannot take its place, the old one moves back.

    Raises:
        SpecError: it cannot be written, or the folder is there and is no rendering.
    """
    if folder.exists() and not drift(folder, files):
        return False
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        _refuse_foreign(folder)
        try:
            for name, data in files.items():
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(0o755 if name in EXECUTABLE else 0o644)
            _take_place(new, folder, old)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", origin=str(folder), field="--out"
        ) from error
    return True


def _take_place(new: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace what is no rendering: someone's other files would be gone."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise SpecError("is no folder", origin=str(folder), field="--out")
    names = _names(folder)
    if names and not {POLICY, REGISTRIES, LAUNCHER, WORKLOAD} <= names:
        raise SpecError(
            "has files in it, and is no rendered policy",
            origin=str(folder),
            field="--out",
            hint="name a new folder, or remove that one yourself",
        )


def _names(folder: Path) -> set[str]:
    """All files below a folder (links too), relative to it."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
