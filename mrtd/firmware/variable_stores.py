"""Variable stores that are files of their own: edk2's, and JSON.

Sources: QEMU hw/uefi/var-service-json.c and virt-firmware's ``virt-fw-vars --output-json`` (the same
format: ``{"version": 2, "variables": [{"name", "guid", "attr", "data", ...}]}``, data in hex).
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

    def refuse(message: str, field: str) -> MalformedFirmware:
        return MalformedFirmware(message, origin=origin, field=field)

    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refuse(f"is no JSON: {str(error)[:100]}", "variable store") from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise refuse(f"is not version {_VERSION}", "version")
    listed = document.get("variables")
    if not isinstance(listed, list) or len(listed) > _MAX_VARIABLES:
        raise refuse(f"is no list of at most {_MAX_VARIABLES}", "variables")
    found: dict[tuple[bytes, str], Variable] = {}
    for index, entry in enumerate(listed):
        field = f"variables[{index}]"
        if not isinstance(entry, dict):
            raise refuse("is no object", field)
        name, vendor, value = (entry.get(key) for key in ("name", "guid", "data"))
        if not isinstance(name, str) or not name:
            raise refuse("has no name", field)
        if not isinstance(vendor, str) or not _GUID.fullmatch(vendor):
            raise refuse(f"{vendor!r:.60} is no GUID", f"{field}.guid")
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise refuse("is no hex", f"{field}.data")
        variable = Variable(guid(vendor.lower()), name, bytes.fromhex(value))
        if (variable.vendor, name) in found:
            raise refuse(f"{name} is there twice", field)
        found[variable.vendor, name] = variable
    return tuple(found.values())
