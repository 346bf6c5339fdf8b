"""``python -m ci doctor``: what a host lacks for launching TDs, and what to do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ci.doctor_findings import NO, PERHAPS, YES, Finding, Need, State, exit_code

if TYPE_CHECKING:
    from ci.doctor_host import Host

_DESCRIPTION: Final = """\
Say what this host lacks for launching TDs and getting quotes from them: one
line for each check, and one for its remedy. Nothing is changed, and nothing is
asked on the network without --network (PCCS) or --repo (GitHub).
"""
_EPILOG: Final = """\
exit codes:
  0  TDs can be launched and quoted here
  1  they cannot                      3  that cannot be told from here
  2  wrong usage
"""
_VERDICTS: Final = {
    YES: "TDs can be launched and quoted here.",
    NO: "TDs cannot be launched and quoted here.",
    PERHAPS: "Whether TDs can be launched and quoted here cannot be told.",
}


@dataclass(frozen=True, slots=True)
class Report:
    """All that the doctor found.

    Attributes:
        findings: in the order in which things have to be put right.
        works: what needs no TDX, and whether it works here.
    """

    findings: tuple[Finding, ...]
    works: dict[str, bool]

    @property
    def exit_code(self) -> int:
        """See `ci.doctor_findings.exit_code`."""
        return exit_code(self.findings)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the doctor is asked about.

    Attributes:
        firmware: image to look at; None for those that distributions install.
        qemu: QEMU program; None for the one on the search path.
        qgs: ``unix:/PATH`` or ``vsock:CID:PORT``; None for the usual places.
        network: whether the PCCS may be asked.
        repository: whose GitHub runners may be asked about.
    """

    firmware: str | None = None
    qemu: str | None = None
    qgs: str | None = None
    network: bool = False
    repository: str | None = None


def examine(host: Host, wanted: Wanted) -> Report:
    """Examine a host. Raises `SpecError` for a wish that is none; nothing else."""
    from ci.doctor_hardware import check_hardware, look  # noqa: PLC0415 - used by one verb
    from ci.doctor_services import (  # noqa: PLC0415
        check_pccs,
        check_qgs,
        check_runner,
        read_address,
    )
    from ci.doctor_tools import (  # noqa: PLC0415
        check_firmware,
        check_plain,
        check_qemu,
        check_room,
        works_here,
    )

    qgs = None if wanted.qgs is None else read_address(wanted.qgs)
    seen = look(host)
    findings = (
        *check_hardware(host, seen),
        *check_qemu(host, wanted.qemu),
        check_firmware(host, wanted.firmware),
        *check_room(host),
        check_qgs(host, qgs, virtual=seen.virtual, sgx="sgx" in seen.flags),
        check_pccs(host, network=wanted.network),
        *check_plain(host),
        *check_runner(host, wanted.repository),
    )
    return Report(findings, works_here(host, findings, wanted.qemu))


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "doctor",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--firmware", metavar="FILE", help="firmware image to look at")
    verb.add_argument("--qemu", metavar="BIN", help="QEMU program to ask")
    verb.add_argument("--qgs", metavar="ADDRESS", help="unix:/PATH or vsock:CID:PORT")
    verb.add_argument("--network", action="store_true", help="ask the PCCS too")
    verb.add_argument("--repo", metavar="OWNER/NAME", help="ask GitHub about its runner here")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace, host: Host | None = None) -> int:
    """Examine and print; the exit code."""
    from ci.doctor_host import ThisHost  # noqa: PLC0415

    wanted = Wanted(
        arguments.firmware, arguments.qemu, arguments.qgs, arguments.network, arguments.repo
    )
    report = examine(host or ThisHost(), wanted)
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(to_json(report)).decode())
    else:
        for line in lines(report):
            print(line)
    return report.exit_code


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON types."""
    return {
        "can_launch": {YES: "yes", NO: "no", PERHAPS: "cannot tell"}[report.exit_code],
        "checks": [
            {
                "name": finding.name,
                "state": str(finding.state),
                "needed_for": str(finding.need),
                "text": finding.text,
                "remedy": finding.remedy or None,
            }
            for finding in report.findings
        ],
        "works_without_tdx": report.works,
    }


def lines(report: Report) -> list[str]:
    """The report for a person: a line for each check and one for its remedy, then the verdict."""
    found: list[str] = []
    for need, title in (
        (None, "TDX"),
        (Need.PLAIN, "launches without TDX"),
        (Need.ADVICE, "besides"),
    ):
        chosen = [f for f in report.findings if (f.need is need) or (need is None and f.decides)]
        found += [f"{title}:", *_shown(chosen), ""]
    found += ["works here without TDX hardware:"]
    found += [f"  {'yes' if works else 'no':4} {what}" for what, works in report.works.items()]
    first = next((f for f in report.findings if f.decides and f.state is State.MISSING), None)
    verdict = _VERDICTS[report.exit_code]
    return [*found, "", verdict if first is None else f"{verdict} First: {first.name}."]


def _shown(findings: Sequence[Finding]) -> list[str]:
    found = []
    for finding in findings:
        found.append(f"  {finding.state:12} {finding.name:16} {finding.text}")
        if finding.remedy:
            found.append(f"  {'':12} {'->':16} {finding.remedy}")
    return found
