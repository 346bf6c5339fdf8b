"""Sigstore bundles: whether one is genuine, and what sigstore-python leaves to its caller.

sigstore verifies chain, SCT, log inclusion and signatures. It does not look at what was signed, nor
whether keys of CA and logs were in use at the time, nor whether that time has come yet; and errors
of other libraries pass through it. That is done here.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from mrtd.errors import InputError, MrtdError, TrustRootError, VerificationError
from mrtd.reference import PAYLOAD_TYPE
from mrtd.reference.strict_json import read_json
from mrtd.verifier.identity import Signer, read_signer
from mrtd.verifier.trust_root import Period, TrustRoot, key_id
from mrtd.verifier.verdict import Check, Reason, check, passed

if TYPE_CHECKING:
    from cryptography import x509
    from sigstore.verify import Verifier

_MISSING: Final = "sigstore is not installed: pip install './mrtd[verifier]'"
SIZE_LIMIT: Final = 4 << 20
_AHEAD: Final = timedelta(minutes=5)
"""How far ahead of our clock a signature may be dated."""
_LIFETIME: Final = timedelta(minutes=20)
"""Fulcio's certificates hold for ten minutes: a longer one was not made for one signature."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A payload whose signature is genuine, and who signed it.

    Attributes:
        payload: what was signed.
        signer: of the certificate.
        signed_at: proven time; the earliest one, if there are several.
        log_index: in the transparency log; None without one.
    """

    payload: bytes
    signer: Signer
    signed_at: datetime
    log_index: int | None


class Opened(NamedTuple):
    """What came of a bundle: checks, and the signed payload if all are passed."""

    checks: tuple[Check, ...]
    signed: Signed | None


class SigstoreVerifier:
    """Verifies bundles of one public Sigstore instance. Thread-safe; sigstore is imported late.

    Args:
        root: of the instance.

    Raises:
        TrustRootError: sigstore cannot use the root.
    """

    def __init__(self, root: TrustRoot) -> None:
        self.root = root
        self._verifiers: dict[bytes, Verifier] = {}
        _make_verifier(root, root.raw)

    def open(self, bundle: bytes, *, now: datetime) -> Opened:
        """Verify a bundle. Never raises: what cannot be understood is refused."""
        try:
            return self._open(bundle, now)
        except MrtdError as error:
            reason = (
                Reason.BUNDLE_MALFORMED if isinstance(error, InputError) else Reason.BUNDLE_INVALID
            )
            return Opened((_refused(reason, error.message),), None)
        except ImportError:
            return Opened((_refused(Reason.TOOL_MISSING, _MISSING),), None)
        except Exception as error:  # noqa: BLE001 - whatever sigstore lets through is a refusal
            text = f"{type(error).__name__}: {error}"[:300]
            return Opened((_refused(Reason.BUNDLE_INVALID, text),), None)

    def _open(self, data: bytes, now: datetime) -> Opened:
        from sigstore.models import Bundle  # noqa: PLC0415 - heavy

        tree = read_json(data, origin="bundle", limit=SIZE_LIMIT)
        _demand_one_spelling(tree)
        bundle = Bundle.from_json(data)
        seen: list[x509.Certificate] = []
        verifier = self._verifier_of(_log_id(tree))
        payload_type, payload = verifier.verify_dsse(bundle, _Captured(seen))
        certificate = seen[0]
        times = signing_times(tree, certificate)
        signature = passed(
            "sigstore", expected="genuine", observed="genuine", source=self.root.source
        )
        kind = check(
            "payload_type",
            Reason.PAYLOAD_TYPE,
            ok=payload_type == PAYLOAD_TYPE,
            expected=PAYLOAD_TYPE,
            observed=payload_type[:100],
            source="envelope",
        )
        checks = (signature, *self._check_times(tree, certificate, times, now), kind)
        if not all(c.ok for c in checks):
            return Opened(checks, None)
        entry = tree["verificationMaterial"]["tlogEntries"][0]
        signed = Signed(
            payload=payload,
            signer=read_signer(certificate),
            signed_at=min(times),
            # the proven one of the two indices: Rekor v2 signs the outer one nowhere
            log_index=int(entry["inclusionProof"]["logIndex"]),
        )
        return Opened(checks, signed)

    def _verifier_of(self, log: bytes) -> Verifier:
        """A verifier that knows no other log than the one that a bundle names.

        sigstore tries the keys of all logs where it does not know an id, which it never does of
        Rekor v2: a key that has been withdrawn could speak in the name of a log in use.
        """
        if (made := self._verifiers.get(log)) is not None:
            return made
        if log not in self.root.logs:
            raise VerificationError("the bundle names a log that is not in the root of trust")
        tree = json.loads(self.root.raw)
        tree["tlogs"] = [one for one in tree["tlogs"] if key_id(one["logId"]["keyId"]) == log]
        made = self._verifiers[log] = _make_verifier(self.root, json.dumps(tree).encode())
        return made

    def _check_times(
        self,
        tree: dict[str, Any],
        certificate: x509.Certificate,
        times: tuple[datetime, ...],
        now: datetime,
    ) -> tuple[Check, ...]:
        """What sigstore does not compare: the times of keys, and the time now."""
        periods = {
            "log_key_period": (self.root.logs.get(_log_id(tree), ()), times),
            "ca_period": (self._authority_periods(certificate), times),
            **self._sct_periods(certificate),
        }
        lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        latest = max(times)
        return (
            check(
                "not_in_the_future",
                Reason.SIGNING_TIME,
                ok=latest <= now + _AHEAD,
                expected=f"signed before {now.isoformat(timespec='seconds')}",
                observed=latest.isoformat(timespec="seconds"),
                source="transparency log or timestamp",
            ),
            check(
                "certificate_lifetime",
                Reason.SIGNING_TIME,
                ok=lifetime <= _LIFETIME,
                expected=f"at most {_LIFETIME}",
                observed=str(lifetime),
                source="certificate",
            ),
            *(
                _covered(name, allowed, moments, self.root.source)
                for name, (allowed, moments) in periods.items()
            ),
        )

    def _authority_periods(self, certificate: x509.Certificate) -> tuple[Period, ...]:
        """Periods of the CAs of the root that did issue the certificate."""
        named = [one for one in self._authorities if one[0].subject == certificate.issuer]
        if len(named) == 1 and named[0][1] is not None:
            # sigstore has found a chain to a CA of this root, and only this one has that name
            return (named[0][1],)
        found = []
        for authority, period in named:
            try:
                certificate.verify_directly_issued_by(authority)
            except Exception:  # noqa: BLE001, S112 - another key type or signature: not this one
                continue
            if period is not None:
                found.append(period)
        return tuple(found)

    @cached_property
    def _authorities(self) -> tuple[tuple[x509.Certificate, Period | None], ...]:
        """All CA certificates of the root, which sigstore trusts alike; a period only for those
        that may issue: the first of each chain.
        """
        from cryptography import x509 as types  # noqa: PLC0415 - heavy

        return tuple(
            (types.load_der_x509_certificate(der), None if place else period)
            for chain, period in self.root.authorities
            for place, der in enumerate(chain)
        )

    def _sct_periods(
        self, certificate: x509.Certificate
    ) -> dict[str, tuple[tuple[Period, ...], tuple[datetime, ...]]]:
        """Periods of the CT log's key, and the time in the certificate's SCT; sigstore saw to it
        that there is exactly one.
        """
        from cryptography import x509 as types  # noqa: PLC0415 - heavy

        extension = certificate.extensions.get_extension_for_class(
            types.PrecertificateSignedCertificateTimestamps
        )
        (sct,) = extension.value
        time = sct.timestamp.replace(tzinfo=UTC)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        inside = Period(start - _AHEAD, end)
        return {
            "ct_log_key_period": (self.root.ct_logs.get(sct.log_id, ()), (time,)),
            "sct_time": ((inside,), (time,)),
        }


class LateSigstore:
    """A `SigstoreVerifier` that is made with the first bundle: importing sigstore takes half a
    second. Thread-safe.
    """

    def __init__(self, root: TrustRoot) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._made: SigstoreVerifier | None = None

    def open(self, bundle: bytes, *, now: datetime) -> Opened:
        """Verify a bundle. Never raises."""
        try:
            with self._lock:
                self._made = self._made or SigstoreVerifier(self._root)
        except TrustRootError as error:
            return Opened((_refused(Reason.TRUST_ROOT_UNUSABLE, error.message),), None)
        except ImportError:
            return Opened((_refused(Reason.TOOL_MISSING, _MISSING),), None)
        return self._made.open(bundle, now=now)


class _Captured:
    """A policy for sigstore that decides nothing: identity is checked afterwards, clause by
    clause, on the certificate that sigstore verified.
    """

    def __init__(self, seen: list[x509.Certificate]) -> None:
        self._seen = seen

    def verify(self, cert: x509.Certificate) -> None:
        """Remember the certificate."""
        self._seen.append(cert)


def signing_times(tree: dict[str, Any], certificate: x509.Certificate) -> tuple[datetime, ...]:
    """Every time that a bundle names for its signature.

    sigstore demands that one of them is proven; all of them have to fit, so that it does not matter
    which. A log's time counts only with the promise that signs it.

    Raises:
        VerificationError: there is none, or one is outside the certificate's ten minutes.
    """
    from rfc3161_client import decode_timestamp_response  # noqa: PLC0415 - heavy

    material = tree["verificationMaterial"]
    entry = material["tlogEntries"][0]
    times = []
    if entry.get("inclusionPromise") and entry.get("integratedTime"):
        times.append(datetime.fromtimestamp(int(entry["integratedTime"]), UTC))
    stamps = (material.get("timestampVerificationData") or {}).get("rfc3161Timestamps") or []
    for stamp in stamps:
        response = decode_timestamp_response(key_id(stamp["signedTimestamp"]))
        times.append(response.tst_info.gen_time)
    if not times:
        raise VerificationError("the bundle names no time of signing")
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not all(first <= time <= last for time in times):
        raise VerificationError("the bundle names a time outside its certificate's validity")
    return tuple(times)


def bundle_digest(bundle: bytes) -> str:
    """SHA-256 of a bundle's content, hex: the same for every spelling of its JSON."""
    try:
        tree = read_json(bundle, origin="bundle", limit=SIZE_LIMIT)
    except InputError:
        return hashlib.sha256(bundle).hexdigest()
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _covered(
    name: str, periods: tuple[Period, ...], times: Iterable[datetime], source: str
) -> Check:
    """Whether one of the periods covers every time; no period is no key of this root."""
    moments = tuple(times)
    return check(
        name,
        Reason.SIGNING_TIME,
        ok=any(all(period.covers(time) for time in moments) for period in periods),
        expected=" or ".join(_shown(period) for period in periods) or "a key of the trust root",
        observed=", ".join(time.isoformat(timespec="seconds") for time in moments),
        source=source,
    )


def _shown(period: Period) -> str:
    end = "now" if period.end is None else period.end.isoformat(timespec="seconds")
    return f"{period.start.isoformat(timespec='seconds')} to {end}"


def _refused(reason: Reason, observed: str) -> Check:
    return check(
        "sigstore", reason, ok=False, expected="genuine", observed=observed, source="bundle"
    )


def _demand_one_spelling(tree: object) -> None:
    """Refuse keys such as ``log_id``, which sigstore takes for ``logId`` and nothing here does."""
    level = [tree]
    while level:
        found = level.pop()
        if isinstance(found, dict):
            if any("_" in key for key in found):
                raise VerificationError("the bundle has a key that is not in lowerCamelCase")
            level += found.values()
        elif isinstance(found, list):
            level += found


def _log_id(tree: dict[str, Any]) -> bytes:
    """Id of the log that a bundle names."""
    return key_id(tree["verificationMaterial"]["tlogEntries"][0]["logId"]["keyId"])


def _make_verifier(root: TrustRoot, raw: bytes) -> Verifier:
    from sigstore.models import TrustedRoot  # noqa: PLC0415 - heavy
    from sigstore.verify import Verifier  # noqa: PLC0415 - heavy

    # sigstore reads a root from a path only. These bytes have been checked, those of the path
    # might be others by now: they are given in memory.
    memory = os.memfd_create("trusted_root", os.MFD_CLOEXEC)
    try:
        os.write(memory, raw)
        return Verifier(trusted_root=TrustedRoot.from_file(f"/proc/self/fd/{memory}"))
    except Exception as error:
        raise TrustRootError(
            f"sigstore cannot use it: {type(error).__name__}", origin=root.source
        ) from error
    finally:
        os.close(memory)
