"""Boot options that the firmware creates for the applications in its own volume.

Sources: UEFI 2.10 section 3.1.3 (EFI_LOAD_OPTION), PI 1.8 vol. 2 (device paths of files in
firmware volumes), edk2 OvmfPkg/Library/PlatformBootManagerLib (which options, in which order).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from mrtd.firmware.guids import (
    BOOT_MANAGER_MENU_APP,
    GLOBAL_VARIABLE,
    OVMF_DXE_VOLUME,
    SHELL,
    UI_APP,
)
from mrtd.firmware.variables import Variable

_ACTIVE: Final = 0x001
_HIDDEN: Final = 0x008
_CATEGORY_APP: Final = 0x100
_MEDIA_DEVICE_PATH: Final = 4
_FIRMWARE_FILE: Final = 6
_FIRMWARE_VOLUME: Final = 7
_END: Final = bytes([0x7F, 0xFF, 4, 0])


class FirmwareApp(msgspec.Struct, frozen=True):
    """A boot option for an application in the firmware's DXE volume.

    Attributes:
        description: its name in the boot menu.
        attributes: EFI_LOAD_OPTION attributes.
        file: 16-byte GUID of its file.
    """

    description: str
    attributes: int
    file: bytes


# facts 3.5; named for the edk2 source that creates them
UI_APP_HIDDEN: Final = FirmwareApp("UiApp", _ACTIVE | _HIDDEN | _CATEGORY_APP, UI_APP)
BOOT_MENU_HIDDEN: Final = FirmwareApp(
    "BootManagerMenuApp", _ACTIVE | _HIDDEN | _CATEGORY_APP, BOOT_MANAGER_MENU_APP
)
FIRMWARE_SETUP: Final = FirmwareApp("EFI Firmware Setup", _ACTIVE | _CATEGORY_APP, UI_APP)
SHELL_OLD: Final = FirmwareApp("EFI Internal Shell", _ACTIVE, SHELL)
SHELL_APP: Final = FirmwareApp("EFI Internal Shell", _ACTIVE | _CATEGORY_APP, SHELL)


def load_option(app: FirmwareApp) -> bytes:
    """EFI_LOAD_OPTION: u32 attributes | u16 path length | UTF-16 description | device path."""
    path = (
        bytes([_MEDIA_DEVICE_PATH, _FIRMWARE_VOLUME, 20, 0])
        + OVMF_DXE_VOLUME
        + bytes([_MEDIA_DEVICE_PATH, _FIRMWARE_FILE, 20, 0])
        + app.file
        + _END
    )
    return (
        app.attributes.to_bytes(4, "little")
        + len(path).to_bytes(2, "little")
        + (app.description + "\0").encode("utf-16-le")
        + path
    )


class BootVariable(msgspec.Struct, frozen=True):
    """A boot variable, and what it says, for a person."""

    variable: Variable
    description: str

    @property
    def name(self) -> str:
        """``BootOrder``, ``Boot0000``..."""
        return self.variable.name

    @property
    def data(self) -> bytes:
        """Its value, which is what is measured."""
        return self.variable.data


class BootOption(msgspec.Struct, frozen=True):
    """A boot option: what it is called, and its EFI_LOAD_OPTION."""

    description: str
    data: bytes


def variables_of(
    options: Mapping[int, BootOption], order: tuple[int, ...]
) -> tuple[BootVariable, ...]:
    """BootOrder, then the options in its order, as they are measured.

    Args:
        options: every option, by its number.
        order: the numbers in the order in which they are tried.
    """
    numbers = b"".join(number.to_bytes(2, "little") for number in order)
    shown = ", ".join(f"{number:04X}" for number in order) or "empty"
    return (
        BootVariable(Variable(GLOBAL_VARIABLE, "BootOrder", numbers), shown),
        *(
            BootVariable(
                Variable(GLOBAL_VARIABLE, f"Boot{number:04X}", options[number].data),
                options[number].description,
            )
            for number in order
        ),
    )


def boot_variables(apps: tuple[FirmwareApp, ...]) -> tuple[BootVariable, ...]:
    """BootOrder, then Boot0000, Boot0001, ... of a direct boot, as they are measured."""
    options = {n: BootOption(app.description, load_option(app)) for n, app in enumerate(apps)}
    return variables_of(options, tuple(options))
