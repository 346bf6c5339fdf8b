"""What a hosted job found out about a runner's answer (``mrtd.appraisal/1``), and its outputs.

The document names, by size and SHA-256, every file that a signing job may consume. That job has the
document's own digest from the hosted job's outputs, and hashes the files again: `check_outputs`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from mrtd.errors import InputError, VerificationError
from mrtd.printable import printable
from mrtd.reference.fields import CommitHex, Instant, Name, Object, Sha256Hex, Size, Text
from mrtd.reference.strict_json import canonical, convert, read_json
from mrtd.verifier.verdict import Reason

SCHEMA: Final = "mrtd.appraisal/1"
SIZE_LIMIT: Final = 1 << 20
_TEXT_LIMIT: Final = 500


class Refusal(StrEnum):
    """Why an answer is not accepted, beside the reasons of `mrtd.verifier.verdict.Reason`."""

    CHALLENGE_FORGED = "challenge_forged"
    CHALLENGE_NOT_YET_VALID = "challenge_not_yet_valid"
    CHALLENGE_EXPIRED = "challenge_expired"
    CHALLENGE_USED = "challenge_used"
    OTHER_RUN = "other_run"
    OTHER_COMMIT = "other_commit"
    OTHER_SPEC = "other_spec"
    ANSWER_MALFORMED = "answer_malformed"
    ANSWER_REDACTED = "answer_redacted"
    ANSWER_INCOMPLETE = "answer_incomplete"
    NOT_BOUND = "not_bound"
    TOKEN_OF_ANOTHER_QUOTE = "token_of_another_quote"  # noqa: S105 - no secret
    LOG_DIFFERS = "log_differs"
    REGISTERS_DIFFER = "registers_differ"
    # could not be checked
    REGISTER_UNPINNED = "register_unpinned"
    NOT_APPRAISED = "not_appraised"

    @property
    def could_not_check(self) -> bool:
        """Whether the answer is not known, rather than no."""
        return self in {Refusal.REGISTER_UNPINNED, Refusal.NOT_APPRAISED}


class Question(Object, frozen=True):
    """One question, and its answer; ``reason`` is null exactly where it is passed."""

    name: Name
    passed: bool
    reason: Name | None
    text: Text


class Output(Object, frozen=True):
    """A file that a signing job may consume."""

    name: Name
    size: Size
    sha256: Sha256Hex


class Appraisal(Object, frozen=True):
    """The outcome; ``accepted`` means that every question was passed."""

    schema: Literal["mrtd.appraisal/1"]
    accepted: bool
    run: Text
    commit: CommitHex
    spec_sha256: Sha256Hex
    challenge_sha256: Sha256Hex
    answer_sha256: Sha256Hex
    created: Instant
    questions: tuple[Question, ...]
    outputs: tuple[Output, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not accepted, each once."""
        return tuple(dict.fromkeys(q.reason for q in self.questions if q.reason is not None))

    @property
    def exit_code(self) -> int:
        """0 accepted; 1 refused; 3 if all that is wrong is that something could not be checked."""
        if self.accepted:
            return 0
        return 3 if all(_unknown(reason) for reason in self.reasons) else 1


class MalformedAppraisal(InputError):
    """An appraisal breaks its format, or contradicts itself."""


class OutputsDiffer(VerificationError):
    """A file is not what the hosted job has appraised."""


def _unknown(reason: str) -> bool:
    kind = Refusal if reason in set(Refusal) else Reason
    return kind(reason).could_not_check


def question(name: str, reason: Refusal | Reason, text: str, *, ok: bool) -> Question:
    """A question that was asked; ``reason`` counts if it is not ``ok``."""
    shown = printable(text)[:_TEXT_LIMIT] or "nothing"
    return Question(name=name, passed=ok, reason=None if ok else str(reason), text=shown)


def output(name: str, data: bytes) -> Output:
    """What the document says of a file."""
    return Output(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def encode_appraisal(appraisal: Appraisal) -> bytes:
    """Canonical JSON; `read_appraisal` takes it."""
    data = canonical(appraisal, origin="appraisal")
    read_appraisal(data, origin="appraisal")
    return data


def read_appraisal(data: bytes, *, origin: str) -> Appraisal:
    """Read an appraisal.

    Raises:
        MalformedAppraisal: not strict JSON, not this schema, or it contradicts itself.
    """
    try:
        tree = read_json(data, origin=origin, limit=SIZE_LIMIT)
        found = convert(tree, Appraisal, origin=origin)
    except InputError as error:
        text = error.message.removeprefix(f"{origin}: ")
        raise MalformedAppraisal(text, origin=origin) from error
    problem = None
    if found.accepted != (bool(found.questions) and all(q.passed for q in found.questions)):
        problem = "accepted contradicts the questions"
    elif any(q.passed != (q.reason is None) for q in found.questions):
        problem = "a question is passed and has a reason, or has none and is not"
    elif {q.reason for q in found.questions} - {None, *Refusal, *Reason}:
        problem = "a reason is none that is known"
    elif len({one.name for one in found.outputs}) != len(found.outputs):
        problem = "names an output twice"
    elif found.outputs and not found.accepted:
        problem = "has outputs of an answer that is not accepted"
    if problem is not None:
        raise MalformedAppraisal(problem, origin=origin)
    return found


def check_outputs(
    data: bytes, folder: Path, *, sha256: str, wanted: tuple[str, ...] = ()
) -> Mapping[str, bytes]:
    """Hash the files again that an appraisal names: for the job that signs what is in them.

    Args:
        data: the appraisal.
        folder: where the files are, under their names.
        sha256: digest of the appraisal, from the hosted job's outputs, not from a file.
        wanted: files that have to be among them.

    Returns:
        The files' bytes, which were hashed: to be used instead of reading them once more.

    Raises:
        OutputsDiffer: a file is missing or another one, or the answer was not accepted.
        MalformedAppraisal: the appraisal cannot be read.
    """
    if not hmac.compare_digest(hashlib.sha256(data).hexdigest(), sha256.lower()):
        raise OutputsDiffer("the appraisal is not the one whose SHA-256 was handed on")
    appraisal = read_appraisal(data, origin="appraisal")
    if not appraisal.accepted:
        raise OutputsDiffer(f"the answer was not accepted: {', '.join(appraisal.reasons)}")
    missing = set(wanted) - {one.name for one in appraisal.outputs}
    if missing or not appraisal.outputs:
        raise OutputsDiffer(f"the appraisal names no {', '.join(sorted(missing)) or 'files'}")
    return {one.name: _hashed(folder / one.name, one) for one in appraisal.outputs}


def _hashed(path: Path, wanted: Output) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(wanted.size + 1)
    except OSError as error:
        raise OutputsDiffer(f"{wanted.name} cannot be read: {error.strerror}") from error
    if output(wanted.name, data) != wanted:
        raise OutputsDiffer(f"{wanted.name} is not what was appraised")
    return data
