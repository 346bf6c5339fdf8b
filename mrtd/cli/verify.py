"""``mrtd verify``: what a control plane would answer, asked by a person."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.cli import options

if TYPE_CHECKING:
    from mrtd.cli.verify_inputs import Answer
    from mrtd.verifier.policy import Policy

_DESCRIPTION: Final = """\
Would a control plane with this policy let that VM in? Each INPUT is a token of
Intel Trust Authority (- for standard input), a TDX quote, an evidence bundle
(its token, or else its quote), or a measurement document; what it is follows
from its content.

A measurement document is no VM: of it is asked whether a release attested
exactly these registers. No TD was verified then, and the answer says so.
"""
_EPILOG: Final = """\
settings: DD_TRUSTED_REPO_ID and DD_TRUSTED_OWNER_ID have to be set, here or in
the policy; others of docs/policy.md may be. DD_GITHUB_TOKEN (or GITHUB_TOKEN)
is for lookups.

examples:
  gh api repos/devopsdefender/dd --jq '.id, .owner.id'        the two ids
  mrtd verify token.jwt --policy policy.toml --report-data 64...bytes
  mrtd verify quote.bin --collateral collateral.json --binding none
  mrtd verify boot.zip --collateral collateral/ --binding none --json
  mrtd measure launch.toml --json | mrtd verify -      is this image attested?
  mrtd verify token.jwt --binding none --offline --jwks certs.json \\
      --bundle release.sigstore.json

--binding none: nobody has checked that the evidence is that of who presents it.
--offline: no socket is opened; what GitHub lists now, a revocation above all,
is not known. The keys of the token issuer come from --jwks then.

exit codes:
  0  admitted (all of them)        2  bad input or usage
  1  refused                       3  could not be checked
  141  whoever reads the output has gone
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "verify",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("inputs", metavar="INPUT", nargs="+", help="what is to be verified")
    verb.add_argument(
        "--policy", metavar="FILE", type=Path,
        help="policy in TOML (default: $DD_TRUSTED_POLICY); DD_TRUSTED_... variables go over it",
    )  # fmt: skip
    verb.add_argument(
        "--bundle", metavar="FILE", type=Path, action="append", default=[], dest="bundles",
        help="Sigstore bundle, as an agent presents it; with a policy that demands GitHub's list "
        "(lookup.github), only --offline lets it decide",
    )  # fmt: skip
    bound = verb.add_mutually_exclusive_group()
    bound.add_argument(
        "--binding", choices=("none",), help="do not check for whom the evidence was made"
    )
    bound.add_argument(
        "--report-data", metavar="HEX", type=_report_data,
        help="the 64 bytes that bind the evidence to its presenter",
    )  # fmt: skip
    verb.add_argument(
        "--collateral", metavar="FILE", type=Path, help="for quotes: JSON file, or folder"
    )
    verb.add_argument(
        "--jwks", metavar="FILE", type=Path, help="keys of the token issuer, instead of asking it"
    )
    verb.add_argument("--offline", action="store_true", help="open no socket")
    options.add_network(verb)
    verb.add_argument(
        "--now", metavar="TIME", type=options.time, help="the time (RFC 3339), not now"
    )
    verb.add_argument("--json", action="store_true", help="print JSON, with all values whole")
    verb.set_defaults(run=run)


def _report_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 64 or not any(data):
        raise argparse.ArgumentTypeError("is not 64 bytes in hex, or all zero")
    return data


def run(arguments: argparse.Namespace) -> int:
    """Verify and print; the exit code of the worst verdict."""
    from mrtd.cli.verify_inputs import Asker, read_input  # noqa: PLC0415

    policy = _policy(arguments.policy)
    found = [read_input(name) for name in arguments.inputs]
    asker = Asker(
        policy,
        fetch=None if arguments.offline else options.fetch_of(arguments),
        binding=arguments.binding or arguments.report_data,
        bundles=arguments.bundles,
        collateral=arguments.collateral,
        jwks=arguments.jwks,
        now=arguments.now,
        github_token=os.environ.get("DD_GITHUB_TOKEN") or os.environ.get("GITHUB_TOKEN") or None,
    )
    answers = [asker.ask(one) for one in found]
    if arguments.json:
        from mrtd.cli.verify_tables import to_json  # noqa: PLC0415
        from mrtd.document import encode  # noqa: PLC0415

        document = to_json(answers, asker.sources, policy, asker.now)
        sys.stdout.write(encode(document).decode())
    else:
        from mrtd.cli.verify_tables import print_answers  # noqa: PLC0415

        print_answers(answers, asker.sources, policy, asker.now)
    return _exit_code(answers)


def _policy(file: Path | None) -> Policy:
    from mrtd.cli.options import appraisal_policy  # noqa: PLC0415

    return appraisal_policy(file, os.environ)


def _exit_code(answers: list[Answer]) -> int:
    """A refusal is an answer; where there is none, "not known" comes before "admitted"."""
    refused = [one.verdict.reason for one in answers if not one.verdict.allowed]
    if not refused:
        return 0
    return 3 if all(reason is None or reason.could_not_check for reason in refused) else 1
