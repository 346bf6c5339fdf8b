"""``python -m ci respond``: the runner with TDX launches, and answers."""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Final

from ci.challenge_command import World
from mrtd.errors import SpecError, VerificationError

_DESCRIPTION: Final = """\
Launch a TD for a challenge, and write its evidence: the answer. It needs no key,
and nothing of what it says is believed.
"""


class NotOurs(VerificationError):
    """The challenge cannot be answered with this spec, or not any more."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser("respond", help=summary, description=_DESCRIPTION)
    verb.add_argument("challenge", metavar="CHALLENGE", type=Path, help="of the hosted job")
    verb.add_argument("spec", metavar="SPEC", type=Path, help="launch.toml")
    verb.add_argument("--out", metavar="BUNDLE", type=Path, required=True, help="the answer")
    verb.add_argument("--qemu", metavar="PATH", type=Path, help="that launches")
    verb.add_argument("--timeout", metavar="SECONDS", type=float, default=300.0, help="(300)")
    verb.add_argument("--quiet", action="store_true", help="no progress")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace, world: World | None = None) -> int:
    """Launch and write the answer; the exit code."""
    from ci.challenge import SIZE_LIMIT, read_challenge, wanted_report_data  # noqa: PLC0415
    from ci.crosscheck_launch import launch_tdx  # noqa: PLC0415
    from mrtd.cli.output import Progress  # noqa: PLC0415
    from mrtd.evidence.bundle import bundle_of, write_bundle  # noqa: PLC0415
    from mrtd.evidence.manifest import SPEC  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415
    from mrtd.launch.spec import read_spec  # noqa: PLC0415

    world = world or World(os.environ)
    document = read_file(arguments.challenge, key="CHALLENGE")[: SIZE_LIMIT + 1]
    challenge = read_challenge(document, origin=str(arguments.challenge))
    spec = read_file(arguments.spec, key="SPEC")
    if hashlib.sha256(spec).hexdigest() != challenge.spec_sha256:
        raise NotOurs(f"the challenge is not about {arguments.spec}, byte for byte")
    if world.now() >= challenge.expires_at:
        raise NotOurs(f"the challenge has expired: {challenge.expires}")
    try:
        text = spec.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError("is not UTF-8", origin=str(arguments.spec)) from error
    progress = Progress(quiet=arguments.quiet)
    try:
        launched = (world.launch or launch_tdx)(
            read_spec(text, origin=str(arguments.spec)),
            arguments.spec.parent,
            qemu=arguments.qemu,
            timeout=arguments.timeout,
            report_data=wanted_report_data(document, challenge),
            progress=progress,
        )
    finally:
        progress.clear()
    write_bundle(bundle_of({**launched.bundle.files, SPEC: spec}), arguments.out)
    print(f"answered {challenge.run}: {arguments.out}")
    return 0
