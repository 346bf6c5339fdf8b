"""Disk images on a QEMU command line: ``-drive``, ``-blockdev`` and the old letters.

Source: QEMU blockdev.c (drive_new: which device an interface makes), qapi/block-core.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mrtd.launch.arguments import Argument, Influence, Treatment
from mrtd.launch.machine import Image, MachineParts
from mrtd.launch.options import escape, json_object, split_option

if TYPE_CHECKING:
    Handler = Callable[[MachineParts, str, str], Iterator[Argument]]

_FILE_DRIVERS: Final = frozenset({"file", "host_device", "host_cdrom"})
_NOT_LOCAL: Final = "no local image; ACPI tables show its device only"
# qemu block.c path_has_protocol: letters and a colon in front of any slash
_PROTOCOL: Final = re.compile(r"[^/:]+:")
_INDEX: Final = re.compile(r"[0-5]")
_MAX_NODES: Final = 64  # a chain of block nodes


def drive(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    """``-drive``: an image, and for some interfaces a device."""
    pairs = dict(split_option(value, implied="file"))
    kind = pairs.get("if", "ide")
    name = pairs.get("id") or f"drive{len(parts.images)}"
    if kind == "pflash":
        raise parts.refuse(text, "a TD's firmware is memory that is measured, not flash",
                           hint="-bios")  # fmt: skip
    yield from _image(parts, name, pairs.get("file", ""), pairs.get("format", ""),
                      readonly=pairs.get("readonly", pairs.get("read-only")) == "on"
                      or pairs.get("media") == "cdrom", text=text)  # fmt: skip
    if kind == "virtio":
        # drive_new adds the device behind all that -device names
        parts.late.append(f"virtio-blk-pci,drive={escape(name)}")
    elif kind == "ide":
        index = pairs.get("index", "")
        unit = int(index) if _INDEX.fullmatch(index) else parts.next_sata()
        device = "ide-cd" if pairs.get("media") == "cdrom" else "ide-hd"
        parts.board.append(f"{device},drive={escape(name)},bus=ide.{unit}")
    elif kind != "none":
        yield Argument(text, Treatment.WARNING, Influence.ACPI,
                       f"if={kind}: name its device with -device", "drive_interface")  # fmt: skip


def disk_letter(unit: int, *, device: str) -> Handler:
    """``-hda`` to ``-hdd`` and ``-cdrom``: an image and a device of the built-in SATA."""

    def handle(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
        name = f"sata{unit}"
        yield from _image(parts, name, value, "", readonly=device == "ide-cd", text=text)
        parts.board.append(f"{device},drive={name},bus=ide.{unit}")

    return handle


def _image(
    parts: MachineParts, name: str, path: str, format_: str, *, readonly: bool, text: str
) -> Iterator[Argument]:
    if not path or _PROTOCOL.match(path):
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE, _NOT_LOCAL)
        return
    parts.images[name] = Image(path, format_, readonly, text)


def blockdev(parts: MachineParts, value: str, text: str) -> Iterator[Argument]:
    """``-blockdev``: a node; a format node on a file node is an image."""
    if value.startswith("{"):
        node = dict(json_object(value, origin=parts.origin, field="-blockdev"))
    else:
        node = _nested(split_option(value, implied="driver"))
    name = node.get("node-name")
    if not isinstance(name, str):
        raise parts.refuse(text, "names no node")
    parts.nodes[name] = node
    driver = _text(node, "driver")
    is_file = driver in _FILE_DRIVERS
    path = _path_of(parts, node if is_file else node.get("file"))
    if path is None:
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE, _NOT_LOCAL)
        return
    read_only = node.get("read-only") is True or _text(node, "read-only") == "on"
    parts.images[name] = Image(path, "raw" if is_file else driver, read_only, text)


def _text(node: Mapping[str, object], key: str) -> str:
    value = node.get(key)
    return value if isinstance(value, str) else ""


def _path_of(parts: MachineParts, node: object) -> str | None:
    """The file below a block node, which is given whole or by its name."""
    for _ in range(_MAX_NODES):
        if isinstance(node, str):
            node = parts.nodes.get(node)
        if not isinstance(node, Mapping):
            return None
        if _text(node, "driver") in _FILE_DRIVERS:
            return _text(node, "filename") or None
        node = node.get("file")
    return None


def _nested(pairs: tuple[tuple[str, str], ...]) -> dict[str, object]:
    """Dotted keys as nested objects, as far as ``file.`` needs it."""
    node: dict[str, object] = {}
    for key, item in pairs:
        outer, dot, inner = key.partition(".")
        if dot and outer == "file":
            below = node.setdefault("file", {})
            if isinstance(below, dict):
                below[inner] = item
        else:
            node[key] = item
    return node
