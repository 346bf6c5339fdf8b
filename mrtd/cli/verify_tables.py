"""Verdicts for people and for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mrtd.cli.verify_inputs import Answer, Source
from mrtd.printable import printable
from mrtd.verifier.policy import Policy
from mrtd.verifier.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN: Final = 37
_FOLDED: Final = 57
_STYLES: Final = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_CHECKED: ""}


def to_json(
    answers: list[Answer], sources: list[Source], policy: Policy, now: datetime
) -> dict[str, Any]:
    """The answers as JSON types, all values whole."""
    return {
        "schema": "mrtd.verify/1",
        "time": now,
        "policy": policy.digest,
        "sources": [
            {**one._asdict(), "age_days": _age(one, now), "alarm": _alarm(one, policy, now)}
            for one in sources
        ],
        "results": [
            {
                "input": one.input.name,
                "kind": one.input.kind,
                "td_verified": one.td,
                "answer": _answer(one),
                "verdict": msgspec.to_builtins(one.verdict),
            }
            for one in answers
        ],
    }


def print_answers(
    answers: list[Answer], sources: list[Source], policy: Policy, now: datetime
) -> None:
    """Tables of 80 columns."""
    from rich.text import Text  # noqa: PLC0415 - only for people

    from mrtd.cli.tables import console  # noqa: PLC0415 - ditto

    out = console()
    for one in answers:
        out.print(
            Text(f"{printable(one.input.name)}: {one.input.kind}", style="bold"), soft_wrap=True
        )
        _print_checks(out, one.verdict)
        _print_verdict(out, one)
    for source in sources:
        text = f"{source.what:<10}  {printable(source.name)}"
        if source.dated is not None:
            text += f", of {source.dated:%Y-%m-%d}, {_age(source, now)} days old"
        if source.expires is not None:
            text += f", expires {source.expires:%Y-%m-%d}"
        out.print(Text(text), soft_wrap=True)
        if (alarm := _alarm(source, policy, now)) is not None:
            out.print(Text(f"ALARM       {alarm}", style="bold red"))


def _print_verdict(out: Console, one: Answer) -> None:
    from rich.text import Text  # noqa: PLC0415 - only for people

    verdict = one.verdict
    style = "bold green" if verdict.allowed else "bold red"
    why = "" if verdict.reason is None else f", {verdict.reason}"
    out.print(Text(f"\n{_answer(one).upper()} ({verdict.status}{why})", style=style))
    for part in _wrapped(verdict.message, out.width):
        out.print(Text(part), soft_wrap=True)
    if verdict.labels:
        out.print(Text(f"labels: {', '.join(verdict.labels)}", style="yellow"))
    if verdict.attestation is not None:
        found = verdict.attestation
        said = (
            f"signed {found.signed_at:%Y-%m-%d %H:%M} UTC, from {found.source}, by {found.signer}"
        )
        for part in _wrapped(said, out.width):
            out.print(Text(part), soft_wrap=True)
    if verdict.retry_after is not None:
        out.print(Text(f"asking again makes sense in {verdict.retry_after} s"))
    out.print()


def _answer(one: Answer) -> str:
    """What a verdict means; nobody is admitted of whom no TD was verified."""
    verdict = one.verdict
    if verdict.allowed:
        return "admitted" if one.td else "attested"
    unknown = verdict.reason is not None and verdict.reason.could_not_check
    return "could not be checked" if unknown else "refused"


def _print_checks(out: Console, verdict: Verdict) -> None:
    """A line for each check; expected and found, whole, below those that decide something."""
    from rich.text import Text  # noqa: PLC0415 - only for people

    for one in verdict.checks:
        standing = "FAILED" if one.outcome is Outcome.FAILED and not one.ok else str(one.outcome)
        line = Text(f"{standing:<11}  ", style=_STYLES[one.outcome])
        if one.ok:
            line.append(f"{one.name:<25}  {_cut(printable(one.observed))}", style="default")
        else:
            line.append(one.name, style="bold")
        out.print(line)
        if not one.ok:
            for what, value in (("expected", one.expected), ("found", one.observed)):
                for number, part in enumerate(_wrapped(value, _FOLDED) or [""]):
                    line = Text(f"{'':13}{'' if number else what:<10}{part}")
                    out.print(line, soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text; an address in it stays whole, so that it can be copied."""
    whole = "://" in text
    return wrap(printable(text), width, break_long_words=not whole, break_on_hyphens=not whole)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _age(source: Source, now: datetime) -> int | None:
    return None if source.dated is None else (now - _utc(source.dated)).days


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _alarm(source: Source, policy: Policy, now: datetime) -> str | None:
    """What is wrong with the age of a source, if anything; verdicts have it as checks or labels."""
    limit, age = policy.trust_root.maximum_age_days, _age(source, now)
    if source.what == "trust root" and age is not None and age > limit:
        return f"{age} days old, the limit is {limit}: mrtd trust refresh"
    if source.expires is not None and _utc(source.expires) < now:
        return "expired: fetch it again"
    return None
