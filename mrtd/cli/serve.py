"""``mrtd serve``: the verifier over HTTP, for control planes in any language."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli import options
from mrtd.cli.workloads import add_images

if TYPE_CHECKING:
    import socket

    from mrtd.service.fleet import Fleet
    from mrtd.service.service import Service
    from mrtd.verifier.policy import Policy

_DESCRIPTION: Final = """\
Answer control planes: may this VM in? POST a token and what binds it; HTTP 200
means yes, and nothing else does. Listens on a Unix socket (mode 0600) or a
loopback address; docs/service.md has the endpoints, and GET /openapi.json
describes them to programs.
"""
_EPILOG: Final = """\
settings: DD_TRUSTED_REPO_ID and DD_TRUSTED_OWNER_ID have to be set, here or in
the policy; others of docs/policy.md may be. DD_GITHUB_TOKEN (or GITHUB_TOKEN)
is for lookups, which GitHub allows only 60 times an hour without one. DD_OWNER
and DD_ENV name the fleet of --reference-cp. DD_SHARED_CACHE (redis://..., or
unix:/PATH) lets replicas share what GitHub lists: docs/scale.md

examples:
  gh api repos/devopsdefender/dd --jq '.id, .owner.id'        the two ids
  DD_TRUSTED_REPO_ID=... DD_TRUSTED_OWNER_ID=... \\
      mrtd serve --socket /run/mrtd/mrtd.sock
  curl --unix-socket /run/mrtd/mrtd.sock -X POST http://mrtd/v1/nonce
  mrtd serve --listen 127.0.0.1:8081 --policy policy.toml --reference-cp

SIGTERM: no new connections, requests in flight are finished (30 s at most), the
socket removed.
exit codes: 0 stopped; 2 a setting is wrong; 3 a library is missing
"""
_DEFAULT: Final = "127.0.0.1:8081"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "serve",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = verb.add_mutually_exclusive_group()
    where.add_argument(
        "--socket", metavar="PATH", type=Path, help="listen on a Unix socket, for this user only"
    )
    where.add_argument(
        "--listen", metavar="ADDRESS:PORT", default=_DEFAULT,
        help=f"listen on TCP; port 0 for any free one (default: {_DEFAULT})",
    )  # fmt: skip
    verb.add_argument(
        "--allow-remote", action="store_true",
        help="let --listen name an address that others can reach; requests are not encrypted",
    )  # fmt: skip
    verb.add_argument(
        "--policy", metavar="FILE", type=Path,
        help="policy in TOML (default: $DD_TRUSTED_POLICY); DD_TRUSTED_... variables go over it",
    )  # fmt: skip
    verb.add_argument(
        "--reference-cp", action="store_true",
        help="be a control plane instead of a sidecar: GET /register/nonce and POST /register; "
        "it makes no tunnels, but random ids; GET / shows the fleet",
    )  # fmt: skip
    add_images(verb)
    verb.add_argument(
        "--fleet-network", metavar="CIDR", type=_network, action="append", default=[],
        help="addresses where agents may be asked for /health although they are not public "
        "(10.8.0.0/16); there, http will do; may be given several times",
    )  # fmt: skip
    verb.add_argument(
        "--binding", choices=("required", "none"), default="required",
        help="none: also admit evidence that nothing binds to who presents it, so that anybody who "
        "has seen a VM's token can register as that VM; for migration only",
    )  # fmt: skip
    verb.add_argument(
        "--max-in-flight", metavar="N", type=_count, default=256,
        help="requests at a time; further ones get 503 (default: 256)",
    )  # fmt: skip
    options.add_network(verb)
    verb.add_argument(
        "--json", action="store_true", help="say as JSON where it listens; the log always is JSON"
    )
    verb.set_defaults(run=_run)


def _network(text: str) -> object:
    import ipaddress  # noqa: PLC0415

    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no network such as 10.8.0.0/16") from error


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 10000")
    return number


def _run(arguments: argparse.Namespace) -> int:
    _check_options(arguments)
    _demand_libraries()
    from mrtd.service.app import make_app  # noqa: PLC0415 - heavy
    from mrtd.service.limits import Limits  # noqa: PLC0415
    from mrtd.service.logs import Log  # noqa: PLC0415
    from mrtd.service.redis_cache import shared_cache  # noqa: PLC0415
    from mrtd.service.reference_cp import ReferenceControlPlane  # noqa: PLC0415
    from mrtd.service.server import serve  # noqa: PLC0415
    from mrtd.service.service import Service  # noqa: PLC0415
    from mrtd.service.sidecar import Sidecar  # noqa: PLC0415

    environment = os.environ
    policy = _policy(arguments.policy, environment)
    service = Service(
        policy,
        fetch=options.fetch_of(arguments),
        log=Log(sys.stderr.buffer),
        limits=Limits(in_flight=arguments.max_in_flight),
        allow_unbound=arguments.binding == "none",
        github_token=environment.get("DD_GITHUB_TOKEN") or environment.get("GITHUB_TOKEN") or None,
        shared=shared_cache(environment, repository_id=policy.identity.repository_id),
    )
    kind = (
        ReferenceControlPlane(
            service,
            owner=environment.get("DD_OWNER", ""),
            environment=environment.get("DD_ENV", ""),
            fleet=_fleet(service, arguments),
        )
        if arguments.reference_cp
        else Sidecar(service)
    )
    announce = partial(_announce, service, arguments)
    serve(service, make_app(service, kind), _place(arguments), announce)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises `SpecError`: an option that would do nothing."""
    from mrtd.errors import SpecError  # noqa: PLC0415 - heavy

    for option in ("images", "cosign", "registry_login", "fleet_network"):
        if getattr(arguments, option) and not arguments.reference_cp:
            raise SpecError(
                "is for the fleet", origin="options", field=f"--{option.replace('_', '-')}",
                hint="say --reference-cp, too: a sidecar has none",
            )  # fmt: skip
    for option in ("cosign", "registry_login"):
        if getattr(arguments, option) and not arguments.images:
            raise SpecError(
                "does nothing without --images", origin="options",
                field=f"--{option.replace('_', '-')}",
            )  # fmt: skip


def _fleet(service: Service, arguments: argparse.Namespace) -> Fleet:
    """Who was admitted; agents are asked from now on. Raises `MrtdError`."""
    from mrtd.service.agent_fetch import AgentFetch  # noqa: PLC0415 - heavy
    from mrtd.service.fleet import Fleet  # noqa: PLC0415
    from mrtd.verifier.fetch import tls_context  # noqa: PLC0415

    statuses = None
    if arguments.images is not None:
        from mrtd.workloads.configured import configured_statuses  # noqa: PLC0415

        statuses = configured_statuses(
            arguments.images,
            policy=service.policy,
            cosign=arguments.cosign,
            login=arguments.registry_login,
            clock=service.clock,
        )
    own = arguments.ca_bundle
    ask = AgentFetch(tuple(arguments.fleet_network), tls=own and tls_context(own))
    fleet = Fleet(ask, statuses, clock=service.clock)
    fleet.start()
    return fleet


def _demand_libraries() -> None:
    """Import what the first registration would: better to fail, and to wait, now.

    Raises:
        ToolMissing: an extra is not installed.
    """
    import importlib  # noqa: PLC0415

    from mrtd.errors import ToolMissing  # noqa: PLC0415

    for extra, names in (
        ("service", ("jinja2", "starlette", "uvicorn")),
        ("verifier", ("jwt", "sigstore.verify")),
    ):
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise ToolMissing(
                    f"{name} cannot be imported: {error}", hint=f"pip install './mrtd[{extra}]'"
                ) from error


def _policy(file: Path | None, environment: Mapping[str, str]) -> Policy:
    from mrtd.cli.options import appraisal_policy  # noqa: PLC0415

    return appraisal_policy(file, environment)


def _place(arguments: argparse.Namespace) -> AbstractContextManager[socket.socket]:
    from mrtd.service.sockets import listen_tcp, listening_unix  # noqa: PLC0415

    if arguments.socket is not None:
        return listening_unix(arguments.socket)
    return listen_tcp(arguments.listen, allow_remote=arguments.allow_remote)


def _announce(service: Service, arguments: argparse.Namespace, listener: socket.socket) -> None:
    """Say where it listens and what it demands, and loudly what it does not."""
    where, warnings = _shown(listener), _warnings(service)
    for text in warnings:
        service.log.write("warning", level="warning", detail=text)
    with suppress(BrokenPipeError):  # nobody reads it: no reason not to serve
        _say(service, arguments, where, warnings)


def _say(service: Service, arguments: argparse.Namespace, where: str, warnings: list[str]) -> None:
    import msgspec  # noqa: PLC0415

    policy = service.policy
    if arguments.json:
        said = {
            "listening": where,
            "policy": policy.digest,
            "mode": policy.mode,
            "binding": arguments.binding,
            "warnings": warnings,
        }
        print(msgspec.json.encode(said).decode())
    else:
        line = f"mrtd: listening on {where}; policy sha256:{policy.digest}, mode {policy.mode}"
        print("; WARNING: ".join([line, *warnings]))
    sys.stdout.flush()


def _shown(listener: socket.socket) -> str:
    import socket as sockets  # noqa: PLC0415

    name = listener.getsockname()
    if listener.family == sockets.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if listener.family == sockets.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def _warnings(service: Service) -> list[str]:
    found = []
    if service.policy.mode == "observe":
        found.append("OBSERVE MODE: VMs that nobody attested are admitted; the log says which ones")
    if service.allow_unbound:
        found.append("BINDING NONE: whoever has seen a VM's token can register as that VM")
    return found
