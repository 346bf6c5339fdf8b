"""Boots from a disk: boot options, and the chain that starts on its EFI system partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mrtd.boot.chain import Chain
from mrtd.boot.device_options import disk_boot_variables
from mrtd.boot.recorder import Recorder
from mrtd.boot.secure_boot import policy_of
from mrtd.boot.stored_options import StoredOption, started_before, stored_options
from mrtd.disk import find_esp, open_esp, open_fat, read_gpt
from mrtd.disk.esp import XBOOTLDR_TYPE
from mrtd.disk.gpt import has_gpt
from mrtd.errors import SpecError
from mrtd.eventlog import EventLog, EventType, InputName, Origin
from mrtd.firmware.boot_options import BootOption, BootVariable
from mrtd.firmware.guids import SHELL
from mrtd.firmware.sequence import exit_boot_services
from mrtd.qemu.devices import parse_device
from mrtd.registers import Target, Unpinned
from mrtd.start.boot_names import with_names
from mrtd.start.exit_flush import exit_flushed
from mrtd.start.facts import machine_facts
from mrtd.start.machine_devices import BootDevices, boot_devices
from mrtd.start.started import PLAIN_HEADER, UNKNOWN_KERNEL, Started
from mrtd.start.stored_variables import ANY_PCR

if TYPE_CHECKING:
    from mrtd.disk import Disk, FatVolume
    from mrtd.firmware.identify import Firmware
    from mrtd.launch.inputs import LaunchInputs
    from mrtd.launch.spec import DiskBoot, LaunchSpec
    from mrtd.qemu.fw_cfg import FwCfg

REMOVABLE_MEDIA: Final = "/EFI/BOOT/BOOTX64.EFI"
"""UEFI 2.10, 3.5.1.1: what firmware starts from a disk that no boot option says more of."""

# edk2 OvmfPkg PlatformBdsRestoreNvVarsFromHardDisk: where variables go that have no flash
_SAVED: Final = "NvVars"


def disk_boot(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    *,
    boot: DiskBoot,
    target: Target,
    fw_cfg: FwCfg | Unpinned,
) -> Started:
    """What a launch measures that boots from a disk.

    Raises:
        InputError: the disk, or a program on it, is malformed; or Secure Boot refuses it.
    """
    found = boot_devices(spec)
    if not isinstance(found, Unpinned):
        found = with_names(found, spec, inputs)
    with inputs.open_disk(boot.disk) as disk:
        where = f"disk {boot.disk}"
        esp = _esp(disk, where)
        option = _first_option(firmware, boot, esp.guid)
        chain = Chain(
            target,
            machine_facts(spec, firmware, fw_cfg),
            policy=policy_of(firmware),
            partitions=esp.partitions,
            entry=boot.entry,
            partition=esp.number,
            extended=esp.extended,
        )
        before = "" if option else _tried_before(boot, found)
        if before:
            reason = (
                f"the firmware tries disk {before!r} before {boot.disk!r}, and what it measures of "
                "a disk that does not boot is not derived: give the disk that boots a bootindex"
            )
            chain.unknown((4, 5), reason, f"disk {before}")
        if decided := started_before(firmware.variables):
            reason = f"what the firmware makes of the stored {', '.join(decided)} is not derived"
            chain.unknown(ANY_PCR, reason, "variable store")
        path, arguments = _what_boots(boot, option)
        chain.run_file(esp.files, path, arguments)
        if chain.ended and chain.entry is not None:
            raise SpecError(
                f"{boot.entry!r} is an entry of a boot loader, and none is started",
                origin="launch spec", field="boot.entry",
                hint="a UKI that the firmware starts takes its profile from boot.cmdline: '@1'",
            )  # fmt: skip
        options = _options(spec, boot, firmware, found)
        if esp.files.exists(_SAVED):
            options = Unpinned(f"the ESP has {_SAVED}, from which this firmware restores variables")
    events = chain.recorder.log
    return Started(
        image=None,
        before_image=_option_roms(found, target),
        options=options,
        events=(
            *events,
            *exit_boot_services(
                target, firmware.profile, flushed=exit_flushed(spec, inputs, firmware.profile)
            ),
        ),
        kernel=chain.kernel or UNKNOWN_KERNEL,
        header=PLAIN_HEADER,
        cmdline=chain.cmdline,
        has_initrd=_has_initrd(events),
    )


class _Esp(NamedTuple):
    """The ESP: its files, the body and place of its partition table's event, number and GUID.

    And whether an XBOOTLDR partition is on the same disk.
    """

    files: FatVolume
    partitions: tuple[bytes, str] | None
    number: int | None
    guid: str
    extended: bool = False


def _esp(disk: Disk, where: str) -> _Esp:
    if not has_gpt(disk):
        return _Esp(open_esp(disk), None, None, "")  # an MBR is not measured
    gpt = read_gpt(disk)
    esp = find_esp(gpt)
    files = open_fat(disk, *gpt.extent(esp))
    extended = bool(gpt.of_type(XBOOTLDR_TYPE))
    return _Esp(files, (gpt.event_data(), where), esp.number, esp.unique_guid, extended)


def _first_option(firmware: Firmware, boot: DiskBoot, partition: str) -> StoredOption | None:
    """The option of the variable store that the firmware takes; None if it takes its own.

    Raises:
        SpecError: it would take one that is not on the disk that boots.
    """
    order, options = stored_options(firmware.variables, origin=_store(firmware))
    for number in order:
        option = options.get(number)
        if option is None or not option.active:
            continue
        here = option.partition.lower() == partition.lower()
        if here and option.path and option.options is not None:
            return option
        if boot.path is None:
            raise SpecError(
                f"Boot{number:04X} {option.description!r} is what the firmware boots first, and it "
                f"names no file on the ESP of {boot.disk!r}",
                origin=_store(firmware), field="BootOrder",
                hint="set boot.path to what boots all the same",
            )  # fmt: skip
    return None


def _what_boots(boot: DiskBoot, option: StoredOption | None) -> tuple[str, str]:
    """Path and load options of the application that is started."""
    path, options = (option.path, option.options or "") if option else (REMOVABLE_MEDIA, "")
    return boot.path or path, options if boot.cmdline is None else boot.cmdline


def _store(firmware: Firmware) -> str:
    return f"{firmware.tdvf.origin} variable store"


def _options(
    spec: LaunchSpec, boot: DiskBoot, firmware: Firmware, found: BootDevices | Unpinned
) -> tuple[BootVariable, ...] | Unpinned:
    """The boot variables of a machine that boots from a disk."""
    if isinstance(found, Unpinned):
        return found
    _check_drive(spec, boot)
    order, stored = stored_options(firmware.variables, origin=_store(firmware))
    told = boot.path is not None or boot.cmdline is not None
    if told and (boot.path or REMOVABLE_MEDIA, boot.cmdline or "") not in {
        (option.path, option.options) for option in stored.values()
    }:
        return Unpinned(
            "boot.path and boot.cmdline are those of no boot option in the variable store, so "
            "which option starts it is not known"
        )
    if stored and any(device.bootindex is not None for device in found.known):
        return Unpinned("what bootindex makes of the variable store's boot options is not derived")
    if found.reason:
        return Unpinned(found.reason)
    options = {number: BootOption(o.description, o.data) for number, o in stored.items()}
    profile = firmware.profile
    late = profile.late_apps if _has_shell(firmware) else ()
    return disk_boot_variables(profile.boot_apps, found.known, late, (order, options))


def _has_shell(firmware: Firmware) -> bool:
    """Whether the build has a shell: those with Secure Boot often have none."""
    return firmware.volumes is None or SHELL in bytes(firmware.volumes[1])


def _tried_before(boot: DiskBoot, found: BootDevices | Unpinned) -> str:
    """Another disk that the firmware tries first; empty if there is none."""
    if isinstance(found, Unpinned):
        return ""
    indexed = [d for d in found.known if d.bootindex is not None]
    tried = sorted(indexed, key=lambda d: d.bootindex or 0) or list(found.known)
    return tried[0].drive if tried and tried[0].drive != boot.disk else ""


def _check_drive(spec: LaunchSpec, boot: DiskBoot) -> None:
    if any(("drive", boot.disk) in parse_device(text).properties for text in spec.machine.devices):
        return
    raise SpecError(
        f"no device has drive={boot.disk}",
        origin="launch spec",
        field="machine.devices",
        hint=f'add "virtio-blk-pci,drive={boot.disk}"',
    )


def _option_roms(found: BootDevices | Unpinned, target: Target) -> EventLog:
    """Drivers in the ROMs of devices; a TD takes none (edk2 IncompatiblePciDeviceSupportDxe)."""
    drivers = () if isinstance(found, Unpinned) else found.drivers
    if target is Target.CC or not drivers:
        return ()
    recorder = Recorder(target)
    for driver in drivers:
        recorder.measure(
            2, EventType.EV_EFI_BOOT_SERVICES_DRIVER,
            Unpinned(f"the driver in the ROM that QEMU gives {driver} is not derived: "
                     'set its romfile=""'),
            f"option ROM of {driver}", Origin(InputName.FIRMWARE, f"QEMU's ROM of {driver}"),
        )  # fmt: skip
    return recorder.log


def _has_initrd(events: EventLog) -> bool:
    return any(event.origin.input is InputName.INITRD for event in events)
