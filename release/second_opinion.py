"""What cosign says of a bundle: another implementation, in another language, of the same checks.

Any cosign that can verify by digest will do: Debian's does not know its own version, so it is asked
for its options. Its environment has nothing of ours: variables such as ``SIGSTORE_ROOT_FILE``,
``SIGSTORE_REKOR_PUBLIC_KEY``, ``TUF_MIRROR`` or ``COSIGN_REPOSITORY`` would change whom it trusts,
and ``ACTIONS_ID_TOKEN_REQUEST_TOKEN`` is none of its business.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mrtd.errors import MrtdError
from mrtd.qemu.process import Process, running

PROGRAM: Final = "cosign"
COMMAND: Final = "verify-blob-attestation"
_CONFIRMED: Final = "Verified OK"
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_OPTIONS: Final = (
    "--bundle",
    "--trusted-root",
    "--certificate-identity",
    "--certificate-oidc-issuer",
    "--type",
    "--digest",  # absent before 3
    "--digestAlg",
)


class Outcome(StrEnum):
    """What came of asking."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What another program says of a bundle.

    Attributes:
        outcome: the answer.
        detail: for people: what it said, or why it was not asked.
        program: the program's path; None without one.
        program_sha256: of the program, hex: Debian's cosign names no version.
        confirmed: SHA-256 digests of subjects that it confirmed.
    """

    outcome: Outcome
    detail: str
    program: Path | None = None
    program_sha256: str | None = None
    confirmed: tuple[str, ...] = ()


def find_cosign(explicit: Path | None = None) -> Path | None:
    """The program: the one given, or that on the search path; None without one."""
    found = shutil.which(str(explicit) if explicit is not None else PROGRAM)
    return None if found is None else Path(found).resolve()


def ask_cosign(
    bundle: bytes,
    *,
    trusted_root: bytes,
    identity: str,
    issuer: str,
    predicate_type: str,
    digests: Iterable[str],
    cosign: Path | None = None,
    seconds: float = 120,
    steady: Callable[[], float] = time.monotonic,
) -> SecondOpinion:
    """Have cosign verify a bundle offline, for every one of its subjects. Never raises.

    Args:
        bundle: the bundle, JSON.
        trusted_root: ``trusted_root.json`` of its Sigstore instance.
        identity: the certificate's SAN, as it has to be.
        issuer: who issued the token, likewise.
        predicate_type: what the statement is.
        digests: SHA-256 of the subjects, hex.
        cosign: the program; not given, the one on the search path.
        seconds: for all of it.
        steady: seconds that only go forward.
    """
    program = find_cosign(cosign)
    if program is None:
        return _not_checked(f"{cosign or PROGRAM} is not installed (apt-get install cosign)")
    wanted = tuple(dict.fromkeys(digests))
    if not wanted or not all(_HEX_DIGEST.fullmatch(digest) for digest in wanted):
        return _not_checked("the statement has no subject with a SHA-256 digest", program)
    question = _Question(program, bundle, trusted_root, identity, issuer, predicate_type)
    try:
        return question.ask(wanted, steady() + seconds, steady)
    except (MrtdError, OSError) as error:
        return _not_checked(f"{PROGRAM} could not be run: {error}", program)


@dataclass(frozen=True, slots=True)
class _Question:
    program: Path
    bundle: bytes
    trusted_root: bytes
    identity: str
    issuer: str
    predicate_type: str

    def ask(
        self, digests: tuple[str, ...], end: float, steady: Callable[[], float]
    ) -> SecondOpinion:
        """The answer about all digests; the first one that is not confirmed ends it."""
        with self.program.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        confirmed: list[str] = []

        def opinion(outcome: Outcome, detail: str) -> SecondOpinion:
            return SecondOpinion(outcome, detail, self.program, sha256, tuple(confirmed))

        if missing := self._missing_options(end - steady()):
            return opinion(Outcome.NOT_CHECKED, missing)
        for digest in digests:
            outcome, detail = self._verify(digest, end - steady())
            if outcome is not Outcome.AGREES:
                return opinion(outcome, detail)
            confirmed.append(digest)
        return opinion(Outcome.AGREES, f"{_CONFIRMED}: {len(digests)} subjects")

    def _missing_options(self, seconds: float) -> str:
        """Why this cosign cannot be asked; empty if it can."""
        with running([str(self.program), COMMAND, "--help"]) as process:
            if not process.wait(seconds):
                return "it did not answer --help in time"
            status = process.kill()
            # Help goes to stdout or stderr, depending on the version.
            words = set(re.findall(r"--[A-Za-z-]+", _said(process)))
        missing = [option for option in _OPTIONS if option not in words]
        if status != 0 or missing:
            return f"it is too old: {COMMAND} has no {', '.join(missing) or 'help'} (3 has it)"
        return ""

    def _verify(self, digest: str, seconds: float) -> tuple[Outcome, str]:
        files = {"bundle.json": self.bundle, "trusted_root.json": self.trusted_root}
        options = {
            "bundle": "bundle.json",
            "trusted-root": "trusted_root.json",
            "certificate-identity": self.identity,
            "certificate-oidc-issuer": self.issuer,
            "type": self.predicate_type,
            "digest": digest,
            "digestAlg": "sha256",
        }
        # With "=", a value that begins with a dash is no option.
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with running([str(self.program), COMMAND, *arguments], files=files) as process:
            if not process.wait(seconds):
                return Outcome.NOT_CHECKED, "it gave no answer in time"
            status, said = process.kill(), _said(process)
        if status == 0 and _CONFIRMED in said:
            return Outcome.AGREES, _CONFIRMED
        told = f"subject {digest}: exit status {status}: {_short(said)}"
        # 1 is its "no"; 2 is a Go panic, a negative one a signal, 0 without the words is another
        # program of that name.
        return (Outcome.DISAGREES if status == 1 else Outcome.NOT_CHECKED), told


def _said(process: Process) -> str:
    return process.output("stdout") + "\n" + process.output("stderr")


def _short(said: str) -> str:
    """One printable line; cosign says every error twice."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith("error during command execution:")]
    text = "; ".join(kept or lines)
    return "".join(c if c.isprintable() else "?" for c in text)[:400] or "nothing"


def _not_checked(detail: str, program: Path | None = None) -> SecondOpinion:
    return SecondOpinion(Outcome.NOT_CHECKED, detail, program)
