"""The QEMU arguments of a launch that are not the measured machine: what the host gives to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.options import escape
from mrtd.launch.spec import DirectBoot, Disk, DiskBoot, LaunchSpec, PayloadBoot
from mrtd.qemu.devices import parse_device, stand_ins

FIXED: Final = ("-display", "none", "-no-reboot", "-S", "-mon", "chardev=qmp,mode=control")
TPM: Final = ("-tpmdev", "emulator,id=tpm0,chardev=tpm")

CONNECTED: Final = frozenset({"qmp", "serial", "payload", "tpm"})
"""Character devices that the harness listens to; the others are inert."""


def connections(ends: Mapping[str, socket.socket]) -> list[str]:
    """A character device per inherited end of a connection."""
    arguments = []
    for name, end in ends.items():
        arguments += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
    return arguments


def host_resources(spec: LaunchSpec, folder: Path) -> list[str]:
    """Back ends for what the spec's devices name: its disks, and inert ones for the rest.

    A disk is opened read-only, below an overlay that QEMU makes in its temporary folder and unlinks
    at once: the guest may write, and the image stays as it is.

    Args:
        spec: the launch.
        folder: what the paths of its disks are relative to.

    Raises:
        SpecError: an image is missing, or no device takes it.
    """
    arguments = []
    disks = {disk.name: disk for disk in spec.disks}
    for option, value in _pairs(stand_ins(spec)):
        name = _value(value, "node-name" if option == "-blockdev" else "id")
        if name in disks or (option == "-chardev" and name in CONNECTED):
            continue
        arguments += [option, value]
    named = {
        value
        for device in spec.machine.devices
        for key, value in parse_device(device).properties
        if key == "drive"
    }
    for name, disk in disks.items():
        if name not in named:
            raise SpecError(
                f"no device has drive={name}", origin="launch spec", field="machine.devices"
            )
        arguments += ["-drive", _drive(disk, _file(folder, disk.path, "disks.path"))]
    return arguments


def boot_arguments(spec: LaunchSpec, folder: Path, work: Path) -> Sequence[str]:
    """Firmware, kernel, initrd and command line; ``work`` takes a firmware put together here.

    Raises:
        SpecError: a file of the spec is missing, or what boots cannot be launched here.
    """
    firmware = _file(folder, spec.firmware.path, "firmware.path")
    if spec.firmware.vars is not None:
        variables = _file(folder, spec.firmware.vars, "firmware.vars")
        whole = work / "firmware.fd"
        # The image is mapped to end at 4 GiB, the variable store in front of the code.
        whole.write_bytes(variables.read_bytes() + firmware.read_bytes())
        firmware = whole
    arguments = ["-bios", str(firmware)]
    match spec.boot:
        case DirectBoot() as boot:
            arguments += ["-kernel", str(_file(folder, boot.kernel, "boot.kernel"))]
            if boot.initrd is not None:
                arguments += ["-initrd", str(_file(folder, boot.initrd, "boot.initrd"))]
            if boot.cmdline:
                arguments += ["-append", boot.cmdline]
        case DiskBoot():
            pass  # the firmware finds what to start; `host_resources` gives it the disks
        case PayloadBoot():
            raise SpecError(
                "td-shim is not launched here, only derived",
                origin="launch spec",
                field="boot.kind",
            )
    return arguments


def _drive(disk: Disk, path: Path) -> str:
    kept = "readonly=on" if disk.readonly else "snapshot=on"
    return f"if=none,id={escape(disk.name)},file={escape(str(path))},format={disk.format},{kept}"


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(arguments[::2], arguments[1::2], strict=True)


def _value(option: str, key: str) -> str:
    """The value of a key of an option that `stand_ins` wrote."""
    text = option.replace(",,", "\0").split(",")
    found = [part.partition("=")[2] for part in text if part.startswith(f"{key}=")]
    return found[0].replace("\0", ",") if found else ""


def _file(folder: Path, name: str, field: str) -> Path:
    path = (folder / name).absolute()
    if not path.is_file():
        raise SpecError(f"{path} is not a file", origin="launch spec", field=field)
    return path
