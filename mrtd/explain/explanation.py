"""Explain evidence: say which hypothesis makes which register fit.

With the files of a launch, hypotheses are tried against the evidence: event by event where there
is a log that can be trusted, else register by register. Without them, events are recognised by
their digests.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from mrtd.compare import (
    Comparison,
    EventRow,
    Outcome,
    RegisterComparison,
    RowOutcome,
    compare_sides,
    extended,
    log_mismatches,
)
from mrtd.errors import MrtdError
from mrtd.explain.acpi import (
    AcpiCandidate,
    AskQemu,
    candidate_of_qemu,
    candidates_of_qemu,
    with_memory,
)
from mrtd.explain.advice import next_steps
from mrtd.explain.findings import Change, Explanation, Finding, FindingKind
from mrtd.explain.hypotheses import (
    Known,
    acpi_option,
    dimensions,
    page_orders,
)
from mrtd.explain.known import known_mrtds
from mrtd.explain.memory import hob_digests, shown_memory
from mrtd.explain.one_profile import one_profile
from mrtd.explain.recognise import Recogniser
from mrtd.explain.rows import label, option_for, sentence, with_subjects
from mrtd.explain.search import (
    Dimension,
    Lines,
    Option,
    Solution,
    fold_lines,
    lines_of,
    search_lines,
    search_value,
)
from mrtd.explain.skeleton import rank_profiles
from mrtd.registers import Exact, RegisterName, Sha384, Target
from mrtd.side import Side
from mrtd.subject import Subject, subjects_of

_GIB = 1 << 30
# memory sizes for which a QEMU is asked when there is no log that shows the size
_MEMORY = tuple(_GIB << power for power in range(8))


def explain(
    observed: Side,
    expected: Side | None = None,
    *,
    known: Known | None = None,
    acpi: tuple[AcpiCandidate, ...] = (),
    ask: AskQemu | None = None,
) -> Explanation:
    """Why evidence is what it is.

    Args:
        observed: the evidence.
        expected: what was expected; None to recognise what can be recognised.
        known: the launch behind ``expected`` with its files, where they are at hand.
        acpi: ACPI blobs that may have been measured.
        ask: gives ACPI blobs of other machines; None where no QEMU may be asked.
    """
    comparison = None if expected is None else compare_sides(expected, observed)
    return _Search(observed, comparison, known, acpi, ask).run()


class _Search:
    def __init__(
        self,
        observed: Side,
        comparison: Comparison | None,
        known: Known | None,
        acpi: tuple[AcpiCandidate, ...],
        ask: AskQemu | None,
    ) -> None:
        self.observed = observed
        self.comparison = comparison
        self.known = known if observed.target is Target.CC else None
        self.ask = ask
        layouts = (known.derivation.firmware.tdvf,) if known else ()
        self.recogniser = Recogniser(layouts, acpi)
        self.findings: list[Finding] = []
        self.solutions: dict[RegisterName, Solution] = {}
        self.missing: list[Subject] = []

    def run(self) -> Explanation:
        compared = {r.name: r for r in self.comparison.registers} if self.comparison else {}
        for name in self.observed.registers:
            self.findings += self.register(name, compared.get(name))
        self.findings = one_profile(self.findings, self.known, self.solutions)
        changes = [change for f in self.findings for change in f.changes if f.event_index is None]
        kinds = {f.kind for f in self.findings if f.event_index is None}
        good = {FindingKind.FITS, FindingKind.EXPLAINED}
        return Explanation(
            observed=self.observed,
            comparison=self.comparison,
            findings=tuple(self.findings),
            changes=tuple(dict.fromkeys(changes)),
            explained=bool(kinds & good) and kinds <= {*good, FindingKind.NOT_TRIED},
            tried=sum(f.tried for f in self.findings),
            next_steps=next_steps(
                self.observed, self.findings, self.missing, launch=self.known is not None
            ),
        )

    def register(
        self, name: RegisterName, compared: RegisterComparison | None
    ) -> Iterator[Finding]:
        rule = self.observed.registers[name]
        if compared is not None and compared.outcome is Outcome.MATCH:
            yield Finding(name, FindingKind.FITS, f"{name.upper()} is what is expected")
        elif not isinstance(rule, Exact):
            yield Finding(
                name, FindingKind.NOT_TRIED, f"{name.upper()} is not known: {rule.reason}"
            )
        elif rule.value.is_zero and (compared is None or compared.expected is None):
            yield Finding(
                name, FindingKind.NOT_TRIED, f"{name.upper()} is zero: nothing extended it"
            )
        elif name is RegisterName.RTMR3:
            text = "RTMR3 belongs to the software in the guest: no launch decides it"
            yield Finding(name, FindingKind.NOT_TRIED, text)
        elif name is RegisterName.MRTD:
            yield self.mrtd(rule.value)
        elif self.known is not None and name in dict(self.known.derivation.registers.rules):
            yield from self.with_launch(name, rule.value, compared, self.known)
        else:
            yield from self.without_launch(name, compared)

    def mrtd(self, value: Sha384) -> Finding:
        tried = len(known_mrtds())
        for change, candidate in page_orders(self.known) if self.known else ():
            tried += 1
            if candidate == value:
                text = f"MRTD matches with {change.text}: {change.meaning}"
                return Finding(
                    RegisterName.MRTD, FindingKind.EXPLAINED, text, (change,), tried=tried
                )
        if value in known_mrtds():
            text = f"MRTD is that of {known_mrtds()[value]}"
            if self.comparison is not None:
                change = Change("firmware", known_mrtds()[value], "", "another firmware image")
                return Finding(
                    RegisterName.MRTD, FindingKind.EXPLAINED, text, (change,), tried=tried
                )
            return Finding(RegisterName.MRTD, FindingKind.RECOGNISED, text, tried=tried)
        text = "MRTD is of another firmware image: neither page order of the expected one gives it"
        if self.known is None:
            text = "MRTD is of a firmware image that is not known here"
        return Finding(RegisterName.MRTD, FindingKind.UNEXPLAINED, text, tried=tried)

    def with_launch(
        self,
        name: RegisterName,
        value: Sha384,
        compared: RegisterComparison | None,
        known: Known,
    ) -> Iterator[Finding]:
        lines = lines_of(known.derivation.log, name)
        space = dimensions(known, name)
        log = self.observed.log
        if log is None or name in log_mismatches(self.observed):
            yield self.by_value(name, value, lines, space, known)
            return
        seen = lines_of(log, name)
        solution, final, tried = search_lines(lines, space, seen)
        if name is RegisterName.RTMR0 and fold_lines(final) != value.raw and self.ask is not None:
            asked = self.asked_of_qemu(known, seen, self.ask)
            solution, final, more = search_lines(lines, (*space, asked), seen)
            tried += more
        self.solutions[name] = solution
        fits = fold_lines(final) == value.raw
        kind = FindingKind.EXPLAINED if fits else FindingKind.UNEXPLAINED
        yield Finding(name, kind, sentence(name, solution, fits=fits), solution.changes,
                      tried=tried)  # fmt: skip
        if compared is not None:
            yield from self.rows(compared, lines, solution, final)

    def by_value(
        self,
        name: RegisterName,
        value: Sha384,
        lines: Lines,
        space: tuple[Dimension, ...],
        known: Known,
    ) -> Finding:
        found = search_value(lines, space, value)
        tried, complete = found.tried, found.complete
        if not found.solutions and name is RegisterName.RTMR0 and self.ask is not None:
            extra = self.asked_of_qemu(known, None, self.ask)
            found = search_value(lines, (extra, *space), value)
            tried, complete = tried + found.tried, found.complete
        if found.solutions:
            solution = self.solutions[name] = found.solutions[0]
            text = sentence(name, solution, fits=True)
            if len(found.solutions) > 1:
                text += f"; {len(found.solutions) - 1} other changes would do, too"
            return Finding(name, FindingKind.EXPLAINED, text, solution.changes, tried=tried)
        bound = "" if complete else ", and more than that were not tried"
        text = f"{name.upper()} fits none of {tried} combinations{bound}"
        if lines and fold_lines(lines) is None:
            text += "; part of what it measures is not known"
        return Finding(name, FindingKind.UNEXPLAINED, text, tried=tried)

    def asked_of_qemu(self, known: Known, seen: Lines | None, ask: AskQemu) -> Dimension:
        """ACPI blobs of the QEMU at hand, for the memory size that the log shows if there is one.

        Without a log, a memory size changes TD HOB and ACPI blobs at once.
        """
        spec, own = known.derivation.spec, known.derivation.spec.memory_bytes
        sizes = hob_digests(known.derivation.firmware.tdvf)
        if seen is not None:
            hobs = {line.digest for line in seen if line.subject is Subject.TD_HOB}
            memory = next((size for digest, size in sizes.items() if digest.raw in hobs), own)
            spec = with_memory(spec, memory) if memory != own else spec
            options = [acpi_option(candidate) for candidate in candidates_of_qemu(spec, ask)]
            return Dimension("QEMU", tuple(options))
        options = [acpi_option(candidate) for candidate in candidates_of_qemu(spec, ask)]
        hob_of = {size: digest for digest, size in sizes.items()}
        for memory in _MEMORY:
            if memory == own or memory not in hob_of or not options:
                continue
            size = shown_memory(memory)
            change = Change("memory", f"{size} of memory", f'machine.memory = "{size}"')
            try:
                candidate = candidate_of_qemu(with_memory(spec, memory), change, ask)
            except MrtdError:
                continue
            both = {**candidate.digests, Subject.TD_HOB: hob_of[memory]}
            options.append(acpi_option(replace(candidate, digests=both)))
        return Dimension("QEMU", tuple(options))

    def rows(
        self, compared: RegisterComparison, lines: Lines, solution: Solution, final: Lines
    ) -> Iterator[Finding]:
        """A finding for every row that differs, or was not predicted."""
        observed = extended(self.observed.log or (), compared.name)
        subjects = subjects_of(observed)
        for row in compared.rows:
            if row.outcome is RowOutcome.MATCH:
                continue
            subject = subjects[row.observed_index] if row.observed_index is not None else None
            option = option_for(row, subject, lines, solution, final)
            yield self.row(compared.name, row, subject, option)

    def row(
        self, name: RegisterName, row: EventRow, subject: Subject | None, option: Option | None
    ) -> Finding:
        what = label(name, row, subject, alone=self.comparison is None)
        index = row.observed_index
        if option is not None:
            fit = " and ".join(change.text for change in option.changes) or "what follows"
            text = f"{what}: fits with {fit}"
            return Finding(name, FindingKind.EXPLAINED, text, option.changes, index)
        if row.observed is None or subject is None:
            return Finding(name, FindingKind.UNEXPLAINED, f"{what}: is missing", event_index=index)
        found = self.recogniser.event(subject, row.observed)
        if found.text:
            changes = (found.change,) if found.change else ()
            return Finding(name, FindingKind.RECOGNISED, f"{what}: is {found.text}", changes,
                           index, found.tried)  # fmt: skip
        self.missing.append(subject)
        depends = ", ".join(dependence.code for dependence in row.depends)
        text = f"{what}: fits no hypothesis" + (f"; depends on {depends}" if depends else "")
        if self.comparison is None:
            text = f"{what}: its digest says nothing without the input"
        return Finding(name, FindingKind.UNEXPLAINED, text, (), index, found.tried)

    def without_launch(
        self, name: RegisterName, compared: RegisterComparison | None
    ) -> Iterator[Finding]:
        """Events are recognised one by one; whether the register fits cannot be said."""
        if self.observed.log is None:
            text = f"{name.upper()} has no event log, and there is no launch to derive it from"
            yield Finding(name, FindingKind.UNEXPLAINED, text)
            return
        rows = compared.rows if compared and compared.rows else self.unexpected(name)
        events = [
            self.row(name, row, subject, None)
            for row, subject in with_subjects(rows, extended(self.observed.log, name))
            if row.outcome is not RowOutcome.MATCH
        ]
        unknown = sum(f.kind is FindingKind.UNEXPLAINED for f in events)
        differing = [f for f in events if f.changes]
        kind = FindingKind.RECOGNISED if not unknown else FindingKind.UNEXPLAINED
        if compared is not None and not unknown and differing and len(differing) == len(events):
            kind = FindingKind.EXPLAINED
        text = f"{name.upper()}: {len(events) - unknown} of {len(events)} events recognised"
        if name is RegisterName.RTMR0 and self.observed.target is Target.CC:
            text += f"; {self.structure()}"
        changes = tuple(c for f in differing for c in f.changes) if compared else ()
        yield Finding(name, kind, text, changes)
        yield from events

    def structure(self) -> str:
        """Which profiles' sequence of events the log has."""
        fits = rank_profiles(self.observed)
        best = [fit.profile.name for fit in fits if fit.differences == fits[0].differences]
        count = fits[0].differences
        how = "is exactly that" if count == 0 else f"is, but for {count} events, that"
        return f"the sequence of events {how} of {' or '.join(best[:4])}"

    def unexpected(self, name: RegisterName) -> tuple[EventRow, ...]:
        events = extended(self.observed.log or (), name)
        return tuple(
            EventRow(RowOutcome.ONLY_OBSERVED, None, event, None, index)
            for index, event in enumerate(events)
        )
