"""What evidence of a launch says: registers, event log, and what the log proves of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mrtd.boot.efi_stub import load_options
from mrtd.document import read_document
from mrtd.errors import MalformedBundle
from mrtd.eventlog import EventLog, EventType
from mrtd.eventlog.tcg2 import read_log
from mrtd.evidence import manifest as names
from mrtd.evidence.bundle import Bundle, bundle_of
from mrtd.evidence.quote import Quote, read_quote
from mrtd.facts import facts_of_document
from mrtd.firmware.profiles import InitrdArgument
from mrtd.registers import ZERO, Exact, RegisterName, Rule, Sha384, Target
from mrtd.side import Side, SideKind
from mrtd.side_evidence import replayed
from mrtd.subject import Subject, subjects_of

LOGGED_PCRS: Final = tuple(RegisterName(f"pcr{n}") for n in range(16) if n != 10)
"""What firmware and boot loader extend; IMA extends PCR 10 when the firmware's log has ended."""
RTMRS: Final = (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2)
_INITRD: Final = "initrd=initrd"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of one boot, read.

    Attributes:
        bundle: as it came.
        target: whose registers it has.
        quote: of a TD; None without one.
        shown: registers as the guest's kernel shows them; nobody signed them.
        log: the event log; None without one.
        folded: what the log folds to.
        side: all that for comparing: the quote's registers where there is a quote.
    """

    bundle: Bundle
    target: Target
    quote: Quote | None
    shown: dict[RegisterName, Sha384]
    log: EventLog | None
    folded: dict[RegisterName, Rule]
    side: Side

    def log_mismatches(self, values: dict[RegisterName, Sha384]) -> tuple[RegisterName, ...]:
        """Registers that hold something else than the log folds to; none extended means zero."""
        names = LOGGED_PCRS if self.target is Target.TPM else (*RTMRS, RegisterName.RTMR3)
        wanted = {name: self.folded.get(name) for name in names}
        if RegisterName.RTMR3 in wanted and wanted[RegisterName.RTMR3] is None:
            del wanted[RegisterName.RTMR3]  # the guest's software need not log what it extends
        return tuple(
            name
            for name, rule in wanted.items()
            if name in values and (rule or Exact(ZERO)) != Exact(values[name])
        )


def read_evidence(bundle: Bundle) -> Evidence:
    """Read a bundle: a TD's if it has a quote or a CCEL, else that of a VM with a TPM.

    Raises:
        MalformedBundle: it holds neither.
        InputError: a member breaks its format.
    """
    origin = bundle.origin
    cc = bundle.quote is not None or bundle.ccel is not None
    if not cc and bundle.tpm_log is None:
        raise MalformedBundle("holds neither quote nor event log", origin=origin)
    target = Target.CC if cc else Target.TPM
    quote = None
    if bundle.quote is not None:
        quote = read_quote(bundle.quote, origin=f"{origin}: quote")
    data = bundle.ccel if cc else bundle.tpm_log
    log = None if data is None else read_log(data, origin=f"{origin}: event log", target=target)
    folded = {} if log is None else replayed(log, target)
    shown = {
        name: value
        for name, value in bundle.registers.items()
        if str(name).startswith("pcr") is not cc
    }
    values = dict(shown) if quote is None else dict(quote.registers)
    if not cc:
        values = {name: values[name] for name in LOGGED_PCRS if name in values}
    side = Side(
        origin=origin,
        kind=SideKind.BUNDLE,
        target=target,
        registers={name: Exact(value) for name, value in values.items()} or folded,
        log=log,
        replayed=folded if values else {},
        facts=_facts(bundle, target, log),
    )
    return Evidence(bundle, target, quote, shown, log, folded, side)


def _facts(bundle: Bundle, target: Target, log: EventLog | None) -> dict[str, str]:
    """What is known of the launch's inputs: what the log proves beats what the bundle says."""
    facts: dict[str, str] = {}
    if bundle.document is not None:
        document = read_document(bundle.document, origin=f"{bundle.origin}: measurement.json")
        if document.target == str(target):
            facts = facts_of_document(document)
    return facts | dict(_proven(bundle, log or ()))


def _proven(bundle: Bundle, log: EventLog) -> Iterator[tuple[str, str]]:
    """An initrd is known by its event; a command line by one that the guest's own text gives."""
    events = tuple(event for event in log if event.type != EventType.EV_NO_ACTION)
    text = bundle.cmdline
    seen = None
    if text is not None:
        seen = Sha384.of(load_options(text, initrd=False, argument=InitrdArgument.SUFFIX))
    for event, subject in zip(events, subjects_of(events), strict=True):
        if subject is Subject.INITRD and isinstance(event.digest, Sha384):
            yield "initrd", str(event.digest)[:16]
        if subject is Subject.LOAD_OPTIONS and text is not None and event.digest == seen:
            yield "cmdline", _own_part(text)


def _own_part(text: str) -> str:
    """A command line without the argument that the firmware adds."""
    return text.removesuffix(f" {_INITRD}").removeprefix(f"{_INITRD} ")


def with_document(bundle: Bundle, *, spec: bytes, document: bytes) -> Bundle:
    """The bundle with the spec that was launched, and what was derived from it."""
    files = {**bundle.files, names.SPEC: spec, names.DOCUMENT: document}
    return bundle_of(files, origin=bundle.origin, redacted=bundle.redacted)
