"""Facts of a Linux kernel file: its setup header, its version, what its EFI stub can measure.

Source: Linux Documentation/arch/x86/boot.rst ("The Real-Mode Kernel Header").
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from mrtd.errors import MalformedKernel
from mrtd.firmware.guids import CC_MEASUREMENT_PROTOCOL

HEADER_END: Final = 0x268  # protocol 2.15; QEMU patches nothing behind it
_SETUP_SECTORS: Final = 0x1F1
_MAGIC: Final = 0x202
_VERSION: Final = 0x206
_KERNEL_VERSION: Final = 0x20E
_LOADFLAGS: Final = 0x211
_INITRD_ADDR_MAX: Final = 0x22C
_XLOADFLAGS: Final = 0x236
_PAYLOAD_OFFSET: Final = 0x248
_PAYLOAD_LENGTH: Final = 0x24C
_IMMEDIATES: Final = 64  # bytes between the two halves of a GUID in code
_FIRST_CC_RELEASE: Final = (6, 9)


class SetupHeader(msgspec.Struct, frozen=True):
    """The fields of the setup header that QEMU's loader looks at.

    Attributes:
        protocol: boot protocol, 0x20f for 2.15; 0 if there is no header ("HdrS").
        loadflags: bit 0: the kernel is loaded high.
        xloadflags: bit 1: an initrd may lie above 4 GiB.
        initrd_addr_max: highest address that the initrd may occupy.
    """

    protocol: int
    loadflags: int
    xloadflags: int
    initrd_addr_max: int


class KernelFacts(msgspec.Struct, frozen=True):
    """What a kernel file says of itself.

    Attributes:
        protocol: boot protocol, 0 if it is no bzImage.
        version: version text of its header, such as ``6.12.117+deb13-cloud-amd64 (...)``.
        release: its first two numbers; None if it has no version text.
        efi_stub: it is a PE image.
        cc_measurement: its EFI stub knows the CC measurement protocol, by that GUID in the file
            (from Linux 6.9 on, or a backport): only then a TD's RTMR2 is extended.
    """

    protocol: int
    version: str
    release: tuple[int, int] | None
    efi_stub: bool
    cc_measurement: bool

    @property
    def expected_cc(self) -> bool:
        """Whether the version alone would make one expect CC measurement."""
        return self.release is not None and self.release >= _FIRST_CC_RELEASE


def read_setup_header(image: memoryview, *, origin: str) -> SetupHeader:
    """The setup header of a kernel; protocol 0 where there is none.

    Raises:
        MalformedKernel: the file ends inside the header.
    """
    if bytes(image[_MAGIC : _MAGIC + 4]) != b"HdrS":
        return SetupHeader(0, 0, 0, 0)
    if len(image) < HEADER_END:
        raise MalformedKernel(
            f"ends at {len(image):#x}, inside the header", origin=origin, field="setup header"
        )
    return SetupHeader(
        protocol=_uint(image, _VERSION, 2),
        loadflags=image[_LOADFLAGS],
        xloadflags=_uint(image, _XLOADFLAGS, 2),
        initrd_addr_max=_uint(image, _INITRD_ADDR_MAX, 4),
    )


def read_kernel_facts(image: memoryview, *, origin: str) -> KernelFacts:
    """What a kernel file says of itself.

    Raises:
        MalformedKernel: a pointer of its header leads out of the file.
    """
    header = read_setup_header(image, origin=origin)
    version = _kernel_version(image, origin) if header.protocol else ""
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    return KernelFacts(
        protocol=header.protocol,
        version=version,
        release=(int(numbers[1]), int(numbers[2])) if numbers else None,
        efi_stub=bytes(image[:2]) == b"MZ",
        cc_measurement=any(
            _knows_cc_measurement(part) for part in _outside_payload(image, header, origin)
        ),
    )


def _kernel_version(image: memoryview, origin: str) -> str:
    pointer = _uint(image, _KERNEL_VERSION, 2)
    if not pointer:
        return ""
    start = pointer + 0x200
    if start >= len(image):
        raise MalformedKernel(
            f"points to {start:#x}, after the file",
            origin=origin,
            offset=_KERNEL_VERSION,
            field="kernel_version",
        )
    text = bytes(image[start : start + 512]).split(b"\0", 1)[0]
    return re.sub(r"[^ -~]", "?", text.decode("ascii", "replace"))


def _outside_payload(image: memoryview, header: SetupHeader, origin: str) -> list[memoryview]:
    """The file without its compressed payload: setup code, decompressor and EFI stub."""
    if header.protocol < 0x208:  # the payload fields exist since protocol 2.08
        return [image]
    protected = ((image[_SETUP_SECTORS] or 4) + 1) * 512
    start = protected + _uint(image, _PAYLOAD_OFFSET, 4)
    end = start + _uint(image, _PAYLOAD_LENGTH, 4)
    if end > len(image):
        raise MalformedKernel(
            f"payload ends at {end:#x}, after the file ({len(image):#x})",
            origin=origin,
            offset=_PAYLOAD_LENGTH,
            field="payload_length",
        )
    return [image[:start], image[end:]]


def _knows_cc_measurement(code: memoryview) -> bool:
    """Whether code holds the protocol's GUID: in one piece, or as two immediates close together.

    Compilers make two 8-byte moves of it (seen in Debian's 6.12 kernels); 6.1 has none of it.
    """
    first, second = CC_MEASUREMENT_PROTOCOL[:8], CC_MEASUREMENT_PROTOCOL[8:]
    text = bytes(code)
    position = text.find(first)
    while position >= 0:
        if second in text[max(0, position - _IMMEDIATES) : position + _IMMEDIATES]:
            return True
        position = text.find(first, position + 1)
    return False


def _uint(image: memoryview, offset: int, size: int) -> int:
    return int.from_bytes(image[offset : offset + size], "little")
