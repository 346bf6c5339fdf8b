"""GitHub's own Sigstore instance, which signs for private repositories: verified by ``gh`` only.

It has no log, and sigstore-python refuses bundles without an entry of one. What gh does not compare
(numeric ids, trigger, visibility) is read from its answer, and checked as a certificate's values.
Names there: sigstore-go, verify.VerificationResult and certificate.Summary.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from mrtd.errors import InputError, MrtdError, PolicyError, VerificationError
from mrtd.reference import PAYLOAD_TYPE, PREDICATE_TYPE, revocations_bytes
from mrtd.reference.strict_json import convert, read_json
from mrtd.registers import Sha384
from mrtd.verifier.bundle import SIZE_LIMIT, Opened, Signed
from mrtd.verifier.gh import GhUnknown, run_gh
from mrtd.verifier.identity import EXTENSIONS, SAN, Signer
from mrtd.verifier.policy import IdentityPolicy, Policy
from mrtd.verifier.verdict import Check, Reason, check, passed

ORGANIZATION: Final = "O=GitHub\\, Inc."  # as Go writes it (RFC 2253, section 2.4)
ANSWER_LIMIT: Final = 4 * SIZE_LIMIT  # the answer repeats the bundle, and the statement besides
_AHEAD: Final = timedelta(minutes=5)
_VERIFIED: Final = "application/vnd.dev.sigstore.verificationresult+json;version=0.1"


class _Stamp(msgspec.Struct):
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]


class _Signature(msgspec.Struct):
    certificate: dict[str, Any]


class _Result(msgspec.Struct, rename="camel"):
    media_type: str
    statement: dict[str, Any]
    signature: _Signature
    verified_timestamps: Annotated[list[_Stamp], msgspec.Meta(min_length=1, max_length=32)]


class _Attested(msgspec.Struct, rename="camel"):
    verification_result: _Result


class GhVerifier:
    """Verifies bundles of GitHub's own instance, each in a process of ``gh``. Thread-safe.

    Args:
        policy: one that trusts a private repository.
        gh: the program, looked for in PATH.

    Raises:
        PolicyError: the policy trusts a public one: which instance is asked is never a fallback.
    """

    def __init__(self, policy: Policy, *, gh: str = "gh") -> None:
        if policy.identity.visibility != "private":
            raise PolicyError("is not private", origin="policy", field="identity.visibility")
        self._identity, self._seconds, self._gh = policy.identity, policy.trust_root.gh_seconds, gh

    def open(self, bundle: bytes, *, now: datetime) -> Opened:
        """Verify a bundle. Never raises: what cannot be understood is refused."""
        try:
            return self._open(bundle, now)
        except GhUnknown as error:
            reason, text = error.reason, str(error)
        except InputError as error:
            reason, text = Reason.BUNDLE_MALFORMED, error.message
        except MrtdError as error:
            reason, text = Reason.BUNDLE_INVALID, error.message
        except Exception as error:  # noqa: BLE001 - what nobody thought of is a refusal
            reason, text = Reason.INTERNAL_ERROR, type(error).__name__
        return Opened((_made("sigstore", reason, "genuine", text[:300], ok=False),), None)

    def _open(self, bundle: bytes, now: datetime) -> Opened:
        tree = read_json(bundle, origin="bundle", limit=SIZE_LIMIT)
        kind, payload = _envelope(tree)
        statement = read_json(payload, origin="bundle's payload", limit=SIZE_LIMIT)
        with tempfile.TemporaryDirectory(prefix="mrtd-gh-") as name:  # mode 0700
            folder = Path(name)
            (folder / "mrtd.bin").write_bytes(_subject(statement))
            # on one line, however it was written: gh reads JSON lines
            (folder / "bundle.jsonl").write_text(f"{json.dumps(tree)}\n", encoding="ascii")
            host, words = self._identity.server.removeprefix("https://"), arguments(self._identity)
            answer = run_gh(self._gh, words, folder=folder, host=host, seconds=self._seconds,
                            limit=ANSWER_LIMIT)  # fmt: skip
        found = _read(answer)
        said, times = found.signature.certificate, [s.timestamp for s in found.verified_timestamps]
        issuer, same = str(said.get("certificateIssuer")), _same(found.statement, statement)
        checks = (
            passed("sigstore", expected="genuine", observed="genuine", source="gh"),
            _made("gh_answer", Reason.BUNDLE_INVALID, f"about this statement; {_VERIFIED}",
                  f"about {'this' if same else 'another'} statement; {found.media_type[:100]}",
                  ok=same and found.media_type == _VERIFIED),
            _made("sigstore_instance", Reason.BUNDLE_INVALID, ORGANIZATION, issuer[:200],
                  ok=ORGANIZATION in re.split(r"(?<!\\)[,+]", issuer)),
            _made("not_in_the_future", Reason.SIGNING_TIME,
                  f"signed before {now.isoformat(timespec='seconds')}",
                  max(times).isoformat(timespec="seconds"), ok=max(times) <= now + _AHEAD),
            _made("payload_type", Reason.PAYLOAD_TYPE, PAYLOAD_TYPE, kind[:100],
                  ok=kind == PAYLOAD_TYPE),
        )  # fmt: skip
        names = (*EXTENSIONS.values(), SAN)
        signer = Signer({n: said[n] for n in names if isinstance(said.get(n), str)})
        signed = Signed(payload=payload, signer=signer, signed_at=min(times), log_index=None)
        return Opened(checks, signed if all(c.ok for c in checks) else None)


def arguments(identity: IdentityPolicy) -> tuple[str, ...]:
    """Arguments for gh, which runs where ``mrtd.bin`` and ``bundle.jsonl`` are."""
    hosted, digest = identity.runners == ("github-hosted",), identity.signer_digest
    return (
        "attestation", "verify", "mrtd.bin", "--bundle", "bundle.jsonl",
        "--repo", identity.repository, "--predicate-type", PREDICATE_TYPE,
        "--cert-identity", identity.signer, "--cert-oidc-issuer", identity.issuer,
        "--source-ref", identity.ref, *(("--signer-digest", digest) if digest else ()),
        *(("--deny-self-hosted-runners",) if hosted else ()), "--no-public-good",
        "--format", "json",
    )  # fmt: skip


def _read(answer: bytes) -> _Result:
    """The one result in an answer. Raises `VerificationError`."""
    try:
        tree = read_json(answer, origin="gh", limit=ANSWER_LIMIT)
        results = convert(tree, list[_Attested], origin="gh")
    except InputError as error:
        raise VerificationError(f"gh's answer cannot be read: {error.message}") from error
    if len(results) != 1:
        raise VerificationError(f"gh has {len(results)} results for one bundle")
    return results[0].verification_result


def _envelope(tree: Any) -> tuple[str, bytes]:  # noqa: ANN401 - JSON
    """Type and payload of a bundle's DSSE envelope. Raises `VerificationError`."""
    try:
        envelope = tree["dsseEnvelope"]
        return str(envelope["payloadType"]), base64.b64decode(envelope["payload"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationError("the bundle has no DSSE envelope") from error


def _subject(statement: Any) -> bytes:  # noqa: ANN401 - JSON
    """Bytes whose SHA-256 is a subject: the MRTD of the first launch, or of the first revoked one;
    else those that a document has which is the first to revoke something.
    """
    try:
        if statement["predicateType"] != PREDICATE_TYPE:
            raise VerificationError("the bundle's statement has another predicate type")
        document = statement["predicate"]
        values = [launch["registers"]["mrtd"]["value"] for launch in document["launches"][:1]]
        rows = document["lifecycle"]["revoked"]
        values += [row["value"] for row in rows if row["kind"] == "mrtd"]
        if not values and rows:
            release = document["release"]
            return revocations_bytes(release["repository"], release["channel"])
        return Sha384.fromhex(values[0], origin="MRTD").raw
    except (KeyError, IndexError, TypeError, AttributeError, InputError) as error:
        # gh takes a file, no digest; and this may be a revocation: not known, rather than no
        raise GhUnknown("the document names no MRTD, without which gh cannot verify it") from error


def _same(first: object, second: object) -> bool:
    """Whether JSON is the same; in Python, 1 is equal to True."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def _made(name: str, reason: Reason, expected: str, observed: str, *, ok: bool) -> Check:
    return check(name, reason, ok=ok, expected=expected, observed=observed, source="gh")
