"""What `mrtd inspect` prints for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mrtd.cli.tables import console
from mrtd.launch.size import format_bytes


def print_inspection(found: dict[str, Any]) -> None:
    """Print an inspection's result."""
    out = console()
    out.print(
        Text(f"{found['file']}: {found['kind']}, {format_bytes(found['size'])}"), style="bold"
    )
    {"firmware": _firmware, "kernel": _kernel, "vmlinux": _elf}[found["kind"]](out, found)


def _pairs(out: Console, rows: list[tuple[str, object]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for name, value in rows:
        shown = "yes" if value is True else "no" if value is False else value
        table.add_row(name, Text("none" if shown is None else str(shown)))
    out.print(table)


def _digests(out: Console, heading: str, values: dict[str, str]) -> None:
    out.print(Text(f"\n{heading}", style="bold"))
    for name, value in values.items():
        if out.is_terminal and out.width < len(value) + 10:
            out.print(Text(f"{name:<10}{value[:48]}\n{'':<10}{value[48:]}"))
        else:
            out.print(Text(f"{name:<10}{value}"), soft_wrap=True)


def _firmware(out: Console, found: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("#", "section", "address", "memory", "file", "size", "attributes"):
        table.add_column(name, no_wrap=True, justify="left" if name == "section" else "right")
    names = {0: "-", 1: "MR.EXTEND", 2: "PAGE.AUG", 3: "both"}
    for s in found["sections"]:
        table.add_row(
            str(s["index"]), s["type"], f"{s['gpa']:#x}", f"{s['memory_size']:#x}",
            f"{s['file_offset']:#x}", f"{s['file_size']:#x}", names[s["attributes"]],
        )  # fmt: skip
    out.print(table)
    profile = found["profile"]
    out.print(Text("\nEvent profile", style="bold"))
    if profile["name"] is None:
        out.print(Text(f"{profile['reason']} ({profile['hint']})", style="yellow"))
    else:
        _pairs(out, [("name", profile["name"]), ("source", profile["source"])])
        if not profile["extends_rtmrs"]:
            out.print(
                Text(
                    "extends no RTMR: only MRTD, the firmware itself, is measured", style="bold red"
                )
            )
        for text in profile["unconfirmed"]:
            out.print(Text(f"unconfirmed: {text}", style="yellow"))
    out.print(Text("\nSignals in the image", style="bold"))
    _pairs(out, list(found["signals"].items()))
    stored = ", ".join(f"{v['name']} ({v['size']} B)" for v in found["variables"]) or "none"
    _pairs(out, [("variables", stored)])
    _digests(out, "MRTD by page order", found["mrtd"])


def _kernel(out: Console, found: dict[str, Any]) -> None:
    protocol = found["boot_protocol"]
    shown = f"{protocol >> 8}.{protocol & 0xFF:02d}" if protocol else "none: no bzImage"
    keys = ("version", "efi_stub", "cc_measurement")
    _pairs(out, [("boot protocol", shown), *((key, found[key]) for key in keys)])
    if not found["cc_measurement"]:
        out.print(Text("cannot extend RTMR2 in a TD (Linux >= 6.9 can)", style="bold red"))
    made_for = found["patched_for"]
    initrd = made_for["initrd_bytes"]
    shown = "no initrd" if initrd is None else f"initrd of {initrd} bytes"
    _digests(
        out,
        f"Authenticode SHA-384 (patched: QEMU, {format_bytes(made_for['memory_bytes'])}, {shown})",
        found["authenticode"],
    )


def _elf(out: Console, found: dict[str, Any]) -> None:
    keys = ("machine", "version", "build_id")
    _pairs(out, [(key, found[key]) for key in keys])
    out.print(Text("an ELF kernel is not started by UEFI firmware: measure its bzImage"))
