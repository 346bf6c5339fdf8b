"""The QEMU arguments of a launch that are not the measured machine: what the host gives to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import escape, parse_device, stand_ins

FIXED: Final = ("-display", "none", "-no-reboot", "-S", "-mon", "chardev=qmp,mode=control")
TPM: Final = ("-tpmdev", "emulator,id=tpm0,chardev=tpm")

CONNECTED: Final = frozenset({"qmp", "serial", "payload", "tpm"})
"""Character devices that the harness listens to; the others are inert."""

_QCOW2: Final = b"QFI\xfb"


def connections(ends: Mapping[str, socket.socket]) -> list[str]:
    """A character device per inherited end of a connection."""
    arguments = []
    for name, end in ends.items():
        arguments += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
    return arguments


def host_resources(spec: LaunchSpec, disks: Mapping[str, Path]) -> list[str]:
    """Back ends for what the spec's devices name: the given disks, and inert ones for the rest.

    A disk is opened read-only, below an overlay that QEMU makes in its temporary folder and unlinks
    at once: the guest may write, and the image stays as it is.

    Args:
        spec: the launch.
        disks: image file by the name in the device's ``drive=``.

    Raises:
        SpecError: an image is missing, or no device takes it.
    """
    arguments = []
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
    for name, path in disks.items():
        if name not in named:
            raise SpecError(f"no device has drive={name}", origin="launch", field="disks")
        arguments += ["-drive", _overlaid(name, path)]
    return arguments


def boot_arguments(spec: LaunchSpec, folder: Path, work: Path) -> Sequence[str]:
    """Firmware, kernel, initrd and command line; ``work`` takes a firmware put together here.

    Raises:
        SpecError: a file of the spec is missing.
    """
    firmware = _file(folder, spec.firmware.path, "firmware.path")
    if spec.firmware.vars is not None:
        variables = _file(folder, spec.firmware.vars, "firmware.vars")
        whole = work / "firmware.fd"
        # The image is mapped to end at 4 GiB, the variable store in front of the code.
        whole.write_bytes(variables.read_bytes() + firmware.read_bytes())
        firmware = whole
    arguments = ["-bios", str(firmware)]
    arguments += ["-kernel", str(_file(folder, spec.direct.kernel, "boot.kernel"))]
    if spec.direct.initrd is not None:
        arguments += ["-initrd", str(_file(folder, spec.direct.initrd, "boot.initrd"))]
    if spec.direct.cmdline:
        arguments += ["-append", spec.direct.cmdline]
    return arguments


def _overlaid(name: str, path: Path) -> str:
    try:
        with path.open("rb") as image:
            kind = "qcow2" if image.read(len(_QCOW2)) == _QCOW2 else "raw"
    except OSError as error:
        raise SpecError(f"cannot be read: {error}", origin=str(path), field="disks") from error
    file = escape(str(path.absolute()))
    return f"if=none,id={escape(name)},file={file},format={kind},snapshot=on"


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
