"""``mrtd inspect``: what a firmware or kernel file is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

_DESCRIPTION: Final = """\
Show what a file is.

firmware  TDVF sections, variables, the signals in its volumes and the event
          profile they fit, and its MRTD in both page orders
kernel    version, EFI stub, CC measurement, and its Authenticode SHA-384:
          plain, and as QEMU would patch it for a given memory, initrd and
          command line
vmlinux   build-id and version of an ELF kernel
"""
_EPILOG: Final = """\
examples:
  mrtd inspect OVMF.fd
  mrtd inspect OVMF_CODE_4M.fd --vars OVMF_VARS_4M.fd
  mrtd inspect vmlinuz --memory "2 GiB" --initrd initrd.img \\
      --cmdline "console=ttyS0"
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "inspect",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("file", metavar="FILE", type=Path, help="firmware image, bzImage or vmlinux")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument(
        "--vars", metavar="FILE", type=Path, help="firmware: variable store to put in front"
    )
    verb.add_argument(
        "--memory", metavar="SIZE", default="2 GiB", help="kernel: guest memory (default: 2 GiB)"
    )
    verb.add_argument("--initrd", metavar="FILE", type=Path, help="kernel: the initrd")
    verb.add_argument(
        "--initrd-size", metavar="BYTES", type=int, help="kernel: its size, instead of the file"
    )
    verb.add_argument("--cmdline", metavar="TEXT", default="", help="kernel: the command line")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Inspect and print; the exit code."""
    from mrtd.document import encode  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    data = read_file(arguments.file, key="FILE")
    if arguments.vars is not None:
        data = read_file(arguments.vars, key="--vars") + data
    view = memoryview(data)
    name = str(arguments.file)
    if data[:4] == b"\x7fELF":
        found = _elf(view, name)
    elif data[:2] == b"MZ":
        found = _kernel(view, name, arguments)
    else:
        found = _firmware(view, name)
    if arguments.json:
        sys.stdout.write(encode(found).decode())
    else:
        from mrtd.cli.inspect_tables import print_inspection  # noqa: PLC0415

        print_inspection(found)
    return 0


def _described(view: memoryview, name: str, kind: str) -> dict[str, Any]:
    from mrtd.registers import Sha384  # noqa: PLC0415

    return {"kind": kind, "file": name, "size": len(view), "sha384": str(Sha384.of(view))}


def _firmware(view: memoryview, name: str) -> dict[str, Any]:
    from mrtd.errors import UnknownProfile  # noqa: PLC0415
    from mrtd.firmware.guids import guid_text  # noqa: PLC0415
    from mrtd.firmware.identify import variables_of  # noqa: PLC0415
    from mrtd.firmware.signals import guess_profile, read_signals  # noqa: PLC0415
    from mrtd.firmware.td_build import fold, td_build  # noqa: PLC0415
    from mrtd.firmware.tdvf import read_tdvf  # noqa: PLC0415
    from mrtd.firmware.volumes import unpack_firmware  # noqa: PLC0415
    from mrtd.launch.spec import PageOrder  # noqa: PLC0415

    tdvf = read_tdvf(view, origin=name)
    signals = read_signals(unpack_firmware(view, origin=name))
    profile: dict[str, Any]
    try:
        fitting = guess_profile(signals, origin=name)
        profile = {
            "name": fitting.name,
            "source": fitting.source,
            "extends_rtmrs": bool(fitting.cc),
            "unconfirmed": sorted({row.unconfirmed for row in fitting.cc if row.unconfirmed}),
        }
    except UnknownProfile as error:
        profile = {"name": None, "reason": error.message, "hint": error.hint}
    return {
        **_described(view, name, "firmware"),
        "mrtd": {str(order): str(fold(td_build(tdvf, order), view)) for order in PageOrder},
        "sections": [
            {
                "index": s.index,
                "type": s.type.name,
                "file_offset": s.data_offset,
                "file_size": s.raw_size,
                "gpa": s.gpa,
                "memory_size": s.memory_size,
                "attributes": s.attributes,
            }
            for s in tdvf.sections
        ],
        "profile": profile,
        "signals": {
            "version": signals.version or None,
            "TdTcg2Dxe": signals.td_measurement,
            "IntelTdxX64": signals.inteltdx,
            "SecureBootConfigDxe": signals.secure_boot,
            "SmbiosMeasurementDxe": signals.smbios,
            "BootManagerMenuApp": signals.menu_app,
            "fw_cfg_events": signals.fw_cfg_events,
            "acpi_events": signals.acpi_events,
            "named_blobs": signals.named_blobs,
            "initrd_argument": None
            if signals.initrd_argument is None
            else str(signals.initrd_argument),
        },
        "variables": [
            {"vendor": guid_text(v.vendor), "name": v.name, "size": len(v.data)}
            for v in variables_of(view, tdvf)
        ],
    }


def _kernel(view: memoryview, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from mrtd.boot.bzimage import read_kernel_facts  # noqa: PLC0415
    from mrtd.boot.pe import authenticode  # noqa: PLC0415
    from mrtd.boot.qemu_header import patched_header  # noqa: PLC0415
    from mrtd.launch.inputs import file_size  # noqa: PLC0415
    from mrtd.launch.size import memory_bytes  # noqa: PLC0415

    facts = read_kernel_facts(view, origin=name)
    memory = memory_bytes(arguments.memory, origin="command line", field="--memory")
    size: int | None = arguments.initrd_size
    if arguments.initrd is not None:
        size = file_size(arguments.initrd, key="--initrd")
    head = patched_header(
        view, memory=memory, initrd_size=size, cmdline=arguments.cmdline, origin=name
    )
    return {
        **_described(view, name, "kernel"),
        "version": facts.version or None,
        "boot_protocol": facts.protocol,
        "efi_stub": facts.efi_stub,
        "cc_measurement": facts.cc_measurement,
        "authenticode": {
            "plain": str(authenticode(view, origin=name)),
            "patched": str(authenticode(view, origin=name, header=head)),
        },
        "patched_for": {
            "memory_bytes": memory,
            "initrd_bytes": size,
            "cmdline": arguments.cmdline,
        },
    }


def _elf(view: memoryview, name: str) -> dict[str, Any]:
    from mrtd.boot.elf import read_elf  # noqa: PLC0415

    facts = read_elf(view, origin=name)
    return {
        **_described(view, name, "vmlinux"),
        "machine": facts.machine,
        "build_id": facts.build_id,
        "version": facts.version or None,
        "notes": list(facts.notes),
    }
