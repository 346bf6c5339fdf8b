"""The parts of a machine, as they are collected from a command line, and the spec they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from mrtd.errors import SpecError
from mrtd.launch.arguments import Argument, Influence, Treatment
from mrtd.launch.options import option_pairs
from mrtd.launch.spec import (
    SCHEMA,
    DirectBoot,
    Disk,
    DiskBoot,
    Firmware,
    LaunchSpec,
    Machine,
    NotModelled,
    PageOrder,
    Vmm,
    check_spec,
)

_DEFAULTS: Final = Argument(
    "(no -nodefaults)", Treatment.WARNING, Influence.ACPI,
    "QEMU adds a display, a network card, a CD drive and ports of its own", "default_devices",
)  # fmt: skip
_DISK: Final = "disks: what is on it is measured as far as the boot chain reads it"
_NO_DISK: Final = (
    "not among the disks: no device has it, or it is neither raw nor qcow2 or does not say so; a "
    "disk that does not boot is in no register"
)
_MIB: Final = 1 << 20
# A firmware measures the option ROMs that it runs as boot services drivers (PCR 2: RTMR1).
_MOVED: Final[Mapping[Influence, tuple[Literal["rtmr0", "rtmr1"], ...]]] = {
    Influence.OPTION_ROM: ("rtmr0", "rtmr1"),
}
_DEFAULT_MEMORY: Final = 128 * _MIB


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What no description of a machine says, and a launch spec needs.

    Attributes:
        version: the version of the QEMU that runs it.
        page_order: see `mrtd.launch.spec.Vmm`.
        phys_bits: see `mrtd.launch.spec.Machine`; what the machine says goes first.
        processor_id: see `mrtd.launch.spec.Machine`.
        boot_disk: the disk that boots, by the name that its device uses.
        disk_formats: format of an image by that name, where the machine does not say it.
    """

    version: str
    page_order: PageOrder | None = None
    phys_bits: int | None = None
    processor_id: str | None = None
    boot_disk: str | None = None
    disk_formats: Mapping[str, str] = {}


@dataclass(slots=True)
class Image:
    """A disk image: its path, its format, whether the guest may write to it, its argument."""

    path: str
    format: str
    readonly: bool
    text: str


@dataclass(slots=True)
class MachineParts:
    """What a command line has said so far.

    Attributes:
        origin: where it is from.
        type: machine type.
        options: machine properties.
        memory: bytes.
        vcpus: virtual CPUs at start.
        serial_ports: of the board.
        topology: further keys of ``-smp``.
        cpu: CPU model with properties, without the physical address width.
        phys_bits: that width.
        board: devices that the board makes, before all others.
        devices: the others, in the order in which QEMU makes them.
        late: devices that options other than ``-device`` add at the end.
        globals: device defaults.
        smbios: SMBIOS fields.
        boot_options: of ``-boot``.
        fw_cfg: fw_cfg items.
        firmware: of ``-bios``.
        kernel: of ``-kernel``.
        initrd: of ``-initrd``.
        cmdline: of ``-append``.
        images: disk images by the name that devices use.
        nodes: block nodes by name, with their options, as far as they are no image yet.
        nodefaults: whether QEMU adds no devices of its own.
    """

    origin: str
    type: str = "q35"
    options: dict[str, bool | str] = field(default_factory=dict)
    memory: int = _DEFAULT_MEMORY
    vcpus: int = 1
    serial_ports: int = 0
    topology: dict[str, int] = field(default_factory=dict)
    cpu: str = "qemu64"
    phys_bits: int | None = None
    board: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    globals: list[str] = field(default_factory=list)
    smbios: list[str] = field(default_factory=list)
    boot_options: list[str] = field(default_factory=list)
    fw_cfg: dict[str, str] = field(default_factory=dict)
    firmware: str | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None
    images: dict[str, Image] = field(default_factory=dict)
    nodes: dict[str, dict[str, object]] = field(default_factory=dict)
    nodefaults: bool = False

    def refuse(self, text: str, message: str, *, hint: str | None = None) -> SpecError:
        """The error for an argument."""
        return SpecError(f"{text}: {message}", origin=self.origin, hint=hint)

    def next_sata(self) -> int:
        """The first port of the built-in SATA that no option has taken."""
        return sum("bus=ide." in device for device in self.board)

    def finish(self, host: HostFacts) -> Iterator[Argument]:
        """What only the whole command line tells."""
        if not self.nodefaults:
            yield _DEFAULTS
        disks = {disk.name for disk in self._disks(host)}
        for name, image in self.images.items():
            if name in disks:
                yield Argument(image.text, Treatment.MODELLED, Influence.BOOT, _DISK)
            else:
                yield Argument(image.text, Treatment.NO_INFLUENCE, Influence.NONE, _NO_DISK)

    def spec(self, host: HostFacts, warnings: Sequence[Argument]) -> LaunchSpec:
        """The spec. Raises `SpecError` when it has no firmware or boots nothing that is known."""
        if self.firmware is None:
            raise self.refuse("-bios", "missing: a TD's firmware is the one that -bios names")
        plain = [text for text in (*self.devices, *self.late) if not text.startswith("{")]
        as_json = [text for text in self.devices if text.startswith("{")]
        disks = self._disks(host)
        fields = {
            "schema": SCHEMA,
            "vmm": Vmm(kind="qemu", version=host.version, page_order=host.page_order),
            "machine": Machine(
                type=self.type,
                memory=f"{self.memory // _MIB} MiB",
                vcpus=self.vcpus,
                cpu=self.cpu,
                phys_bits=self.phys_bits or host.phys_bits,
                processor_id=host.processor_id,
                options=self.options,
                # qemu system/vl.c qemu_create_cli_devices: key=value ones first, then JSON ones
                devices=(*self.board, *plain, *as_json),
                serial_ports=self.serial_ports,
                topology=self.topology,  # type: ignore[arg-type] # checked below
                globals=tuple(self.globals),
                smbios=tuple(self.smbios),
                boot_options=",".join(self.boot_options),
                fw_cfg=self.fw_cfg,
                not_modelled=tuple(
                    NotModelled(
                        code=a.code,
                        argument=a.text,
                        reason=f"{a.influence}: {a.reason}",
                        registers=_MOVED.get(a.influence, ("rtmr0",)),
                    )
                    for a in warnings
                ),
            ),
            "firmware": Firmware(path=self.firmware),
            "disks": disks,
            "boot": self._boot(disks, host),
        }
        try:
            spec = msgspec.convert(msgspec.to_builtins(fields), LaunchSpec)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$")
            raise SpecError(
                message, origin=self.origin, field=path.rstrip("`").lstrip(".")
            ) from error
        check_spec(spec, origin=self.origin)
        return spec

    def _disks(self, host: HostFacts) -> tuple[Disk, ...]:
        """The images that a launch spec can name, in the order of the devices."""
        found = {}
        for text in (*self.board, *self.devices, *self.late):
            pairs = dict(option_pairs(text, implied="driver", field="-device"))
            image = self.images.get(name := pairs.get("drive", ""))
            format_ = host.disk_formats.get(name) or (image.format if image else "")
            if image is not None and format_ in {"raw", "qcow2"}:
                found[name] = {
                    "name": name, "path": image.path, "format": format_,
                    "readonly": image.readonly,
                }  # fmt: skip
        return tuple(msgspec.convert(disk, Disk) for disk in found.values())

    def _boot(self, disks: tuple[Disk, ...], host: HostFacts) -> DirectBoot | DiskBoot:
        if self.kernel is not None:
            return DirectBoot(kernel=self.kernel, initrd=self.initrd, cmdline=self.cmdline or "")
        if self.initrd is not None or self.cmdline is not None:
            raise self.refuse("-initrd, -append", "without -kernel")
        return DiskBoot(disk=host.boot_disk or self._boot_disk(disks))

    def _boot_disk(self, disks: tuple[Disk, ...]) -> str:
        """The disk that the firmware tries first: the lowest bootindex, or the only one."""
        order: list[tuple[int, str]] = []
        for text in (*self.board, *self.devices, *self.late):
            pairs = dict(option_pairs(text, implied="driver", field="-device"))
            index = pairs.get("bootindex", "")
            if index.isdecimal() and len(index) < len(str(1 << 31)):
                order.append((int(index), pairs.get("drive", "")))
        names = [disk.name for disk in disks]
        first = min(order)[1] if order else names[0] if len(names) == 1 else ""
        if first not in names:
            raise self.refuse(
                "boot", f"no kernel, and of {len(names)} disks none is known to boot first",
                hint="--boot-disk NAME, and --disk-format NAME=FORMAT where it is not said",
            )  # fmt: skip
        return first
