"""Logins of registries, for cosign and skopeo: nothing else of Docker's configuration.

A ``config.json`` may name programs that are run (``credsStore``, ``credHelpers``) and proxies:
only its ``auths`` are handed on, in a file that lives as long as the program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from mrtd.errors import InputError

_LIMIT: Final = 1 << 20
_FILE: Final = "config.json"
_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType({"DOCKER_CONFIG": "."})


class MalformedLogin(InputError):
    """A file with the logins of registries cannot be read."""


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Logins by registry; none by default.

    Attributes:
        files: for the program's folder.
    """

    files: Mapping[str, bytes] = field(
        default_factory=lambda: MappingProxyType({_FILE: b"{}"}), repr=False
    )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read Docker's ``config.json`` or podman's ``auth.json``. Raises `MalformedLogin`."""
        try:
            with path.open("rb") as file:
                tree = json.loads(file.read(_LIMIT))
        except OSError as error:
            raise MalformedLogin(f"cannot be read: {error.strerror}", origin=str(path)) from error
        except (ValueError, RecursionError):
            # what it says may be a password: not behind the error either
            raise MalformedLogin("is not JSON", origin=str(path)) from None
        auths = tree.get("auths") if isinstance(tree, dict) else None
        if not isinstance(auths, dict):
            raise MalformedLogin(
                "has no logins", origin=str(path), field="auths", hint="skopeo login writes them"
            )
        return cls(MappingProxyType({_FILE: json.dumps({"auths": auths}).encode()}))

    @property
    def environment(self) -> Mapping[str, str]:
        """Where cosign looks for them: in its own folder, and not in HOME."""
        return _ENVIRONMENT
