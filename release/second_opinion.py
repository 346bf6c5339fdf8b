"""What cosign says of a bundle: another implementation, in another language, of the same checks.

Any cosign that can verify by digest will do; `mrtd.images` says how it is run.
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
from mrtd.images.cosign import CONFIRMED, PROGRAM, Cosign
from mrtd.images.outcome import Identity
from mrtd.images.program import Program

_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


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
    asked = Cosign(Program(program, seconds))
    question = _Question(asked, bundle, trusted_root, Identity(identity, issuer), predicate_type)
    try:
        return question.ask(wanted, steady() + seconds, steady)
    except (MrtdError, OSError) as error:
        return _not_checked(f"{PROGRAM} could not be run: {error}", program)


@dataclass(frozen=True, slots=True)
class _Question:
    cosign: Cosign
    bundle: bytes
    trusted_root: bytes
    identity: Identity
    predicate_type: str

    def ask(
        self, digests: tuple[str, ...], end: float, steady: Callable[[], float]
    ) -> SecondOpinion:
        """The answer about all digests; the first one that is not confirmed ends it."""
        program = self.cosign.program.path
        with program.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        confirmed: list[str] = []

        def opinion(outcome: Outcome, detail: str) -> SecondOpinion:
            return SecondOpinion(outcome, detail, program, sha256, tuple(confirmed))

        for digest in digests:
            outcome, detail = self._verify(digest, end - steady())
            if outcome is not Outcome.AGREES:
                return opinion(outcome, detail)
            confirmed.append(digest)
        return opinion(Outcome.AGREES, f"{CONFIRMED}: {len(digests)} subjects")

    def _verify(self, digest: str, seconds: float) -> tuple[Outcome, str]:
        said = self.cosign.check_bundle(
            self.bundle,
            digest,
            self.identity,
            trusted_root=self.trusted_root,
            predicate_type=self.predicate_type,
            seconds=seconds,
        )
        if said.status == 0 and CONFIRMED in said.stderr:
            return Outcome.AGREES, CONFIRMED
        told = f"subject {digest}: exit status {said.status}: {said.short}"
        # 1 is its "no"; 2 is a Go panic, a negative one a signal, 0 without the words is another
        # program of that name.
        return (Outcome.DISAGREES if said.status == 1 else Outcome.NOT_CHECKED), told


def _not_checked(detail: str, program: Path | None = None) -> SecondOpinion:
    return SecondOpinion(Outcome.NOT_CHECKED, detail, program)
