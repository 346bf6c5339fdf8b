"""GUIDs in event bodies: their text, and the names of those that virtual machines measure."""

from __future__ import annotations

from typing import Final
from uuid import UUID

# UEFI 2.10; edk2 .dec, .inf and .fdf files; Linux include/linux/efi.h; shim; UAPI discoverable
# partitions; ChromiumOS disk format
_NAMES: Final = {
    "8be4df61-93ca-11d2-aa0d-00e098032b8c": "EFI_GLOBAL_VARIABLE",
    "d719b2cb-3d3a-4596-a3bc-dad00e67656f": "EFI_IMAGE_SECURITY_DATABASE",
    "605dab50-e046-4300-abb6-3dd810dd8b23": "shim",
    "77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft",
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "X.509 certificate",
    "c1c41626-504c-4092-aca9-41f936934328": "SHA-256 digest",
    "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1": "OVMF DXE volume",
    "462caa21-7614-4503-836e-8ab6f4662331": "UiApp",
    "eec25bdc-67f2-4d95-b1d5-f81b2039d11d": "BootManagerMenuApp",
    "7c04a583-9e3e-4f1c-ad65-e05268d0b4d1": "Shell",
    "1428f772-b64a-441e-b8c3-9ebdd7f893c7": "QEMU kernel loader",
    "5568e427-68fc-4f3d-ac74-ca555231cc68": "Linux initrd",
    "55c5d1f8-04cd-46b5-8a20-e56cbb3052d0": "systemd-stub",
    "48db5e17-707c-472d-91cd-1613e7ef51b0": "OVMF main volume",
    "93bb96af-b9f2-4eb8-9462-e0ba74564236": "TD HOB",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux filesystem",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux root verity (x86-64)",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
    "fe3a2a5d-4f32-41a7-b725-accc3285a309": "ChromeOS kernel",
    "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec": "ChromeOS root",
    "2e0a753d-9e48-43b0-8337-b15192cb1b5e": "ChromeOS reserved",
    "cab6e88e-abf3-4102-a07a-d4bb9be3c1d3": "ChromeOS firmware",
    "eb9d2d31-0f88-11da-a94e-0800200c9a66": "SMBIOS table",
    "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3 table",
    "8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2.0 table",
}


def guid_text(raw: bytes) -> str:
    """The text form of a GUID's 16 bytes."""
    return str(UUID(bytes_le=raw))


def guid_name(text: str) -> str:
    """The name of a GUID that is known here, else the GUID."""
    return _NAMES.get(text, text)
