"""What a guest policy is rendered from: ``images.toml``, and the files beside it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import ImagesError
from mrtd.images.settings import ImageSettings, read_images_file
from release.policy_keys import read_keys
from release.policy_render import render
from release.policy_workflow import TRUSTED_ROOT

DEFAULT: Final = Path("images/images.toml")
_SIZE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """``images.toml`` with its files.

    Attributes:
        settings: what it says.
        keys: the public keys by file name.
        trusted_root: ``trusted_root.json``, if it goes into the guest.
    """

    settings: ImageSettings
    keys: dict[str, bytes]
    trusted_root: bytes | None

    def render(self, today: dt.date) -> dict[str, bytes]:
        """The guest policy's files. Raises `ReleaseRefused`."""
        return render(self.settings, keys=self.keys, today=today, trusted_root=self.trusted_root)


def read_inputs(path: Path) -> Inputs:
    """``images.toml`` at ``path`` with its keys. Raises `ImagesError`."""
    settings = read_images_file(path)
    keys = read_keys(path.parent / "keys", settings.keys)
    wanted = settings.guest.trusted_root
    root = _trusted_root(path.with_name(TRUSTED_ROOT)) if wanted else None
    return Inputs(settings, keys, root)


def _trusted_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_LIMIT)
        found = json.loads(data)
    except OSError as error:
        raise ImagesError(
            f"cannot be read: {error.strerror}",
            origin=str(path),
            hint=f"mrtd trust refresh --output {path}; or leave out guest.trusted_root",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ImagesError("is no JSON", origin=str(path)) from error
    kind = found.get("mediaType") if isinstance(found, dict) else None
    if not str(kind).startswith("application/vnd.dev.sigstore.trustedroot"):
        raise ImagesError("is no trusted root of Sigstore", origin=str(path), field="mediaType")
    return data
