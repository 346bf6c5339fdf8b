"""The collector: the shell script that runs inside a guest, as package data."""

from __future__ import annotations

from pathlib import Path
from typing import Final

COLLECTOR: Final = Path(__file__).with_name("collect.sh")


def collector_script() -> bytes:
    """The script, for ``sh`` (POSIX; busybox is enough)."""
    return COLLECTOR.read_bytes()
