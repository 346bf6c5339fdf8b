"""Reads event logs as firmware writes them: a TPM's crypto-agile log, and CCEL of a TD.

Both have one format (TCG PC Client Platform Firmware Profile 1.06, chapter 10.2; a TD's log differs
in the meaning of the register index only, UEFI 2.10 38.4.1). Little-endian, packed:

* the first record is a TCG_PCR_EVENT, ``register u32, type u32, SHA-1 digest 20 B, size u32,
  body``, whose body is a TCG_EfiSpecIDEvent that lists the digest algorithms and their sizes;
* every other one is a TCG_PCR_EVENT2, ``register u32, type u32, count u32, count x (algorithm u16,
  digest), size u32, body``;
* the log ends with the data, at a register index 0xffffffff, or where only zero bytes follow (an
  ACPI log area is filled up with 0xff or zero bytes).

The reader is strict: what it does not understand is refused, never skipped.
"""

from __future__ import annotations

from typing import Final

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.describe import describe
from mrtd.eventlog.event import Event, EventLog, EventType, InputName, Origin
from mrtd.reader import Reader
from mrtd.registers import SHA384_SIZE, ZERO, RegisterName, Sha384, Target

_SHA384: Final = 0x000C
# TCG Algorithm Registry: TPM_ALG_ID and digest size in bytes.
_DIGEST_SIZES: Final = {0x0004: 20, 0x000B: 32, _SHA384: SHA384_SIZE, 0x000D: 64, 0x0012: 32}
_SIGNATURE: Final = b"Spec ID Event03\0"
_END: Final = 0xFFFFFFFF

_CC_REGISTERS: Final = (
    RegisterName.MRTD,
    RegisterName.RTMR0,
    RegisterName.RTMR1,
    RegisterName.RTMR2,
    RegisterName.RTMR3,
)
_PCR_COUNT: Final = 24


def read_log(data: bytes, *, origin: str, target: Target) -> EventLog:
    """Read a binary event log: CCEL of a TD, or a TPM's ``binary_bios_measurements``.

    Args:
        data: the log, with or without the unused rest of its area.
        origin: the file that it is, for messages and for the events' origins.
        target: what a register index means: ``cc``: 0 is MRTD, n + 1 is RTMRn; ``tpm``: PCR.

    Returns:
        Every record in order, with its SHA-384 digest and its body. The first one is the Spec ID
        record itself: EV_NO_ACTION, so it extends nothing, with the zero digest that TCG
        prescribes for such events.

    Raises:
        MalformedEventLog: the data breaks the format, or the log has no SHA-384 digests.
    """
    reader = Reader(data, origin=origin, error=MalformedEventLog)
    # One pass for all records: whether only padding follows is then a comparison.
    content_end = len(data.rstrip(b"\0"))
    sizes, header = _read_header(reader, origin, target)
    events = [header]
    while reader.offset < content_end:
        start = reader.offset
        index = reader.u32("register index")
        if index == _END:
            reader.seek(start, "register index")
            _expect_padding(reader)
            break
        event = _read_event(
            reader, index, sizes, Origin(InputName.LOG, f"{origin}+{start:#x}"), target
        )
        events.append(event)
    return tuple(events)


def _read_header(reader: Reader, origin: str, target: Target) -> tuple[dict[int, int], Event]:
    """The TCG_PCR_EVENT with the TCG_EfiSpecIDEvent: digest size by algorithm, and the event."""
    register = _register(reader, reader.u32("Spec ID register index"), target)
    if (kind := reader.u32("Spec ID event type")) != EventType.EV_NO_ACTION:
        raise reader.fail(
            f"{kind:#x} where EV_NO_ACTION (3) starts every log",
            "Spec ID event type",
            hint="this reads TCG2 crypto-agile logs and CCEL",
        )
    if any(reader.take(20, "Spec ID digest")):
        raise reader.fail("not zero", "Spec ID digest")
    body_size = reader.u32("Spec ID size")
    body = bytes(reader.take(body_size, "Spec ID body"))
    spec = Reader(body, origin=origin, error=MalformedEventLog, base=reader.offset - body_size)
    if (signature := bytes(spec.take(16, "Spec ID signature"))) != _SIGNATURE:
        raise spec.fail(f"{signature!r} where {_SIGNATURE!r} is needed", "Spec ID signature")
    spec.take(8, "Spec ID platform class and version")
    sizes: dict[int, int] = {}
    for _ in range(spec.u32("number of algorithms")):
        algorithm = spec.u16("algorithm")
        if algorithm in sizes:
            raise spec.fail(f"{algorithm:#06x} is listed twice", "algorithm")
        size = spec.u16("digest size")
        if size != _DIGEST_SIZES.get(algorithm, size):
            raise spec.fail(f"{size} bytes for algorithm {algorithm:#06x}", "digest size")
        sizes[algorithm] = size
    spec.take(spec.u8("vendor info size"), "vendor info")
    spec.expect_end("Spec ID body")
    if _SHA384 not in sizes:
        listed = ", ".join(f"{algorithm:#06x}" for algorithm in sizes) or "none"
        raise spec.fail(
            f"the log has no SHA-384 digests (algorithms: {listed})",
            "algorithm",
            hint="activate the TPM's SHA-384 bank",
        )
    event = Event(
        register=register,
        type=EventType.EV_NO_ACTION,
        digest=ZERO,
        description=describe(EventType.EV_NO_ACTION, body),
        origin=Origin(InputName.LOG, f"{origin}+0x0"),
        data=body,
    )
    return sizes, event


def _read_event(
    reader: Reader, index: int, sizes: dict[int, int], origin: Origin, target: Target
) -> Event:
    """The rest of a TCG_PCR_EVENT2 after its register index."""
    register = _register(reader, index, target)
    kind = reader.u32("event type")
    count = reader.u32("digest count")
    if count > len(sizes):
        raise reader.fail(f"{count} digests, of {len(sizes)} algorithms", "digest count")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.u16("digest algorithm")
        if algorithm not in sizes:
            raise reader.fail(f"{algorithm:#06x} is not in the Spec ID event", "digest algorithm")
        if algorithm in digests:
            raise reader.fail(f"{algorithm:#06x} comes twice", "digest algorithm")
        digests[algorithm] = bytes(reader.take(sizes[algorithm], "digest"))
    if _SHA384 not in digests:
        raise reader.fail("the event has no SHA-384 digest", "digest")
    body = bytes(reader.take(reader.u32("event size"), "event body"))
    return Event(
        register=register,
        type=kind,
        digest=Sha384(digests[_SHA384]),
        description=describe(kind, body),
        origin=origin,
        data=body,
    )


def _register(reader: Reader, index: int, target: Target) -> RegisterName:
    count = len(_CC_REGISTERS) if target is Target.CC else _PCR_COUNT
    if index >= count:
        raise reader.fail(
            f"{index:#x}, while target {target} has 0 to {count - 1}",
            "register index",
            hint="a TPM's log is read as target tpm, CCEL as target cc",
        )
    return _CC_REGISTERS[index] if target is Target.CC else RegisterName(f"pcr{index}")


def _expect_padding(reader: Reader) -> None:
    """After the end mark: the fill bytes of the log area, and nothing that could be an event."""
    rest = bytes(reader.take(reader.remaining, "padding"))
    strange = rest.lstrip(b"\xff").lstrip(b"\0")
    reader.seek(reader.offset - len(strange), "padding")
    reader.expect_end("padding after the end of the log")
