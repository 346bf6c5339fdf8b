"""What the release jobs print: at most 80 columns for people, JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.errors import MrtdError, ReleaseRefused, SpecError
from mrtd.registers import Sha384
from release.attest import Report
from release.recheck import Finding, Recheck
from release.revoke import RevokeReport
from release.status import Row, Status

WIDTH: Final = 80
_SHOWN: Final = 12


def as_json(value: object) -> str:
    """A report as JSON."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2).decode()


def error_json(error: MrtdError) -> dict[str, Any]:
    """An error as JSON."""
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
    }
    if isinstance(error, ReleaseRefused):
        found["refusals"] = [{"code": code, "text": text} for code, text in error.refusals]
    return {"error": found}


def of_attest(report: Report) -> str:
    """The summary of ``attest``."""
    release = report.values.release
    lines = [f"release   {release.tag} of {release.repository}, sequence {release.sequence}"]
    for launch in report.values.launches:
        lines.append(f"launch    {launch.shape}")
        for name, rule in launch.registers.items():
            shown = str(rule.value) if rule.value else f"unpinned: {rule.reason}"
            lines.append(f"  {name:<7} {_cut(shown, 70)}")
    lines += _table("subject", (f"{name} sha256:{digest}" for name, digest in report.subjects))
    lines += _table("file", map(str, report.files.values()))
    if report.dry_run:
        lines.append("dry run   nothing was signed or uploaded")
    else:
        lines += _signed(report)
    if report.check is not None:
        labels = f" ({', '.join(report.check.labels)})" if report.check.labels else ""
        lines += _wrap(f"verified  the verifier admits {len(report.check.shapes)} shapes{labels}")
    lines += _warned(report.warnings)
    return "\n".join(lines) + "\n"


def of_revoke(report: RevokeReport) -> str:
    """The summary of ``revoke``."""
    release = report.values.release
    lines = [f"document  {release.tag}, sequence {release.sequence}"]
    for row in report.new:
        lines += _wrap(f"revoked   {row.kind} {_cut(row.value, 40)}: {row.reason}")
    if not report.new:
        lines.append("revoked   nothing that was not revoked before")
    lines += _table("file", map(str, report.files.values()))
    if report.dry_run:
        lines.append("dry run   nothing was signed or uploaded")
    else:
        lines += _signed(report)
        shapes = ", ".join(report.refused) or "nothing that is known"
        lines += _wrap(f"verified  the verifier refuses {shapes} as revoked")
    lines += _warned(report.warnings)
    return "\n".join(lines) + "\n"


def of_status(found: Status) -> str:
    """The table of ``status``."""
    lines = [f"{found.repository}, {found.channel}"]
    lines.append(f"{'seq':>6}  {'tag':<20}  {'state':<10}  {'signed':<16}  {'run':<12}  shapes")
    lines += [_status_row(row) for row in found.rows] or ["  nothing is attested"]
    for row in found.revoked:
        lines += _wrap(f"revoked   {row.kind} {_cut(row.value, 40)} ({row.sequence}): {row.reason}")
    lines += _warned(found.problems)
    return "\n".join(lines) + "\n"


def of_recheck(found: Recheck) -> str:
    """The table of ``recheck``."""
    lines = [f"release   {found.tag}, sequence {found.sequence}"]
    for one in found.findings:
        lines += _finding(one)
    lines.append("holds" if found.ok else "DOES NOT HOLD, or not for long: see above")
    return "\n".join(lines) + "\n"


def write_outputs(environ: Mapping[str, str], values: Mapping[str, object]) -> None:
    """Outputs of the step, for the next ones. Raises `SpecError`."""
    path = environ.get("GITHUB_OUTPUT")
    if not path:
        return
    lines = "".join(f"{name}={_cut(str(value), 1000)}\n" for name, value in values.items())
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(lines)
    except OSError as error:
        raise SpecError(f"cannot be written: {error.strerror}", origin="GITHUB_OUTPUT") from error


def _signed(report: Report | RevokeReport) -> Iterator[str]:
    yield from _wrap(f"signer    {report.signer}")
    yield from _wrap(f"run       {report.run}")
    for done in report.done:
        yield from _wrap(f"uploaded  {done}")
    if report.opinion is not None:
        yield from _wrap(f"cosign    {report.opinion.outcome}: {report.opinion.detail}")


def _status_row(row: Row) -> str:
    run = row.run.partition("/runs/")[2].partition("/")[0] or "-"
    shapes = str(len(row.shapes)) if row.shapes else "-"
    signed = row.signed_at[:16].replace("T", " ") or "-"
    return (
        f"{row.sequence:>6}  {_cut(row.tag, 20):<20}  {row.state:<10}  {signed:<16}  "
        f"{_cut(run, 12):<12}  {shapes}"
    )


def _finding(one: Finding) -> Iterator[str]:
    left = "" if one.days is None else f" ({one.days} days)"
    yield from _wrap(f"{one.outcome:<12}{one.name}: {one.observed}{left}", indent=12)
    if one.remedy and one.outcome != "ok":
        yield from _wrap(f"{'':<12}-> {one.remedy}", indent=15)


def _table(name: str, values: Iterable[str]) -> Iterator[str]:
    """The first of many, and how many more there are."""
    found = list(values)
    for value in found[:_SHOWN]:
        yield from _wrap(f"{name:<9} {value}")
    if len(found) > _SHOWN:
        yield f"{name:<9} ... and {len(found) - _SHOWN} more"


def _warned(texts: Iterable[str]) -> Iterator[str]:
    for text in dict.fromkeys(texts):
        yield from _wrap(f"warning   {text}")


def _wrap(text: str, indent: int = 10) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= width else plain[: width - 3] + "..."


def _encode(value: object) -> object:
    if isinstance(value, (Sha384, Path)):
        return str(value)
    raise NotImplementedError(type(value).__name__)
