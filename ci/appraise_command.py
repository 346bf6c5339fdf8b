"""``python -m ci appraise``: the hosted job verifies; the signing job hashes again."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.challenge_command import World, add_run_options, run_and_commit
from mrtd.errors import InputError

if TYPE_CHECKING:
    from ci.appraisal import Appraisal, Question
    from ci.appraise import AskIta, Hosted
    from ci.challenge import Challenge
    from ci.ita_check import RoundTrip
    from ci.ita_wire import Nonce
    from mrtd.cli.output import Progress
    from mrtd.evidence.quote import Quote
    from mrtd.verifier.policy import Policy

_DESCRIPTION: Final = """\
Verify a runner's answer to a challenge: that the challenge is ours, for this run,
commit and spec, in force and not answered before; that the quote is bound to it,
genuine (Intel Trust Authority, DCAP or both) and of a TD in good order; and that
its registers are those that are derived here. Write what a signing job may use.
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser("appraise", help=summary, description=_DESCRIPTION)
    verb.add_argument("challenge", metavar="CHALLENGE", type=Path, nargs="?")
    verb.add_argument("answer", metavar="ANSWER", type=Path, nargs="?")
    verb.add_argument("--spec", metavar="SPEC", type=Path, help="launch.toml of this checkout")
    verb.add_argument("--challenge-sha256", metavar="HEX", help="of the job that asked")
    verb.add_argument("--spent", metavar="DIR", type=Path, help="challenges that were answered")
    verb.add_argument("--out", metavar="DIR", type=Path, help="appraisal.json and what it names")
    add_run_options(verb)
    verb.add_argument("--policy", metavar="FILE", type=Path, help="of the control plane (TOML)")
    verb.add_argument("--collateral", metavar="FILE|DIR", type=Path, help="have DCAP verify it")
    verb.add_argument("--region", choices=("us", "eu"), default="us", help="of the ITA key")
    verb.add_argument("--qemu", metavar="PATH|none", help="the QEMU to ask for ACPI tables")
    verb.add_argument("--shape", metavar="NAME", default="default", help="of the launch")
    verb.add_argument("--check-outputs", metavar="FILE", type=Path, help="hash again, no more")
    verb.add_argument("--sha256", metavar="HEX", help="of that appraisal, from the job's outputs")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--quiet", action="store_true", help="no progress")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace, world: World | None = None) -> int:
    """Appraise, or check an appraisal's outputs; the exit code."""
    from mrtd.cli.output import Progress  # noqa: PLC0415

    if arguments.check_outputs is not None:
        return _check(arguments)
    needed = {
        "CHALLENGE": arguments.challenge,
        "ANSWER": arguments.answer,
        "--spec": arguments.spec,
        "--spent": arguments.spent,
        "--out": arguments.out,
    }
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise InputError("must be given", origin="command line", field=", ".join(missing))
    progress = Progress(quiet=arguments.quiet or arguments.json)
    try:
        return _Job(arguments, world or World(os.environ), progress).run()
    finally:
        progress.clear()


def _check(arguments: argparse.Namespace) -> int:
    from ci.appraisal import SIZE_LIMIT, check_outputs  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    path: Path = arguments.check_outputs
    if not arguments.sha256:
        raise InputError("must be given", origin="command line", field="--sha256")
    data = read_file(path, key="--check-outputs")[: SIZE_LIMIT + 1]
    for name in check_outputs(data, path.parent, sha256=arguments.sha256):
        print(f"{'MATCH':8} {name}")
    return 0


class _Job:
    def __init__(self, arguments: argparse.Namespace, world: World, progress: Progress) -> None:
        self.arguments, self.world, self.progress = arguments, world, progress
        self.trips: list[RoundTrip] = []
        self.policy = self._policy()

    def run(self) -> int:
        from ci.appraise import appraise  # noqa: PLC0415
        from ci.challenge import SIZE_LIMIT, read_challenge  # noqa: PLC0415
        from mrtd.launch.inputs import read_file  # noqa: PLC0415

        arguments = self.arguments
        document = read_file(arguments.challenge, key="CHALLENGE")[: SIZE_LIMIT + 1]
        challenge = read_challenge(document, origin=str(arguments.challenge))
        answer = read_file(arguments.answer, key="ANSWER")
        hosted = self._hosted()
        self.progress("appraising")
        questions = appraise(challenge, document, answer, hosted)
        accepted = all(one.passed for one in questions)
        files = self._files(answer, hosted) if accepted else {}
        appraisal = self._appraisal(challenge, document, answer, questions, files)
        digest = self._write(appraisal, files)
        self._print(appraisal, digest)
        return appraisal.exit_code

    def _hosted(self) -> Hosted:
        from ci.appraise import Hosted  # noqa: PLC0415
        from ci.challenge import challenge_key  # noqa: PLC0415
        from mrtd.evidence.collateral import load_collateral  # noqa: PLC0415
        from mrtd.launch.inputs import read_file  # noqa: PLC0415
        from mrtd.launch.spec import read_spec_file  # noqa: PLC0415
        from mrtd.measure import MeasureOptions, measure  # noqa: PLC0415

        arguments, world = self.arguments, self.world
        run_id, commit = run_and_commit(arguments, world.environment)
        ask = arguments.qemu != "none"
        qemu = Path(arguments.qemu) if ask and arguments.qemu else None
        path: Path = arguments.spec
        options = MeasureOptions(qemu=qemu, ask_qemu=ask)
        given = arguments.collateral
        return Hosted(
            run=run_id,
            commit=commit,
            spec=read_file(path, key="--spec"),
            derivation=measure(read_spec_file(path), path.parent, options, progress=self.progress),
            policy=self.policy,
            now=world.now(),
            spent=arguments.spent,
            digest=arguments.challenge_sha256,
            key=challenge_key(world.environment),
            ask_ita=self._ask_ita(),
            collateral=None if given is None else load_collateral(given),
            root_ca=None if world.ita is None else world.ita.root_ca,
        )

    def _policy(self) -> Policy:
        """The control plane's; who signs is nothing that is asked here."""
        from mrtd.verifier.policy import IdentityPolicy, Policy  # noqa: PLC0415
        from mrtd.verifier.settings import read_policy, read_policy_file  # noqa: PLC0415

        path: Path | None = self.arguments.policy
        if path is not None:
            return read_policy(read_policy_file(path), origin=str(path))
        return Policy(identity=IdentityPolicy(repository_id="1", owner_id="1"))

    def _ask_ita(self) -> AskIta | None:
        """The round trip with the key that only this job has; None without a key."""
        from ci.ita_check import check_round_trip  # noqa: PLC0415
        from ci.ita_command import real  # noqa: PLC0415
        from ci.ita_settings import KEY_VARIABLES, endpoints  # noqa: PLC0415

        environment = self.world.environment
        if not any(environment.get(name) for name in KEY_VARIABLES):
            return None
        where = endpoints(self.arguments.region, environment)
        outside = self.world.ita or real()
        authority = outside.authority(where)

        def ask(quote: Quote, data: bytes, nonce: Nonce | None) -> RoundTrip:
            self.progress("asking Intel Trust Authority")
            trip = check_round_trip(
                authority.attest(quote.raw, nonce=nonce, data=data),
                quote,
                where=where,
                keys=outside.keys(where, authority),
                now=self.world.now(),
                nonce=nonce,
                data=data,
                accepted=frozenset(self.policy.tcb.statuses),
            )
            self.trips.append(trip)
            return trip

        return ask

    def _files(self, answer: bytes, hosted: Hosted) -> dict[str, bytes]:
        """What a signing job may use: what was derived here, and what came of the checks."""
        from ci.appraise_outputs import outputs_of  # noqa: PLC0415

        trip = self.trips[-1] if self.trips else None
        return outputs_of(answer, hosted, trip, shape=self.arguments.shape)

    def _appraisal(
        self,
        challenge: Challenge,
        document: bytes,
        answer: bytes,
        questions: tuple[Question, ...],
        files: dict[str, bytes],
    ) -> Appraisal:
        from ci.appraisal import SCHEMA, Appraisal, output  # noqa: PLC0415

        return Appraisal(
            schema=SCHEMA,
            accepted=all(one.passed for one in questions),
            run=challenge.run,
            commit=challenge.commit,
            spec_sha256=challenge.spec_sha256,
            challenge_sha256=hashlib.sha256(document).hexdigest(),
            answer_sha256=hashlib.sha256(answer).hexdigest(),
            created=datetime.fromtimestamp(self.world.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            questions=questions,
            outputs=tuple(output(name, data) for name, data in files.items()),
        )

    def _write(self, appraisal: Appraisal, files: dict[str, bytes]) -> str:
        from ci.appraisal import encode_appraisal  # noqa: PLC0415
        from mrtd.cli.output import write_whole  # noqa: PLC0415

        folder: Path = self.arguments.out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"cannot be made: {error.strerror}"
            raise InputError(text, origin=str(folder), field="--out") from error
        data = encode_appraisal(appraisal)
        for name, content in {**files, "appraisal.json": data}.items():
            write_whole(folder / name, content)
        return hashlib.sha256(data).hexdigest()

    def _print(self, appraisal: Appraisal, digest: str) -> None:
        self.progress.clear()
        if self.arguments.json:
            from mrtd.document import encode  # noqa: PLC0415

            found = {"appraisal_sha256": digest, "appraisal": appraisal}
            sys.stdout.write(encode(found).decode())
            return
        for one in appraisal.questions:
            if not one.passed:
                print(f"{'refused':8} {one.name}: {one.text} ({one.reason})")
        passed = sum(one.passed for one in appraisal.questions)
        print(f"{passed} of {len(appraisal.questions)} questions are passed")
        print("accepted" if appraisal.accepted else f"not accepted: {', '.join(appraisal.reasons)}")
        print(f"appraisal_sha256={digest}")
