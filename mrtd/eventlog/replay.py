"""Fold an event log into the registers that it leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from mrtd.eventlog.event import Event, EventType
from mrtd.registers import SHA384_SIZE, ZERO, Exact, RegisterName, Rule, Sha384, Unpinned

_NO_ACTION: Final = int(EventType.EV_NO_ACTION)
_STARTUP_LOCALITY: Final = b"StartupLocality\0"


def replay(log: Iterable[Event]) -> dict[RegisterName, Rule]:
    """The register values after the log, for each register that the log names.

    A register with an event that cannot be predicted is `Unpinned`, with the reasons of all such
    events. EV_NO_ACTION events and events of MRTD are informative and extend nothing
    (TCG PC Client Platform Firmware Profile, "EV_NO_ACTION"; MRTD is final before the TD runs),
    with one exception: a StartupLocality event says what PCR 0 held before the first event.
    """
    values: dict[RegisterName, bytes] = {}
    reasons: dict[RegisterName, list[str]] = {}
    # This loop is what replaying costs: names are local.
    zero, sha384, mrtd, no_action = ZERO.raw, hashlib.sha384, RegisterName.MRTD, _NO_ACTION
    before = values.get
    for event in log:
        register = event.register
        if register is mrtd:
            continue
        digest = event.digest
        if event.type == no_action:
            start = startup_value(event)
            if start is not None and register not in values:
                values[register] = start
        elif isinstance(digest, Sha384):
            # mrtd.registers.extend, without an object for each value on the way
            values[register] = sha384(before(register, zero) + digest.raw).digest()
        else:
            values.setdefault(register, zero)
            reasons.setdefault(register, []).append(digest.reason)
    return {
        register: _unpinned(reasons[register]) if register in reasons else Exact(Sha384(value))
        for register, value in values.items()
    }


def startup_value(event: Event) -> bytes | None:
    r"""What PCR 0 holds before its first event, if this event says so; else None.

    TCG PC Client Platform Firmware Profile 1.06, 10.4.5.3: a TCG_EfiStartupLocalityEvent is
    ``"StartupLocality\0", locality u8``; TPM 2.0 Library part 1, "PCR initialization":
    TPM2_Startup of locality 3, or an H-CRTM (4), leaves that number in the last byte.
    """
    body = event.data
    told = event.register is RegisterName.PCR0 and body.startswith(_STARTUP_LOCALITY)
    if not told or len(body) != len(_STARTUP_LOCALITY) + 1 or not body[-1]:
        return None
    return bytes(SHA384_SIZE - 1) + body[-1:]


def _unpinned(reasons: list[str]) -> Unpinned:
    return Unpinned("; ".join(dict.fromkeys(reasons)))
