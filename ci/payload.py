"""The port between the harness and the guest's agent: what is asked, and what is answered.

The guest's agent (``ci/guest/init.sh``) greets with the line ``mrtd.agent/1``. The host answers
``mrtd.request/1 REPORT_DATA``: 128 hex digits, or ``-`` for none. Then the agent sends what the
collector writes (`mrtd.evidence.collected`). The agent speaks first because OVMF has a driver for
virtio-serial ports: it would take, and lose, what is there before the guest's kernel is.

So the report data reach the guest without moving any register: the port itself is measured (ACPI
tables, RTMR0), what goes through it is not. On the command line, or in an initrd, they would move
RTMR2 with every nonce.

Nothing of the answer is trusted; whatever is wrong with it is a launch that failed.
"""

from __future__ import annotations

import re
from typing import Final

from ci.errors import LaunchFailed
from ci.outcome import Outcome
from mrtd.errors import MalformedBundle, SpecError
from mrtd.evidence import collected
from mrtd.launch.spec import LaunchSpec
from mrtd.qemu.devices import parse_device

PORT_NAME: Final = "org.mrtd.payload"
"""The virtio-serial port that the guest looks for."""

CHANNEL_DEVICES: Final = (
    "virtio-serial-pci,id=channel",
    f"virtserialport,bus=channel.0,chardev=payload,name={PORT_NAME}",
    "isa-serial,chardev=serial",
)
"""The devices that a spec needs for a launch: the port and the console. They are measured."""

HELLO: Final = b"mrtd.agent/1\n"
"""What the guest's agent says first; one that only sends may leave it out."""

PAYLOAD_LIMIT: Final = collected.PAYLOAD_LIMIT
"""No more than so many bytes are taken from a guest."""

REPORT_DATA_SIZE: Final = 64

_ORIGIN: Final = "payload"
_HEADER: Final = re.compile(rb"mrtd\.payload/1 (0|[1-9][0-9]{0,9})\n")


def request(report_data: bytes | None) -> bytes:
    """The line that the guest's agent is asked with.

    Args:
        report_data: 64 bytes for the quote, or None for the collector's default, zeros.

    Raises:
        SpecError: not 64 bytes.
    """
    if report_data is not None and len(report_data) != REPORT_DATA_SIZE:
        raise SpecError(
            f"{len(report_data)} bytes, not {REPORT_DATA_SIZE}",
            origin="launch",
            field="report_data",
        )
    return b"mrtd.request/1 %s\n" % (b"-" if report_data is None else report_data.hex().encode())


def check_channel(spec: LaunchSpec) -> bool:
    """Refuse a machine without the agent's port; whether it has the console.

    Raises:
        SpecError: no device of the spec is the port.
    """
    devices = [dict(parse_device(text).properties) for text in spec.machine.devices]
    if not any(device.get("name") == PORT_NAME for device in devices):
        raise SpecError(
            f"no device is the port {PORT_NAME} through which the guest answers",
            origin="launch spec",
            field="machine.devices",
            hint="add the devices of docs/launching.md, in the spec that is derived from too",
        )
    return any(device.get("chardev") == "serial" for device in devices)


def read_payload(payload: bytes) -> dict[str, bytes]:
    """The files of a payload by their relative name.

    Args:
        payload: everything that came through the port.

    Raises:
        LaunchFailed: the payload is missing, cut off, too long, or holds anything but plain files
            and directories with names inside the archive.
    """
    greeted = payload.startswith(HELLO)
    payload = payload.removeprefix(HELLO)
    if not payload:
        what = "greeted and sent no payload" if greeted else "sent no payload"
        code = Outcome.PAYLOAD_TRUNCATED if greeted else Outcome.NO_PAYLOAD
        raise LaunchFailed(f"the guest {what}", code=code)
    try:
        return collected.read_collected(payload, origin=_ORIGIN, framed=True, limit=PAYLOAD_LIMIT)
    except MalformedBundle as error:
        why = error.message.removeprefix(f"{_ORIGIN}: ")
        raise LaunchFailed(
            f"the guest's payload cannot be used: {why}", code=_code(payload)
        ) from error


def _code(payload: bytes) -> Outcome:
    header = _HEADER.match(payload)
    if header is None:
        return Outcome.PAYLOAD_MALFORMED
    if int(header[1]) > PAYLOAD_LIMIT:
        return Outcome.PAYLOAD_TOO_LARGE
    cut = len(payload) - header.end() < int(header[1])
    return Outcome.PAYLOAD_TRUNCATED if cut else Outcome.PAYLOAD_MALFORMED
