"""Sides from evidence: event logs, quotes and bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mrtd.errors import MalformedEventLog
from mrtd.eventlog import EventLog, EventType, replay
from mrtd.eventlog.numbering import RegisterNumbering
from mrtd.eventlog.tcg2 import read_log, read_log_file
from mrtd.registers import ZERO, Exact, RegisterName, Rule, Target
from mrtd.side import Side, SideKind

_CC_INDEXES: Final = 5


def side_of_log(data: bytes, *, origin: str, target: Target | None = None) -> Side:
    """A side of a binary event log.

    Raises:
        MalformedEventLog: the log breaks its format, or does not show whose it is.
    """
    if target is None:
        target = _target_of_log(data, origin)
    # a log from before edk2 202302 numbers its registers otherwise, and that is worth a note
    numbering = RegisterNumbering.DETECT if target is Target.CC else RegisterNumbering.MR
    file = read_log_file(data, origin=origin, target=target, numbering=numbering)
    return Side(
        origin=origin,
        kind=SideKind.EVENT_LOG,
        target=target,
        registers=replayed(file.events, target),
        log=file.events,
        notes=file.remarks if file.numbering is RegisterNumbering.RTMR else (),
    )


def side_of_quote(data: bytes, *, origin: str, log: EventLog | None = None) -> Side:
    """A side of a binary TDX quote, with the event log of the same boot if there is one."""
    from mrtd.evidence.quote import read_quote  # noqa: PLC0415 - few sides are quotes

    quote = read_quote(data, origin=origin)
    return Side(
        origin=origin,
        kind=SideKind.QUOTE,
        target=Target.CC,
        registers={name: Exact(value) for name, value in quote.registers.items()},
        log=log,
        replayed={} if log is None else replayed(log, Target.CC),
    )


def side_of_bundle(path: Path) -> Side:
    """A side of an evidence bundle: its quote, and the event log of the same boot.

    Without a quote, its registers are those that the kernel showed, which nobody signed.

    Raises:
        MalformedBundle: it is not what its manifest says.
        InputError: a member of it breaks its format.
    """
    from mrtd.evidence.bundle import read_bundle  # noqa: PLC0415 - few sides are bundles
    from mrtd.launch.spec import read_spec  # noqa: PLC0415 - few bundles hold one

    bundle, origin = read_bundle(path), str(path)
    tpm = bundle.quote is None and bundle.ccel is None and bundle.tpm_log is not None
    target = Target.TPM if tpm else Target.CC
    raw = bundle.tpm_log if tpm else bundle.ccel
    log = None if raw is None else read_log(raw, origin=f"{origin}: event log", target=target)
    found: dict[RegisterName, Rule] = {}
    notes: tuple[str, ...] = ()
    if bundle.quote is not None:
        found = dict(side_of_quote(bundle.quote, origin=f"{origin}: quote").registers)
    elif bundle.registers:
        found = {
            name: Exact(value)
            for name, value in bundle.registers.items()
            if str(name).startswith("pcr") is tpm
        }
        notes = (f"{origin} has no quote: its registers are what the kernel showed, unsigned",)
    folded = {} if log is None else replayed(log, target)
    return Side(
        origin=origin,
        kind=SideKind.BUNDLE,
        target=target,
        registers=found or folded,
        log=log,
        replayed=folded if found else {},
        spec=None if bundle.spec is None else read_spec(bundle.spec, origin=f"{origin}: spec"),
        notes=notes,
    )


def replayed(log: EventLog, target: Target) -> dict[RegisterName, Rule]:
    """What a whole log folds to; in a TD, RTMR0-2 without an event are known to be zero."""
    rules = replay(log)
    if target is Target.CC:
        for name in (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2):
            rules.setdefault(name, Exact(ZERO))
    return {name: rules[name] for name in RegisterName if name in rules}


def _target_of_log(data: bytes, origin: str) -> Target:
    """A TPM's log names PCR 7 (its Secure Boot policy and separator); CCEL has 0 to 4 only."""
    log = read_log(data, origin=origin, target=Target.TPM)
    extends = [event for event in log if event.type != EventType.EV_NO_ACTION]
    if not extends:
        raise MalformedEventLog(
            "has no event that tells a TD's log from a TPM's",
            origin=origin,
            hint="say which it is with --target cc or --target tpm",
        )
    names = {f"pcr{index}" for index in range(_CC_INDEXES)}
    return Target.CC if all(str(event.register) in names for event in log) else Target.TPM
