"""``python -m ci crosscheck``: derive, launch, compare."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.errors import InputError, MalformedBundle

if TYPE_CHECKING:
    from ci.crosscheck import CrossCheck
    from ci.crosscheck_appraisal import Appraised
    from ci.crosscheck_evidence import Evidence
    from ci.crosscheck_launch import Launched
    from ci.ita_command import Outside
    from mrtd.cli.output import Progress
    from mrtd.derive import Derivation
    from mrtd.explain.findings import Explanation
    from mrtd.launch.spec import LaunchSpec
    from mrtd.measure import MeasureOptions

TIMEOUT: Final = 300.0
_DESCRIPTION: Final = """\
Check what is derived of a launch against a launch: log against registers, quote
against log, Intel Trust Authority and DCAP against the quote, derivation
against all of it, register by register and event by event.
"""
_EPILOG: Final = """\
examples:
  boot without TDX (TCG, swtpm), and keep the evidence
    python -m ci crosscheck launch.toml --save boot.zip
  check the evidence of a TD
    python -m ci crosscheck launch.toml --evidence td.zip --collateral FILE
  write the documents that an attestation takes
    python -m ci crosscheck launch.toml --results results

exit codes: 0 all that the mode can check matches; 1 something differs;
2 bad input; 3 something could not be checked
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "crosscheck",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("spec", metavar="SPEC", type=Path, help="launch.toml")
    verb.add_argument("--mode", choices=("tpm", "tdx"), help="(default: tpm, or the evidence's)")
    verb.add_argument("--evidence", metavar="BUNDLE", type=Path, help="of an earlier launch")
    verb.add_argument("--save", metavar="BUNDLE", type=Path, help="keep the launch's evidence")
    verb.add_argument("--results", metavar="DIR", type=Path, help="write result documents")
    verb.add_argument(
        "--document", metavar="FILE", type=Path, help="measurement document of another machine"
    )
    verb.add_argument("--shape", metavar="NAME", default="default", help="of the launch")
    verb.add_argument("--collateral", metavar="FILE|DIR", type=Path, help="have DCAP verify it")
    verb.add_argument("--region", choices=("us", "eu"), default="us", help="of the ITA key")
    verb.add_argument("--qemu", metavar="PATH|none", help="QEMU that is asked, and launches")
    verb.add_argument("--accel", choices=("tcg", "kvm"), default="tcg", help="(default: tcg)")
    verb.add_argument("--timeout", metavar="SECONDS", type=float, default=TIMEOUT, help="for all")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--quiet", action="store_true", help="no progress")
    verb.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class World:
    """What the verb has from outside; tests give their own.

    Attributes:
        environment: settings and the key of Intel Trust Authority.
        now: Unix time in seconds.
        ita: see `ci.ita_command`; None for the real one.
        launch_tdx: launches a TD for its evidence; None for the real one.
    """

    environment: Mapping[str, str]
    now: Callable[[], float] = time.time
    ita: Outside | None = None
    launch_tdx: Callable[..., Launched] | None = None


def run(arguments: argparse.Namespace, world: World | None = None) -> int:
    """Derive, launch or read, compare, write and print; the exit code."""
    from mrtd.cli.output import Progress  # noqa: PLC0415 - with the rest of what is heavy

    progress = Progress(quiet=arguments.quiet or arguments.json)
    try:
        return _Run(arguments, world or World(os.environ), progress).run()
    finally:
        progress.clear()


class _Run:
    def __init__(self, arguments: argparse.Namespace, world: World, progress: Progress) -> None:
        from mrtd.launch.spec import read_spec_file  # noqa: PLC0415
        from mrtd.registers import Target  # noqa: PLC0415

        if arguments.document is not None and arguments.results is None:
            raise InputError(
                "does nothing without --results", origin="command line", field="--document"
            )
        self.arguments, self.world, self.progress = arguments, world, progress
        self.path: Path = arguments.spec
        self.spec = read_spec_file(self.path)
        self.programs: dict[str, str] = {}
        self.given = self._given()
        tdx = arguments.mode == "tdx"
        if self.given is not None:
            if arguments.mode is not None and tdx is not (self.given.target is Target.CC):
                raise MalformedBundle(
                    f"has evidence of target {self.given.target}, not of mode {arguments.mode}",
                    origin=str(arguments.evidence),
                )
            tdx = self.given.target is Target.CC
        self.tdx = tdx

    def run(self) -> int:
        from ci.crosscheck import crosscheck  # noqa: PLC0415
        from ci.crosscheck_machine import plain_machine  # noqa: PLC0415

        spec = self.spec
        changes: tuple[str, ...] = ()
        if not self.tdx:
            plain = plain_machine(self.spec, accel=self.arguments.accel)
            spec, changes = plain.spec, plain.changes
        if self.given is None and not self.tdx:
            _demand_its_qemu(spec, self._qemu())
        derivation = self._measure(spec)
        evidence = self.given or self._launch(spec, derivation)
        appraised = self._appraised(evidence)
        origin = str(self.path)
        first = crosscheck(derivation, evidence, origin=origin, appraised=appraised.lines)
        explained = None
        if not first.comparison.matches:
            explained = self._explain(derivation, evidence, first)
        check = crosscheck(
            derivation,
            evidence,
            origin=origin,
            explanation=explained,
            appraised=appraised.lines,
            changes=changes,
        )
        self._finish(check, appraised)
        return check.exit_code

    def _given(self) -> Evidence | None:
        from ci.crosscheck_evidence import read_evidence  # noqa: PLC0415
        from mrtd.evidence.bundle import read_bundle  # noqa: PLC0415

        path: Path | None = self.arguments.evidence
        return None if path is None else read_evidence(read_bundle(path))

    def _options(self, *, tdx: bool) -> MeasureOptions:
        from mrtd.measure import MeasureOptions  # noqa: PLC0415
        from mrtd.registers import Target  # noqa: PLC0415

        ask = self.arguments.qemu != "none"
        return MeasureOptions(
            target=Target.CC if tdx else Target.TPM,
            qemu=self._qemu(),
            ask_qemu=ask,
            timeout=self.arguments.timeout,
        )

    def _qemu(self) -> Path | None:
        text: str | None = self.arguments.qemu
        return None if text in {None, "none"} else Path(str(text))

    def _measure(self, spec: LaunchSpec) -> Derivation:
        from mrtd.measure import measure  # noqa: PLC0415

        options = self._options(tdx=self.tdx)
        return measure(spec, self.path.parent, options, progress=self.progress)

    def _launch(self, spec: LaunchSpec, derivation: Derivation) -> Evidence:
        from ci.crosscheck_evidence import read_evidence, with_document  # noqa: PLC0415
        from ci.crosscheck_launch import launch_plain, launch_tdx  # noqa: PLC0415
        from mrtd.document import encode, to_document  # noqa: PLC0415
        from mrtd.evidence.bundle import write_bundle  # noqa: PLC0415

        if self.tdx:
            launch = self.world.launch_tdx or launch_tdx
            launched = launch(
                spec,
                self.path.parent,
                qemu=self._qemu(),
                timeout=self.arguments.timeout,
                progress=self.progress,
            )
        else:
            launched = launch_plain(
                spec,
                self.path.parent,
                qemu=self._qemu(),
                timeout=self.arguments.timeout,
                accel=self.arguments.accel,
                progress=self.progress,
            )
        self.programs = {"qemu": launched.qemu_version, "linux": platform.release()}
        document = encode(to_document(derivation))
        bundle = with_document(launched.bundle, spec=self.path.read_bytes(), document=document)
        if self.arguments.save is not None:
            write_bundle(bundle, self.arguments.save)
        return read_evidence(bundle)

    def _appraised(self, evidence: Evidence) -> Appraised:
        from ci.crosscheck_ask import ask_both  # noqa: PLC0415

        return ask_both(
            evidence.quote,
            environment=self.world.environment,
            region=self.arguments.region,
            collateral=self.arguments.collateral,
            now=self.world.now,
            outside=self.world.ita,
            progress=self.progress,
        )

    def _explain(
        self, derivation: Derivation, evidence: Evidence, first: CrossCheck
    ) -> Explanation:
        from mrtd.explain.ask import qemu_asker  # noqa: PLC0415
        from mrtd.explain.explanation import explain  # noqa: PLC0415
        from mrtd.explain.hypotheses import known_launch  # noqa: PLC0415
        from mrtd.launch.inputs import load_inputs  # noqa: PLC0415

        self.progress("looking for the reason")
        known = ask = None
        if self.tdx:
            known = known_launch(derivation, load_inputs(derivation.spec, self.path.parent))
            ask = qemu_asker(derivation.firmware.profile, self._options(tdx=True))
        return explain(evidence.side, first.comparison.expected, known=known, ask=ask)

    def _finish(self, check: CrossCheck, appraised: Appraised) -> None:
        from ci.crosscheck_tables import crosscheck_json, print_crosscheck  # noqa: PLC0415

        written = self._write(check, appraised)
        self.progress.clear()
        if self.arguments.json:
            from mrtd.document import encode  # noqa: PLC0415

            sys.stdout.write(encode(crosscheck_json(check, written)).decode())
            return
        print_crosscheck(check)
        for kind, path in written.items():
            print(f"{kind:<15} {path}")

    def _write(self, check: CrossCheck, appraised: Appraised) -> dict[str, Path]:
        if self.arguments.results is None:
            return {}
        from ci.crosscheck_results import Facts, results, write_results  # noqa: PLC0415
        from mrtd.document import read_document  # noqa: PLC0415
        from mrtd.errors import MrtdError  # noqa: PLC0415
        from mrtd.launch.inputs import read_file  # noqa: PLC0415
        from mrtd.measure import measure  # noqa: PLC0415

        path: Path | None = self.arguments.document
        document = derived = None
        if path is not None:
            document = read_document(read_file(path, key="--document"), origin=str(path))
            try:
                derived = measure(self.spec, self.path.parent, self._options(tdx=True),
                                  progress=self.progress)  # fmt: skip
            except MrtdError:
                if self.tdx:
                    raise
        facts = Facts(self.arguments.shape, self.world.now(), self.programs)
        documents = results(check, facts, appraised=appraised, derived=derived, document=document)
        return write_results(documents, self.arguments.results)


def _demand_its_qemu(spec: LaunchSpec, qemu: Path | None) -> None:
    """Another QEMU makes another machine: what it boots says nothing about the spec's."""
    from mrtd.errors import ToolMissing  # noqa: PLC0415
    from mrtd.qemu.process import find_qemu, qemu_version  # noqa: PLC0415
    from mrtd.qemu.vmm import same_version  # noqa: PLC0415

    version = qemu_version(find_qemu(qemu))
    if not same_version(spec.vmm.version, version):
        raise ToolMissing(
            f"this QEMU is {version}, the spec says {spec.vmm.version}",
            hint="name the spec's with --qemu, or correct vmm.version",
        )
