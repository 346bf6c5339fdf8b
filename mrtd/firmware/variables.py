"""UEFI variables: the store in the configuration firmware volume (CFV), and how they are measured.

In a TD the variables live in memory and start from the CFV at each boot (edk2 OvmfPkg
PlatformInitEmuVariableNvStore), so what an earlier boot wrote does not count.

Sources: edk2 MdeModulePkg/Include/Guid/VariableFormat.h (store and variable headers);
TCG PC Client Platform Firmware Profile, UEFI_VARIABLE_DATA.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import (
    AUTHENTICATED_VARIABLE,
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    SECURE_BOOT_ENABLE,
    SYSTEM_NV_DATA,
    VARIABLE,
    guid_text,
)
from mrtd.reader import Reader

_VOLUME_HEADER: Final = 72
_STORE_HEADER: Final = 28
_FORMATTED: Final = 0x5A
_HEALTHY: Final = 0xFE
_START_ID: Final = 0x55AA
_ADDED: Final = 0x3F
_ADDED_IN_TRANSITION: Final = 0x3E
# extra bytes between attributes and name size: monotonic count, time stamp, public key index
_AUTHENTICATED_EXTRA: Final = 28


class Variable(msgspec.Struct, frozen=True):
    """A UEFI variable.

    Attributes:
        vendor: the 16-byte GUID of its name space.
        name: its name.
        data: its value.
        offset: where its header is in the image, bytes.
    """

    vendor: bytes
    name: str
    data: bytes
    offset: int = 0


def read_variables(cfv: memoryview, *, origin: str, base: int = 0) -> tuple[Variable, ...]:
    """The live variables of a CFV: a firmware volume that holds a variable store.

    Args:
        cfv: the CFV section's bytes.
        origin: the image it is in, for messages.
        base: offset of ``cfv`` in that image.

    Raises:
        MalformedFirmware: no variable store, or one that breaks its format.
    """
    reader = Reader(cfv, origin=origin, error=MalformedFirmware, base=base)
    header = reader.take(_VOLUME_HEADER, "CFV volume header")
    if bytes(header[16:32]) != SYSTEM_NV_DATA or bytes(header[40:44]) != b"_FVH":
        raise reader.fail("not a firmware volume with variables", "CFV volume header")
    reader.seek(int.from_bytes(header[48:50], "little"), "CFV volume header length")
    kind = reader.guid("variable store GUID")
    if kind not in {AUTHENTICATED_VARIABLE, VARIABLE}:
        raise reader.fail(f"unknown store {guid_text(kind)}", "variable store GUID")
    size = reader.u32("variable store size")
    if not _STORE_HEADER <= size <= reader.remaining + 20:
        raise reader.fail(f"{size:#x} does not fit the CFV", "variable store size")
    state = reader.u16("variable store state")
    if state != _FORMATTED | _HEALTHY << 8:
        raise reader.fail(f"{state:#06x} is not formatted and healthy", "variable store state")
    reader.take(6, "variable store reserved")
    start = reader.offset
    store = Reader(
        cfv[start : start + size - _STORE_HEADER],
        origin=origin,
        error=MalformedFirmware,
        base=base + start,
    )
    extra = _AUTHENTICATED_EXTRA if kind == AUTHENTICATED_VARIABLE else 0
    return _live(_read_store(store, extra, base + start))


def _read_store(reader: Reader, extra: int, base: int) -> list[tuple[int, Variable]]:
    found: list[tuple[int, Variable]] = []
    while reader.remaining >= 2:
        offset = reader.offset
        if reader.u16("variable start") != _START_ID:
            break  # the erased rest of the store
        state = reader.u8("variable state")
        reader.take(1 + 4 + extra, "variable attributes")
        name_size = reader.u32("variable name size")
        data_size = reader.u32("variable data size")
        vendor = reader.guid("variable vendor")
        if name_size % 2 or name_size < 2:
            raise reader.fail(f"{name_size} is no size of UTF-16 text", "variable name size")
        raw_name = bytes(reader.take(name_size, "variable name"))
        data = bytes(reader.take(data_size, "variable data"))
        try:
            name = raw_name.decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise reader.fail(f"{raw_name[:64]!r} is not UTF-16", "variable name") from error
        found.append((state, Variable(vendor, name, data, base + offset)))
        aligned = (reader.offset + 3) & ~3
        if aligned - reader.offset > reader.remaining:
            break
        reader.seek(aligned, "next variable")
    return found


def _live(found: list[tuple[int, Variable]]) -> tuple[Variable, ...]:
    """Added variables, and those in deleted transition that no added one replaces."""
    added = {(v.vendor, v.name) for state, v in found if state == _ADDED}
    return tuple(
        v
        for state, v in found
        if state == _ADDED or (state == _ADDED_IN_TRANSITION and (v.vendor, v.name) not in added)
    )


class SecureBoot(StrEnum):
    """State of the ``SecureBoot`` variable when it is measured."""

    ABSENT = "absent"
    """The build has no Secure Boot support: no such variable."""
    OFF = "off"
    ON = "on"


_SECURE_BOOT_DATA: Final = {
    SecureBoot.ABSENT: b"",
    SecureBoot.OFF: b"\0",
    SecureBoot.ON: b"\1",
}


def _value(variables: tuple[Variable, ...], vendor: bytes, name: str) -> bytes | None:
    for variable in variables:
        if (variable.vendor, variable.name) == (vendor, name):
            return variable.data
    return None


def secure_boot_state(variables: tuple[Variable, ...], *, supported: bool) -> SecureBoot:
    """The ``SecureBoot`` variable that the firmware makes of its store.

    On if there is a PK and SecureBootEnable is not 0 (edk2 SecurityPkg AuthVariableLib,
    AuthVariableLibInitialize: a user-mode platform enables it by default); absent in builds
    without Secure Boot support.

    Args:
        variables: those of the CFV.
        supported: whether the firmware is built with Secure Boot.
    """
    if not supported:
        return SecureBoot.ABSENT
    has_pk = bool(_value(variables, GLOBAL_VARIABLE, "PK"))
    enabled = _value(variables, SECURE_BOOT_ENABLE, "SecureBootEnable")
    return SecureBoot.ON if has_pk and enabled != b"\0" else SecureBoot.OFF


def secure_boot_policy(variables: tuple[Variable, ...], state: SecureBoot) -> tuple[Variable, ...]:
    """The variables measured as Secure Boot policy, in order: SecureBoot, PK, KEK, db, dbx [, dbt].

    An absent one is measured with empty data, except dbt, which is skipped
    (edk2 OvmfPkg/Tcg/TdTcg2Dxe MeasureAllSecureVariables).
    """
    policy = [Variable(GLOBAL_VARIABLE, "SecureBoot", _SECURE_BOOT_DATA[state])]
    for vendor, name in (
        (GLOBAL_VARIABLE, "PK"),
        (GLOBAL_VARIABLE, "KEK"),
        (IMAGE_SECURITY_DATABASE, "db"),
        (IMAGE_SECURITY_DATABASE, "dbx"),
    ):
        policy.append(Variable(vendor, name, _value(variables, vendor, name) or b""))
    dbt = _value(variables, IMAGE_SECURITY_DATABASE, "dbt")
    if dbt is not None:
        policy.append(Variable(IMAGE_SECURITY_DATABASE, "dbt", dbt))
    return tuple(policy)


def variable_data(variable: Variable) -> bytes:
    """UEFI_VARIABLE_DATA: GUID | u64 characters | u64 bytes | UTF-16 name without NUL | data.

    The digest of EV_EFI_VARIABLE_DRIVER_CONFIG and _AUTHORITY events is over these bytes; that of
    EV_EFI_VARIABLE_BOOT is over the data alone.
    """
    name = variable.name.encode("utf-16-le")
    return (
        variable.vendor
        + (len(name) // 2).to_bytes(8, "little")
        + len(variable.data).to_bytes(8, "little")
        + name
        + variable.data
    )
