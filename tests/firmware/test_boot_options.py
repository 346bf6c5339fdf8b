"""Boot options of the firmware's own applications: digests that real logs show."""

from __future__ import annotations

import pytest

from mrtd.firmware.boot_options import (
    BOOT_MENU_HIDDEN,
    FIRMWARE_SETUP,
    SHELL_APP,
    SHELL_OLD,
    UI_APP_HIDDEN,
    FirmwareApp,
    boot_variables,
    load_option,
)
from mrtd.registers import Sha384


def prefix(data: bytes) -> str:
    return str(Sha384.of(data))[:8]


@pytest.mark.parametrize(
    ("app", "digest"),
    [  # facts 3.5
        (UI_APP_HIDDEN, "23ada07f"),  # Boot0000 of logs of edk2 202302 to 202502
        (BOOT_MENU_HIDDEN, "5068e6a9"),  # Boot0000 of edk2 >= 202505
        (FIRMWARE_SETUP, "dd424f2e"),  # Boot0001 of edk2 >= 202505
        (SHELL_OLD, "f0fb2cdc"),  # Alibaba's log
        (SHELL_APP, "af479862"),  # edk2 >= 202505
    ],
    ids=lambda value: value.description if isinstance(value, FirmwareApp) else "",
)
def test_digest_of_each_option(app: FirmwareApp, digest: str) -> None:
    assert prefix(load_option(app)) == digest


@pytest.mark.parametrize(
    ("apps", "digest"),
    [  # facts 3.5
        ((UI_APP_HIDDEN,), "1dd6f7b4"),
        ((BOOT_MENU_HIDDEN, FIRMWARE_SETUP), "52b9a02d"),
    ],
)
def test_digest_of_each_order(apps: tuple[FirmwareApp, ...], digest: str) -> None:
    order, *options = boot_variables(apps)
    assert prefix(order.data) == digest
    assert [option.name for option in options] == [f"Boot{n:04X}" for n in range(len(apps))]


def test_without_applications_the_order_is_empty() -> None:
    (order,) = boot_variables(())
    assert (order.name, order.data) == ("BootOrder", b"")


def test_an_option_is_laid_out_as_uefi_says() -> None:
    option = load_option(UI_APP_HIDDEN)
    assert option[:4] == (0x109).to_bytes(4, "little")
    assert option[4:6] == (20 + 20 + 4).to_bytes(2, "little")
    assert option[6:18] == "UiApp\0".encode("utf-16-le")
    assert option[18:22] == bytes([4, 7, 20, 0])
    assert option[-4:] == bytes([0x7F, 0xFF, 4, 0])
