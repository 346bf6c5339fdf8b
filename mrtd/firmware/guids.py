"""GUIDs of the formats read here, as the 16 bytes that they are in memory.

UEFI 2.10, appendix A: the first three fields of a GUID are little-endian, the rest is in order.
"""

from __future__ import annotations

from typing import Final


def guid(text: str) -> bytes:
    """The 16 bytes of a GUID in its text form, such as ``8be4df61-93ca-11d2-aa0d-00e098032b8c``."""
    raw = bytes.fromhex(text.replace("-", ""))
    return raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]


def guid_text(raw: bytes) -> str:
    """The text form of a GUID's 16 bytes."""
    h = (raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]).hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


# edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm: footer of the "GUIDed structure table"
OVMF_TABLE_FOOTER: Final = guid("96b582de-1fb2-45f7-baea-a366c55a082d")
# edk2 OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm: offset of the TDX metadata
OVMF_TDX_METADATA_OFFSET: Final = guid("e47a6535-984a-4798-865e-4685a7bf8ec2")

# UEFI PI 1.8 vol. 3: firmware file systems, sections
FIRMWARE_FILE_SYSTEM2: Final = guid("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
FIRMWARE_FILE_SYSTEM3: Final = guid("5473c07a-3dcb-4dca-bd6f-1e9689e7349a")
LZMA_SECTION: Final = guid("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
# edk2 MdeModulePkg/Include/Guid/SystemNvDataGuid.h, VariableFormat.h
SYSTEM_NV_DATA: Final = guid("fff12b8d-7696-4c8b-a985-2747075b4f50")
AUTHENTICATED_VARIABLE: Final = guid("aaf32c78-947b-439a-a180-2e144ec37792")
VARIABLE: Final = guid("ddcf3616-3275-4164-98b6-fe85707ffe7d")

# UEFI 2.10: EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE_GUID
GLOBAL_VARIABLE: Final = guid("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE: Final = guid("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
# edk2 SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h: gEfiSecureBootEnableDisableGuid
SECURE_BOOT_ENABLE: Final = guid("f0a30bc7-af08-4556-99c4-001009c93a44")

# edk2 OvmfPkg: FILE_GUIDs of the DXE firmware volume and of the applications in it
OVMF_DXE_VOLUME: Final = guid("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
UI_APP: Final = guid("462caa21-7614-4503-836e-8ab6f4662331")
BOOT_MANAGER_MENU_APP: Final = guid("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
SHELL: Final = guid("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1")

# UEFI 2.10, section 38.2: EFI_CC_MEASUREMENT_PROTOCOL
CC_MEASUREMENT_PROTOCOL: Final = guid("96751a3d-72f4-41a6-a794-ed5d0e67ae6b")
