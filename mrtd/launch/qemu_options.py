"""QEMU's command line options: which are modelled, which no measurement depends on, which warn.

Source: QEMU qemu-options.hx and system/vl.c of 7.2 to 11.1 (names, and which take a value); the
code that is named in the reasons (what an option changes). An option that is in no table is a
warning, never dropped.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mrtd.launch.arguments import Influence

_HOST: Final = "how the host runs QEMU"
_SCREEN: Final = "what shows the screen; the display device is another option"
_BACKEND: Final = "what is behind a device: the ACPI tables say that it is in its slot"
_RUN: Final = "when the vCPUs run, and what happens when they stop"
_DEBUG: Final = "a debugger of the host: it cannot look into a TD"


class Silent(NamedTuple):
    """An option that no measurement depends on: whether it takes a value, and why."""

    takes_value: bool
    reason: str


class Loud(NamedTuple):
    """An option that a measurement depends on and a spec cannot say."""

    takes_value: bool
    code: str
    influence: Influence
    reason: str


MODELLED: Final = {
    # name: whether it takes a value
    "M": True, "accel": True, "append": True, "bios": True, "blockdev": True, "boot": True,
    "cdrom": True, "chardev": True, "cpu": True, "device": True, "drive": True,
    "enable-kvm": False, "fw_cfg": True, "global": True, "hda": True, "hdb": True, "hdc": True,
    "hdd": True, "initrd": True, "kernel": True, "m": True, "machine": True, "netdev": True,
    "nic": True, "net": True, "no-acpi": False, "no-hpet": False, "nodefaults": False,
    "nodefconfig": False, "object": True, "serial": True, "smbios": True, "smp": True,
    "tpmdev": True, "usb": False, "vga": True,
}  # fmt: skip

SILENT: Final = {
    "action": Silent(True, _RUN),
    "add-fd": Silent(True, _HOST),
    "async-teardown": Silent(False, _HOST),
    "audio": Silent(True, _BACKEND),
    "audiodev": Silent(True, _BACKEND),
    "chroot": Silent(True, _HOST),
    "compat": Silent(True, _HOST),
    "D": Silent(True, _HOST),
    "d": Silent(True, _HOST),
    "daemonize": Silent(False, _HOST),
    "dfilter": Silent(True, _HOST),
    "display": Silent(True, _SCREEN),
    "enable-fips": Silent(False, _HOST),
    "enable-sync-profile": Silent(False, _HOST),
    "fsdev": Silent(True, _BACKEND),
    "full-screen": Silent(False, _SCREEN),
    "gdb": Silent(True, _DEBUG),
    "k": Silent(True, _SCREEN),
    "L": Silent(True, "where QEMU looks for its files; the firmware is -bios"),
    "mem-path": Silent(True, "which of the host's memory it is: the guest sees the same map"),
    "mem-prealloc": Silent(False, "which of the host's memory it is"),
    "mon": Silent(True, _HOST),
    "monitor": Silent(True, _HOST),
    "msg": Silent(True, _HOST),
    "name": Silent(True, "what the host calls the machine"),
    "no-fd-bootchk": Silent(False, "BIOS of floppies, not of a TDVF"),
    "no-quit": Silent(False, _SCREEN),
    "no-reboot": Silent(False, _RUN),
    "no-shutdown": Silent(False, _RUN),
    "no-user-config": Silent(False, "QEMU's configuration files of the host are not read"),
    "nographic": Silent(False, "with -nodefaults it only chooses where output goes"),
    "only-migratable": Silent(False, _HOST),
    "overcommit": Silent(True, _HOST),
    "perfmap": Silent(False, _HOST),
    "pidfile": Silent(True, _HOST),
    "plugin": Silent(True, _HOST),
    "qmp": Silent(True, _HOST),
    "qmp-pretty": Silent(True, _HOST),
    "rotate": Silent(True, _SCREEN),
    "rtc": Silent(True, "the clock's value and drift"),
    "run-with": Silent(True, _HOST),
    "runas": Silent(True, _HOST),
    "S": Silent(False, _RUN),
    "s": Silent(False, _DEBUG),
    "sandbox": Silent(True, _HOST),
    "seed": Silent(True, _HOST),
    "show-cursor": Silent(False, _SCREEN),
    "snapshot": Silent(False, "writes to disks go to temporary files"),
    "spice": Silent(True, _SCREEN),
    "tb-size": Silent(True, _HOST),
    "trace": Silent(True, _HOST),
    "uuid": Silent(True, "SMBIOS type 1: the firmware zeroes it in what it measures"),
    "vnc": Silent(True, _SCREEN),
    "watchdog-action": Silent(True, _RUN),
    "writeconfig": Silent(True, _HOST),
}

LOUD: Final = {
    "acpitable": Loud(True, "acpi_table_added", Influence.ACPI,
                      "a table of the host's own joins QEMU's (hw/acpi/core.c)"),
    "cxl-fixed-memory-window": Loud(True, "cxl", Influence.ACPI, "the CEDT table describes it"),
    "debugcon": Loud(True, "debug_console", Influence.ACPI,
                     "a device of its own: write it as -device isa-debugcon,chardev=..."),
    "fda": Loud(True, "floppy", Influence.ACPI, "the DSDT describes the drives"),
    "fdb": Loud(True, "floppy", Influence.ACPI, "the DSDT describes the drives"),
    "numa": Loud(True, "numa_nodes", Influence.ACPI,
                 "SRAT and SLIT describe nodes; their memory back ends are the host's"),
    "option-rom": Loud(True, "option_rom", Influence.OPTION_ROM,
                       "the firmware may run and measure it"),
    "parallel": Loud(True, "parallel_port", Influence.ACPI,
                     "write it as -device isa-parallel,chardev=..."),
    "set": Loud(True, "option_set", Influence.ACPI, "it changes another option: change that one"),
    "usbdevice": Loud(True, "usb_device", Influence.ACPI, "write it as -device usb-..."),
    "virtfs": Loud(True, "shared_folder", Influence.ACPI,
                   "write it as -fsdev and -device virtio-9p-pci"),
    "watchdog": Loud(True, "watchdog", Influence.ACPI, "write it as -device"),
}  # fmt: skip

REFUSED: Final = {
    "dtb": "a device tree changes the kernel's setup data, which is not modelled",
    "incoming": "the machine's state comes from another host: nothing is launched",
    "loadvm": "the machine's state comes from a snapshot: nothing is launched",
    "pflash": "a TD's firmware is memory that is measured, not flash: -bios",
    "readconfig": "options are in a file of the host: give /proc/PID/cmdline and say what the "
    "file holds as options",
    "shim": "a shim in front of the kernel is not modelled here: write a launch spec",
    "xen-domid": "no Xen guest is a TD",
}

# -object types. Memory back ends and what serves devices or the host leave no trace.
SILENT_OBJECTS: Final = (
    ("memory-backend-", "which of the host's memory it is: the guest sees the same map"),
    ("authz-", _HOST),
    ("can-", _BACKEND),
    ("colo-", _HOST),
    ("cryptodev-", _BACKEND),
    ("dbus-vmstate", _HOST),
    ("filter-", _BACKEND),
    ("input-", _BACKEND),
    ("iommufd", _BACKEND),
    ("iothread", _BACKEND),
    ("main-loop", _HOST),
    ("monitor-", _HOST),
    ("pr-manager-helper", _BACKEND),
    ("qtest", _HOST),
    ("rng-", _BACKEND),
    ("secret", _HOST),
    ("thread-context", _HOST),
    ("throttle-group", _BACKEND),
    ("tls-", _HOST),
    ("vfio-user-server", _BACKEND),
)
LOUD_OBJECTS: Final = {
    "acpi-generic-initiator": ("generic_initiator", "SRAT describes it"),
    "acpi-generic-port": ("generic_port", "SRAT describes it"),
}
REFUSED_OBJECTS: Final = {
    "sev-guest": "an AMD SEV guest is no TD",
    "sev-snp-guest": "an AMD SEV-SNP guest is no TD",
    "s390-pv-guest": "no TD",
    "igvm-cfg": "an IGVM file defines the initial TD, which is not modelled",
}

_PHYSICAL: Final = (
    "its BARs, and so the PCI window in the DSDT, and its option ROM are the physical device's"
)
# Devices whose like in the dump cannot be made without the host's hardware.
LOUD_DEVICES: Final = {
    "vfio-pci": ("passthrough_device", _PHYSICAL),
    "vfio-pci-nohotplug": ("passthrough_device", _PHYSICAL),
    "pc-dimm": ("memory_device", "SRAT and the DSDT describe memory that can be plugged"),
    "nvdimm": ("memory_device", "NFIT and the DSDT describe it"),
    "virtio-mem-pci": ("memory_device", "the memory map and SRAT describe it"),
    "virtio-pmem-pci": ("memory_device", "the memory map describes it"),
    "sgx-epc": ("memory_device", "the DSDT describes it"),
    "ivshmem-plain": ("shared_memory", "its BAR is as large as the host's memory back end"),
    "ivshmem-doorbell": ("shared_memory", "its BAR is as large as the server says"),
    "pxb": ("pci_expander", "edk2 enumerates more roots, which the dump does not imitate"),
    "pxb-pcie": ("pci_expander", "edk2 enumerates more roots, which the dump does not imitate"),
    "pxb-cxl": ("pci_expander", "edk2 enumerates more roots, which the dump does not imitate"),
}  # fmt: skip
