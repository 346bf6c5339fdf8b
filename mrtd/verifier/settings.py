"""A policy from its TOML file and from environment variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.errors import MalformedDocument, PolicyError
from mrtd.registers import Sha384
from mrtd.verifier.policy import Policy

_SIZE_LIMIT: Final = 1 << 20
_PREFIX: Final = "DD_TRUSTED_"
FILE_VARIABLE: Final = "DD_TRUSTED_POLICY"


def _flag(text: str) -> bool:
    if text not in {"0", "1", "false", "true"}:
        raise ValueError("is neither true nor false")
    return text in {"1", "true"}


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


# Variable -> section ("" for the top), field, reader. Everything else is set in the file.
VARIABLES: Final[dict[str, tuple[str, str, Callable[[str], object]]]] = {
    "DD_TRUSTED_MODE": ("", "mode", str),
    "DD_TRUSTED_REPO": ("identity", "repository", str),
    "DD_TRUSTED_REPO_ID": ("identity", "repository_id", str),
    "DD_TRUSTED_OWNER_ID": ("identity", "owner_id", str),
    "DD_TRUSTED_WORKFLOW": ("identity", "workflow", str),
    "DD_TRUSTED_WORKFLOW_REF": ("identity", "ref", str),
    "DD_TRUSTED_TRIGGERS": ("identity", "triggers", _list),
    "DD_TRUSTED_RUNNERS": ("identity", "runners", _list),
    "DD_TRUSTED_VISIBILITY": ("identity", "visibility", str),
    "DD_TRUSTED_ISSUER": ("identity", "issuer", str),
    "DD_TRUSTED_SIGNER_WORKFLOW": ("identity", "signer_workflow", str),
    "DD_TRUSTED_ALLOW_UNPINNED_RTMR0": ("measurements", "allow_unpinned_rtmr0", _flag),
    "DD_TRUSTED_MRTD_ONLY": ("measurements", "mrtd_only", _flag),
    "DD_TRUSTED_COVERAGE": ("measurements", "required_coverage", _list),
    "DD_TRUSTED_CONFIRMATIONS": ("measurements", "required_confirmations", _list),
    "DD_TRUSTED_MINIMUM_SEQUENCE": ("release", "minimum_sequence", int),
    "DD_TRUSTED_TCB": ("tcb", "statuses", _list),
    "DD_TRUSTED_GITHUB": ("lookup", "github", str),
    "DD_TRUSTED_API": ("lookup", "api", str),
    "DD_TRUSTED_BUNDLES": ("lookup", "directory", str),
    "DD_TRUSTED_CACHE": ("cache", "directory", str),
    "DD_TRUSTED_ROOT": ("trust_root", "file", str),
    "DD_ITA_ISSUER": ("token", "issuer", str),
    "DD_ITA_JWKS_URL": ("token", "jwks_url", str),
}


def read_policy(
    text: str = "", environment: Mapping[str, str] | None = None, *, origin: str = "policy"
) -> Policy:
    """The policy of a TOML text with environment variables on top.

    Args:
        text: TOML; empty for the defaults.
        environment: such as ``os.environ``; None for no variables.
        origin: where the text came from, for messages.

    Raises:
        PolicyError: not TOML, an unknown or impossible setting, an unknown ``DD_TRUSTED_``
            variable, or no repository ids.
    """
    try:
        tree = msgspec.toml.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PolicyError(f"is no TOML: {error}", origin=origin) from error
    for name, value in (environment or {}).items():
        if name in VARIABLES and value:
            _set(tree, name, value)
        elif name.startswith(_PREFIX) and name not in {FILE_VARIABLE, *VARIABLES}:
            raise PolicyError("is no setting", origin="environment", field=name)
    _demand_ids(tree, origin)
    try:
        return msgspec.convert(tree, Policy, dec_hook=_decode)
    except PolicyError:
        raise
    except (msgspec.ValidationError, MalformedDocument) as error:
        raise PolicyError(str(error), origin=origin) from error


def policy_from_environment(environment: Mapping[str, str]) -> Policy:
    """The policy of environment variables, and of the file that ``DD_TRUSTED_POLICY`` names.

    Raises:
        PolicyError: see `read_policy`; or the file cannot be read.
    """
    name = environment.get(FILE_VARIABLE)
    if not name:
        return read_policy("", environment, origin="environment")
    return read_policy(read_policy_file(Path(name)), environment, origin=name)


def read_policy_file(path: Path) -> str:
    """The text of a policy file. Raises `PolicyError`."""
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise PolicyError(f"more than {_SIZE_LIMIT} bytes", origin=str(path))
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot be read: {error}", origin=str(path)) from error


def _set(tree: dict[str, Any], name: str, text: str) -> None:
    section, field, read = VARIABLES[name]
    try:
        value = read(text)
    except ValueError as error:
        raise PolicyError(str(error), origin="environment", field=name) from error
    table = tree.setdefault(section, {}) if section else tree
    if not isinstance(table, dict):
        raise PolicyError("is no table", origin="policy", field=section)
    table[field] = value


def _demand_ids(tree: dict[str, Any], origin: str) -> None:
    """Without the numbers, whoever takes over the name of a repository takes over the fleet."""
    identity = tree.get("identity", {})
    known = identity if isinstance(identity, dict) else {}
    missing = [name for name in ("repository_id", "owner_id") if not known.get(name)]
    if missing:
        repository = known.get("repository", "devopsdefender/dd")
        raise PolicyError(
            f"{' and '.join(missing)} not set",
            origin=origin,
            field="identity",
            hint=f"find them with: gh api repos/{repository} --jq '.id, .owner.id' and set "
            "DD_TRUSTED_REPO_ID and DD_TRUSTED_OWNER_ID",
        )


def _decode(kind: type, value: object) -> object:
    if kind is Sha384 and isinstance(value, str):
        return Sha384.fromhex(value, origin="policy")
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    # which msgspec reports with the setting's place
    raise ValueError("is no path" if kind is Path else "is no SHA-384 value in hex")
