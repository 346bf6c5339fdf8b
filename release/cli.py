"""``python -m release``: attest, revoke, status, recheck, image, policy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TextIO

from mrtd.cli.output import Progress
from mrtd.errors import MrtdError, SpecError
from release import image_command, policy_command
from release.attest import Request, attest
from release.channel import BUNDLE
from release.job import Job
from release.options import parser
from release.output import (
    as_json,
    error_json,
    of_attest,
    of_recheck,
    of_revoke,
    of_status,
    write_outputs,
)
from release.recheck import RecheckRequest, recheck
from release.revoke import RevokeRequest, revoke
from release.statement import DOCUMENT
from release.status import StatusRequest, status

_Run = Callable[[Job, argparse.Namespace], tuple[int, str, object]]


def main(
    argv: list[str] | None = None,
    *,
    job: Job | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run a command line; the exit code.

    Args:
        argv: words; those of the process by default.
        job: what comes from outside; by default the real world.
        stdout: for the summary, or JSON.
        stderr: for progress and errors.
    """
    arguments = parser().parse_args(argv)
    out, err = stdout or sys.stdout, stderr or sys.stderr
    progress = Progress(quiet=False, stream=err)
    given = replace(job or Job(), progress=progress)
    try:
        code, text, report = _RUNS[arguments.verb](given, arguments)
    except MrtdError as error:
        progress.clear()
        _report(error, out if arguments.json else None, err)
        return error.exit_code
    except KeyboardInterrupt:
        progress.clear()
        err.write("release: interrupted; running the same command again goes on\n")
        return 130
    progress.clear()
    out.write(f"{as_json(report)}\n" if arguments.json else text)
    return code


def _report(error: MrtdError, out: TextIO | None, err: TextIO) -> None:
    err.write(f"release: error: {error.message}\n")
    if error.hint:
        err.write(f"release: hint: {error.hint}\n")
    if out is not None:
        out.write(f"{as_json(error_json(error))}\n")


def _attest(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    report = attest(
        job,
        Request(
            documents=tuple(given.documents),
            tag=given.tag,
            out=given.out,
            artifacts=tuple(given.artifacts),
            results=tuple(given.results),
            accepted=_accepted(given.accepted),
            confirmations=tuple(given.confirmations),
            evidence=given.evidence,
            full_evidence=given.full_evidence,
            repository=given.repository,
            commit=given.commit,
            policy=given.policy,
            identity_token=given.identity_token,
            trust_config=given.trust_config,
            previous=given.previous,
            keep=given.keep,
            coming=tuple(given.coming),
            xfam=given.xfam,
            dry_run=given.dry_run,
            replace_assets=given.replace_assets,
            cosign=given.cosign,
        ),
    )
    paths = {path.name: path for path in report.files.values()}
    write_outputs(
        job.environ,
        {
            "document": paths.get(DOCUMENT, ""),
            "bundle": paths.get(BUNDLE, ""),
            "sequence": report.values.release.sequence,
            "signer": report.signer,
        },
    )
    return 0, of_attest(report), report


def _revoke(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    request = RevokeRequest(
        reason=given.reason,
        out=given.out,
        mrtds=tuple(given.mrtds),
        launches=tuple(given.launches),
        tags=tuple(given.tags),
        commits=tuple(given.commits),
        repository=given.repository,
        commit=given.commit,
        policy=given.policy,
        identity_token=given.identity_token,
        trust_config=given.trust_config,
        previous=given.previous,
        dry_run=given.dry_run,
        cosign=given.cosign,
    )
    if not (given.mrtds or given.launches or given.tags or given.commits):
        raise SpecError(
            "names nothing to revoke",
            origin="revoke",
            hint="--mrtd, --launch, --release-tag or --commit",
        )
    report = revoke(job, request)
    bundle = next(iter(report.files.values()), "")
    write_outputs(job.environ, {"bundle": bundle, "signer": report.signer})
    return 0, of_revoke(report), report


def _status(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    found = status(
        job,
        StatusRequest(
            repository=given.repository,
            policy=given.policy,
            trust_config=given.trust_config,
            previous=given.previous,
        ),
    )
    return 0, of_status(found), found


def _recheck(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    found = recheck(
        job,
        RecheckRequest(
            repository=given.repository,
            policy=given.policy,
            trust_config=given.trust_config,
            previous=given.previous,
            evidence=given.evidence,
            collateral=given.collateral,
            early_collateral=given.early_collateral,
            root_ca=given.root_ca,
            minimum_days=given.min_days,
        ),
    )
    return (0 if found.ok else 1), of_recheck(found), found


def _accepted(pairs: list[tuple[str, str]]) -> dict[str, str]:
    if len(dict(pairs)) != len(pairs):
        raise SpecError("names an input twice", origin="--accept-unmeasured")
    return dict(pairs)


_RUNS: Final[dict[str, _Run]] = {
    "attest": _attest,
    "revoke": _revoke,
    "status": _status,
    "recheck": _recheck,
    "image": image_command.run,
    "policy": policy_command.run,
}
