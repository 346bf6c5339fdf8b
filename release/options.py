"""The command line of the release jobs: what can be asked, and how it is read."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import Final, get_args

from mrtd.errors import TokenError
from mrtd.reference import BitRule, ReleaseRef
from mrtd.reference.fields import ConfirmationKind
from release import image_command, policy_command
from release.channel import ANEW, Anew
from release.oidc import refuse_token_itself

_EPILOG: Final = """\
exit codes:
  0  done                                  2  wrong usage or bad input
  1  refused, or something has ended       3  could not be checked

Tokens come from the environment (GITHUB_TOKEN and what GitHub Actions gives to
a job with `id-token: write`), never from the command line. docs/release.md
explains what is refused and why.
"""
_NEXT: Final = re.compile(r"([!-~]{1,200})=([0-9a-f]{40}):([1-9][0-9]{0,15})")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m release",
        description="Sign what was measured, publish it, and look after it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    _attest(verbs.add_parser("attest", help="sign and publish the measurements of a release"))
    _revoke(verbs.add_parser("revoke", help="take back a launch, a firmware or a release"))
    _status(verbs.add_parser("status", help="what is attested, current, retired, revoked"))
    _recheck(verbs.add_parser("recheck", help="does the latest release still hold, how long?"))
    image_command.add(verbs.add_parser("image", help="build, sign and check our container images"))
    policy_command.add(verbs.add_parser("policy", help="which images may run in a guest"))
    return top


def _attest(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "documents",
        nargs="+",
        type=_document,
        metavar="DOC",
        help="measurement document (mrtd measure --json), or SHAPE=FILE",
    )
    verb.add_argument("--tag", type=_tag, required=True, help="of the release")
    verb.add_argument(
        "--commit", metavar="SHA", help="that is released; GITHUB_SHA or HEAD by default"
    )
    verb.add_argument(
        "--artifact", dest="artifacts", action="append", default=[], type=Path, metavar="FILE",
        help="file of the release that is to lead to its measurements (image, UKI, firmware)",
    )  # fmt: skip
    verb.add_argument(
        "--result", dest="results", action="append", default=[], type=Path, metavar="FILE",
        help="result document of a cross-check",
    )  # fmt: skip
    verb.add_argument(
        "--accept-unmeasured", dest="accepted", action="append", default=[], type=_acceptance,
        metavar="INPUT=REASON", help="release although no register covers the input",
    )  # fmt: skip
    verb.add_argument(
        "--require-confirmation", dest="confirmations", action="append", default=[],
        choices=get_args(ConfirmationKind), metavar="KIND",
        help="refuse launches without this check: %(choices)s",
    )  # fmt: skip
    verb.add_argument("--evidence", type=Path, metavar="BUNDLE", help="archive it, redacted")
    verb.add_argument(
        "--full-evidence", metavar="NAME",
        help="keep the full bundle too, under this name; an asset only of a private repository",
    )  # fmt: skip
    verb.add_argument("--xfam", type=_bits, metavar="VALUE/MASK", help="demanded bits, 16 hex each")
    verb.add_argument(
        "--keep", type=_count, default=1, metavar="N", help="releases before it that may still run"
    )
    verb.add_argument(
        "--next", dest="coming", action="append", default=[], type=_ref,
        metavar="TAG=COMMIT:SEQUENCE", help="a release that is about to become current",
    )  # fmt: skip
    verb.add_argument(
        "--replace-assets", action="store_true", help="replace assets that have another content"
    )
    _signing(verb)
    _common(verb)


def _revoke(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--mrtd", dest="mrtds", action="append", default=[], type=_mrtd,
                      metavar="HEX", help="a firmware, on every image and machine")  # fmt: skip
    verb.add_argument("--launch", dest="launches", action="append", default=[], type=_launch,
                      metavar="DIGEST", help="a tdx-launch digest")  # fmt: skip
    verb.add_argument("--release-tag", dest="tags", action="append", default=[], metavar="TAG",
                      help="a release, with all its launches")  # fmt: skip
    verb.add_argument("--commit", dest="commits", action="append", default=[], type=_commit,
                      metavar="SHA", help="likewise, by commit")  # fmt: skip
    verb.add_argument("--at", dest="commit", metavar="SHA",
                      help="commit of this document; GITHUB_SHA or HEAD by default")  # fmt: skip
    verb.add_argument("--reason", type=_reason, required=True, help="for whoever is refused")
    _signing(verb)
    _common(verb)


def _status(verb: argparse.ArgumentParser) -> None:
    _common(verb)


def _recheck(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--evidence", type=Path, metavar="FILE", help="full evidence of the release")
    verb.add_argument("--collateral", type=Path, metavar="PATH", help="for its quote, of today")
    verb.add_argument("--early-collateral", type=Path, metavar="PATH", help="Intel's early set")
    verb.add_argument("--root-ca", type=Path, metavar="DER", help="instead of Intel's: for tests")
    verb.add_argument("--min-days", type=_count, default=14, metavar="N",
                      help="fail if something ends sooner")  # fmt: skip
    _common(verb)


def _signing(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--identity-token", type=_identity_token, metavar="FILE",
        help="file with an OIDC token, or env:NAME; GitHub's for this job by default",
    )  # fmt: skip
    verb.add_argument("--out", type=Path, default=Path("release-out"), metavar="DIR",
                      help="where files are written (%(default)s)")  # fmt: skip
    verb.add_argument("--cosign", type=_program, metavar="PATH", help="for a second opinion")
    verb.add_argument("--dry-run", action="store_true", help="do all but sign and upload")


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--repository", metavar="OWNER/NAME", help="GITHUB_REPOSITORY by default")
    verb.add_argument("--policy", type=Path, metavar="TOML", help="of the control planes")
    verb.add_argument("--trust-config", type=Path, metavar="FILE",
                      help="client trust config of another Sigstore instance")  # fmt: skip
    verb.add_argument(
        "--previous", type=_previous, metavar="FILE|none",
        help="bundle of the newest release; its GitHub release's asset by default",
    )  # fmt: skip
    verb.add_argument("--json", action="store_true", help="JSON on stdout")


def _document(text: str) -> tuple[str | None, Path]:
    shape, equals, path = text.partition("=")
    return (shape, Path(path)) if equals else (None, Path(text))


def _tag(text: str) -> str:
    if re.fullmatch("[!-~]{1,200}", text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no tag: 1 to 200 printable ASCII characters without blanks"
        )
    return text


def _reason(text: str) -> str:
    if not text.strip() or len(text) > 4096 or not text.isprintable():
        raise argparse.ArgumentTypeError("is one line of text that says why, not empty")
    return text.strip()


def _identity_token(text: str) -> str:
    try:
        refuse_token_itself(text)
    except TokenError as error:
        raise argparse.ArgumentTypeError(str(error.hint)) from None
    return text


def _program(text: str) -> Path:
    if shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no program that can be run")
    return Path(text)


def _acceptance(text: str) -> tuple[str, str]:
    name, equals, reason = text.partition("=")
    if not equals or not name or not reason.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form INPUT=REASON")
    return name, reason.strip()


def _ref(text: str) -> ReleaseRef:
    found = _NEXT.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form TAG=COMMIT:SEQUENCE")
    return ReleaseRef(tag=found[1], commit=found[2], sequence=int(found[3]))


def _bits(text: str) -> BitRule:
    value, _, mask = text.lower().partition("/")
    if not all(re.fullmatch("[0-9a-f]{16}", part) for part in (value, mask)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form VALUE/MASK, 16 digits each")
    return BitRule(value=value, mask=mask)


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 999999")
    return int(text)


def _previous(text: str) -> Path | Anew:
    return ANEW if text == ANEW else Path(text)


def _mrtd(text: str) -> str:
    return _hex(text, 96)


def _launch(text: str) -> str:
    return _hex(text, 64)


def _commit(text: str) -> str:
    return _hex(text, 40)


def _hex(text: str, digits: int) -> str:
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", text.lower()):
        raise argparse.ArgumentTypeError(f"{digits} hex digits are needed")
    return text.lower()
