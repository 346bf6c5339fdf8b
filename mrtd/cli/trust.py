"""``mrtd trust``: the root of trust for signatures, shown and fetched anew."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli import options

if TYPE_CHECKING:
    from mrtd.verifier.policy import TrustRootPolicy
    from mrtd.verifier.trust_root import TrustRoot

_DESCRIPTION: Final = """\
The keys by which `mrtd verify` and control planes know genuine signatures:
those of Sigstore's CA, transparency logs and timestamp authority.

show     where they come from, how old they are, and when each may be used
refresh  fetch them anew through TUF (The Update Framework), whose signatures
         are checked from the root of the installed sigstore package on
"""
_EPILOG: Final = """\
examples:
  mrtd trust show                          what is used if the policy names none
  mrtd trust show --policy policy.toml     what this policy uses, its age limit
  mrtd trust refresh --output trusted_root.json
  mrtd trust refresh --output lab.json \\
      --url https://tuf.example --root root.json
then, in the policy: [trust_root] file = "trusted_root.json"

Sigstore replaces keys of its logs within months; signatures by a new one are
refused until the root is refreshed (or mrtd is updated). A file is as old as
its last change.

exit codes: 0 done; 1 too old, or keys that had been withdrawn came back;
2 bad input; 3 could not be fetched, or a library is missing
"""
PRODUCTION: Final = "https://tuf-repo-cdn.sigstore.dev"
_BUILT_IN: Final = (PRODUCTION, "https://tuf-repo-cdn.sigstage.dev")
_DAYS: Final = 180
_VARIABLE: Final = "DD_TRUSTED_ROOT"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "trust",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="source, age and keys")
    show.add_argument("--file", metavar="F", type=Path, help="a trusted_root.json")
    show.add_argument("--policy", metavar="FILE", type=Path, help="whose file and age limit count")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)
    refresh = actions.add_parser("refresh", help="fetch it through TUF")
    refresh.add_argument("--output", metavar="FILE", type=Path, required=True, help="the file")
    refresh.add_argument(
        "--url", metavar="URL", default=PRODUCTION, help="TUF repository (default: Sigstore's)"
    )
    refresh.add_argument(
        "--root", metavar="FILE", type=Path, help="root metadata (root.json) of another repository"
    )
    refresh.add_argument("--json", action="store_true", help="print what changed as JSON")
    refresh.set_defaults(run=_refresh)
    for action in (show, refresh):
        # for tests, and for questions about another day
        action.add_argument("--now", metavar="TIME", type=options.time, help="the time (RFC 3339)")


def _show(arguments: argparse.Namespace) -> int:
    from mrtd.cli.trust_keys import age_fault, keys_of, print_root, to_json  # noqa: PLC0415
    from mrtd.verifier.trust_root import load_trust_root  # noqa: PLC0415

    file, limit = _settings(arguments)
    root = load_trust_root(file)
    now = arguments.now or datetime.now(UTC)
    fault = age_fault(root, limit, now)
    if arguments.json:
        _print_json(to_json(root, limit, now))
    else:
        print_root(root, keys_of(root), limit, now)
    if fault is not None:
        sys.stderr.write(f"mrtd: {fault}: mrtd trust refresh --output FILE\n")
    return 0 if fault is None else 1


def _settings(arguments: argparse.Namespace) -> tuple[Path | None, int]:
    """The file, None for that of the sigstore package, and the age limit in days."""
    from mrtd.verifier.settings import FILE_VARIABLE  # noqa: PLC0415

    policy, named = arguments.policy or os.environ.get(FILE_VARIABLE), os.environ.get(_VARIABLE)
    file, limit = None, _DAYS
    if policy:
        part = _trust_root_of(Path(policy))
        file, limit = part.file, part.maximum_age_days
    return arguments.file or (Path(named) if named else file), limit


def _trust_root_of(path: Path) -> TrustRootPolicy:
    """That part of a policy; the others may be incomplete. Raises `PolicyError`."""
    import msgspec  # noqa: PLC0415

    from mrtd.errors import PolicyError  # noqa: PLC0415
    from mrtd.verifier.policy import TrustRootPolicy  # noqa: PLC0415
    from mrtd.verifier.settings import read_policy_file  # noqa: PLC0415

    def decode(_: type, value: object) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("is no path")
        return Path(value)

    try:
        tree = msgspec.toml.decode(read_policy_file(path))
        return msgspec.convert(tree.get("trust_root", {}), TrustRootPolicy, dec_hook=decode)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PolicyError(str(error), origin=str(path), field="trust_root") from error


def _refresh(arguments: argparse.Namespace) -> int:
    from mrtd.cli.output import write_whole  # noqa: PLC0415
    from mrtd.cli.trust_keys import changes, demand_no_return, keys_of  # noqa: PLC0415
    from mrtd.verifier.trust_root import read_trust_root  # noqa: PLC0415

    now = arguments.now or datetime.now(UTC)
    known = _known(arguments)
    raw = _fetch(arguments.url, arguments.root)
    root = read_trust_root(raw, source=arguments.url, dated=now)
    keys, before = keys_of(root), keys_of(known) if known else ()
    demand_no_return(before, keys)
    write_whole(arguments.output, raw)
    source = known.source if known else None
    lines = changes(before, keys) if known else []
    if arguments.json:
        _print_json({
            "schema": "mrtd.trust-refresh/1", "file": str(arguments.output), "url": arguments.url,
            "sha256": root.sha256, "compared_with": source, "changes": lines,
        })  # fmt: skip
        return 0
    print(f"{arguments.output}: {len(keys)} keys, sha256 {root.sha256}")
    if source is None:
        print("nothing to compare with: read `mrtd trust show --file` before you use it")
    else:
        print(f"compared with {source}:")
        for line in lines or ["nothing changed"]:
            print(f"  {line}")
    return 0


def _known(arguments: argparse.Namespace) -> TrustRoot | None:
    """What is replaced: the file, or what the package has. Raises `TrustRootError`."""
    from mrtd.errors import TrustRootError  # noqa: PLC0415
    from mrtd.verifier.trust_root import load_trust_root  # noqa: PLC0415

    if arguments.output.exists():
        return load_trust_root(arguments.output)  # anything else is not overwritten
    if arguments.url.rstrip("/") != PRODUCTION:
        return None
    try:
        return load_trust_root()
    except TrustRootError:  # a package newer than mrtd: refreshing is the remedy
        return None


def _fetch(url: str, bootstrap: Path | None) -> bytes:
    """``trusted_root.json`` of a TUF repository, verified.

    Raises:
        InputError: the address or the bootstrap root cannot be used.
        TransportError: the repository cannot be reached, or is not as its root says.
        ToolMissing: sigstore is not installed.
    """
    from mrtd.errors import SpecError, ToolMissing, TransportError  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    url = url.rstrip("/")
    if (url in _BUILT_IN) == (bootstrap is not None):
        # sigstore would not look at it: it has a root for its own repositories
        why = "is for another repository than Sigstore's" if bootstrap else "is needed for this URL"
        raise SpecError(why, origin=url, field="--root")
    if not url.startswith(("https://", "http://127.0.0.1:", "http://[::1]:")):
        raise SpecError("is neither https nor http to this machine", origin=url, field="--url")
    root = None if bootstrap is None else read_file(bootstrap, key="--root", hint=None)
    try:
        from sigstore.models import ClientTrustConfig  # noqa: PLC0415 - heavy
    except ImportError as error:
        raise ToolMissing(
            "sigstore is not installed", hint="pip install './mrtd[verifier]'"
        ) from error
    with _private_home() as home:
        place = None if root is None else home / "root.json"
        if place is not None and root is not None:
            place.write_bytes(root)
        try:
            ClientTrustConfig.from_tuf(url, bootstrap_root=place)
            # verified, and written by this call: the folder was empty
            (found,) = home.rglob("trusted_root.json")
            return found.read_bytes()
        except Exception as error:
            cause = error.__cause__ or error
            said = f"{type(cause).__name__}: {str(cause) or 'could not be reached'}"
            text = "".join(c for c in said[:300] if c.isprintable())
            raise TransportError(
                f"{url}: no trusted root: {text}",
                hint="nothing was written; is the clock right, and the network there?",
            ) from error


@contextmanager
def _private_home() -> Iterator[Path]:
    """An empty home: sigstore trusts what it finds in HOME, and leaves a cache there."""
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="mrtd-trust-") as name:
        mine = {"HOME": name, "XDG_DATA_HOME": f"{name}/data", "XDG_CACHE_HOME": f"{name}/cache"}
        before = {key: os.environ.get(key) for key in mine}
        os.environ.update(mine)
        try:
            yield Path(name)
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


def _print_json(value: object) -> None:
    from mrtd.document import encode  # noqa: PLC0415

    sys.stdout.write(encode(value).decode())
