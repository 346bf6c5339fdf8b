"""A launch spec as the QEMU arguments that define the measured machine.

The table dump and the launch itself share them, so what is measured is what is launched. What the
host gives to the machine (``-bios``, ``-kernel``, ``-blockdev``, ``-netdev``, displays) and how it
runs (``-accel``, ``-object tdx-guest``) is not here: a launch adds its own ``-machine
confidential-guest-support=...``, which QEMU merges with the one below.
"""

from __future__ import annotations

import re
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.options import escape
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import parse_device
from mrtd.registers import Target

TPM_ID: Final = "tpm0"
_ORIGIN: Final = "launch spec"
_ON: Final = frozenset(("on", "yes", "true", "y"))
_OFF: Final = frozenset(("off", "no", "false", "n"))
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# QEMU's tdx_kvm_init (target/i386/kvm/tdx.c): smm and pic are forced off, the irqchip is split.
# A machine without TDX has other defaults, and its ACPI tables (FACP, APIC) show it.
_TDX_FORCES: Final = {"kernel_irqchip": "split", "smm": "off", "pic": "off"}
# Given elsewhere in the spec or by the launch.
_NOT_OPTIONS: Final = {
    "type": "set machine.type",
    "accel": "the launch chooses the accelerator",
    "confidential-guest-support": "the launch adds the tdx-guest object",
    "memory-encryption": "the launch adds the tdx-guest object",
    "memory-backend": "the launch chooses the memory backend, which is not measured",
    "firmware": "set firmware.path",
    "kernel": "set boot.kernel",
    "initrd": "set boot.initrd",
    "append": "set boot.cmdline",
}


def machine_arguments(spec: LaunchSpec, *, target: Target, dump: bool) -> tuple[str, ...]:
    """The QEMU arguments that define the measured machine, devices in the order of the spec.

    Args:
        spec: the launch.
        target: ``cc`` states what TDX forces (QEMU target/i386/kvm/tdx.c); ``tpm`` adds a
            ``tpm-crb`` device that names the back end ``tpm0``, unless the spec has a TPM.
        dump: whether nothing will run, so that a CPU model that needs KVM is replaced, and
            devices that need the host too (see `mrtd.qemu.devices`).

    Raises:
        SpecError: options that contradict the target, or that are given elsewhere.
    """
    machine = spec.machine
    arguments = [
        "-nodefaults",
        "-no-user-config",
        "-machine",
        ",".join([machine.type, *_machine_options(spec, target)]),
        "-m",
        f"{spec.memory_bytes >> 20}M",
        "-smp",
        ",".join([str(machine.vcpus), *(f"{key}={n}" for key, n in machine.topology.items())]),
        "-cpu",
        _cpu(spec, dump=dump),
    ]
    for option, values in (
        ("-global", machine.globals),
        ("-smbios", machine.smbios),
        ("-boot", (machine.boot_options,) if machine.boot_options else ()),
    ):
        for value in values:
            arguments += [option, value]
    arguments += ["-serial", "null"] * machine.serial_ports
    for name, text in machine.fw_cfg.items():
        arguments += ["-fw_cfg", f"name={escape(name)},string={escape(text)}"]
    has_tpm = False
    for device in machine.devices:
        properties = parse_device(device, replace=dump)
        has_tpm = has_tpm or properties.driver.startswith("tpm-")
        arguments += ["-device", properties.text]
    if target is Target.TPM and not has_tpm:
        arguments += ["-device", f"tpm-crb,tpmdev={TPM_ID}"]
    return tuple(arguments)


def phys_bits_known(spec: LaunchSpec) -> bool:
    """Whether the guest physical address width follows from the spec.

    A named model has QEMU's default of 40 bits unless ``machine.phys_bits`` says otherwise;
    ``host`` and ``max`` have what the host has. It matters only to machines with 64-bit PCI
    resources, whose window the measured ACPI tables describe.
    """
    return spec.machine.phys_bits is not None or _model(spec) not in {"host", "max"}


def _model(spec: LaunchSpec) -> str:
    return spec.machine.cpu.partition(",")[0]


def _cpu(spec: LaunchSpec, *, dump: bool) -> str:
    model, comma, rest = spec.machine.cpu.partition(",")
    parts = [model]
    if model == "host" and dump:
        # `host` needs KVM. TDs run on Intel hosts; an AMD vendor (TCG's own `max`) would make QEMU
        # reserve the HyperTransport range and move memory and PCI windows (hw/i386/pc.c).
        parts = ["max", "vendor=GenuineIntel"]
    if spec.machine.phys_bits is not None and (dump or model != "host"):
        parts.append(f"phys-bits={spec.machine.phys_bits}")
    return ",".join(parts) + comma + rest


def _machine_options(spec: LaunchSpec, target: Target) -> list[str]:
    options: dict[str, str] = {}
    for name, value in spec.machine.options.items():
        key = "kernel_irqchip" if name == "kernel-irqchip" else name
        if not _NAME.fullmatch(name):
            raise _refused(name, "is no name of a machine property")
        if key in _NOT_OPTIONS:
            raise _refused(name, "is no machine option of a spec", hint=_NOT_OPTIONS[key])
        if key in options:
            raise _refused(name, "is given twice")
        options[key] = value if isinstance(value, str) else ("on" if value else "off")
    if target is Target.CC:
        for key, forced in _TDX_FORCES.items():
            value = _normal(options.get(key, "auto"))
            if value not in {forced, "auto"}:
                raise _refused(
                    key,
                    f"is {value}, and TDX forces {forced}",
                    hint=f"leave it out or write {key} = {forced!r}",
                )
            options[key] = forced
    return [f"{key}={escape(value)}" for key, value in options.items()]


def _normal(value: str) -> str:
    return "on" if value in _ON else "off" if value in _OFF else value


def _refused(name: str, message: str, *, hint: str | None = None) -> SpecError:
    return SpecError(message, origin=_ORIGIN, field=f"machine.options.{name}", hint=hint)
