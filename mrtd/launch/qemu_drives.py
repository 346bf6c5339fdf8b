"""Disk images on a QEMU command line: ``-drive``, ``-blockdev`` and the old letters.

Source: QEMU blockdev.c (drive_new: which device an interface makes), qapi/block-core.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mrtd.launch.arguments import Argument, Influence, Treatment
from mrtd.launch.machine import Image, MachineParts
from mrtd.launch.options import escape, json_object, split_option

if TYPE_CHECKING:
    Handler = Callable[[MachineParts, str, str], Iterator[Argument]]

_FILE_DRIVERS: Final = frozenset({"file", "host_device", "host_cdrom"})
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
        unit = int(index) if (index := pairs.get("index", "")).isdecimal() and len(index) < 3 else (
            sum("bus=ide." in device for device in parts.board))  # fmt: skip
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
    if path.startswith(("json:", "nbd:", "rbd:", "http:", "https:", "iscsi:", "ssh:")) or not path:
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE,
                       "no local image; ACPI tables show its device only")  # fmt: skip
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
    path = _path_of(parts, node.get("file") if node.get("driver") not in _FILE_DRIVERS else node)
    format_ = node.get("driver") if node.get("driver") not in _FILE_DRIVERS else "raw"
    if path is None or not isinstance(format_, str):
        yield Argument(text, Treatment.NO_INFLUENCE, Influence.NONE,
                       "no local image; ACPI tables show its device only")  # fmt: skip
        return
    parts.images[name] = Image(path, format_, node.get("read-only") in {True, "on"}, text)


def _path_of(parts: MachineParts, node: object) -> str | None:
    """The file below a block node, which is given whole or by its name."""
    for _ in range(_MAX_NODES):
        if isinstance(node, str):
            node = parts.nodes.get(node)
        if not isinstance(node, Mapping):
            return None
        if node.get("driver") in _FILE_DRIVERS:
            path = node.get("filename")
            return path if isinstance(path, str) else None
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
