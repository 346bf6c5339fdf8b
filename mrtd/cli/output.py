"""What the verbs share of writing: whole files or none, and progress on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from mrtd.errors import SpecError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it. Raises `SpecError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", origin=str(path), field="--output"
        ) from error


def make_folder(path: Path, *, option: str) -> Path:
    """The folder that an option names, made where it is not there. Raises `SpecError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"cannot be made: {error.strerror}", origin=str(path), field=option
        ) from error
    return path


class Progress:
    """One line on a terminal that says what is being done, and is gone afterwards."""

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = not quiet and self._stream.isatty()

    def __call__(self, text: str) -> None:
        """Say what is being done."""
        if self._shown:
            self._stream.write(f"\r\x1b[K{text} ...")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
