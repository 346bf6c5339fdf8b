"""Verified bundles on disk, so that a restart forgets neither a revocation nor the newest release.

Only bundles are kept, never what was concluded from them, and none of them admits anybody: each is
verified again when it is loaded, and teaches. Who may run is for GitHub's lists to say.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from mrtd.errors import PolicyError
from mrtd.verifier.bundle import SIZE_LIMIT

_SUFFIX: Final = ".sigstore.json"
_ABANDONED: Final = 600.0
"""Age in seconds from which on an unfinished file is one of a process that was killed."""


class Storage(Protocol):
    """Where bundles are kept; see `BundleStore`. Thread-safe, and nothing of it raises.

    Attributes:
        failures: writes that did not succeed, since start.
    """

    failures: int

    def load(self) -> Iterator[bytes]:
        """All bundles that can be read."""

    def put(self, digest: str, sequence: int, bundle: bytes) -> None:
        """Keep a bundle."""


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

    def load(self) -> Iterator[bytes]:
        """All bundles that can be read; the others are counted."""
        for path in self._files():
            try:
                if not path.is_symlink() and path.stat().st_size <= SIZE_LIMIT:
                    yield path.read_bytes()
            except OSError:
                self.failures += 1

    def put(self, digest: str, sequence: int, bundle: bytes) -> None:
        """Keep a bundle; a disk that is full is counted, and otherwise of no consequence."""
        path = self._path(digest, sequence)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            with self._lock:
                # another size: what a crash of the machine left of it
                if path.exists() and path.stat().st_size == len(bundle):
                    return
                try:
                    descriptor = os.open(
                        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600
                    )
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(bundle)
                        file.flush()
                        os.fsync(descriptor)
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)
                self._trim()
        except OSError:
            self.failures += 1

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
