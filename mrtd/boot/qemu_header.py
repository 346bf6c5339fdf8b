"""What QEMU writes into the setup header of a ``-kernel`` before the firmware sees and measures it.

Source: qemu hw/i386/x86-common.c (hw/i386/x86.c), x86_load_linux. Whether it is done at all is a
rule of the VMM profile (`mrtd.qemu.vmm`).
"""

from __future__ import annotations

import re
from typing import Final

from mrtd.boot.bzimage import HEADER_END, SetupHeader, read_setup_header
from mrtd.errors import InputError, MalformedKernel
from mrtd.firmware.td_hob import below_4g

_TYPE_OF_LOADER: Final = 0x210
_LOADFLAGS: Final = 0x211
_INITRD_ADDRESS: Final = 0x218
_INITRD_SIZE: Final = 0x21C
_HEAP_END: Final = 0x224
_COMMAND_LINE: Final = 0x228
_VIDEO_MODE: Final = 0x1FA
_OLD_COMMAND_LINE: Final = 0x20

_QEMU: Final = 0xB0
_CAN_USE_HEAP: Final = 0x80
_LOADED_HIGH: Final = 0x01
_ABOVE_4G: Final = 0x02
_ACPI_DATA: Final = 0x20000 + 0x8000  # pc_q35 machines: acpi_data_size
_DEFAULT_INITRD_MAX: Final = 0x37FFFFFF
_VIDEO_NAMES: Final = {"normal": 0xFFFF, "ext": 0xFFFE, "ask": 0xFFFD}


def patched_header(
    image: memoryview, *, memory: int, initrd_size: int | None, cmdline: str, origin: str
) -> bytes:
    """The first bytes of the kernel as QEMU hands it over.

    Args:
        image: the kernel file.
        memory: guest memory in bytes; it moves the initrd.
        initrd_size: size of the initrd in bytes; None if there is none.
        cmdline: the kernel command line; ``vga=`` in it sets the video mode.
        origin: the kernel's name, for messages.

    Returns:
        The bytes that replace the file's first ones.

    Raises:
        MalformedKernel: the kernel is too old for an initrd.
        InputError: the initrd does not fit below its limit, or ``vga=`` has no valid value.
    """
    header = read_setup_header(image, origin=origin)
    head = bytearray(image[:HEADER_END])
    length = (len(cmdline.encode()) + 16) & ~15
    high = header.protocol >= 0x202 and header.loadflags & _LOADED_HIGH
    real, command_line = (0x10000, 0x20000) if high else (0x90000, 0x9A000 - length)
    if header.protocol >= 0x202:
        _put(head, _COMMAND_LINE, command_line, 4)
    else:
        _put(head, _OLD_COMMAND_LINE, 0xA33F, 2)
        _put(head, _OLD_COMMAND_LINE + 2, command_line - real, 2)
    mode = _video_mode(cmdline)
    if mode is not None:
        _put(head, _VIDEO_MODE, mode, 2)
    if header.protocol >= 0x200:
        head[_TYPE_OF_LOADER] = _QEMU
    if header.protocol >= 0x201:
        head[_LOADFLAGS] |= _CAN_USE_HEAP
        _put(head, _HEAP_END, command_line - real - 0x200, 2)
    if initrd_size is not None:
        if header.protocol < 0x200:
            raise MalformedKernel(
                "too old to load an initrd (no setup header)", origin=origin, field="setup header"
            )
        address = _initrd_address(header, memory, initrd_size, origin)
        _put(head, _INITRD_ADDRESS, address, 4)
        _put(head, _INITRD_SIZE, initrd_size, 4)
    return bytes(head)


def _initrd_address(header: SetupHeader, memory: int, size: int, origin: str) -> int:
    if header.protocol >= 0x20C and header.xloadflags & _ABOVE_4G:
        highest = 0xFFFFFFFF
    elif header.protocol >= 0x203:
        highest = header.initrd_addr_max
    else:
        highest = _DEFAULT_INITRD_MAX
    low = below_4g(memory)
    if highest >= low - _ACPI_DATA:
        highest = low - _ACPI_DATA - 1
    if size >= highest:
        raise InputError(
            f"an initrd of {size} bytes does not fit below {highest:#x}",
            origin=origin,
            field="boot.initrd",
            hint="QEMU refuses it too; give the machine more memory or a smaller initrd",
        )
    return (highest - size) & ~4095


def _video_mode(cmdline: str) -> int | None:
    """The value of the first ``vga=``, as QEMU reads it: a name, or a C integer and its end."""
    _, found, rest = cmdline.partition("vga=")
    if not found:
        return None
    for name, mode in _VIDEO_NAMES.items():
        if rest.startswith(name):
            return mode
    match = re.match(r"(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,16}|[1-9][0-9]{0,15})(?: |\Z)", rest)
    mode = -1 if match is None else _c_integer(match[1])
    if not 0 <= mode <= 0xFFFFFFFF:
        raise InputError(
            f"{rest[:32]!r} is no video mode: QEMU refuses to start",
            origin="boot.cmdline",
            field="vga=",
        )
    return mode & 0xFFFF


def _c_integer(text: str) -> int:
    octal = text.startswith("0") and text[1:].isdigit()
    return int(text, 8) if octal else int(text, 0)


def _put(head: bytearray, offset: int, value: int, size: int) -> None:
    # as QEMU's stw_p and stl_p: a very long command line wraps around
    head[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
