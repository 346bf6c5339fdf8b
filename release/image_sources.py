"""Where a build gets what its lock names: tarballs, kept by digest, and base images."""

from __future__ import annotations

import tempfile
import threading
from base64 import b64decode
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import MrtdError, SpecError, TransportError
from mrtd.images.reference import ImageReference
from mrtd.images.skopeo import Skopeo
from mrtd.verifier.fetch import UnusableAnswer
from release.job import Job
from release.npm import TARBALL_LIMIT, Package, check_integrity

DEFAULT_CACHE: Final = Path(".cache") / "image"
_SECONDS: Final = 300.0
_AT_ONCE: Final = 8
_PAUSES: Final = (1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class Sources:
    """npm's registry, and that of the base image.

    Attributes:
        job: network and clock.
        skopeo: which fetches base images.
        cache: folder for tarballs; what is in it is verified like what is fetched.
    """

    job: Job
    skopeo: Skopeo
    cache: Path = DEFAULT_CACHE

    def tarball(self, package: Package) -> bytes:
        """A package's tarball, which has its digest.

        Raises:
            MalformedPackage: the registry has another one.
            TransportError: it could not be had.
        """
        digest = b64decode(package.integrity.removeprefix("sha512-")).hex()
        file = self.cache / f"{digest}.tgz"
        try:
            kept = file.read_bytes()
            check_integrity(package, kept)
        except (OSError, MrtdError):
            kept = b""
        if kept:
            return kept
        self.job.progress(f"fetching {package.name} {package.version}")
        data = self._get(package.resolved)
        check_integrity(package, data)
        self._keep(file, data)
        return data

    def prefetch(self, packages: Iterable[Package]) -> None:
        """Have all tarballs in the cache; several at a time. Raises like `tarball`."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(self.tarball, packages):
                pass  # what went wrong is raised here

    @contextmanager
    def base(self, name: ImageReference) -> Iterator[Path]:
        """A base image, in a folder that is gone afterwards. Raises `TransportError`."""
        self.job.progress(f"fetching {name}")
        self.cache.mkdir(parents=True, exist_ok=True)
        # beside the cache, and not in memory: it may have gigabytes
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="base-") as folder:
            fetched = Path(folder, "image")
            self.skopeo.fetch(name, fetched)
            yield fetched

    def _get(self, url: str) -> bytes:
        """A file of a registry; asked again where that may help. Raises `TransportError`."""
        for pause in (*_PAUSES, None):
            try:
                answer = self.job.fetch(url, headers={}, limit=TARBALL_LIMIT, timeout=_SECONDS)
                if answer.status == 200:
                    return answer.body
                problem = TransportError(f"{url}: HTTP {answer.status}")
                final = answer.status < 500 and answer.status != 429
            except TransportError as error:
                problem, final = error, isinstance(error, UnusableAnswer)
            if pause is None or final:
                raise problem
            self.job.sleep(pause * (1 + self.job.jitter()) / 2)
        raise AssertionError("the last attempt returns or raises")

    def _keep(self, file: Path, data: bytes) -> None:
        temporary = file.with_suffix(f".{threading.get_ident()}.part")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(file)
        except OSError as error:
            raise SpecError(
                f"cannot be written: {error.strerror}", origin=str(file), field="--cache"
            ) from error
