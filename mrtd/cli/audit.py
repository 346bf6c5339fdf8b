"""``mrtd audit``: what measures each input of a launch, and what follows where nothing does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtd.cli.machines import add_machine_options
from mrtd.cli.sides import add_qemu, measure_options

if TYPE_CHECKING:
    from mrtd.audit.findings import Audit
    from mrtd.derive import Derivation
    from mrtd.launch.spec import LaunchSpec
    from mrtd.measure import MeasureOptions, Progress

_DESCRIPTION: Final = """\
List every input of a launch (firmware, variables, ACPI, fw_cfg, SMBIOS, kernel,
command line, initrd, each disk and partition, shared folders, channels) with
the register and the event that cover it, or say that nothing does, what follows
and what to do. docs/audit-rules.md and --rules say what is looked for.
"""
_EPILOG: Final = """\
examples:
  mrtd audit launch.toml
  virsh dumpxml td | mrtd audit --libvirt - --vmm-version 10.1.0
  mrtd audit launch.toml --fail-on alarm    for CI: exit 1 if an alarm is found
  mrtd audit launch.toml --fail-on warning \\
      --ignore "virtual_tpm=nothing in the image uses it" \\
      --ignore "config_disk:disk cfg: disk (iso9660)=its signature is checked"
                                            accept a rule, or one input of it
  mrtd audit launch.toml --sarif > audit.sarif
  mrtd audit --rules                        the rules, with risk and remedy

exit codes: 0 done; 1 a finding of --fail-on LEVEL or worse that nobody
accepted; 2 bad input
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "audit",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    launch = add_machine_options(verb)
    launch.add_argument("--rules", action="store_true", help="list the rules, and audit nothing")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the audit as JSON")
    form.add_argument("--sarif", action="store_true", help="print it as SARIF 2.1.0")
    verb.add_argument("--quiet", action="store_true", help="print the findings only")
    verb.add_argument(
        "--fail-on", choices=("alarm", "warning", "info"), metavar="LEVEL",
        help="exit 1 for findings of this level or worse: alarm, warning, info",
    )  # fmt: skip
    verb.add_argument(
        "--ignore", metavar="RULE[:INPUT]=REASON", type=_acceptance, action="append", default=[],
        help="accept findings of a rule, and say why",
    )  # fmt: skip
    verb.add_argument(
        "--skip-verity", action="store_true",
        help="do not compare root file systems with their hash trees, which reads all of them",
    )  # fmt: skip
    add_qemu(verb)
    verb.set_defaults(run=run, target="cc")


def run(arguments: argparse.Namespace) -> int:
    """Audit and print; the exit code."""
    from mrtd.audit.audit import audit  # noqa: PLC0415
    from mrtd.cli.machines import read_machine  # noqa: PLC0415
    from mrtd.cli.output import Progress  # noqa: PLC0415

    if arguments.rules:
        return _rules(as_json=arguments.json)
    progress = Progress(quiet=arguments.quiet)
    try:
        reading, folder = read_machine(arguments)
        found = audit(
            reading.spec,
            folder,
            _derived(reading.spec, folder, measure_options(arguments), progress),
            arguments=tuple(one.text for one in reading.arguments),
            accepted=dict(arguments.ignore),
            check_disks=not arguments.skip_verity,
            progress=progress,
        )
    finally:
        progress.clear()
    _print(arguments, found)
    for name in found.ignored:
        sys.stderr.write(f"mrtd: warning: --ignore {name}: nothing was found that it accepts\n")
    return _verdict(found, arguments.fail_on)


def _derived(
    spec: LaunchSpec, folder: Path, options: MeasureOptions, progress: Progress
) -> Derivation | str:
    """What the launch measures; without QEMU, where it is missing; or why it is not known."""
    from msgspec.structs import replace  # noqa: PLC0415

    from mrtd.errors import InputError, MrtdError, ToolMissing  # noqa: PLC0415
    from mrtd.measure import measure  # noqa: PLC0415

    try:
        return measure(spec, folder, options, progress=progress)
    except ToolMissing as error:
        reason = error.message
    except InputError as error:
        return str(error)
    try:
        return measure(spec, folder, replace(options, ask_qemu=False), progress=progress)
    except MrtdError as error:
        return f"{reason}; {error}"


def _print(arguments: argparse.Namespace, audit: Audit) -> None:
    if not (arguments.json or arguments.sarif):
        from mrtd.cli.audit_tables import print_audit  # noqa: PLC0415

        print_audit(audit, quiet=arguments.quiet)
        return
    from mrtd.audit.sarif import sarif  # noqa: PLC0415
    from mrtd.document import encode  # noqa: PLC0415

    origin = str(arguments.spec or arguments.libvirt or arguments.qemu_cmdline)
    document = sarif(audit, origin=origin) if arguments.sarif else _json(audit, origin)
    sys.stdout.write(encode(document).decode())


def _json(audit: Audit, origin: str) -> dict[str, Any]:
    """Schema ``mrtd.audit/1``."""
    from mrtd import __version__  # noqa: PLC0415
    from mrtd.audit.rules import RULES  # noqa: PLC0415

    return {
        "schema": "mrtd.audit/1",
        "tool": {"name": "mrtd", "version": __version__},
        "launch": origin,
        "inputs": audit.inputs,
        "findings": [
            {
                "rule": one.rule,
                "level": one.level,
                "input": one.input,
                "detail": one.detail,
                "risk": RULES[one.rule].risk,
                "remedy": RULES[one.rule].remedy,
                "accepted": one.accepted,
            }
            for one in audit.findings
        ],
    }


def _verdict(audit: Audit, fail_on: str | None) -> int:
    from mrtd.notes import Level  # noqa: PLC0415

    if fail_on is None:
        return 0
    found = audit.at_least(Level(fail_on))
    if found:
        rules = ", ".join(dict.fromkeys(one.rule for one in found))
        sys.stderr.write(f"mrtd: --fail-on {fail_on}: {len(found)} findings: {rules}\n")
    return 1 if found else 0


def _rules(*, as_json: bool) -> int:
    from mrtd.audit.rules import RULES  # noqa: PLC0415

    if as_json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode({"rules": tuple(RULES.values())}).decode())
    else:
        from mrtd.cli.audit_tables import print_rules  # noqa: PLC0415

        print_rules(tuple(RULES.values()))
    return 0


def _acceptance(text: str) -> tuple[str, str]:
    rule, equals, reason = text.partition("=")
    if not equals or not reason.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not RULE=REASON or RULE:INPUT=REASON")
    return rule, reason.strip()
