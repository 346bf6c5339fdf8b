"""``launch.toml``: one file that says what is launched, for the derivation and for the launch.

The classes are the schema (``mrtd.launch/1``), which ``docs/launch-spec.md`` explains and
``docs/schema/launch.schema.json`` repeats. Unknown keys are refused; paths are relative to the
spec's folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from mrtd.errors import SpecError
from mrtd.launch.options import split_option
from mrtd.launch.size import memory_bytes

SCHEMA: Final = "mrtd.launch/1"
_MAX_BYTES: Final = 1 << 20
_NO_SPEC: Final = (
    "a launch spec is TOML (docs/launch-spec.md); for mrtd measure and audit, a libvirt domain is "
    "--libvirt FILE, and a QEMU command line --qemu-cmdline FILE"
)
BOOT_OPTIONS: Final = ("menu", "reboot-timeout", "splash-time", "strict")
TopologyKey = Literal[
    "maxcpus", "drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads"
]


class PageOrder(StrEnum):
    """How the VMM adds and extends the pages of the initial TD (facts: host KVM and QEMU)."""

    PER_PAGE = "per-page"
    TWO_PASS = "two-pass"  # noqa: S105 - no password


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the spec: unknown keys are refused."""


class Vmm(_Table, frozen=True, kw_only=True):
    """Who launches the VM.

    Attributes:
        kind: the virtual machine monitor, a row of ``mrtd/qemu/vmm_profiles.py``; ``qemu`` is
            upstream's or a distribution's QEMU on KVM.
        version: the version that launches, such as ``10.1.0``; fewer parts match any rest.
        page_order: how pages of the initial TD are added and measured; by default the one of the
            VMM profile.
    """

    kind: Literal["qemu", "qemu-canonical", "cloud-hypervisor", "gce"]
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){1,2}$")]
    page_order: PageOrder | None = None


class NotModelled(_Table, frozen=True, kw_only=True):
    """Something of the real machine that a measurement depends on and the spec cannot say.

    Attributes:
        code: what it is, for programs, such as ``numa_nodes``.
        argument: the argument as it was given.
        reason: why registers are not known with it.
        registers: which.
    """

    code: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$")]
    argument: str
    reason: str
    registers: tuple[Literal["rtmr0", "rtmr1", "rtmr2"], ...] = ("rtmr0",)


class Machine(_Table, frozen=True, kw_only=True):
    """The virtual hardware.

    Attributes:
        type: QEMU machine type, ``q35`` or a version of it, such as ``pc-q35-10.1``.
        memory: guest memory with its unit, such as ``2 GiB``.
        vcpus: number of virtual CPUs.
        cpu: QEMU CPU model with its properties, as for ``-cpu``; TDs run with ``host``.
        phys_bits: guest physical address width in bits; with ``cpu = "host"`` the host's. It
            places the 64-bit PCI window, which the measured ACPI tables describe.
        processor_id: the CPU's signature as SMBIOS shows it, 8 bytes in hex: CPUID leaf 1, EAX and
            EDX (``dmidecode -t 4``: ID). Firmware from edk2 202505 on measures it, and with
            ``cpu = "host"`` it is the host's.
        options: machine properties as for ``-machine``, such as ``{hpet = false}``.
        devices: devices in order, each as for ``-device``. Host resources that they name
            (``drive=``, ``netdev=``, ``chardev=``) are given at launch and are not measured.
        serial_ports: serial ports of the board, as ``-serial`` adds them; to ACPI tables they are
            others than those of ``-device isa-serial``.
        topology: further keys of ``-smp``, such as ``{maxcpus = 8, sockets = 1, cores = 8}``.
        globals: device defaults, each as for ``-global``.
        smbios: SMBIOS fields, each as for ``-smbios`` with ``type=``.
        boot_options: as for ``-boot``, such as ``menu=on,strict=on``.
        fw_cfg: further fw_cfg items, name to text, as for ``-fw_cfg name=...,string=...``.
        not_modelled: what a reader of machines could not say here: RTMR0 is unpinned, and what
            else it names.
    """

    # Distributions have names of their own: pc-q35-noble, pc-q35-rhel9.6.0, ubuntu's -v2 suffixes
    type: Annotated[
        str, msgspec.Meta(pattern=r"^(q35|pc-q35-([0-9]+\.[0-9]+|[a-z][A-Za-z0-9.-]*))$")
    ] = "q35"
    memory: str
    vcpus: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    cpu: Annotated[str, msgspec.Meta(min_length=1)] = "host"
    phys_bits: Annotated[int, msgspec.Meta(ge=32, le=57)] | None = None
    processor_id: (
        Annotated[str, msgspec.Meta(pattern=r"\A([0-9A-Fa-f]{2} ?){7}[0-9A-Fa-f]{2}\Z")] | None
    ) = None
    options: dict[str, bool | str] = {}
    devices: tuple[str, ...] = ()
    serial_ports: Annotated[int, msgspec.Meta(ge=0, le=4)] = 0
    topology: dict[TopologyKey, Annotated[int, msgspec.Meta(ge=1, le=4096)]] = {}
    globals: tuple[str, ...] = ()
    smbios: tuple[str, ...] = ()
    boot_options: str = ""
    fw_cfg: dict[str, str] = {}
    not_modelled: tuple[NotModelled, ...] = ()


class Firmware(_Table, frozen=True, kw_only=True):
    """The TDVF image.

    Attributes:
        path: the image that is given to ``-bios``.
        vars: a variable store image to put in front of ``path`` when that holds code only.
        variables: the variables when they are not those of the image: a store of edk2, or JSON as
            QEMU's ``uefi-vars`` device and ``virt-fw-vars`` write it.
        profile: event profile (``mrtd/firmware/profiles.py``); guessed from the image otherwise.
        secure_boot: whether it is built with Secure Boot; read from the image otherwise.
    """

    path: str
    vars: str | None = None
    variables: str | None = None
    profile: str | None = None
    secure_boot: bool | None = None


class Acpi(_Table, frozen=True, kw_only=True):
    """ACPI blobs as QEMU's fw_cfg offers them; those not given are derived or asked of QEMU.

    Attributes:
        tables: ``etc/acpi/tables``, with its padding.
        rsdp: ``etc/acpi/rsdp``, 20 bytes.
        loader: ``etc/table-loader``.
    """

    tables: str | None = None
    rsdp: str | None = None
    loader: str | None = None


class Smbios(_Table, frozen=True, kw_only=True):
    """SMBIOS, which edk2 >= 202505 measures.

    Attributes:
        measured: the filtered SMBIOS table, byte for byte as the firmware measures it.
    """

    measured: str | None = None


class Disk(_Table, frozen=True, kw_only=True):
    """A disk of the machine, one of ``[[disks]]``.

    Attributes:
        name: what devices call it: ``drive=NAME``.
        path: the image.
        format: of the image; never guessed, since a guest can make a raw disk look like another.
        readonly: whether the guest can write to it (a launch writes to an overlay, never here).
    """

    name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z][A-Za-z0-9._-]{0,31}\Z")]
    path: str
    format: Literal["raw", "qcow2"]
    readonly: bool = False


class DirectBoot(_Table, frozen=True, kw_only=True, tag_field="kind", tag="direct"):
    """QEMU's ``-kernel``.

    Attributes:
        kernel: a bzImage (or other EFI application).
        initrd: the initial RAM disk; none if absent.
        cmdline: the kernel command line, as for ``-append``.
        kernel_header: whether the VMM hands over the kernel with a ``patched`` or a ``plain``
            setup header; by default the rule of the VMM profile.
    """

    kind: ClassVar[str] = "direct"
    kernel: str
    initrd: str | None = None
    cmdline: str = ""
    kernel_header: Literal["patched", "plain"] | None = None


class DiskBoot(_Table, frozen=True, kw_only=True, tag_field="kind", tag="disk"):
    """The firmware boots from a disk's EFI system partition.

    Attributes:
        disk: the name of the disk.
        path: the EFI application on it, such as ``/EFI/BOOT/BOOTX64.EFI``, which is the default.
        entry: the boot loader's entry, or the UKI's profile, that is taken; by default theirs.
        cmdline: load options that the boot entry hands over; none by default.
    """

    kind: ClassVar[str] = "disk"
    disk: str
    path: str | None = None
    entry: str | None = None
    cmdline: str | None = None


class PayloadBoot(_Table, frozen=True, kw_only=True, tag_field="kind", tag="payload"):
    """td-shim starts a kernel that the VMM puts into memory.

    Attributes:
        payload: a bzImage or an ELF kernel.
        cmdline: the kernel command line.
    """

    kind: ClassVar[str] = "payload"
    payload: str
    cmdline: str = ""


class About(_Table, frozen=True, kw_only=True):
    """Where the files of a spec come from, for its reader; nothing is measured of it.

    Attributes:
        name: what this launch is called.
        packages: exact versions of the packages that the files were taken from.
    """

    name: str
    packages: dict[str, str] = {}


class LaunchSpec(_Table, frozen=True, kw_only=True):
    """A launch: ``mrtd.launch/1``."""

    schema: Literal["mrtd.launch/1"]
    about: About | None = None
    vmm: Vmm
    machine: Machine
    firmware: Firmware
    acpi: Acpi = Acpi()
    smbios: Smbios = Smbios()
    disks: tuple[Disk, ...] = ()
    boot: DirectBoot | DiskBoot | PayloadBoot

    @property
    def direct(self) -> DirectBoot:
        """``boot``, where the launch is a direct kernel boot. Raises `SpecError` otherwise."""
        if isinstance(self.boot, DirectBoot):
            return self.boot
        raise SpecError(
            f"{self.boot.kind!r} where a direct kernel boot is needed",
            origin="launch spec",
            field="boot.kind",
        )

    @property
    def memory_bytes(self) -> int:
        """Guest memory in bytes."""
        return memory_bytes(self.machine.memory, origin="launch spec", field="machine.memory")


def read_spec(text: str, *, origin: str) -> LaunchSpec:
    """Read and check a ``launch.toml``.

    Raises:
        SpecError: not TOML, unknown or missing keys, wrong types, or values that contradict
            each other.
    """
    try:
        spec = msgspec.convert(tomllib.loads(text), LaunchSpec)
    except RecursionError as error:
        raise SpecError("nested too deeply", origin=origin) from error
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise SpecError(
            message,
            origin=origin,
            field=path.rstrip("`").lstrip(".") or None,
            hint="docs/launch-spec.md lists every key",
        ) from error
    except ValueError as error:  # of tomllib, and of int() for a number of 4300 digits
        raise SpecError(f"not TOML: {error}", origin=origin, hint=_NO_SPEC) from error
    check_spec(spec, origin=origin)
    return spec


def read_spec_file(path: Path) -> LaunchSpec:
    """Read and check the ``launch.toml`` at ``path``. Raises `SpecError`."""
    try:
        with path.open("rb") as stream:  # of any kind: what has no end is not read to its end
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    if len(data) > _MAX_BYTES:
        raise SpecError(f"larger than {_MAX_BYTES} bytes", origin=str(path), hint=_NO_SPEC)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SpecError(
            "cannot be read: no text in UTF-8", origin=str(path), hint=_NO_SPEC
        ) from error
    return read_spec(text, origin=str(path))


def _check_disks(spec: LaunchSpec, refuse: Callable[..., SpecError]) -> None:
    names = [disk.name for disk in spec.disks]
    if len(set(names)) != len(names):
        raise refuse("disks.name", "two disks have the same name")
    if isinstance(spec.boot, DiskBoot) and spec.boot.disk not in names:
        raise refuse("boot.disk", f"there is no disk {spec.boot.disk!r}", "add it to [[disks]]")


def _check_machine(machine: Machine, refuse: Callable[..., SpecError]) -> None:
    if re.search(r"(?<!host-)phys-bits=", machine.cpu):
        raise refuse("machine.cpu", "names phys-bits", "set machine.phys_bits instead")
    if "max-ram-below-4g" in machine.options:
        # it moves the split of memory at 4 GiB, which is a rule in mrtd/firmware/td_hob.py
        raise refuse("machine.options", "max-ram-below-4g is not modelled", "leave it out")
    for text in machine.smbios:
        keys = [key for key, _ in split_option(text)]
        if keys[:1] != ["type"] or {"file", "path"} & set(keys):
            raise refuse("machine.smbios", f"{text!r} is no type=..., or names a file")
    for key, _ in split_option(machine.boot_options) if machine.boot_options else ():
        if key not in BOOT_OPTIONS:
            raise refuse("machine.boot_options", f"{key!r} is none of {', '.join(BOOT_OPTIONS)}")


def check_spec(spec: LaunchSpec, *, origin: str) -> None:
    """Refuse values that contradict each other or cannot be told to QEMU. Raises `SpecError`."""

    def refuse(field: str, message: str, hint: str | None = None) -> SpecError:
        return SpecError(message, origin=origin, field=field, hint=hint)

    memory_bytes(spec.machine.memory, origin=origin, field="machine.memory")
    _check_machine(spec.machine, refuse)
    if spec.acpi.tables is None and (spec.acpi.rsdp or spec.acpi.loader):
        raise refuse("acpi.tables", "missing, while acpi.rsdp or acpi.loader is given")
    _check_disks(spec, refuse)
    cmdline = spec.boot.cmdline or ""
    texts = {
        "vmm.version": [spec.vmm.version],
        "machine.type": [spec.machine.type],
        "machine.cpu": [spec.machine.cpu],
        "machine.options": [*spec.machine.options, *map(str, spec.machine.options.values())],
        "machine.devices": list(spec.machine.devices),
        "machine.globals": list(spec.machine.globals),
        "machine.smbios": list(spec.machine.smbios),
        "machine.boot_options": [spec.machine.boot_options],
        "machine.not_modelled": [item.argument for item in spec.machine.not_modelled],
        "machine.fw_cfg": [*spec.machine.fw_cfg, *spec.machine.fw_cfg.values()],
        "boot.cmdline": [cmdline],
    }
    for field, values in texts.items():
        for value in values:
            if re.search(r"[\0-\x1f\x7f]", value):
                raise refuse(field, f"control character in {value!r}")
