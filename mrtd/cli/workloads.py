"""``mrtd workloads``: what containers run, by digest, and what is known of their images."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mrtd.images.status import Deployment, DeploymentStatus, ImageStatus

_DESCRIPTION: Final = """\
List running containers by the digest of their image, and say of each whether
its signatures are what images.toml demands:

green    release key and release workflow signed this digest
yellow   an exception allows it, or the key alone, where that is enough
red      unsigned, wrongly signed, expired, or not what was asked for
unknown  it could not be looked at

The digest is podman's .ImageDigest: names prove nothing, `podman tag` gives any
image any name. Signatures are fetched and checked with cosign (3 or later).
"""
_EPILOG: Final = """\
examples:
  mrtd workloads --images images.toml               ask podman, here and now
  mrtd workloads --json                             digests only: for an agent
  podman inspect $(podman ps -q) | mrtd workloads --inspect - \\
      --images images.toml
  curl -s https://agent.example/health | mrtd workloads --health - \\
      --images images.toml

--json prints `deployments` and `deployment_status`, which an agent merges into
its /health. A control plane reads names and digests of it and works the status
out again: the agent's own word does not count.

exit codes: 0 none is red or unknown (or nothing was checked: no --images);
1 red; 2 bad input; 3 some could not be checked, or a tool is missing
"""
_UNCHECKED: Final = "not checked here: no --images was given"
_SIZE_LIMIT: Final = 64 << 20


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "workloads",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = verb.add_mutually_exclusive_group()
    source.add_argument(
        "--podman", metavar="PROGRAM", type=Path,
        help="podman (or dd-podman) to ask, if it is not on the search path",
    )  # fmt: skip
    source.add_argument(
        "--inspect", metavar="FILE", type=Path,
        help="what `podman inspect` printed, instead of asking podman; - for standard input",
    )  # fmt: skip
    source.add_argument(
        "--health", metavar="FILE", type=Path, help="an agent's /health; - for standard input"
    )
    add_images(verb)
    verb.add_argument(
        "--policy", metavar="FILE", type=Path,
        help="appraisal policy, for its root of trust and its triggers, runners, visibility "
        "(default: those of `mrtd verify`)",
    )  # fmt: skip
    verb.add_argument("--json", action="store_true", help="print JSON for /health")
    verb.set_defaults(run=_run)


def add_images(verb: argparse.ArgumentParser) -> None:
    """Whose images are trusted, and the program that asks registries."""
    verb.add_argument(
        "--images", metavar="FILE", type=Path,
        help="images.toml; public keys are in the folder keys beside it",
    )  # fmt: skip
    verb.add_argument("--cosign", metavar="PROGRAM", type=Path, help="cosign, if not on the path")
    verb.add_argument(
        "--registry-login", metavar="FILE", type=Path,
        help="config.json or auth.json with logins of registries (default: none)",
    )  # fmt: skip


def _run(arguments: argparse.Namespace) -> int:
    deployments = _deployments(arguments)
    statuses = _statuses(arguments, deployments)
    records = _records(deployments, statuses)
    if arguments.json:
        import msgspec  # noqa: PLC0415 - heavy

        names = [one.app_name for one in deployments]
        found = {"deployments": names, "deployment_status": records}
        print(msgspec.json.encode(found).decode())
    else:
        from mrtd.cli.workload_tables import print_workloads  # noqa: PLC0415 - heavy

        print_workloads(records)
    return 0 if arguments.images is None else _exit_code(records)


def _deployments(arguments: argparse.Namespace) -> tuple[Deployment, ...]:
    from mrtd.images.health import read_health  # noqa: PLC0415 - heavy
    from mrtd.images.podman import PROGRAM, read_containers, running_containers  # noqa: PLC0415
    from mrtd.images.program import Program  # noqa: PLC0415

    if arguments.inspect is not None:
        return read_containers(_read(arguments.inspect, "--inspect"), origin="--inspect")
    if arguments.health is not None:
        return read_health(_read(arguments.health, "--health"), origin="--health").deployments
    return running_containers(Program.find(PROGRAM, arguments.podman))


def _read(path: Path, option: str) -> bytes:
    from mrtd.errors import SpecError  # noqa: PLC0415

    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(_SIZE_LIMIT + 1)
        with path.open("rb") as file:
            return file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", origin=str(path), field=option
        ) from error


def _statuses(
    arguments: argparse.Namespace, deployments: Sequence[Deployment]
) -> Sequence[ImageStatus]:
    from datetime import UTC, datetime  # noqa: PLC0415

    if arguments.images is None:
        from mrtd.images.status import Code, ImageStatus  # noqa: PLC0415

        now = datetime.now(UTC)
        unknown = ImageStatus(code=Code.NOT_CHECKED, reason=_UNCHECKED, checked_at=now)
        return [unknown for _ in deployments]
    from mrtd.cli.output import Progress  # noqa: PLC0415
    from mrtd.verifier.settings import FILE_VARIABLE  # noqa: PLC0415
    from mrtd.workloads.configured import configured_statuses  # noqa: PLC0415

    progress = Progress(quiet=arguments.json)
    progress("asking registries for signatures")
    try:
        policy = None
        if arguments.policy is not None or os.environ.get(FILE_VARIABLE):
            policy = options.appraisal_policy(arguments.policy, os.environ)
        statuses = configured_statuses(
            arguments.images,
            policy=policy,
            cosign=arguments.cosign,
            login=arguments.registry_login,
            checks=len(deployments),
        )
        return statuses.of(deployments)
    finally:
        progress.clear()


def _records(
    deployments: Sequence[Deployment], statuses: Sequence[ImageStatus]
) -> list[DeploymentStatus]:
    from mrtd.images.status import DeploymentStatus  # noqa: PLC0415

    pairs = zip(deployments, statuses, strict=True)
    return [DeploymentStatus.of(one, status) for one, status in pairs]


def _exit_code(records: Sequence[DeploymentStatus]) -> int:
    found = {str(record.attestation_status) for record in records}
    if "red" in found:
        return 1
    return 3 if "unknown" in found else 0
