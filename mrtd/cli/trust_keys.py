"""The keys of a root of trust: for people, for programs, and two roots compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from mrtd.errors import TrustRootError, VerificationError
from mrtd.printable import printable
from mrtd.verifier.trust_root import Period, TrustRoot


class Key(NamedTuple):
    """A key of a log or CA.

    Attributes:
        kind: ``log``, ``CT log``, ``CA`` or ``TSA``.
        name: its URL.
        id: hex: log id, or SHA-256 of the certificates.
        period: when it may be used.
    """

    kind: str
    name: str
    id: str
    period: Period


class _PublicKey(msgspec.Struct, rename="camel"):
    valid_for: Period


class _LogId(msgspec.Struct, rename="camel"):
    key_id: bytes


class _Log(msgspec.Struct, rename="camel"):
    public_key: _PublicKey
    log_id: _LogId
    base_url: str = ""


class _Certificate(msgspec.Struct, rename="camel"):
    raw_bytes: bytes


class _Chain(msgspec.Struct):
    certificates: tuple[_Certificate, ...]


class _Authority(msgspec.Struct, rename="camel"):
    cert_chain: _Chain
    valid_for: Period
    uri: str = ""


class _Root(msgspec.Struct, rename="camel"):
    tlogs: tuple[_Log, ...]
    ctlogs: tuple[_Log, ...]
    certificate_authorities: tuple[_Authority, ...]
    timestamp_authorities: tuple[_Authority, ...] = ()


def keys_of(root: TrustRoot) -> tuple[Key, ...]:
    """The keys of a root. Raises `TrustRootError`."""
    try:
        tree = msgspec.json.decode(root.raw, type=_Root)
    except msgspec.DecodeError as error:
        raise TrustRootError(f"cannot be shown: {error}", origin=root.source) from error
    found: list[Key] = []
    for kind, logs in (("log", tree.tlogs), ("CT log", tree.ctlogs)):
        found += [
            Key(kind, log.base_url, log.log_id.key_id.hex(), log.public_key.valid_for)
            for log in logs
        ]
    for kind, authorities in (
        ("CA", tree.certificate_authorities),
        ("TSA", tree.timestamp_authorities),
    ):
        found += [
            Key(kind, one.uri, _digest(one.cert_chain.certificates), one.valid_for)
            for one in authorities
        ]
    moments = [moment for key in found for moment in (key.period.start, key.period.end)]
    if any(moment is not None and moment.tzinfo is None for moment in moments):
        raise TrustRootError("has a time without time zone", origin=root.source, field="validFor")
    return tuple(found)


def _digest(certificates: Iterable[_Certificate]) -> str:
    return hashlib.sha256(b"".join(one.raw_bytes for one in certificates)).hexdigest()


def age_days(root: TrustRoot, now: datetime) -> int:
    """How many days ago a root was known to be current; negative: in the future."""
    return (now - root.dated).days


def age_fault(root: TrustRoot, limit: int, now: datetime) -> str | None:
    """What is wrong with a root's age, if anything."""
    days = age_days(root, now)
    if days < -1:
        return f"the root of trust is dated {root.dated:%Y-%m-%d}, which is in the future"
    if days > limit:
        return f"the root of trust is {days} days old, the limit is {limit}"
    return None


def changes(before: tuple[Key, ...], after: tuple[Key, ...]) -> list[str]:
    """What differs, one line each."""
    old, new = _periods(before), _periods(after)
    names = {(key.kind, key.id): key.name for key in (*before, *after)}
    lines = []
    for at in dict.fromkeys([*old, *new]):
        label = printable(f"{at[0]} {names[at]} ({at[1][:16]})")
        if at not in old:
            lines.append(f"new: {label}, {_joined(new[at])}")
        elif at not in new:
            lines.append(f"gone: {label}")
        elif old[at] != new[at]:
            lines.append(f"changed: {label}, {_joined(new[at])}; it was {_joined(old[at])}")
    return lines


def demand_no_return(before: tuple[Key, ...], after: tuple[Key, ...]) -> None:
    """A key that had been withdrawn must not come back: that is what an older root looks like.

    TUF keeps a client from older metadata that it has seen; here, nothing is remembered but the
    root itself.

    Raises:
        VerificationError: a key may be used longer than was known.
    """
    old, new = _periods(before), _periods(after)
    for at, periods in old.items():
        ends = [period.end for period in periods]
        closed = [end for end in ends if end is not None]
        if len(closed) < len(ends) or at not in new:
            continue
        last = max(closed)
        if any(period.end is None or period.end > last for period in new[at]):
            raise VerificationError(
                printable(f"{at[0]} {at[1][:16]} was withdrawn, and is in use again"),
                hint="is this an older root? nothing was written; to accept it, remove the file",
            )


def _periods(keys: tuple[Key, ...]) -> dict[tuple[str, str], tuple[Period, ...]]:
    found: dict[tuple[str, str], tuple[Period, ...]] = {}
    for key in keys:
        at = (key.kind, key.id)
        found[at] = (*found.get(at, ()), key.period)
    return found


def _joined(periods: tuple[Period, ...]) -> str:
    return ", ".join(f"{p.start:%Y-%m-%d} to {_end(p)}" for p in periods)


def _end(period: Period) -> str:
    return "now" if period.end is None else f"{period.end:%Y-%m-%d}"


def to_json(root: TrustRoot, limit: int, now: datetime) -> dict[str, Any]:
    """A root as JSON types."""
    return {
        "schema": "mrtd.trust/1",
        "source": root.source,
        "sha256": root.sha256,
        "dated": root.dated,
        "age_days": age_days(root, now),
        "maximum_age_days": limit,
        "alarm": age_fault(root, limit, now),
        "keys": [
            {
                "kind": key.kind,
                "name": key.name,
                "id": key.id,
                "start": key.period.start,
                "end": key.period.end,
                "in_use": key.period.covers(now),
            }
            for key in keys_of(root)
        ],
    }


def print_root(root: TrustRoot, keys: tuple[Key, ...], limit: int, now: datetime) -> None:
    """A root as a table of 80 columns."""
    from rich.table import Table  # noqa: PLC0415 - only for people
    from rich.text import Text  # noqa: PLC0415 - ditto

    from mrtd.cli.tables import console  # noqa: PLC0415 - ditto

    out = console()
    fault = age_fault(root, limit, now)
    out.print(Text(f"source  {printable(root.source)}"), soft_wrap=True)
    out.print(Text(f"sha256  {root.sha256}"), soft_wrap=True)
    out.print(f"dated   {root.dated:%Y-%m-%d}, {age_days(root, now)} days ago (limit: {limit})")
    if fault:
        out.print(Text(f"ALARM   {fault}", style="bold red"))
    table = Table(box=None, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("whose, and its id", ratio=1, overflow="fold")
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    for key in keys:
        what = Text(printable(key.name))
        what.append(f"\n{key.id[:32]}", style="dim")
        style = "" if key.period.covers(now) else "dim"
        table.add_row(key.kind, what, f"{key.period.start:%Y-%m-%d}", _end(key.period), style=style)
    out.print()
    out.print(table)
