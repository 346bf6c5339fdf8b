"""Whether an event's body is what its digest is of.

A body is a claim: anybody who can write the log can change it without changing a register. Where
the specification says what of the body is hashed, the claim is checked here; a body that disagrees
with its digest is worth nothing, and the log's writer is not to be trusted. Where the digest is of
something else (an image, a table, a file), the body stays a claim.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.bodies import ConfigBody, LoaderCommand, TaggedBody, decode
from mrtd.eventlog.event import Event, EventType
from mrtd.eventlog.variable_data import read_variable_data
from mrtd.registers import Sha384

_ERROR_SEPARATOR: Final = b"\1\0\0\0"
_SHORT: Final = 64


class DigestStatus(StrEnum):
    """What a body says about its digest."""

    MATCHES = "matches"
    """The digest is that of the body, or of the part of it that is measured."""
    DIFFERS = "differs"
    """The digest has to be that of the body and is not: the body is wrong."""
    NOT_DERIVABLE = "not derivable"
    """The digest is of something that the log does not contain."""


class DigestCheck(msgspec.Struct, frozen=True):
    """The result for one event, and what was hashed or why nothing could be."""

    status: DigestStatus
    rule: str


_Candidate = tuple[bytes, str]


def check_digest(event: Event) -> DigestCheck:
    """Compute an event's digest from its body, where the specification allows it.

    Sources: TCG PC Client Platform Firmware Profile 1.06, table "Events"; for boot variables edk2
    SecurityPkg Tcg2Dxe MeasureVariable; for boot loaders what they do, as cited at each rule.
    """
    if event.type == EventType.EV_NO_ACTION:
        return DigestCheck(DigestStatus.NOT_DERIVABLE, "EV_NO_ACTION extends nothing")
    if not isinstance(event.digest, Sha384):
        return DigestCheck(DigestStatus.NOT_DERIVABLE, f"no digest: {event.digest.reason}")
    certain, candidates = _candidates(event)
    for content, rule in candidates:
        if Sha384.of(content) == event.digest:
            return DigestCheck(DigestStatus.MATCHES, rule)
    if not certain:
        return DigestCheck(DigestStatus.NOT_DERIVABLE, "what is measured is not in the log")
    rules = " or ".join(rule for _, rule in candidates)
    return DigestCheck(DigestStatus.DIFFERS, f"the digest is not that of {rules or 'the body'}")


def _candidates(event: Event) -> tuple[bool, list[_Candidate]]:
    """Whether the digest must be of one of these contents, and the contents."""
    if event.type in _WHOLE_BODY:
        return True, [(event.data, "the body")]
    rule = _RULES.get(event.type)
    return rule(event.data) if rule else (False, [])


def _separator(data: bytes) -> tuple[bool, list[_Candidate]]:
    # an error separator has the error in its body and 00000001 as what is hashed (PFP 3.3.2.2)
    error = (_ERROR_SEPARATOR, "00000001: the firmware reports an error")
    return True, [(data, "the body"), error]


def _boot_variable(data: bytes) -> tuple[bool, list[_Candidate]]:
    whole = (data, "the body")
    try:
        return True, [(read_variable_data(data).data, "the variable's data"), whole]
    except MalformedEventLog:
        return True, [whole]


def _loader(data: bytes) -> tuple[bool, list[_Candidate]]:
    body = decode(EventType.EV_IPL, data).body
    if isinstance(body, LoaderCommand):
        # GRUB grub-core/kern/efi/tpm.c, grub-core/script/execute.c: the text without prefix and NUL
        command = body.command
        return True, [(command, "the command"), (command + b"\0", "the command with its NUL")]
    found = [(data, "the body"), (data.removesuffix(b"\0"), "the text without its NUL")]
    if len(data) <= _SHORT and data[1:2] == b"\0":
        # systemd src/boot/stub.c: a section's name in ASCII with NUL, then its content
        name = data.decode("utf-16-le", "replace").rstrip("\0")
        found.append((name.encode() + b"\0", "the section's name"))
    return False, found


def _tagged(data: bytes) -> tuple[bool, list[_Candidate]]:
    # Linux and systemd measure what the tag is about, the PFP's own events the body
    found = [(data, "the body")]
    body = decode(EventType.EV_EVENT_TAG, data).body
    if isinstance(body, TaggedBody) and body.tag is not None:
        found.append((body.data, "the tag's data"))
    return False, found


def _config(data: bytes) -> tuple[bool, list[_Candidate]]:
    body = decode(EventType.EV_PLATFORM_CONFIG_FLAGS, data).body
    if isinstance(body, ConfigBody) and body.data is not None:
        return False, [(body.data, "the descriptor's data"), (data, "the body")]
    return False, []


_WHOLE_BODY: Final = frozenset({
    EventType.EV_ACTION,
    EventType.EV_S_CRTM_VERSION,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EV_EFI_VARIABLE_BOOT2,
    EventType.EV_EFI_GPT_EVENT,
    EventType.EV_EFI_ACTION,
    EventType.EV_EFI_VARIABLE_AUTHORITY,
    EventType.EV_EFI_SPDM_DEVICE_POLICY,
    EventType.EV_EFI_SPDM_DEVICE_AUTHORITY,
})  # fmt: skip
_RULES: Final[dict[int, Callable[[bytes], tuple[bool, list[_Candidate]]]]] = {
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_EFI_VARIABLE_BOOT: _boot_variable,
    EventType.EV_IPL: _loader,
    EventType.EV_EVENT_TAG: _tagged,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _config,
}
