"""TDs that never ran: registers of a derivation in quotes that a PKI of our own has signed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fixtures.dcap import NOW, World, authority
from fixtures.quotes import Td
from mrtd.derive import Derivation
from mrtd.document import encode, to_document
from mrtd.eventlog import EventLog, replay
from mrtd.eventlog.writer import write_log
from mrtd.evidence.bundle import Bundle, bundle_of
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import ZERO, Exact, RegisterName, Target
from tests.launches import Launch

ROOT_CA: Final = authority().root.der
MOMENT: Final = NOW.timestamp()
REPORT_DATA: Final = b"\x64" * 64


def derive(path: Path) -> Derivation:
    """What a spec measures in a TD, without asking a QEMU."""
    return measure(
        read_spec_file(path), path.parent, MeasureOptions(target=Target.CC, ask_qemu=False)
    )


def written(folder: Path, launch: Launch | None = None) -> Path:
    """The path of a small launch's spec, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return (launch or Launch()).write(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeTd:
    """A TD that would have been launched from a spec.

    Attributes:
        derivation: of the spec.
        report_data: what its quote answers.
        td: fields of its report to replace.
        world: what Intel would say of its platform, ditto.
        log: its events; those of the derivation by default.
    """

    derivation: Derivation
    report_data: bytes = REPORT_DATA
    td: dict[str, Any] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
    log: EventLog | None = None

    @property
    def report(self) -> Td:
        """Its report."""
        rules = replay(self.derivation.log)
        values = [rules.get(RegisterName(f"rtmr{n}"), Exact(ZERO)) for n in range(4)]
        r0, r1, r2, r3 = (v.value.raw if isinstance(v, Exact) else bytes(48) for v in values)
        mrtd = self.derivation.registers.value(RegisterName.MRTD) or ZERO
        fields = {
            "mr_td": mrtd.raw,
            "rtmrs": (r0, r1, r2, r3),
            "report_data": self.report_data,
            **self.td,
        }
        return Td(**fields)

    def build(self) -> tuple[bytes, bytes]:
        """Its quote, and collateral for it as a JSON file."""
        quote, collateral = World(td=self.report, **self.world).build()
        return quote, json.dumps(collateral).encode()

    def bundle(self, quote: bytes, spec: Path) -> Bundle:
        """Evidence of it: quote, event log, spec and measurement document."""
        log = self.derivation.log if self.log is None else self.log
        return bundle_of(
            {
                "tdx/quote": quote,
                "tdx/report_data": self.report_data,
                "log/CCEL": write_log(log, target=Target.CC),
                "proc/cmdline": b"console=ttyS0\n",
                "launch.toml": spec.read_bytes(),
                "measurement.json": encode(to_document(self.derivation)),
            }
        )
