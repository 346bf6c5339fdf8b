"""A policy from its TOML file and from environment variables.

Messages name the file or ``environment`` first, then the setting (``section.field``) or the
variable that is wrong.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from mrtd.errors import MalformedDocument, PolicyError
from mrtd.evidence.tcb import TcbStatus
from mrtd.registers import Sha384
from mrtd.verifier.policy import Policy

_SIZE_LIMIT: Final = 1 << 20
_PREFIX: Final = "DD_TRUSTED_"
FILE_VARIABLE: Final = "DD_TRUSTED_POLICY"
_ENVIRONMENT: Final = "environment"
_IDS: Final = ("repository_id", "owner_id")
# of a message of msgspec; elements of a list are "[0]" or "[...]"
_PLACE: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_ELEMENT: Final = re.compile(r"\[(?:[0-9]+|\.\.\.)\]")
_DIGITS: Final = re.compile(r"Expected `str` matching regex '\^\[0-9a-f\]\{([0-9]+)\}\$")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ITA_PREFIX: Final = "DD_ITA_"
# variables of dd that are nothing of ours
_FOREIGN: Final = frozenset({"DD_ITA_API_KEY", "DD_ITA_BASE_URL"})
# dd's pins, which whoever sets them believes in
_OLD: Final = {
    "DD_EXPECTED_MRTD": "measurements come from attested releases; nothing is pinned by hand",
    "DD_EXPECTED_TCB": "accepted TCB statuses are DD_TRUSTED_TCB",
    "DD_MEASUREMENT_ENFORCE": "DD_TRUSTED_MODE is enforce (the default) or observe",
}


def _flag(text: str) -> bool:
    if text not in {"0", "1", "false", "true"}:
        raise ValueError("is neither true nor false")
    return text in {"1", "true"}


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("is no whole number") from None


def _list(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ValueError("is a list without entries")
    return found


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
    "DD_TRUSTED_MINIMUM_SEQUENCE": ("release", "minimum_sequence", _number),
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
    _refuse_unknown(tree, origin)
    sources: dict[str, str] = {}  # setting -> variable that set it
    for name, value in (environment or {}).items():
        if name in VARIABLES and value:
            sources[_set(tree, name, value)] = name
        elif name.startswith(_PREFIX) and name not in {FILE_VARIABLE, *VARIABLES}:
            hint = _meant(name, (*VARIABLES, FILE_VARIABLE))
            raise PolicyError("is no setting", origin=_ENVIRONMENT, field=name, hint=hint)
    _demand_ids(tree, origin)
    try:
        return msgspec.convert(tree, Policy, dec_hook=_decode)
    except PolicyError as error:  # a contradiction
        message = error.message.removeprefix(f"{error.origin}: ").removeprefix(f"{error.field}: ")
        raise _error(message, error.field or "", origin, sources, error.hint) from error
    except msgspec.ValidationError as error:
        raise _explained(str(error), tree, origin, sources) from error


def policy_from_environment(environment: Mapping[str, str]) -> Policy:
    """The policy of environment variables, and of the file that ``DD_TRUSTED_POLICY`` names.

    Raises:
        PolicyError: see `read_policy`; or the file cannot be read.
    """
    name = environment.get(FILE_VARIABLE)
    if not name:
        return read_policy("", environment, origin=_ENVIRONMENT)
    return read_policy(read_policy_file(Path(name)), environment, origin=name)


def read_policy_file(path: Path) -> str:
    """The text of a policy file. Raises `PolicyError`."""
    try:
        with path.open("rb") as stream:  # of any kind: what has no end is not read to its end
            data = stream.read(_SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise PolicyError(f"cannot be read: {reason}", origin=str(path)) from error
    if len(data) > _SIZE_LIMIT:
        raise PolicyError(f"more than {_SIZE_LIMIT} bytes", origin=str(path))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicyError("cannot be read: no text in UTF-8", origin=str(path)) from error


def ignored_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """A line for each variable that somebody may believe in and that does nothing here.

    Those are dd's own pins, and what looks like a setting of ours that is misspelt. Values are
    not shown: they may be secret.
    """
    return tuple(_ignored(environment))


def missing_folders(policy: Policy) -> tuple[str, ...]:
    """A line for each folder that the policy reads and that is not there (now)."""
    folder = policy.lookup.directory
    if folder is None or folder.is_dir():
        return ()
    return (f"lookup.directory: {folder} is no folder: no bundle is read from it",)


def _ignored(environment: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environment):
        if name in _OLD:
            yield f"{name} does nothing here: {_OLD[name]}"
        elif name.startswith(_ITA_PREFIX) and name not in {*VARIABLES, *_FOREIGN}:
            known = [one for one in VARIABLES if one.startswith(_ITA_PREFIX)]
            hint = _meant(name, known) or f"settings are {', '.join(known)}"
            yield f"{name} does nothing here: {hint}"


def _set(tree: dict[str, Any], name: str, text: str) -> str:
    """Put a variable's value into the tree; returns the setting."""
    section, field, read = VARIABLES[name]
    try:
        value = read(text)
    except ValueError as error:
        raise PolicyError(str(error), origin=_ENVIRONMENT, field=name) from error
    table = tree.setdefault(section, {}) if section else tree
    table[field] = value
    return _join(section, field)


def _refuse_unknown(tree: dict[str, Any], origin: str) -> None:
    """Refuse what is no setting of the file, and write numeric ids as texts."""
    schema = tree.get("schema", "mrtd.policy/1")
    if schema != "mrtd.policy/1":  # before its settings, which may be others
        raise PolicyError(f"{schema!r:.100} is not mrtd.policy/1", origin=origin, field="schema")
    for path, kind, table in _tables("", Policy, tree):
        if not isinstance(table, dict):
            raise PolicyError("is no table", origin=origin, field=path)
        for name in table:
            if name not in kind.__struct_fields__:
                field = _join(path, name if _PLAIN.fullmatch(name) else f"{name!r:.100}")
                known = [_join(path, one) for one in kind.__struct_fields__]
                hint = _elsewhere(name) or _meant(field, known)
                raise PolicyError("is no setting", origin=origin, field=field, hint=hint)
    identity = tree.get("identity", {})
    for name in _IDS:
        if type(identity.get(name)) is int and identity[name]:
            identity[name] = str(identity[name])


def _tables(
    path: str, kind: type[msgspec.Struct], value: object
) -> Iterator[tuple[str, type[msgspec.Struct], object]]:
    """A table of the tree and those in it, each with its path and its class."""
    yield path, kind, value
    for name, inner in get_type_hints(kind).items():
        if not isinstance(value, dict) or name not in value:
            continue
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from _tables(_join(path, name), inner, value[name])


def _settings(path: str, kind: type[msgspec.Struct]) -> Iterator[tuple[str, Any]]:
    """Paths and types of all settings."""
    for name, inner in get_type_hints(kind).items():
        here = _join(path, name)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield here, inner
            yield from _settings(here, inner)
        else:
            yield here, inner


def _elsewhere(name: str) -> str | None:
    """Where a setting of this very name is: TOML puts what follows ``[section]`` into it."""
    places = [path for path, _ in _settings("", Policy) if path.rpartition(".")[2] == name]
    if not places:
        return None
    (place, *more) = [f"[{p.rpartition('.')[0]}]" if "." in p else "the top" for p in places]
    return f"it belongs in {' or '.join((place, *more))}"


def _meant(name: str, known: Iterable[str]) -> str | None:
    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[close[0]]}?" if close else None


def _explained(
    text: str, tree: dict[str, Any], origin: str, sources: Mapping[str, str]
) -> PolicyError:
    """What msgspec says, with the setting's name first."""
    found = _PLACE.fullmatch(text)
    message, path = (found[1], found[2]) if found else (text, "")
    path = _ELEMENT.sub("", path)
    if path in {_join("identity", name) for name in _IDS}:
        return _error("is no number such as 1000001", path, origin, sources)
    digits = _DIGITS.match(message)
    if digits:
        return _error(f"is not {digits[1]} lower-case hex digits", path, origin, sources)
    allowed = _allowed(dict(_settings("", Policy)).get(path))
    if not allowed or not message.startswith("Invalid enum value"):
        return _error(message, path, origin, sources)
    value: Any = tree
    for name in path.split("."):
        value = value[name]
    values = value if isinstance(value, list) else [value]
    wrong = next((one for one in values if one not in allowed), value)
    message = f"{wrong!r:.100} is none of {', '.join(allowed)}"
    return _error(message, path, origin, sources, _meant(str(wrong), allowed))


def _allowed(kind: object) -> list[str]:
    """The values of an enumeration, or of a list of its values."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(value) for value in kind if value is not TcbStatus.REVOKED]
    return [value for inner in get_args(kind) for value in _allowed(inner)]


def _error(
    message: str, path: str, origin: str, sources: Mapping[str, str], hint: str | None = None
) -> PolicyError:
    """About a setting: the variable that set it, or else its place in the file."""
    if path in sources:
        return PolicyError(message, origin=_ENVIRONMENT, field=sources[path], hint=hint)
    return PolicyError(message, origin=origin, field=path or None, hint=hint)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _demand_ids(tree: dict[str, Any], origin: str) -> None:
    """Without the numbers, whoever takes over the name of a repository takes over the fleet."""
    known = tree.get("identity", {})
    missing = [name for name in _IDS if not known.get(name)]
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
    """A value of our own classes; msgspec reports a ``ValueError`` with the setting's place."""
    if kind is Sha384 and isinstance(value, str):
        try:
            return Sha384.fromhex(value)
        except MalformedDocument as error:
            raise ValueError(error.message.removeprefix(f"{error.origin}: ")) from error
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        if value.startswith("~"):
            raise ValueError(f"{value!r:.100}: ~ is not expanded: write the whole path")
        return Path(value)
    raise ValueError("is no path" if kind is Path else "is no SHA-384 value in hex")
