"""Files found by what is in them: a folder of a release's inputs, whatever they are called."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError
from mrtd.registers import Sha384

_FILE_LIMIT: Final = 100_000


class InputFolder:
    """The regular files below a folder, which are hashed when one of their size is asked for.

    Links are not followed: what is outside the folder was not given.

    Args:
        path: the folder.

    Raises:
        SpecError: it cannot be read, or has more than 100,000 files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_size: dict[int, list[Path]] = {}
        self._digests: dict[tuple[Path, str], str] = {}
        count = 0
        if not path.is_dir():
            raise SpecError("is no folder", origin=str(path), field="INPUTS_DIR")
        for folder, subfolders, names in os.walk(path):
            subfolders.sort()
            for name in sorted(names):
                count += 1
                if count > _FILE_LIMIT:
                    raise SpecError(f"more than {_FILE_LIMIT} files", origin=str(path))
                self._add(Path(folder, name))

    def find(self, size: int, digest: Sha384) -> Path | None:
        """The file of that size with that SHA-384 digest; None without one."""
        return self._find(size, "sha384", str(digest))

    def find_sha256(self, size: int, digest: str) -> Path | None:
        """The file of that size with that SHA-256 digest, lower-case hex; None without one."""
        return self._find(size, "sha256", digest)

    def _find(self, size: int, algorithm: str, digest: str) -> Path | None:
        # a file that is called by its digest is likely the one, and saves hashing the others
        files = sorted(self._by_size.get(size, ()), key=lambda file: digest not in file.name)
        return next((file for file in files if self._hashed(file, algorithm) == digest), None)

    def _add(self, file: Path) -> None:
        try:
            status = file.lstat()
        except OSError:
            return  # it has gone, and is not there to be found
        if stat.S_ISREG(status.st_mode):
            self._by_size.setdefault(status.st_size, []).append(file)

    def _hashed(self, file: Path, algorithm: str) -> str:
        if (file, algorithm) not in self._digests:
            try:
                with file.open("rb") as stream:
                    digest = hashlib.file_digest(stream, algorithm).hexdigest()
            except OSError as error:
                raise SpecError(
                    f"cannot be read: {error.strerror}", origin=str(file), field="INPUTS_DIR"
                ) from error
            self._digests[file, algorithm] = digest
        return self._digests[file, algorithm]
