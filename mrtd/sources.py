"""Make a `Side` of a file, whatever it is: what it is follows from its content, not its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.errors import MalformedDocument
from mrtd.facts import facts_of_derivation
from mrtd.launch.inputs import read_file
from mrtd.registers import Target
from mrtd.side import Side, SideKind
from mrtd.side_documents import side_of_json, unhex
from mrtd.side_evidence import side_of_bundle, side_of_log, side_of_quote

if TYPE_CHECKING:
    from mrtd.derive import Derivation
    from mrtd.measure import MeasureOptions, Progress

_ZIP: Final = b"PK\x03\x04"
_QUOTE_TEE: Final = (0x81).to_bytes(4, "little")
_QUOTE_VERSIONS: Final = (4, 5)
_SPEC_SCHEMA: Final = "mrtd.launch/"
_SPEC_ID: Final = b"Spec ID Event0"
_TRIED: Final = (
    "launch spec (TOML with schema), measurement document (JSON with schema), event log (CCEL or "
    "TCG2 with a Spec ID record), TDX quote (version 4 or 5, binary, hex, or JSON with quote), "
    "evidence bundle (zip or directory)"
)


def load_side(
    path: Path,
    *,
    target: Target | None = None,
    options: MeasureOptions | None = None,
    progress: Progress = lambda _: None,
) -> Side:
    """Read what is known of a launch from a file.

    Args:
        path: launch spec, measurement document, event log, quote or evidence bundle.
        target: whose registers they are, where the file does not say it: a launch spec can be
            derived for either (default cc), and so can the rare log that has no telling event.
        options: how a launch spec is measured; its target is replaced by ``target``.
        progress: told what is being done, in a few words.

    Raises:
        InputError: the file cannot be read, or is none of them.
    """
    origin = str(path)
    data = _ZIP if path.is_dir() else read_file(path, key="file")
    if data.startswith(_ZIP):
        return side_of_bundle(path)
    if is_quote(data):
        return side_of_quote(data, origin=origin)
    if is_event_log(data):
        return side_of_log(data, origin=origin, target=target)
    return _side_of_text(path, data, target, options, progress)


def _side_of_text(
    path: Path,
    data: bytes,
    target: Target | None,
    options: MeasureOptions | None,
    progress: Progress,
) -> Side:
    origin = str(path)
    text = _text(data)
    raw = unhex(text)
    if text.lstrip().startswith("{"):
        return side_of_json(data, origin)
    if raw is not None and is_quote(raw):
        return side_of_quote(raw, origin=origin)
    if _SPEC_SCHEMA in text:
        return _side_of_spec(path, target, options, progress)
    raise MalformedDocument(f"is none of these: {_TRIED}", origin=origin, field="content")


def is_quote(data: bytes) -> bool:
    """Whether data starts like a TDX quote: u16 version 4 or 5, u16 key type, u32 TEE 0x81."""
    return int.from_bytes(data[:2], "little") in _QUOTE_VERSIONS and data[4:8] == _QUOTE_TEE


def is_event_log(data: bytes) -> bool:
    """Whether data starts with the Spec ID record of a TCG crypto-agile log (see `read_log`)."""
    return data[4:8] == (3).to_bytes(4, "little") and data[32:46] == _SPEC_ID


def is_spec_file(path: Path) -> bool:
    """Whether a file is a launch spec. Raises `SpecError` if it cannot be read."""
    return not path.is_dir() and _SPEC_SCHEMA in _text(read_file(path, key="file"))


def side_of_derivation(derivation: Derivation, *, origin: str) -> Side:
    """A side of what was derived."""
    return Side(
        origin=origin,
        kind=SideKind.SPEC,
        target=derivation.target,
        registers=dict(derivation.registers.rules),
        log=derivation.log,
        page_order=derivation.build.page_order if derivation.build else None,
        spec=derivation.spec,
        facts=facts_of_derivation(derivation),
    )


def combined(sides: list[Side]) -> Side:
    """One side of several files of one boot, such as a quote and its event log.

    Raises:
        MalformedDocument: they are of different targets, or two of them say the same thing.
    """
    if len(sides) == 1:
        return sides[0]
    origin = " + ".join(side.origin for side in sides)
    if len({side.target for side in sides}) > 1:
        raise MalformedDocument("are of different targets", origin=origin)
    logs = [side for side in sides if side.log is not None]
    quotes = [side for side in sides if side.kind in {SideKind.QUOTE, SideKind.BUNDLE}]
    if len(logs) > 1 or len(quotes) > 1 or len(logs) + len(quotes) < len(sides):
        raise MalformedDocument(
            "say the same thing twice",
            origin=origin,
            hint="give one launch spec, document or bundle, or one quote with one event log",
        )
    quote, log = quotes[0], logs[0]
    return msgspec.structs.replace(
        quote,
        origin=origin,
        kind=SideKind.COMBINED,
        log=log.log,
        replayed=log.registers,
        spec=quote.spec or log.spec,
        facts={**log.facts, **quote.facts},
        notes=(*quote.notes, *log.notes),
    )


def _side_of_spec(
    path: Path, target: Target | None, options: MeasureOptions | None, progress: Progress
) -> Side:
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415 - only specs are measured
    from mrtd.measure import DEFAULT_OPTIONS, measure  # noqa: PLC0415 - only specs are measured

    chosen = DEFAULT_OPTIONS if options is None else options
    if target is not None:
        chosen = msgspec.structs.replace(chosen, target=target)
    derivation = measure(read_spec_file(path), path.parent, chosen, progress=progress)
    return side_of_derivation(derivation, origin=str(path))


def _text(data: bytes) -> str:
    """The data as text; empty if it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
