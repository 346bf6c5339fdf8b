"""Options that several verbs have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mrtd.verifier.fetch import HttpFetch
    from mrtd.verifier.policy import Policy


def time(text: str) -> datetime:
    """RFC 3339, with a zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time with a zone such as 2026-06-14T12:00:00Z"
        )
    return found


def appraisal_policy(file: Path | None, environment: Mapping[str, str]) -> Policy:
    """The policy of a file and of variables; what does nothing is told on stderr.

    Raises:
        PolicyError: see `mrtd.verifier.settings.policy_from_environment`.
    """
    from mrtd.verifier import settings  # noqa: PLC0415 - heavy

    named = {} if file is None else {settings.FILE_VARIABLE: str(file)}
    policy = settings.policy_from_environment({**environment, **named})
    for line in (*settings.ignored_variables(environment), *settings.missing_folders(policy)):
        sys.stderr.write(f"mrtd: warning: {line}\n")
    return policy


def add_network(verb: argparse.ArgumentParser) -> None:
    """How the token issuer and GitHub are reached."""
    verb.add_argument(
        "--proxy", metavar="URL", type=_proxy,
        help="http://[USER:PASSWORD@]HOST:PORT, for all requests but those of gh; "
        "HTTPS_PROXY and the like are not used",
    )  # fmt: skip
    verb.add_argument(
        "--ca-bundle", metavar="FILE", type=Path,
        help="certificates (PEM) to trust for HTTPS instead of those of certifi",
    )  # fmt: skip


def fetch_of(arguments: argparse.Namespace) -> HttpFetch:
    """What asks them. Raises `SpecError`: there are no certificates in the file."""
    from mrtd.verifier.fetch import HttpFetch  # noqa: PLC0415 - heavy

    if arguments.ca_bundle is not None:
        _demand_certificates(arguments.ca_bundle)
    return HttpFetch(ca_bundle=arguments.ca_bundle, proxy=arguments.proxy)


def _proxy(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:  # it is not repeated: there may be a password in it
        raise argparse.ArgumentTypeError("is not of the form http://HOST:PORT")
    return text


def _demand_certificates(file: Path) -> None:
    """Better now than as a service that is not reachable."""
    import ssl  # noqa: PLC0415 - heavy

    from mrtd.errors import SpecError  # noqa: PLC0415

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(str(file))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        text = "holds no certificates" if isinstance(error, ssl.SSLError) else "cannot be read"
        raise SpecError(text, origin=str(file), field="--ca-bundle") from error
