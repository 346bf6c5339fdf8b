"""Facts of an ELF vmlinux: its build-id and version, to tell which kernel a bzImage unpacks to."""

from __future__ import annotations

import io
import itertools
import re
from typing import Final

import msgspec

from mrtd.errors import MalformedKernel

# A vmlinux has some 60 sections and 10 notes; a hostile file has 65535 with the same notes each.
_MAX_PARTS: Final = 1 << 12
_MAX_NOTES: Final = 1 << 12
_BANNER: Final = re.compile(rb"Linux version (\d[!-~]{0,100})")


class ElfFacts(msgspec.Struct, frozen=True):
    """What an ELF kernel says of itself.

    Attributes:
        machine: the architecture, in pyelftools' words.
        build_id: hex of the NT_GNU_BUILD_ID note; None if there is none.
        version: of the "Linux version" banner; empty if there is none.
        notes: ELF note owners, such as ``Xen``; they show PVH entry points.
    """

    machine: str
    build_id: str | None
    version: str
    notes: tuple[str, ...]


def read_elf(image: memoryview, *, origin: str) -> ElfFacts:
    """Read an ELF kernel. Raises `MalformedKernel`."""
    # pyelftools is slow to import and only ELF files need it
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import NoteSection  # noqa: PLC0415
    from elftools.elf.segments import NoteSegment  # noqa: PLC0415

    data = bytes(image)
    try:
        elf = ELFFile(io.BytesIO(data))
        found = itertools.islice(
            itertools.chain(elf.iter_sections(), elf.iter_segments()), _MAX_PARTS + 1
        )
        all_parts = list(found)
        parts = [part for part in all_parts if isinstance(part, (NoteSection, NoteSegment))]
        notes = list(
            itertools.islice((note for part in parts for note in part.iter_notes()), _MAX_NOTES + 1)
        )
        machine = str(elf.get_machine_arch())
    except Exception as error:  # pyelftools has no error that covers what malformed files raise
        raise MalformedKernel(f"malformed ELF: {error}", origin=origin) from error
    if len(all_parts) > _MAX_PARTS or len(notes) > _MAX_NOTES:
        raise MalformedKernel(
            f"more than {_MAX_PARTS} sections and segments, or {_MAX_NOTES} notes", origin=origin
        )
    build_id = next((n["n_desc"] for n in notes if n["n_type"] == "NT_GNU_BUILD_ID"), None)
    banner = _BANNER.search(data)
    return ElfFacts(
        machine=machine,
        build_id=None if build_id is None else str(build_id),
        version=banner[1].decode("ascii") if banner else "",
        notes=tuple(sorted({str(note["n_name"]) for note in notes})),
    )
