"""Redaction: a bundle that can go into a bug report.

What identifies the platform, the machine, its network or a person is blanked, and so are secrets;
the rest can be read and compared as before. Registers and the digests in event logs stay: they are
what a report is about, and who guesses what was measured can check the guess with them.
"""

from __future__ import annotations

import base64
import binascii
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mrtd.errors import MalformedBundle, MalformedQuote
from mrtd.evidence import identifiers
from mrtd.evidence import manifest as names
from mrtd.evidence.anonymous_quote import anonymous_quote
from mrtd.evidence.bundle import Bundle, bundle_of
from mrtd.evidence.identifiers import Blanker, find, find_binary
from mrtd.evidence.json_texts import (
    ADDRESS_NODES,
    blank_json,
    decoded,
    depth_of,
    encoded,
    find_json,
    without_addresses,
)
from mrtd.evidence.smbios import blank_smbios

_TEXTS: Final = (names.CMDLINE, names.UNAME, names.MESSAGES, names.SPEC)
_TABLES: Final = (names.DMI, names.SMBIOS)
_LOGS: Final = (names.CCEL, names.TPM_LOG)
_BINARY: Final = (*_LOGS, "fw_cfg/bootorder", "fw_cfg/etc/tpm/log", names.ACPI_TABLES)

_MAX_DEPTH: Final = 64

# Claims of an ITA token that say what was measured and how the platform was appraised
_CLAIMS: Final = frozenset(
    {
        *("attester_advisory_ids", "attester_tcb_date", "attester_tcb_status", "attester_type"),
        *("tdx_is_debuggable", "tdx_mrconfigid", "tdx_mrowner", "tdx_mrownerconfig", "tdx_mrseam"),
        *("tdx_mrsignerseam", "tdx_mrtd", "tdx_rtmr0", "tdx_rtmr1", "tdx_rtmr2", "tdx_rtmr3"),
        *("tdx_seam_attributes", "tdx_seamsvn", "tdx_td_attributes", "tdx_tee_tcb_svn", "tdx_xfam"),
        *("dbgstat", "ver"),
    }
)


def redact(bundle: Bundle) -> tuple[Bundle, tuple[str, ...]]:
    """The bundle without what identifies somebody, and what was removed, one line per member.

    The lines name kinds and numbers, never what was there. No signature of it verifies any more.
    """
    work = _Redaction(bundle.files)
    work.run()
    lines = tuple(f"{name}: {what}" for name, what in work.removed.items())
    redacted = bundle_of(
        work.files, origin=bundle.origin, redacted=tuple(dict.fromkeys((*bundle.redacted, *lines)))
    )
    return redacted, lines


class _Redaction:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.original = files
        self.files = dict(files)
        self.removed: dict[str, str] = {}

    def run(self) -> None:
        self.shallow()
        values = list(self.structured())
        values += [(found.kind, found.text) for found in self.found()]
        blanker = Blanker(values)
        for name in list(self.files):
            if name != names.QUOTE:
                self.blank(name, blanker)
        for name, data in list(self.files.items()):
            if blanker.remains(data):
                self.drop(name, "it holds an identifier in a way that cannot be blanked")
        for name in _LOGS:
            if name in self.removed and name in self.files:
                self.removed[name] += "; the digests are those of the original bodies"

    def shallow(self) -> None:
        """Remove what is nested deeper than any launch spec or measurement document."""
        for name, read in ((names.DOCUMENT, decoded), (names.SPEC, _toml)):
            if depth_of(read(self.files.get(name, b""))) > _MAX_DEPTH:
                self.drop(name, "it is nested too deeply")

    def structured(self) -> Iterator[tuple[str, str]]:
        """Blank what the formats say identifies a machine; the texts that were there."""
        self.quote()
        for name in _TABLES:
            yield from ((identifiers.IDENTIFIER, text) for text in self.smbios(name))
        token = self.files.get(names.TOKEN)
        if token is not None:
            yield identifiers.SECRET, token.decode("latin-1").strip()
            self.token(token)
        uname = self.files.get(names.UNAME, b"").decode("utf-8", "replace").split()
        if len(uname) > 1 and not uname[1][0].isdigit():
            yield identifiers.HOST, uname[1]  # of uname -a

    def quote(self) -> None:
        data = self.files.get(names.QUOTE)
        if data is None:
            return
        try:
            blank = anonymous_quote(data, origin=names.QUOTE)
        except MalformedQuote:
            self.drop(names.QUOTE, "it cannot be read, so nobody knows what it says")
            return
        self.replace(
            names.QUOTE,
            blank,
            "id of the quoting enclave, attestation key, signatures, QE authentication data, and "
            "the platform's identity (PPID or PCK certificates with PPID, PIID and FMSPC); the TD "
            "report is as it was, the signature no longer verifies",
        )

    def smbios(self, name: str) -> tuple[str, ...]:
        data = self.files.get(name)
        if data is None:
            return ()
        try:
            blank, values = blank_smbios(data, origin=name)
        except MalformedBundle:
            self.drop(name, "it cannot be read, so nobody knows what it says")
            return ()
        self.replace(name, blank, "serial numbers, UUID, asset tags, OEM strings")
        return values

    def token(self, token: bytes) -> None:
        claims = _claims(token)
        kept = {key: claims[key] for key in sorted(_CLAIMS & claims.keys())}
        self.drop(names.TOKEN, "a token identifies the platform and can be replayed")
        if kept:
            self.files[names.CLAIMS] = encoded(kept)
            self.removed[names.TOKEN] += f"; {len(kept)} claims are kept in {names.CLAIMS}"

    def found(self) -> Iterator[identifiers.Found]:
        for name in _TEXTS:
            yield from find(self.files.get(name, b"").decode("utf-8", "replace"))
        yield from find_json(_toml(self.files.get(names.SPEC, b"")))
        for name in _BINARY:
            yield from find_binary(self.files.get(name, b""))
        yield from find_json(decoded(self.files.get(names.DOCUMENT, b"")))

    def blank(self, name: str, blanker: Blanker) -> None:
        data = self.files[name]
        if name == names.DOCUMENT:
            blank, kinds = blank_json(data, blanker)
            if blank is None:
                self.drop(name, "it is no JSON, so nobody knows what it says")
                return
        elif name in _TEXTS or name == names.CLAIMS:
            # Characters beyond Latin-1 are kept as the bytes that they are.
            text, kinds = blanker.text(data.decode("latin-1"))
            blank = text.encode("latin-1")
        elif name in _BINARY:
            data = self.files[name]
            blank, kinds = blanker.binary(without_addresses(data))
            nodes = sum(data.count(node) for node in ADDRESS_NODES)
            kinds[identifiers.ADDRESS] += nodes if without_addresses(data) != data else 0
        else:
            return
        if name == names.SPEC and _toml(data) and not _toml(blank):
            self.drop(name, "without its secrets it is no launch spec any more")
            return
        what = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()) if count)
        self.replace(name, blank, what)

    def replace(self, name: str, data: bytes, what: str) -> None:
        if data != self.files[name]:
            self.files[name] = data
            self.removed[name] = what

    def drop(self, name: str, why: str) -> None:
        del self.files[name]
        self.removed[name] = f"removed whole: {why}"


def _toml(data: bytes) -> dict[str, Any]:
    """The launch spec's tables; empty if it is no TOML."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}


def _claims(token: bytes) -> dict[str, Any]:
    """The claims of a token that nobody verified; those below ``tdx`` beside the others."""
    try:
        payload = token.split(b".")[1]
        claims = decoded(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return {}
    if not isinstance(claims, dict):
        return {}
    inner = claims.get("tdx")
    return {**(inner if isinstance(inner, dict) else {}), **claims}
