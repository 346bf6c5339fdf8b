"""What ``compare`` and ``explain`` share: the options that say what is read and how."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrtd.measure import MeasureOptions, Progress
    from mrtd.side import Side


def add_options(verb: argparse.ArgumentParser) -> None:
    """Add the options."""
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.add_argument("--quiet", action="store_true", help="print the registers only")
    verb.add_argument(
        "--target",
        choices=("cc", "tpm"),
        help="whose registers: a TD's (cc) or a TPM's (tpm); launch specs are derived for cc by "
        "default, event logs show whose they are",
    )
    add_qemu(verb)


def add_qemu(verb: argparse._ActionsContainer) -> None:
    """Add the options that say which QEMU is asked."""
    verb.add_argument(
        "--qemu",
        metavar="PATH|none",
        help="the QEMU to ask for ACPI tables (default: qemu-system-x86_64); none: do not ask",
    )
    verb.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=120.0, help="for QEMU (default: 120)"
    )


def measure_options(arguments: argparse.Namespace) -> MeasureOptions:
    """How launch specs are measured."""
    from mrtd.measure import MeasureOptions  # noqa: PLC0415
    from mrtd.registers import Target  # noqa: PLC0415

    ask = arguments.qemu != "none"
    return MeasureOptions(
        target=Target(arguments.target or "cc"),
        qemu=Path(arguments.qemu) if ask and arguments.qemu else None,
        ask_qemu=ask,
        vars=getattr(arguments, "vars", None),
        timeout=arguments.timeout,
    )


def load(paths: list[Path], arguments: argparse.Namespace, progress: Progress) -> Side:
    """One side of one or more files."""
    from mrtd.registers import Target  # noqa: PLC0415
    from mrtd.sources import combined, load_side  # noqa: PLC0415

    target = None if arguments.target is None else Target(arguments.target)
    options = measure_options(arguments)
    return combined(
        [load_side(path, target=target, options=options, progress=progress) for path in paths]
    )
