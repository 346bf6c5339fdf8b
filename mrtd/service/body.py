"""Request bodies: read within limits, and read strictly."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request

from mrtd.errors import MalformedStatement
from mrtd.reference.strict_json import read_json
from mrtd.service.answers import ClientGone, Refusal
from mrtd.service.limits import Limits

_TYPES: Final = frozenset({"application/json", "application/json; charset=utf-8"})
_INLINE: Final = 64 << 10  # bytes; parsing more would hold up the other requests
_MESSAGE_LIMIT: Final = 300

T = TypeVar("T")


async def read_document(request: Request, kind: type[T], limits: Limits) -> T:
    """The JSON body of a request. Raises `Refusal` and `ClientGone`."""
    # a browser cannot send this type to a foreign origin without asking first, and is not answered
    kinds = [value.lower() for value in request.headers.getlist("content-type")]
    if len(kinds) != 1 or kinds[0].replace(";charset", "; charset") not in _TYPES:
        raise Refusal(415, "unsupported_media_type", "send application/json", close=True)
    body = await read_body(request, limits)
    if len(body) <= _INLINE:
        return decode(body, kind)
    return await asyncio.to_thread(decode, body, kind)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, to its end. Raises `Refusal` and `ClientGone`."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "unsupported_media_type", "send the body as it is", close=True)
    declared = request.headers.get("content-length")
    if declared is not None and int(declared) > limits.body_bytes:  # h11 has seen to the digits
        raise _too_large(limits)
    found = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ClientGone
                found += message.get("body", b"")
                if len(found) > limits.body_bytes:
                    raise _too_large(limits)
                if not message.get("more_body", False):
                    return bytes(found)
    except TimeoutError as error:
        text = f"the body did not arrive within {limits.body_seconds:.0f} s"
        raise Refusal(408, "body_timeout", text, close=True) from error


def decode(body: bytes, kind: type[T]) -> T:
    """A body as a request. Raises `Refusal`; the message goes to who sent it, not to the log."""
    try:
        # first by the reader that refuses duplicate keys: what stands before us (a gateway, the
        # control plane) may have looked at the other one
        read_json(body, origin="body", limit=len(body))
        return msgspec.json.decode(body, type=kind)
    except MalformedStatement as error:
        text = error.message
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = f"body: {error}"
    raise Refusal(400, "invalid_request", text[:_MESSAGE_LIMIT])


def _too_large(limits: Limits) -> Refusal:
    text = f"the body has more than {limits.body_bytes} bytes"
    return Refusal(413, "body_too_large", text, close=True)
