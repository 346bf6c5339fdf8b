"""Which entry of Secure Boot's databases lets an image start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mrtd.boot.recorder import Content
from mrtd.eventlog import Origin
from mrtd.firmware.variables import SecureBoot, secure_boot_state

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware


class Allowed(msgspec.Struct, frozen=True):
    name: str
    variable: Content
    label: str
    origin: Origin


class SecureBootPolicy:
    def authority(self, data: memoryview, path: str, *, required: bool) -> Allowed | None:
        raise NotImplementedError


def policy_of(firmware: Firmware) -> SecureBootPolicy | None:
    state = secure_boot_state(firmware.variables, supported=firmware.secure_boot)
    return SecureBootPolicy() if state is SecureBoot.ON else None
