"""Sides of synthetic launches, and event logs as a firmware would write them."""

from __future__ import annotations

from pathlib import Path

from mrtd.eventlog import EventLog, EventType
from mrtd.explain.hypotheses import Known, known_launch
from mrtd.launch.inputs import load_inputs
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import Sha384
from mrtd.side import Side
from mrtd.sources import load_side, side_of_derivation
from tests.launches import Launch

OFFLINE = MeasureOptions(ask_qemu=False)
_INDEXES = {"mrtd": 0, "rtmr0": 1, "rtmr1": 2, "rtmr2": 3, "rtmr3": 4}


def edited(folder: Path, launch: Launch, old: str = "", new: str = "") -> Path:
    """Write a launch; replace a text of its spec."""
    folder.mkdir(exist_ok=True)
    spec = launch.write(folder)
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new) if old else text)
    return spec


def known_of(path: Path) -> tuple[Side, Known]:
    """A launch with its files."""
    spec = read_spec_file(path)
    derivation = measure(spec, path.parent, OFFLINE)
    known = known_launch(derivation, load_inputs(spec, path.parent))
    return side_of_derivation(derivation, origin="expected"), known


def spec_side(path: Path) -> Side:
    return load_side(path, options=OFFLINE)


def ccel(log: EventLog) -> bytes:
    """A TD's log of one algorithm, SHA-384 (TCG PFP 10.2)."""
    spec_id = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + (1).to_bytes(4, "little")
    spec_id += b"\x0c\0\x30\0" + b"\0"
    out = bytearray((1).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(20))
    out += len(spec_id).to_bytes(4, "little") + spec_id
    for event in log:
        assert isinstance(event.digest, Sha384)
        if event.type == EventType.EV_NO_ACTION:
            continue
        for number in (_INDEXES[event.register], event.type, 1):
            out += number.to_bytes(4, "little")
        out += b"\x0c\0" + event.digest.raw
        out += len(event.data).to_bytes(4, "little") + event.data
    return bytes(out)


def without_facts(side: Side) -> Side:
    """What a quote says of the same launch: registers only."""
    from msgspec.structs import replace

    return replace(side, log=None, facts={}, spec=None, page_order=None)
