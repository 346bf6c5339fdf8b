"""What a genuine token of Intel Trust Authority says of a TD.

Claims of token version 1 are flat, those of version 2 are nested under ``tdx`` (Intel Trust
Authority, EAT profile); a claim that both levels have must be the same. Hex of TDATTRIBUTES and
XFAM has the bytes as in a quote, so the first two digits are bits 7:0: real tokens say
``0000001000000000`` with ``tdx_td_attributes_septve_disable`` (bit 28) true. Bits that are named
besides have to agree with that.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import ServiceTd15, TdReport
from mrtd.registers import SHA384_SIZE, Sha384
from mrtd.verifier.claims import TdClaims

_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
_ADVISORY: Final = re.compile(r"[A-Z0-9-]{1,64}")
# Bits of TDATTRIBUTES that tokens name: a wrong reading of the hex text must not go unnoticed
_DEBUG: Final = {"tdx_is_debuggable": 0, "tdx_td_attributes_debug": 0}
_OTHERS: Final = {
    "tdx_td_attributes_septve_disable": 28,
    "tdx_is_migratable": 29,
    "tdx_td_attributes_protection_keys": 30,
    "tdx_td_attributes_key_locker": 31,
    "tdx_td_attributes_perfmon": 63,
}


class VerifierNonce(msgspec.Struct, frozen=True):
    """Intel Trust Authority's own nonce, as it enters report data: base64 undone once."""

    val: bytes
    iat: bytes


class TokenClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a payload says.

    Attributes:
        problems: what is missing, malformed or contradictory, for a person. With any, and in a
            development token, the three below are None.
        development: a token of dd's local mode, which no hardware stands behind.
        td: the TD and its platform.
        runtime_data: what the attester bound; None if the token does not repeat its bytes.
        verifier_nonce: None if the attester asked for none.
    """

    problems: tuple[str, ...]
    development: bool
    td: TdClaims | None = None
    runtime_data: bytes | None = None
    verifier_nonce: VerifierNonce | None = None


def read_claims(payload: dict[str, Any]) -> TokenClaims:
    """Read the claims about a TD; ``payload`` is what `read_json` gave. Never raises."""
    reader = _Reader(payload)
    development = reader.development()
    td, runtime_data, nonce = reader.td(), reader.runtime_data(), reader.nonce()
    problems = tuple(dict.fromkeys(reader.problems))
    if problems or development:
        return TokenClaims(problems=problems, development=development)
    return TokenClaims(
        problems=(),
        development=False,
        td=td,
        runtime_data=runtime_data,
        verifier_nonce=nonce,
    )


class _Reader:
    """Claims, wherever they stand; what is wrong with them is collected."""

    def __init__(self, payload: dict[str, Any]) -> None:
        nested = payload.get("tdx")
        self.problems: list[str] = []
        self._flat = nested is None
        if not self._flat and not isinstance(nested, dict):
            self.problems.append("tdx is no object")
        self._levels = (payload, nested if isinstance(nested, dict) else {})

    def development(self) -> bool:
        return any(
            str(level.get("attester_type")).upper() == "LOCAL"
            or level.get("tdx_mrtd") == "local-preview"
            for level in self._levels
        )

    def td(self) -> TdClaims:
        kind = self._get("attester_type")
        self._expect("attester_type is not TDX", kind == "TDX" or (kind is None and not self._flat))
        attributes = TdAttributes(int.from_bytes(self._hex("tdx_td_attributes", 8), "little"))
        self._check_named_bits(attributes)
        report = TdReport(
            version="1.0",
            tee_tcb_svn=self._hex("tdx_tee_tcb_svn", 16),
            mr_seam=self._digest("tdx_mrseam"),
            mr_signer_seam=self._digest("tdx_mrsignerseam"),
            seam_attributes=self._hex("tdx_seam_attributes", 8),
            td_attributes=attributes,
            xfam=Xfam(int.from_bytes(self._hex("tdx_xfam", 8), "little")),
            mr_td=self._digest("tdx_mrtd"),
            mr_config_id=self._digest("tdx_mrconfigid"),
            mr_owner=self._digest("tdx_mrowner"),
            mr_owner_config=self._digest("tdx_mrownerconfig"),
            rtmrs=(
                self._digest("tdx_rtmr0"),
                self._digest("tdx_rtmr1"),
                self._digest("tdx_rtmr2"),
                self._digest("tdx_rtmr3"),
            ),
            report_data=self._hex("tdx_report_data", 64),
        )
        if self._get("tdx_mrservicetd") is not None:
            # the SVNs of now are not in tokens: zero, which nothing is decided by
            service = ServiceTd15(bytes(16), self._digest("tdx_mrservicetd"))
            report = msgspec.structs.replace(report, version="1.5", v15=service)
        return TdClaims(
            report=report,
            tcb_status=self._status(),
            tcb_date=self._date(),
            advisories=self._advisories(),
            source="token",
        )

    def runtime_data(self) -> bytes | None:
        """What the attester bound. A JSON object is echoed as such, and its bytes are lost."""
        values = (self._get("attester_runtime_data"), self._get("attester_held_data"))
        found = {self._base64("attester_..._data", v) for v in values if isinstance(v, str) and v}
        self._expect("attester_runtime_data and attester_held_data differ", len(found) <= 1)
        return found.pop() if found else None

    def nonce(self) -> VerifierNonce | None:
        found = self._get("verifier_nonce")
        if found is None:
            return None
        parts = found if isinstance(found, dict) else {}
        val, iat = (self._base64(f"verifier_nonce.{n}", parts.get(n)) for n in ("val", "iat"))
        return VerifierNonce(val, iat)

    def _expect(self, problem: str, ok: bool) -> None:  # noqa: FBT001 - an assertion
        if not ok:
            self.problems.append(problem)

    def _get(self, name: str) -> object:
        """A claim; None if no level has it. Levels have to agree, ``1`` and ``true`` do not."""
        found = [level[name] for level in self._levels if level.get(name) is not None]
        same = all(type(v) is type(found[0]) and v == found[0] for v in found)
        self._expect(f"{name} has two values", same)
        return found[-1] if found else None

    def _hex(self, name: str, size: int) -> bytes:
        value = self._get(name)
        if isinstance(value, str) and len(value) == 2 * size and _HEX.fullmatch(value):
            return bytes.fromhex(value)
        self.problems.append(f"{name} is not {2 * size} hex digits")
        return bytes(size)

    def _digest(self, name: str) -> Sha384:
        return Sha384(self._hex(name, SHA384_SIZE))

    def _base64(self, name: str, value: object) -> bytes:
        if isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except ValueError:
                pass
        self.problems.append(f"{name} is no base64")
        return b""

    def _check_named_bits(self, attributes: TdAttributes) -> None:
        for name, number in (_DEBUG | _OTHERS).items():
            value = self._get(name)
            optional = value is None and name not in _DEBUG
            bit = bool(attributes.value >> number & 1)
            self._expect(f"{name} is not bit {number} of the attributes", optional or value is bit)
        # RFC 9711, "dbgstat": enabled, disabled, disabled-since-boot ...
        status = self._get("dbgstat")
        enabled = status == "enabled"
        known = enabled or (isinstance(status, str) and status.startswith("disabled"))
        agrees = status is None or (known and enabled is attributes.debug)
        self._expect("dbgstat is not bit 0 of the attributes", agrees)

    def _status(self) -> TcbStatus:
        try:
            return TcbStatus(str(self._get("attester_tcb_status")))
        except ValueError:
            self.problems.append("attester_tcb_status is no TCB status")
            return TcbStatus.REVOKED

    def _date(self) -> datetime | None:
        value = self._get("attester_tcb_date")
        if value is None:
            return None
        try:
            date = datetime.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            self.problems.append("attester_tcb_date is no date")
            return None
        return date if date.tzinfo else date.replace(tzinfo=UTC)

    def _advisories(self) -> tuple[str, ...]:
        value = self._get("attester_advisory_ids")
        names = [] if value is None else value.split(",") if isinstance(value, str) else value
        good = isinstance(names, list) and all(isinstance(name, str) for name in names)
        found = (
            {name.strip().upper() for name in names} if isinstance(names, list) and good else {"?"}
        )
        found.discard("")
        problem = "attester_advisory_ids is no list of advisories"
        self._expect(problem, all(_ADVISORY.fullmatch(name) for name in found))
        return tuple(sorted(found))
