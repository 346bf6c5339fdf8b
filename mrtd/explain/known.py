"""Digests whose meaning is known without any input, made by the derivation's own rules."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final

from mrtd.firmware.boot_options import (
    BOOT_MENU_HIDDEN,
    FIRMWARE_SETUP,
    SHELL_APP,
    SHELL_OLD,
    UI_APP_HIDDEN,
    load_option,
)
from mrtd.firmware.guids import IMAGE_SECURITY_DATABASE
from mrtd.firmware.variables import SecureBoot, Variable, secure_boot_policy, variable_data
from mrtd.registers import Sha384

_ACTIONS: Final = (
    b"Calling EFI Application from Boot Option",
    b"Returning from EFI Application from Boot Option",
    b"Exit Boot Services Invocation",
    b"Exit Boot Services Returned with Failure",
    b"Exit Boot Services Returned with Success",
)
_SHIM: Final = bytes.fromhex("50ab5d6046e00043abb63dd810dd8b23")  # 605dab50-..., shim's variables
_APPS: Final = (UI_APP_HIDDEN, BOOT_MENU_HIDDEN, FIRMWARE_SETUP, SHELL_OLD, SHELL_APP)
# Figures of real images and logs; bytes behind them are not at hand here.
_FIGURES: Final = {
    # OVMF_VARS_4M.fd of Debian 2022.11, 2025.02 and 2026.08; in logs of QEMU TDs
    "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6"
    "412af21c097d473155875ffd561d6790": "blank 4 MiB variable store of edk2 (no Secure Boot keys)",
    # google/go-tdx-guest testdata/ccel: every GCE log has it
    "458994daa60deac8dea19dba79748f6ff93fd0aebb8e3e0be5a65eb12309d342"
    "c3ce31cc67af7bbd22af1a44e7d9fe21": "TD HOB of Google Compute Engine: not QEMU's",
    # shim: MokListX without entries, and MokList with a vendor certificate alone
    "80ee2571334a57bf90238d21964447e542079d4805fa87887817a97dcb720906"
    "683a09b1ac634c76c0c0be1177f76110": "shim's empty MokListX",
}
# Debian's OVMF.fd, computed by three independent programs
_MRTD: Final = {
    "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057"
    "fb887fed0744d5631a212967fb231c47": "Debian 2022.11 OVMF.fd, per-page order",
    "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b3"
    "3db3b32e6924cba830a724eed443f7e1": "Debian 2022.11 OVMF.fd, two-pass order",
    "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9"
    "c31df8e8576d53b4d0cd1c3f28910e11": "Debian 2025.02 OVMF.fd, per-page order",
    "456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df"
    "188e3837ae48d32c73d473d097dc0db2": "Debian 2025.02 OVMF.fd, two-pass order",
}


@functools.cache
def known_digests() -> dict[Sha384, str]:
    """What an event is, by its digest."""
    made = {Sha384.of(content): text for content, text in _contents()}
    return made | {Sha384.fromhex(digest): text for digest, text in _FIGURES.items()}


@functools.cache
def known_mrtds() -> dict[Sha384, str]:
    """Which firmware, and page order, by MRTD."""
    return {Sha384.fromhex(value): text for value, text in _MRTD.items()}


def _contents() -> Iterator[tuple[bytes, str]]:
    yield bytes(4), "separator"
    yield b"\1\0\0\0", "error separator: the firmware reports a failed measurement"
    yield b"\xff\xff\xff\xff", "error separator: the firmware reports a failed measurement"
    for text in _ACTIONS:
        yield text, text.decode()
    for state in SecureBoot:
        variable = secure_boot_policy((), state)[0]
        yield variable_data(variable), f"SecureBoot {state}"
    for variable in secure_boot_policy((), SecureBoot.ABSENT)[1:]:
        yield variable_data(variable), f"{variable.name} empty"
    dbt = Variable(IMAGE_SECURITY_DATABASE, "dbt", b"")
    yield variable_data(dbt), "dbt empty"
    for app in _APPS:
        yield load_option(app), f"{app.description!r}, attributes {app.attributes:#x}"
    for order in ((), (0,), (1,), (0, 1), (1, 0), (0, 1, 2), (1, 0, 2), (2, 0, 1)):
        data = b"".join(index.to_bytes(2, "little") for index in order)
        yield data, f"boot order {', '.join(f'{i:04X}' for i in order) or 'empty'}"
    yield b"/rom@genroms/linuxboot_dma.bin\0", "boot order of a direct kernel boot"
    yield b"\1", "one byte 01: shim trusts the MOK list"
    sbat = Variable(_SHIM, "SbatLevel", b"sbat,1,2021030218\n")
    yield variable_data(sbat), "first SBAT level"
