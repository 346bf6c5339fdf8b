"""The fw_cfg blobs of a launch, asked of a QEMU that runs nothing.

Source: QEMU docs/specs/fw_cfg.rst; which files a firmware measures: edk2 OvmfPkg, see
`mrtd.firmware.profiles`.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mrtd.errors import ToolFailed
from mrtd.launch.spec import DirectBoot, LaunchSpec
from mrtd.qemu.argv import machine_arguments
from mrtd.qemu.chipset import Pci
from mrtd.qemu.devices import stand_ins, tpm_ids
from mrtd.qemu.items import BOOT_MENU, SIGNATURE, read_directory, read_item
from mrtd.qemu.pci import Cpu, Mmio64Rule, Window, classic_size, parse_e820
from mrtd.qemu.process import Process, running
from mrtd.qemu.qmp import Qmp
from mrtd.qemu.qtest import Qtest
from mrtd.qemu.tpm import InertTpm
from mrtd.registers import Target

# What firmware measures, and what it works that out from. Never etc/boot/*, which can be large and
# slow, nor etc/smi/*, which changes when it is read.
_WANTED: Final = (
    "bootorder",
    "etc/acpi/",
    "etc/boot-menu-wait",
    "etc/e820",
    "etc/extra-pci-roots",
    "etc/reserved-memory-end",
    "etc/smbios/",
    "etc/table-loader",
    "etc/tpm/log",
    "opt/",
)
_ACPI: Final = ("etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader")


_BIOS_FILE: Final = "bios.bin"
_KERNEL_FILE: Final = "kernel.bin"
_MEMORY: Final = "mrtd-memory"
# Nothing runs, so zeros do: a 64 KiB ROM, and a kernel that, having no header, passes for one
# of the oldest protocol (x86_load_linux in QEMU's hw/i386/x86-common.c).
_STAND_INS: Final = {_BIOS_FILE: bytes(1 << 16), _KERNEL_FILE: bytes(1 << 13)}


@dataclass(frozen=True, slots=True)
class FwCfg:
    """What QEMU offers the firmware of a launch.

    Attributes:
        qemu_version: such as ``7.2.22``.
        files: name to contents, among them ``etc/acpi/tables``, ``etc/acpi/rsdp``,
            ``etc/table-loader``, ``etc/tpm/log`` (64 KiB of zeros with a TPM, empty without),
            ``bootorder``, ``etc/smbios/*``, ``etc/e820`` and ``opt/*``.
        boot_menu: the legacy item 0x0e ("BootMenu"), two bytes.
    """

    qemu_version: str
    files: Mapping[str, bytes]
    boot_menu: bytes


def dump(
    spec: LaunchSpec,
    *,
    binary: Path,
    target: Target,
    ecam_base: int,
    mmio64: Mmio64Rule,
    kernel: Path | None = None,
    timeout: float = 60,
) -> FwCfg:
    """Ask a QEMU for the fw_cfg blobs that the firmware of this launch would read.

    QEMU starts with its CPUs stopped; the registers that the firmware sets before it reads the ACPI
    tables are written in its place (`mrtd.qemu.chipset`).

    Args:
        spec: the launch.
        binary: the QEMU, whose version decides about the tables.
        target: see `machine_arguments`.
        ecam_base: guest physical address where the firmware puts PCI configuration space.
        mmio64: where the firmware puts the 64-bit PCI window.
        kernel: a file for ``-kernel``; a stand-in by default, which yields the same blobs.
        timeout: seconds for everything.

    Raises:
        SpecError: the spec contradicts itself.
        ToolFailed: QEMU refuses the machine, hangs or answers garbage.
        ToolMissing: QEMU cannot be started.
    """
    deadline = time.monotonic() + timeout
    arguments = machine_arguments(spec, target=target, dump=True)
    with contextlib.ExitStack() as stack:
        qtest, qtest_far = _pair(stack)
        monitor, monitor_far = _pair(stack)
        argv = [
            str(binary),
            *arguments,
            *stand_ins(spec, dump=True),
            *("-display", "none"),
            # Nothing touches the memory, so a host with less than the machine's can ask too.
            *("-object", f"memory-backend-ram,id={_MEMORY},size={spec.memory_bytes},reserve=off"),
            *("-machine", f"memory-backend={_MEMORY}"),
            # Both (and KVM) yield the same tables; a QEMU without accel-qtest takes the second.
            *("-accel", "qtest", "-accel", "tcg", "-S"),
            *("-chardev", f"socket,id=qtest,fd={qtest_far.fileno()}"),
            *("-qtest", "chardev:qtest", "-qtest-log", "none"),
            *("-chardev", f"socket,id=mrtd-qmp,fd={monitor_far.fileno()}"),
            *("-mon", "chardev=mrtd-qmp,mode=control"),
            *("-bios", _BIOS_FILE),
            *_kernel_argument(spec, kernel),
        ]
        handed = [qtest_far, monitor_far]
        for number, name in enumerate(tpm_ids(arguments)):
            tpm = InertTpm()
            stack.callback(tpm.close)
            handed.append(tpm.theirs)
            argv += ["-chardev", f"socket,id=mrtd-tpm{number},fd={tpm.theirs.fileno()}"]
            argv += ["-tpmdev", f"emulator,id={name},chardev=mrtd-tpm{number}"]
        descriptors = [stream.fileno() for stream in handed]
        process = stack.enter_context(running(argv, pass_fds=descriptors, files=_STAND_INS))
        for stream in handed:
            stream.close()
        return _ask(
            process,
            Qtest(qtest, process, deadline=deadline),
            Qmp(monitor, process, deadline=deadline),
            ecam_base=ecam_base,
            mmio64=mmio64,
        )


def _kernel_argument(spec: LaunchSpec, kernel: Path | None) -> tuple[str, ...]:
    """``-kernel`` where the launch has it: with it comes a boot ROM that heads the boot order."""
    if not isinstance(spec.boot, DirectBoot):
        return ()
    return ("-kernel", str(kernel.absolute()) if kernel else _KERNEL_FILE)


def _ask(process: Process, qtest: Qtest, qmp: Qmp, *, ecam_base: int, mmio64: Mmio64Rule) -> FwCfg:
    if read_item(qtest, SIGNATURE, 4) != b"QEMU":
        raise process.failure("fw_cfg has no signature")
    entries = read_directory(qtest)
    missing = [name for name in (*_ACPI, "etc/e820") if name not in entries]
    if missing:
        raise process.failure(f"fw_cfg has no {', '.join(missing)}")
    early = {
        name: read_item(qtest, entry.key, entry.size)
        for name, entry in entries.items()
        if name.startswith(_WANTED) and name not in _ACPI
    }
    pci = Pci(qtest)
    pci.set_chipset(ecam_base)
    pci.place_window(_window(qmp, mmio64, early, process))
    # The first read of an ACPI file builds all of them, with the registers as they are now, and may
    # change their sizes: the directory is read again.
    read_item(qtest, entries[_ACPI[0]].key, 1)
    entries = read_directory(qtest)
    acpi = {name: read_item(qtest, entries[name].key, entries[name].size) for name in _ACPI}
    return FwCfg(
        qmp.version,
        MappingProxyType(dict(sorted({**early, **acpi}.items()))),
        read_item(qtest, BOOT_MENU, 2),
    )


def _window(
    qmp: Qmp, rule: Mmio64Rule, files: Mapping[str, bytes], process: Process
) -> Window | None:
    """The 64-bit PCI window that the firmware of this machine would choose."""
    if "etc/extra-pci-roots" in files:
        raise ToolFailed(
            "PCI expander bridges (pxb) are not supported",
            origin="launch spec",
            field="machine.devices",
            hint="give acpi.tables, read from a launch that you trust",
        )
    vendor, phys_bits, gib_pages = qmp.cpu_properties("vendor", "phys-bits", "pdpe1gb")
    if not isinstance(phys_bits, int) or not 32 <= phys_bits <= 57:
        raise process.failure(f"the CPU has phys-bits {phys_bits!r}")
    return rule.window(
        Cpu(str(vendor), phys_bits, gib_pages is True),
        parse_e820(files["etc/e820"]),
        size=classic_size(files.get("opt/ovmf/X-PciMmio64Mb")),
        reserved_end=int.from_bytes(files.get("etc/reserved-memory-end", b""), "little"),
    )


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.callback(theirs.close)
    stack.callback(ours.close)
    return ours, theirs
