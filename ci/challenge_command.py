"""``python -m ci challenge``: the hosted job asks."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.errors import InputError

if TYPE_CHECKING:
    from ci.crosscheck_launch import Launched
    from ci.ita_command import Outside
    from ci.ita_wire import Nonce

_DESCRIPTION: Final = """\
Write a challenge for a runner that is not trusted: for this run, this commit
and this launch spec. Its SHA-256 is printed; hand it on in the job's outputs.
"""
_EPILOG: Final = """\
The three verbs, each in a job of its own:
  hosted   python -m ci challenge launch.toml --out challenge.json
  TDX      python -m ci respond challenge.json launch.toml --out answer.zip
  hosted   python -m ci appraise challenge.json answer.zip --spec launch.toml \\
             --challenge-sha256 HEX --spent DIR --out outputs
  signing  python -m ci appraise --check-outputs outputs/appraisal.json \\
             --sha256 HEX

MRTD_CHALLENGE_KEY, if it is set, adds an HMAC; only hosted jobs may have it.
"""


@dataclass(frozen=True, slots=True)
class World:
    """What the verbs have from outside; tests give their own.

    Attributes:
        environment: settings, keys, and what GitHub says of the run.
        now: Unix time in seconds.
        ita: see `ci.ita_command`; None for the real one.
        launch: launches a TD for its evidence; None for the real one.
    """

    environment: Mapping[str, str]
    now: Callable[[], float] = time.time
    ita: Outside | None = None
    launch: Callable[..., Launched] | None = None


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "challenge",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("spec", metavar="SPEC", type=Path, help="launch.toml")
    verb.add_argument("--out", metavar="FILE", type=Path, required=True, help="the challenge")
    add_run_options(verb)
    verb.add_argument("--lifetime", metavar="SECONDS", type=int, default=3600, help="(3600)")
    verb.add_argument("--ita", action="store_true", help="with a nonce of Intel Trust Authority")
    verb.add_argument("--region", choices=("us", "eu"), default="us", help="of the ITA key")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)


def add_run_options(verb: argparse.ArgumentParser) -> None:
    """Which run and commit it is about."""
    verb.add_argument("--run-id", metavar="TEXT", help="(default: GitHub's, with the attempt)")
    verb.add_argument("--commit", metavar="HEX", help="(default: GITHUB_SHA)")


def run_and_commit(
    arguments: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[str, str]:
    """Options, else what GitHub says of this run. Raises `InputError`."""
    parts = [environment.get(f"GITHUB_{n}") for n in ("REPOSITORY", "RUN_ID", "RUN_ATTEMPT")]
    ours = "{}/{}@{}".format(*parts) if all(parts) else None
    run_id = arguments.run_id or ours
    commit = arguments.commit or environment.get("GITHUB_SHA")
    for option, value in (("--run-id", run_id), ("--commit", commit)):
        if not value:
            raise InputError("is needed outside of GitHub", origin="command line", field=option)
    return str(run_id), str(commit)


def run(arguments: argparse.Namespace, world: World | None = None) -> int:
    """Write a challenge and print its digest; the exit code."""
    from ci.challenge import challenge_key, challenge_sha256, new_challenge  # noqa: PLC0415
    from mrtd.cli.output import write_whole  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415

    world = world or World(os.environ)
    run_id, commit = run_and_commit(arguments, world.environment)
    read_spec_file(arguments.spec)
    document = new_challenge(
        run=run_id,
        commit=commit,
        spec=read_file(arguments.spec, key="SPEC"),
        now=world.now(),
        lifetime=arguments.lifetime,
        ita_nonce=_nonce(arguments, world) if arguments.ita else None,
        key=challenge_key(world.environment),
    )
    write_whole(arguments.out, document)
    digest = challenge_sha256(document)
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode({"challenge_sha256": digest}).decode())
    else:
        print(f"challenge_sha256={digest}")
    return 0


def _nonce(arguments: argparse.Namespace, world: World) -> Nonce:
    from ci.ita_command import real  # noqa: PLC0415
    from ci.ita_settings import endpoints  # noqa: PLC0415

    return (world.ita or real()).authority(
        endpoints(arguments.region, world.environment)
    ).nonce()  # fmt: skip
