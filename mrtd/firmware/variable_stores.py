"""Variable stores that are files of their own: edk2's, and JSON.

Sources: QEMU hw/uefi/var-service-json.c and virt-firmware's ``virt-fw-vars --output-json``, which
write the same: ``{"version": 2, "variables": [{"name", "guid", "attr", "data", ...}]}``, data in
hex.
"""

from __future__ import annotations

import json
import re
from typing import Final

from mrtd.errors import MalformedFirmware
from mrtd.firmware.guids import guid
from mrtd.firmware.variables import Variable, read_variables

_VERSION: Final = 2
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"([0-9a-fA-F]{2})*")
_MAX_VARIABLES: Final = 4096


def read_variable_store(data: bytes, *, origin: str) -> tuple[Variable, ...]:
    """The variables of a store, edk2's or JSON.

    Raises:
        MalformedFirmware: it breaks its format.
    """
    if data.lstrip()[:1] == b"{":
        return read_json_store(data, origin=origin)
    return read_variables(memoryview(data), origin=origin)


def read_json_store(data: bytes, *, origin: str) -> tuple[Variable, ...]:
    """The variables of a JSON store. Raises `MalformedFirmware`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused(f"is no JSON: {str(error)[:100]}", origin, "variable store") from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise _refused(f"is not version {_VERSION}", origin, "version")
    listed = document.get("variables")
    if not isinstance(listed, list) or len(listed) > _MAX_VARIABLES:
        raise _refused(f"is no list of at most {_MAX_VARIABLES}", origin, "variables")
    found: dict[tuple[bytes, str], Variable] = {}
    for index, entry in enumerate(listed):
        variable = _variable(entry, origin, f"variables[{index}]")
        key = variable.vendor, variable.name
        if key in found:
            raise _refused(f"{variable.name} is there twice", origin, f"variables[{index}]")
        found[key] = variable
    return tuple(found.values())


def _variable(entry: object, origin: str, field: str) -> Variable:
    if not isinstance(entry, dict):
        raise _refused("is no object", origin, field)
    name, vendor, value = (entry.get(key) for key in ("name", "guid", "data"))
    if not isinstance(name, str) or not name:
        raise _refused("has no name", origin, field)
    if not isinstance(vendor, str) or not _GUID.fullmatch(vendor):
        raise _refused(f"{vendor!r:.60} is no GUID", origin, f"{field}.guid")
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise _refused("is no hex", origin, f"{field}.data")
    return Variable(guid(vendor.lower()), name, bytes.fromhex(value))


def _refused(message: str, origin: str, field: str) -> MalformedFirmware:
    return MalformedFirmware(message, origin=origin, field=field)
