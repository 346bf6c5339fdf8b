"""Logs of firmware before edk2 202302, which numbers its registers one too low."""

from __future__ import annotations

from pathlib import Path

from mrtd.compare import compare_sides
from mrtd.sources import load_side


def shifted(data: bytes) -> bytes:
    """The log with every register number one lower (corpus logs have one algorithm, SHA-384)."""
    log = bytearray(data)
    at = 32 + int.from_bytes(log[28:32], "little")
    while at + 12 <= len(log) and log[at : at + 4] != b"\xff\xff\xff\xff":
        number = int.from_bytes(log[at : at + 4], "little")
        if number == 0 and not any(log[at : at + 12]):
            break
        log[at : at + 4] = max(number - 1, 0).to_bytes(4, "little")
        at += 66 + int.from_bytes(log[at + 62 : at + 66], "little")
    return bytes(log)


def test_an_old_log_is_read_by_its_own_numbering_and_that_is_said(
    corpus: Path, tmp_path: Path
) -> None:
    path = corpus / "eventlogs" / "ovmf-direct-2gib.ccel"
    old = tmp_path / "old.ccel"
    old.write_bytes(shifted(path.read_bytes()))
    now, before = load_side(path), load_side(old)
    assert compare_sides(now, before).matches
    assert before.notes
    assert now.notes == ()
