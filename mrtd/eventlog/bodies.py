"""Event bodies, decoded: what a log says about what was measured.

A digest proves what was extended; a body only claims it. `mrtd.eventlog.digest_check` tells where
the claim is proven by the digest. A body that breaks its format is shown generically with a remark:
it never makes a log unreadable.

Source: TCG PC Client Platform Firmware Profile 1.06, chapters 10.2 and 10.4, where nothing else is
named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.event import EventType
from mrtd.eventlog.gpt import GptBody, read_gpt
from mrtd.eventlog.images import (
    BlobBody,
    ImageBody,
    TablesBody,
    read_blob,
    read_blob2,
    read_image,
    read_tables,
    read_tables2,
)
from mrtd.eventlog.no_action import NoActionBody, read_no_action
from mrtd.eventlog.text import decoded, is_text, printable
from mrtd.eventlog.variable_data import VariableBody, read_variable_data
from mrtd.reader import Reader

FW_CFG: Final = b"QEMU FW CFG\0"
_ACPI: Final = b"ACPI DATA"
_TD_SHIM_HEADER: Final = 20
GRUB_PREFIXES: Final = (b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ")
# Linux drivers/firmware/efi/libstub/efistub.h; systemd src/fundamental/tpm2-pcr.h
TAGS: Final = {
    0x8F3B22EC: "initrd of the EFI stub",
    0x8F3B22ED: "load options of the EFI stub",
    0xF5BC582A: "systemd-boot: loader.conf",
    0x6C46F751: "systemd-stub: device tree add-on",
    0x49DFFE0F: "systemd-stub: initrd add-on",
    0xDAC08E1A: "systemd-stub: microcode add-on",
    0x13AED6DB: "systemd-stub: UKI profile",
    0xD5CB7CBC: "systemd-stub: SMBIOS type 1",
    0xE0D47BC8: "systemd-stub: SMBIOS type 2",
    0xC0B3BD23: "systemd-stub: SMBIOS type 11",
}


class Generic(msgspec.Struct, frozen=True):
    """A body of an unknown type, or one that breaks its format: its size and any text it is."""

    size: int
    text: str

    def __str__(self) -> str:
        return self.text or f"{self.size} bytes"


class TextBody(msgspec.Struct, frozen=True):
    """An action, a version, or a boot loader's text."""

    text: str

    def __str__(self) -> str:
        return printable(self.text)


class LoaderCommand(msgspec.Struct, frozen=True):
    """What GRUB ran: its prefix, such as ``grub_cmd``, and the command, which is measured."""

    prefix: str
    command: bytes

    def __str__(self) -> str:
        return printable(f"{self.prefix}: {self.command.decode('utf-8', 'replace')}")


class SeparatorBody(msgspec.Struct, frozen=True):
    """The end of the firmware's measurements: 0 or 0xffffffff; anything else reports an error."""

    value: bytes

    @property
    def is_error(self) -> bool:
        """Whether it reports that the firmware failed to measure something."""
        return self.value not in {bytes(4), b"\xff" * 4}

    def __str__(self) -> str:
        if self.value == bytes(4):
            return "separator"
        return f"{'error separator' if self.is_error else 'separator'} {self.value[:16].hex()}"


class TaggedBody(msgspec.Struct, frozen=True):
    """TCG_PCClientTaggedEvent; ``tag`` is None where old kernels wrote no header."""

    tag: int | None
    data: bytes

    def __str__(self) -> str:
        text = printable(decoded(self.data))
        if self.tag is None:
            return text
        known = f" ({TAGS[self.tag]})" if self.tag in TAGS else ""
        return f"tag {self.tag:#010x} {text}{known}".replace("  ", " ").rstrip()


class ConfigBody(msgspec.Struct, frozen=True):
    """Platform configuration: its kind, the item's name, and the data where the body holds it.

    ``ACPI DATA`` (edk2 OvmfPkg/AcpiPlatformDxe), ``QEMU FW CFG`` with an item (edk2
    QemuFwCfgLib), or td-shim's descriptor with its data (td-shim event_log.rs).
    """

    kind: str
    name: str
    data: bytes | None

    def __str__(self) -> str:
        shown = printable(f"{self.kind} {self.name}".rstrip())
        return shown if self.data is None else f"{shown} ({len(self.data)} bytes)"


Body = (
    Generic
    | TextBody
    | LoaderCommand
    | SeparatorBody
    | TaggedBody
    | ConfigBody
    | VariableBody
    | GptBody
    | ImageBody
    | BlobBody
    | TablesBody
    | NoActionBody
)


class Decoded(msgspec.Struct, frozen=True):
    """A body, and why it is only a generic one or incomplete (else empty)."""

    body: Body
    remark: str = ""


def decode(kind: int, data: bytes) -> Decoded:
    """Decode an event's body; never fails.

    Args:
        kind: TCG event type.
        data: the body as in the log; may be hostile.
    """
    read = _READERS.get(kind)
    if read is None or not data:
        return Decoded(_generic(data))
    try:
        body = read(data)
    except MalformedEventLog as error:
        return Decoded(_generic(data), str(error))
    return Decoded(body, body.remark if isinstance(body, VariableBody) else "")


def _generic(data: bytes) -> Generic:
    return Generic(len(data), printable(decoded(data)) if is_text(data) else "")


def _text(data: bytes) -> Body:
    return TextBody(decoded(data)) if is_text(data) else _generic(data)


def _loader(data: bytes) -> Body:
    for prefix in GRUB_PREFIXES:
        if data.startswith(prefix):
            command = data.removeprefix(prefix).removesuffix(b"\0")
            return LoaderCommand(prefix[:-2].decode(), command)
    return _text(data)


def _tagged(data: bytes) -> Body:
    # TCG_PCClientTaggedEvent: id u32, size u32, data
    reader = Reader(data, origin="tagged event", error=MalformedEventLog)
    if is_text(data):
        return TaggedBody(None, data)
    tag = reader.u32("tag")
    content = bytes(reader.take(reader.u32("tag size"), "tag data"))
    reader.expect_end("tagged event")
    return TaggedBody(tag, content)


def _config(data: bytes) -> Body:
    if data.startswith(FW_CFG):
        return ConfigBody("QEMU FW CFG", decoded(data[len(FW_CFG) :]), None)
    if data.rstrip(b"\0") == _ACPI:
        return ConfigBody("ACPI DATA", "", None)
    size = int.from_bytes(data[16:_TD_SHIM_HEADER], "little")
    name = data[:16].rstrip(b"\0")
    if len(data) >= _TD_SHIM_HEADER and size == len(data) - _TD_SHIM_HEADER and is_text(name):
        # td-shim TdShimPlatformConfigInfoHeader: descriptor 16 B, length u32, data
        return ConfigBody("td-shim", decoded(name), data[_TD_SHIM_HEADER:])
    return _text(data)


_READERS: Final[dict[int, Callable[[bytes], Body]]] = {
    EventType.EV_POST_CODE: _text,
    EventType.EV_NO_ACTION: read_no_action,
    EventType.EV_SEPARATOR: SeparatorBody,
    EventType.EV_ACTION: _text,
    EventType.EV_EVENT_TAG: _tagged,
    EventType.EV_S_CRTM_CONTENTS: _text,
    EventType.EV_S_CRTM_VERSION: _text,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _config,
    EventType.EV_COMPACT_HASH: _text,
    EventType.EV_IPL: _loader,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: _text,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: read_variable_data,
    EventType.EV_EFI_VARIABLE_BOOT: read_variable_data,
    EventType.EV_EFI_VARIABLE_BOOT2: read_variable_data,
    EventType.EV_EFI_VARIABLE_AUTHORITY: read_variable_data,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: read_image,
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: read_image,
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: read_image,
    EventType.EV_EFI_GPT_EVENT: read_gpt,
    EventType.EV_EFI_GPT_EVENT2: read_gpt,
    EventType.EV_EFI_ACTION: _text,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: read_blob,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: read_blob2,
    EventType.EV_EFI_HANDOFF_TABLES: read_tables,
    EventType.EV_EFI_HANDOFF_TABLES2: read_tables2,
    EventType.EV_EFI_HCRTM_EVENT: _text,
}
