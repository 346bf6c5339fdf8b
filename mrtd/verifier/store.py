"""Verified bundles on disk, so that a restart neither forgets a revocation nor needs GitHub.

Only bundles are kept, never what was concluded from them: each is verified again when it is loaded.
A file's time of modification says when a lookup last listed it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mrtd.errors import PolicyError
from mrtd.verifier.bundle import SIZE_LIMIT

_SUFFIX: Final = ".sigstore.json"
_MARK: Final = "revocations-read"
_ABANDONED: Final = 600.0
"""Age in seconds from which on an unfinished file is one of a process that was killed."""


class Stored(NamedTuple):
    """A bundle on disk, and when a lookup last listed it (Unix time)."""

    bundle: bytes
    listed_at: float


class Storage(Protocol):
    """Where bundles are kept; see `BundleStore`. Thread-safe, and nothing of it raises.

    Attributes:
        failures: writes that did not succeed, since start.
    """

    failures: int

    def load(self) -> Iterator[Stored]:
        """All bundles that can be read."""

    def put(self, digest: str, sequence: int, bundle: bytes, listed_at: float | None) -> None:
        """Keep a bundle, and when it was listed."""

    def unlist(self, digest: str, sequence: int) -> None:
        """Note that a bundle is no longer listed."""

    def note_revocations_read(self, at: float) -> None:
        """Note when the channel's list of revocations was last read to its end."""

    def revocations_read_at(self) -> float | None:
        """When that was, Unix time; None if it is not known."""


class BundleStore:
    """A folder of bundles, readable for its owner only. Thread-safe.

    Args:
        folder: made if it is missing.
        entries: files at most; those of the oldest releases go first.

    Attributes:
        failures: writes that did not succeed, since start; admission does not depend on them.

    Raises:
        PolicyError: the folder cannot be used, or others may write to it.
    """

    def __init__(self, folder: Path, entries: int) -> None:
        self._folder, self._entries = folder, entries
        self._lock = threading.Lock()
        self.failures = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
        except OSError as error:
            raise PolicyError(
                f"cannot be used: {error.strerror}", origin=str(folder), field="cache.directory"
            ) from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PolicyError(
                "others may write to it", origin=str(folder), field="cache.directory",
                hint=f"chmod 700 {folder}",
            )  # fmt: skip
        self._clean()

    def load(self) -> Iterator[Stored]:
        """All bundles that can be read."""
        for path in self._files():
            try:
                status = path.lstat()
                if path.is_symlink() or status.st_size > SIZE_LIMIT:
                    continue
                yield Stored(path.read_bytes(), status.st_mtime)
            except OSError:
                continue

    def put(self, digest: str, sequence: int, bundle: bytes, listed_at: float | None) -> None:
        """Keep a bundle; a disk that is full is counted and otherwise of no consequence.

        Without ``listed_at``, a bundle that was not listed just now: it says nothing of lists.
        """
        path = self._path(digest, sequence)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with self._lock:
                try:
                    # another size: what a crash of the machine left of it
                    if (new := not path.exists()) or path.stat().st_size != len(bundle):
                        descriptor = os.open(
                            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600
                        )
                        with os.fdopen(descriptor, "wb") as file:
                            file.write(bundle)
                            file.flush()
                            os.fsync(descriptor)
                            os.utime(descriptor, (listed_at or 0, listed_at or 0))
                        temporary.replace(path)
                    elif listed_at is not None:
                        os.utime(path, (listed_at, listed_at))
                finally:
                    temporary.unlink(missing_ok=True)
                if new:
                    self._trim()
        except OSError:
            self.failures += 1

    def unlist(self, digest: str, sequence: int) -> None:
        """GitHub has it no longer: it teaches what was revoked, and admits nobody."""
        try:
            os.utime(self._path(digest, sequence), (0, 0))
        except OSError:
            self.failures += 1

    def note_revocations_read(self, at: float) -> None:
        """Remember when the channel's list of revocations was last read to its end."""
        path = self._folder / _MARK
        try:
            path.touch(mode=0o600)
            os.utime(path, (at, at))
        except OSError:
            self.failures += 1

    def revocations_read_at(self) -> float | None:
        """When that was, Unix time; None if it is not known."""
        try:
            return (self._folder / _MARK).lstat().st_mtime
        except OSError:
            return None

    def _path(self, digest: str, sequence: int) -> Path:
        return self._folder / f"{sequence:016d}-{digest}{_SUFFIX}"

    def _trim(self) -> None:
        for path in self._files()[: -self._entries]:
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Oldest release first; none of a folder that is no longer there."""
        try:
            return sorted(self._folder.glob(f"*{_SUFFIX}"))
        except OSError:
            return []

    def _clean(self) -> None:
        """Remove what processes left that were killed while they wrote. Others may be writing."""
        for path in self._folder.glob(".*.tmp"):
            try:
                if path.lstat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()
            except OSError:
                continue
