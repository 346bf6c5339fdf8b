"""The first body of a log: TCG_EfiSpecIDEvent, which lists the digest algorithms.

Source: TCG PC Client Platform Firmware Profile 1.06, 10.4.5.1: signature 16 B, platform class u32,
version minor, major and errata u8 each, size of UINTN u8, count u32, count x (algorithm u16, digest
size u16), vendor info size u8, vendor info.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.reader import Reader
from mrtd.registers import SHA384_SIZE

SPEC_ID: Final = b"Spec ID Event03\0"
# PFP "TCG_EfiSpecIdEvent" of TCG 1.2 and TCG EFI Platform Specification 1.22: SHA-1 logs
SPEC_ID_OF_TCG_1_2: Final = (b"Spec ID Event00\0", b"Spec ID Event02\0")
_MAX_ALGORITHMS: Final = 16  # TPM2_NUM_PCR_BANKS of the TPM 2.0 Library specification
_PLATFORM_AND_VERSION: Final = bytes(4) + bytes([0, 2, 0, 2])


class Algorithm(msgspec.Struct, frozen=True):
    """A digest algorithm of a log.

    Attributes:
        id: TPM_ALG_ID (TCG Algorithm Registry).
        size: digest size, bytes.
    """

    id: int
    size: int

    def __str__(self) -> str:
        return _NAMES.get(self.id, f"{self.id:#06x}")


SHA1: Final = Algorithm(0x0004, 20)
SHA256: Final = Algorithm(0x000B, 32)
SHA384: Final = Algorithm(0x000C, SHA384_SIZE)
SHA512: Final = Algorithm(0x000D, 64)
SM3_256: Final = Algorithm(0x0012, 32)
_NAMES: Final = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512", 0x12: "sm3_256"}
_SIZES: Final = {a.id: a.size for a in (SHA1, SHA256, SHA384, SHA512, SM3_256)}


class SpecId(msgspec.Struct, frozen=True):
    """What a log says of itself.

    Attributes:
        algorithms: of each event's digests, in the order listed.
        version: of the specification: major, minor, errata.
        vendor_info: what the firmware's vendor adds.
    """

    algorithms: tuple[Algorithm, ...]
    version: tuple[int, int, int] = (2, 0, 0)
    vendor_info: bytes = b""


def read_spec_id(body: bytes, *, origin: str, base: int = 0) -> SpecId:
    """Read a TCG_EfiSpecIDEvent. Algorithms that are not known here are taken as they are listed.

    Args:
        body: the event's body.
        origin: the log, for messages.
        base: offset of the body in the log.

    Raises:
        MalformedEventLog: it breaks the format, or is that of a TCG 1.2 log.
    """
    reader = Reader(body, origin=origin, error=MalformedEventLog, base=base)
    signature = bytes(reader.take(len(SPEC_ID), "Spec ID signature"))
    if signature in SPEC_ID_OF_TCG_1_2:
        raise reader.fail(
            "a TCG 1.2 log, which has SHA-1 digests only", "Spec ID signature", hint=NEEDS_TPM_2
        )
    if signature != SPEC_ID:
        raise reader.fail(f"{signature!r} where {SPEC_ID!r} is needed", "Spec ID signature")
    reader.take(4, "Spec ID platform class")
    minor, major, errata, _ = reader.take(4, "Spec ID version")
    found: dict[int, Algorithm] = {}
    if (count := reader.u32("number of algorithms")) > _MAX_ALGORITHMS:
        raise reader.fail(f"{count} is more than any TPM has", "number of algorithms")
    for _ in range(count):
        identifier = reader.u16("algorithm")
        if identifier in found:
            raise reader.fail(f"{identifier:#06x} is listed twice", "algorithm")
        size = reader.u16("digest size")
        if size != _SIZES.get(identifier, size):
            raise reader.fail(f"{size} bytes for algorithm {identifier:#06x}", "digest size")
        found[identifier] = Algorithm(identifier, size)
    vendor_info = bytes(reader.take(reader.u8("vendor info size"), "vendor info"))
    reader.expect_end("Spec ID body")
    return SpecId(tuple(found.values()), (major, minor, errata), vendor_info)


NEEDS_TPM_2: Final = "the log of a TPM 2.0 or of a TD is needed, with its SHA-384 bank active"


def write_spec_id(algorithms: Iterable[Algorithm]) -> bytes:
    """A TCG_EfiSpecIDEvent of specification 2.0 that lists the algorithms."""
    listed = b"".join(a.id.to_bytes(2, "little") + a.size.to_bytes(2, "little") for a in algorithms)
    count = (len(listed) // 4).to_bytes(4, "little")
    return SPEC_ID + _PLATFORM_AND_VERSION + count + listed + b"\0"
