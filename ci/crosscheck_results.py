"""Result documents of a cross-check (``mrtd.result/1``), one per kind.

Their digests go into the confirmations of the reference values, so one is written for every kind:
a kind that was not checked says so, with the reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ci.crosscheck import CrossCheck, Line, Mark
from ci.crosscheck_appraisal import Appraised
from ci.crosscheck_evidence import LOGGED_PCRS
from mrtd import __version__
from mrtd.cli.output import write_whole
from mrtd.derive import Derivation
from mrtd.document import MeasurementDocument
from mrtd.errors import SpecError
from mrtd.evidence.bundle import Bundle
from mrtd.printable import printable
from mrtd.reference.fields import ConfirmationKind, ConfirmationOutcome
from mrtd.reference.result import (
    SCHEMA,
    EvidenceFile,
    Program,
    RegisterResult,
    ResultDocument,
    encode_result,
)
from mrtd.registers import LAUNCH_REGISTERS, Exact, RegisterName, Rule, Sha384, Target

KINDS: Final[tuple[ConfirmationKind, ...]] = (
    "derived",
    "tpm-crosscheck",
    "launched-tdx",
    "ita",
    "dcap",
)
_SHAPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,199}")
_NOTE_LIMIT: Final = 1000
_EVIDENCE: Final = ("tdx/quote", "log/CCEL", "log/binary_bios_measurements", "measurement.json")
Values = Mapping[RegisterName, Sha384]


@dataclass(frozen=True, slots=True)
class Facts:
    """What all results of one run have in common.

    Attributes:
        shape: name of the launch in the reference values.
        now: Unix time in seconds.
        programs: what took part, name to version.
    """

    shape: str
    now: float
    programs: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _SHAPE.fullmatch(self.shape):
            raise SpecError(
                "is no name: letters, digits and ._+~:@-", origin="command line", field="--shape"
            )


def results(
    check: CrossCheck,
    facts: Facts,
    *,
    appraised: Appraised | None = None,
    derived: Derivation | None = None,
    document: MeasurementDocument | None = None,
) -> dict[ConfirmationKind, bytes]:
    """The documents, by kind.

    Args:
        check: the cross-check.
        facts: for all of them.
        appraised: who vouches for the quote.
        derived: the derivation for a TD, if there is one.
        document: what another machine derived, to compare that with.
    """
    made = _Maker(check, facts)
    tdx = check.target is Target.CC
    unseen = ["the launch had no TDX"] if not tdx else []
    plain = [] if not tdx else ["the launch was a TD, not a VM with a TPM"]
    own = derived if derived is not None else check.derivation if tdx else None
    quote = check.evidence.quote
    values: Values = {} if quote is None else quote.registers
    trip = None if appraised is None else appraised.trip
    claims = None if trip is None else trip.checked.claims
    said = {line.name: line for line in check.lines}
    launched = [line for line in check.lines if line.name not in {"ita", "dcap"}]
    return {
        "derived": made.derived(own, document),
        "tpm-crosscheck": made.document(
            "tpm-crosscheck",
            () if tdx else made.rows(LOGGED_PCRS, check.evidence.shown),
            (() if tdx else launched),
            plain,
        ),
        "launched-tdx": made.document(
            "launched-tdx",
            made.rows(LAUNCH_REGISTERS, values) if tdx else (),
            launched if tdx else (),
            unseen,
        ),
        "ita": made.document(
            "ita",
            () if claims is None else made.rows(LAUNCH_REGISTERS, claims.report.registers),
            _about(said, "ita") if tdx else (),
            unseen,
        ),
        "dcap": made.document(
            "dcap",
            made.rows(LAUNCH_REGISTERS, values)
            if tdx and said["dcap"].mark is not Mark.NOT_CHECKED
            else (),
            _about(said, "dcap") if tdx else (),
            unseen,
        ),
    }


def write_results(documents: Mapping[ConfirmationKind, bytes], folder: Path) -> dict[str, Path]:
    """Write each under the name of its kind, whole or not at all. Raises `SpecError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(
            f"cannot be made: {error.strerror}", origin=str(folder), field="--results"
        ) from error
    paths = {kind: folder / f"{kind}.json" for kind in documents}
    for kind, data in documents.items():
        write_whole(paths[kind], data)
    return {str(kind): path for kind, path in paths.items()}


def _about(said: Mapping[str, Line], name: str) -> tuple[Line, ...]:
    return (said[name],) if name in said else ()


class _Maker:
    def __init__(self, check: CrossCheck, facts: Facts) -> None:
        self.check, self.facts = check, facts

    def rows(self, names: Iterable[RegisterName], observed: Values) -> tuple[RegisterResult, ...]:
        wanted = {one.name: one.expected for one in self.check.comparison.registers}
        return tuple(_row(name, _value(wanted.get(name)), observed.get(name)) for name in names)

    def derived(self, own: Derivation | None, other: MeasurementDocument | None) -> bytes:
        """What another machine derived is expected; what is derived here is observed."""
        missing: list[str] = []
        if own is None:
            missing.append("the registers of a TD were not derived here")
        if other is None:
            missing.append("there is no measurement document of another machine to compare with")
        rows: tuple[RegisterResult, ...] = ()
        if own is not None and other is not None:
            rules = dict(own.registers.rules)
            rows = tuple(
                _row(name, _hex(other.registers.get(name)), _value(rules.get(name)))
                for name in LAUNCH_REGISTERS
            )
        open_ = [row for row in rows if row.outcome == "not-checked"]
        missing += [f"{row.register} is not known on both sides" for row in open_]
        return self.document("derived", rows, (), missing)

    def document(
        self,
        kind: ConfirmationKind,
        rows: tuple[RegisterResult, ...],
        lines: Sequence[Line],
        missing: Sequence[str],
    ) -> bytes:
        differs = [line for line in lines if line.mark is Mark.DIFFERS]
        open_ = [line for line in lines if line.mark is Mark.NOT_CHECKED and not line.beyond]
        notes = [*_notes(differs), *_notes(open_), *missing, *self._unpredictable(lines)]
        matching = {row.register for row in rows if row.outcome == "match"}
        enough = matching if kind == "tpm-crosscheck" else matching & {RegisterName.MRTD}
        different = [row for row in rows if row.outcome == "differs"]
        outcome: ConfirmationOutcome
        if differs or different:
            outcome = "refuted"
            notes = notes or ["registers differ"]
        elif open_ or missing or not enough:
            outcome = "not-checked"
            notes = notes or ["nothing says which launch it was"]
        else:
            outcome = "confirmed"
            notes += self.check.changes if kind == "tpm-crosscheck" else ()
        return encode_result(
            ResultDocument(
                schema=SCHEMA,
                kind=kind,
                shape=self.facts.shape,
                outcome=outcome,
                registers=rows,
                programs=self._programs(),
                evidence=() if kind == "derived" else _files(self.check.evidence.bundle),
                created=datetime.fromtimestamp(self.facts.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                notes=tuple(printable(note)[:_NOTE_LIMIT] for note in notes),
            )
        )

    def _programs(self) -> tuple[Program, ...]:
        named = {"mrtd": __version__, **self.facts.programs}
        return tuple(Program(name=name, version=version) for name, version in named.items())

    @staticmethod
    def _unpredictable(lines: Sequence[Line]) -> list[str]:
        beyond = [line for line in lines if line.mark is Mark.NOT_CHECKED and line.beyond]
        return [f"{line.name}: {text}" for line in beyond for text in line.details]


def _notes(lines: Sequence[Line]) -> list[str]:
    return [": ".join((line.name, *(text for text in (line.text,) if text))) for line in lines]


def _row(name: RegisterName, expected: Sha384 | None, observed: Sha384 | None) -> RegisterResult:
    outcome: Literal["match", "differs", "not-checked"] = "not-checked"
    if expected is not None and observed is not None and not expected.is_zero & observed.is_zero:
        outcome = "match" if expected == observed else "differs"
    return RegisterResult(register=name, outcome=outcome, expected=expected, observed=observed)


def _value(rule: Rule | None) -> Sha384 | None:
    return rule.value if isinstance(rule, Exact) else None


def _hex(text: str | None) -> Sha384 | None:
    return None if text is None else Sha384.fromhex(text)


def _files(bundle: Bundle) -> tuple[EvidenceFile, ...]:
    return tuple(
        EvidenceFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in bundle.files.items()
        if name in _EVIDENCE
    )
