"""Options for a machine that is described by libvirt or by a QEMU command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mrtd.launch.arguments import MachineReading

_VERSION_HINT: Final = (
    "--vmm-version says which QEMU launches it (on that host: qemu-system-x86_64 --version); "
    "or --qemu PATH names a QEMU of that very version, which is asked. Nothing is taken from the "
    "machine type, which newer versions keep, nor is anything run that the machine names"
)
# What is asked beside a domain or a command line
_FACTS: Final = (
    "vmm_version", "page_order", "phys_bits", "processor_id", "boot_disk", "disk_format",
)  # fmt: skip


def add_machine_options(verb: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """``SPEC``, ``--libvirt`` or ``--qemu-cmdline``, and what the latter do not say.

    Returns: the group of which exactly one has to be given.
    """
    launch = verb.add_argument_group(
        "what is launched", "The files that it names are read, wherever on this machine they are."
    )
    one = launch.add_mutually_exclusive_group(required=True)
    one.add_argument("spec", metavar="SPEC", type=Path, nargs="?", help="launch spec (launch.toml)")
    one.add_argument(
        "--libvirt", metavar="FILE", help="a libvirt domain: what virsh dumpxml prints; - for stdin"
    )
    one.add_argument(
        "--qemu-cmdline",
        metavar="FILE",
        help="a QEMU command line, quoted for a shell, or /proc/PID/cmdline; - for stdin",
    )
    other = verb.add_argument_group("what a domain or a command line does not say")
    other.add_argument(
        "--vmm-version", metavar="VERSION", help="version of the QEMU that launches it"
    )
    other.add_argument(
        "--page-order", choices=("per-page", "two-pass"), help="as vmm.page_order of a spec"
    )
    other.add_argument(
        "--phys-bits", metavar="N", type=int, help="as machine.phys_bits: of the host"
    )
    other.add_argument("--processor-id", metavar="HEX", help="as machine.processor_id: of the host")
    other.add_argument("--boot-disk", metavar="NAME", help="which disk boots: drive=NAME")
    other.add_argument(
        "--disk-format",
        metavar="NAME=FORMAT",
        type=_disk_format,
        action="append",
        default=[],
        help="raw or qcow2, for a disk whose format is not said",
    )
    return one


def read_machine(arguments: argparse.Namespace) -> tuple[MachineReading, Path]:
    """The launch that the options name, with the folder that its paths are relative to.

    Raises:
        MrtdError: it cannot be read, or its QEMU is not known.
    """
    from mrtd.launch.arguments import MachineReading  # noqa: PLC0415 - late, as all a verb needs

    if arguments.spec is not None:
        _refuse_facts(arguments)
        from mrtd.launch.spec import read_spec_file  # noqa: PLC0415

        return MachineReading(read_spec_file(arguments.spec), ()), arguments.spec.parent
    from mrtd.launch import machines  # noqa: PLC0415
    from mrtd.launch.machine import HostFacts  # noqa: PLC0415
    from mrtd.launch.spec import PageOrder  # noqa: PLC0415

    host = HostFacts(
        version=_version(arguments),
        page_order=PageOrder(arguments.page_order) if arguments.page_order else None,
        phys_bits=arguments.phys_bits,
        processor_id=arguments.processor_id,
        boot_disk=arguments.boot_disk,
        disk_formats=dict(arguments.disk_format),
    )
    name, read = arguments.qemu_cmdline, machines.read_command_line
    if arguments.libvirt is not None:
        name, read = arguments.libvirt, machines.read_domain
    reading = read(_content(name), origin="stdin" if name == "-" else name, host=host)
    return reading, Path()


def _refuse_facts(arguments: argparse.Namespace) -> None:
    """A spec says all of it: an option that would not count is not taken."""
    given = [f"--{name.replace('_', '-')}" for name in _FACTS if getattr(arguments, name)]
    if given:
        from mrtd.errors import SpecError  # noqa: PLC0415

        raise SpecError(
            f"{', '.join(given)}: not for a launch spec, which says it itself",
            origin="command line",
            hint="change the spec; or mrtd matrix SPEC --set KEY=VALUE tries values",
        )


def print_spec(reading: MachineReading, *, as_json: bool) -> None:
    """The spec as TOML with its warnings on stderr; or spec and arguments as JSON."""
    import msgspec  # noqa: PLC0415

    from mrtd.launch.write_spec import write_spec  # noqa: PLC0415

    if as_json:
        text = msgspec.json.encode({"spec": reading.spec, "arguments": reading.arguments})
        sys.stdout.write(msgspec.json.format(text, indent=2).decode() + "\n")
        return
    for warning in reading.warnings:
        sys.stderr.write(f"mrtd: warning: {warning.code}: {warning.text}: {warning.reason}\n")
    sys.stdout.write(write_spec(reading.spec))


def _version(arguments: argparse.Namespace) -> str:
    from mrtd.errors import SpecError  # noqa: PLC0415

    if arguments.vmm_version:
        return str(arguments.vmm_version)
    if arguments.qemu and arguments.qemu != "none":
        from mrtd.qemu.process import find_qemu, qemu_version  # noqa: PLC0415

        return qemu_version(find_qemu(Path(arguments.qemu)))
    raise SpecError("which QEMU launches the machine is not known", origin="command line",
                    field="--vmm-version", hint=_VERSION_HINT)  # fmt: skip


def _content(name: str) -> bytes:
    """A file, of any kind (``/proc`` has no sizes), or standard input; at most 8 MiB of it."""
    from mrtd.errors import SpecError  # noqa: PLC0415

    limit = 8 << 20
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as stream:
                data = stream.read(limit + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=name) from error
    if len(data) > limit:
        raise SpecError(f"larger than {limit} bytes", origin=name)
    return data


def _disk_format(text: str) -> tuple[str, str]:
    name, equals, format_ = text.rpartition("=")
    if not equals or format_ not in {"raw", "qcow2"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=raw or NAME=qcow2")
    return name, format_
