"""Bodies of EV_NO_ACTION events: they extend nothing and say something about the platform.

Source: TCG PC Client Platform Firmware Profile 1.06, 10.4.5: TCG_EfiSpecIDEvent,
TCG_EfiStartupLocalityEvent, TCG_Sp800_155_PlatformId_Event2 and _Event3. Any other signature, such
as those of older profiles or of vendors, is shown by its text.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedEventLog
from mrtd.eventlog.guid_names import guid_text
from mrtd.eventlog.spec_id import SPEC_ID, SpecId, read_spec_id
from mrtd.eventlog.text import decoded, printable
from mrtd.reader import Reader

_LOCALITY: Final = b"StartupLocality\0"
_SP800_155: Final = (b"SP800-155 Event\0", b"SP800-155 Event2", b"SP800-155 Event3")
_SIGNATURE_SIZE: Final = 16


class StartupLocality(msgspec.Struct, frozen=True):
    """The locality from which the TPM was started: what PCR 0 held before its first event."""

    locality: int


class PlatformId(msgspec.Struct, frozen=True):
    """Which reference measurements the platform's makers name (SP800-155 event).

    Attributes:
        vendor: IANA private enterprise number of who makes the reference manifest.
        manifest: its GUID, as text.
        strings: manufacturer, model and version of platform, then manufacturer and version of
            firmware, as far as the event has them.
    """

    vendor: int
    manifest: str
    strings: tuple[str, ...]


class NoActionBody(msgspec.Struct, frozen=True):
    """An informative event: its signature, and its content where it is known."""

    signature: str
    content: SpecId | StartupLocality | PlatformId | None

    def __str__(self) -> str:
        match self.content:
            case SpecId():
                algorithms = ", ".join(str(a) for a in self.content.algorithms)
                return f"{self.signature} ({algorithms})"
            case StartupLocality():
                return f"TPM started from locality {self.content.locality}"
            case PlatformId():
                named = " ".join(text for text in self.content.strings if text)
                return printable(f"{self.signature}: {named or self.content.manifest}")
            case _:
                return self.signature or "informative"


def read_no_action(body: bytes) -> NoActionBody:
    """Read an EV_NO_ACTION body. Raises `MalformedEventLog` if a known one breaks its format."""
    signature = printable(decoded(body[:_SIGNATURE_SIZE]))
    if body.startswith(SPEC_ID):
        return NoActionBody(signature, read_spec_id(body, origin="Spec ID event"))
    reader = Reader(body, origin="EV_NO_ACTION event", error=MalformedEventLog)
    if body.startswith(_LOCALITY):
        reader.take(_SIGNATURE_SIZE, "signature")
        locality = StartupLocality(reader.u8("locality"))
        reader.expect_end("StartupLocality")
        return NoActionBody(signature, locality)
    if body.startswith(_SP800_155):
        reader.take(_SIGNATURE_SIZE, "signature")
        return NoActionBody(signature, _platform_id(reader, signature))
    return NoActionBody(signature, None)


def _platform_id(reader: Reader, signature: str) -> PlatformId:
    # Event: vendor, GUID. Event2 and 3 add counted strings around the firmware maker's number, and
    # 3 the places of the manifest.
    vendor, manifest = reader.u32("vendor"), guid_text(reader.guid("reference manifest GUID"))
    if signature == "SP800-155 Event":
        return PlatformId(vendor, manifest, ())
    platform = tuple(_counted(reader, f"platform {what}") for what in ("maker", "model", "version"))
    maker = _counted(reader, "firmware maker")
    reader.u32("firmware maker's number")
    return PlatformId(vendor, manifest, (*platform, maker, _counted(reader, "firmware version")))


def _counted(reader: Reader, field: str) -> str:
    return decoded(bytes(reader.take(reader.u8(field), field)))
