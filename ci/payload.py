"""What the measuring guest sends (``ci/guest/init.sh``), read without trusting it.

It is what the collector writes (`mrtd.evidence.collected`); here, whatever is wrong with it is a
launch that failed.
"""

from __future__ import annotations

from typing import Final

from ci.errors import LaunchFailed
from mrtd.errors import MalformedBundle
from mrtd.evidence import collected

PORT_NAME: Final = "org.mrtd.payload"
"""The virtio-serial port that the guest looks for."""

PAYLOAD_LIMIT: Final = collected.PAYLOAD_LIMIT
"""No more than so many bytes are taken from a guest."""

_ORIGIN: Final = "payload"


def read_payload(payload: bytes) -> dict[str, bytes]:
    """The files of a payload by their relative name.

    Args:
        payload: everything that came through the port.

    Raises:
        LaunchFailed: the payload is missing, cut off, too long, or holds anything but plain files
            and directories with names inside the archive.
    """
    if not payload:
        raise LaunchFailed("the guest sent no payload")
    try:
        return collected.read_collected(payload, origin=_ORIGIN, framed=True, limit=PAYLOAD_LIMIT)
    except MalformedBundle as error:
        why = error.message.removeprefix(f"{_ORIGIN}: ")
        raise LaunchFailed(f"the guest's payload cannot be used: {why}") from error
