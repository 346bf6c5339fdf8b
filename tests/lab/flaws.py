"""What can be wrong with a bundle: one flaw at a time, everything else genuine.

Every flaw is put in where it would arise (a certificate without SCT is issued without one, and is
then signed with, logged and time-stamped like any other), so that nothing but the check of that one
property can notice it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Log(StrEnum):
    """What witnesses a signature.

    REKOR_V1 is what GitHub uses for public repositories: dsse/0.0.1, with a signed entry timestamp.
    REKOR_V2 is what is to come: hashedrekord/0.0.2 and an RFC 3161 timestamp. NONE is GitHub's own
    instance for private repositories: only a timestamp.
    """

    REKOR_V1 = "rekor-v1"
    REKOR_V2 = "rekor-v2"
    NONE = "none"


class Flaw(StrEnum):
    """One thing that is wrong."""

    # The certificate
    NO_SCT = "no SCT"
    SCT_BY_FOREIGN_LOG = "SCT by an unknown CT log"
    SCT_FOR_OTHER_CERTIFICATE = "SCT of another certificate"
    SCT_TIME_FAR_OFF = "SCT ten years younger than the certificate"
    TWO_SCTS = "two SCTs, both good"
    NO_SAN = "no subject alternative name"
    SAN_NOT_CRITICAL = "SAN not critical although the subject is empty"
    TWO_SANS = "a second SAN"
    NO_EKU = "no extended key usage"
    EKU_CLIENT_AUTH = "extended key usage clientAuth"
    NO_KEY_USAGE = "no key usage"
    KEY_USAGE_KEY_AGREEMENT = "key usage keyAgreement only"
    NO_AKI = "no authority key identifier"
    NO_SKI = "no subject key identifier"
    LEAF_IS_CA = "leaf with basicConstraints CA"
    UNKNOWN_CRITICAL_EXTENSION = "unknown critical extension"
    SUBJECT_NOT_EMPTY = "leaf with a subject"
    RAW_EXTENSION = "Fulcio extension 1.15 not DER"
    LEAF_KEY_RSA = "leaf key RSA"
    LEAF_KEY_ED25519 = "leaf key Ed25519"
    LEAF_KEY_P384 = "leaf key P-384"
    CERTIFICATE_BY_FOREIGN_CA = "certificate of another CA of the same names"
    CERTIFICATE_BY_ROOT = "certificate issued by the root CA itself"
    CERTIFICATE_LONG_LIVED = "certificate valid for ten years"
    CERTIFICATE_TRUNCATED = "certificate's DER cut off"
    CERTIFICATE_OF_OTHER_BUNDLE = "certificate of another bundle, for another key"
    # The envelope
    SIGNATURE_BY_OTHER_KEY = "signed by a key that the certificate does not name"
    SIGNATURE_WITHOUT_PAE = "payload signed without its type"
    SIGNATURE_CORRUPTED = "signature altered after logging"
    NO_SIGNATURE = "no signature"
    EMPTY_SIGNATURE = "signature of no bytes"
    TWO_SIGNATURES = "two signatures, both good"
    PAYLOAD_ALTERED = "payload altered after signing"
    PAYLOAD_TYPE_ALTERED = "payload type altered after signing"
    PAYLOAD_OF_OTHER_BUNDLE = "envelope of another bundle"
    # The log entry's body
    BODY_OF_OTHER_PAYLOAD = "log entry for another payload"
    BODY_OF_OTHER_CERTIFICATE = "log entry for another certificate"
    BODY_OF_OTHER_SIGNATURE = "log entry for another signature"
    BODY_OF_OTHER_ENVELOPE = "log entry with another envelope hash"
    # The log entry
    NO_LOG_ENTRY = "no log entry"
    TWO_LOG_ENTRIES = "two log entries"
    ENTRY_KIND_INTOTO = "log entry of kind intoto/0.0.2"
    INTEGRATED_AFTER_CERTIFICATE = "logged 1 s after the certificate's end"
    INTEGRATED_BEFORE_CERTIFICATE = "logged 1 s before the certificate's start"
    INTEGRATED_TIME_ALTERED = "integrated time 1 s off what was signed"
    NO_SET = "no signed entry timestamp"
    SET_CORRUPTED = "signed entry timestamp altered"
    SET_BY_FOREIGN_LOG = "signed entry timestamp by an unknown log"
    SET_OF_OTHER_LOG_INDEX = "log index altered after the SET was signed"
    LOG_INDEX_UNSIGNED = "log index altered where nothing signs it"
    NO_INCLUSION_PROOF = "no inclusion proof"
    INCLUSION_HASH_CORRUPTED = "inclusion proof with an altered hash"
    INCLUSION_HASH_MISSING = "inclusion proof one hash short"
    INCLUSION_OF_OTHER_INDEX = "inclusion proof of another index"
    INCLUSION_ROOT_ALTERED = "inclusion proof for another root hash"
    NO_CHECKPOINT = "no checkpoint"
    CHECKPOINT_BY_FOREIGN_LOG = "checkpoint by an unknown log"
    CHECKPOINT_OF_OTHER_ROOT = "checkpoint of another root hash"
    CHECKPOINT_OF_OTHER_SIZE = "checkpoint of another tree size"
    CHECKPOINT_OF_OTHER_ORIGIN = "checkpoint of another origin"
    CHECKPOINT_UNSIGNED = "checkpoint without signatures"
    # Timestamps
    NO_TIMESTAMP = "no RFC 3161 timestamp"
    TIMESTAMP_AFTER_CERTIFICATE = "timestamp 1 s after the certificate's end"
    TIMESTAMP_BEFORE_CERTIFICATE = "timestamp 1 s before the certificate's start"
    TIMESTAMP_BY_FOREIGN_AUTHORITY = "timestamp by an unknown authority"
    TIMESTAMP_OF_OTHER_SIGNATURE = "timestamp of another signature"
    TIMESTAMP_CORRUPTED = "timestamp with an altered signature"
    TIMESTAMP_TWICE = "the same timestamp twice"
    TIMESTAMPS_33 = "33 timestamps"
    # The bundle
    MEDIA_TYPE_UNKNOWN = "unknown media type"
    MEDIA_TYPE_V02 = "bundle of version 0.2, with a certificate chain"
    NO_CERTIFICATE = "no certificate"
    PUBLIC_KEY_INSTEAD = "a key's hint instead of a certificate"
    NO_ENVELOPE = "neither envelope nor signature"
    MESSAGE_SIGNATURE_INSTEAD = "a message signature instead of an envelope"
    UNKNOWN_MEMBER = "an unknown member"
    DUPLICATE_MEMBER = "a member twice; the last one counts"
    NOT_JSON = "half of the JSON text"


_NEEDS_V1: Final = {
    Flaw.BODY_OF_OTHER_ENVELOPE,
    Flaw.INTEGRATED_AFTER_CERTIFICATE,
    Flaw.INTEGRATED_BEFORE_CERTIFICATE,
    Flaw.INTEGRATED_TIME_ALTERED,
    Flaw.NO_SET,
    Flaw.SET_CORRUPTED,
    Flaw.SET_BY_FOREIGN_LOG,
    Flaw.SET_OF_OTHER_LOG_INDEX,
}
_NEEDS_V2: Final = {Flaw.LOG_INDEX_UNSIGNED}
_NEEDS_LOG: Final = {
    flaw for flaw in Flaw if flaw.name.startswith(("BODY_", "INCLUSION_", "CHECKPOINT_", "ENTRY_"))
} | {Flaw.NO_LOG_ENTRY, Flaw.TWO_LOG_ENTRIES, Flaw.NO_INCLUSION_PROOF, Flaw.NO_CHECKPOINT}
_NEEDS_TIMESTAMP: Final = {
    flaw for flaw in Flaw if flaw.name.startswith(("TIMESTAMP", "NO_TIMESTAMP"))
}


def applies(flaw: Flaw, log: Log, *, timestamped: bool | None = None) -> bool:
    """Whether a bundle with this kind of witness can have the flaw."""
    if timestamped is None:
        timestamped = log is not Log.REKOR_V1
    if flaw in _NEEDS_V1:
        return log is Log.REKOR_V1
    if flaw in _NEEDS_V2:
        return log is Log.REKOR_V2
    if flaw in _NEEDS_TIMESTAMP:
        return timestamped
    return flaw not in _NEEDS_LOG or log is not Log.NONE


UNDETECTED_BY_SIGSTORE: Final[Mapping[Flaw, str]] = MappingProxyType(
    {
        Flaw.SCT_TIME_FAR_OFF: "the SCT's time is compared with nothing",
        Flaw.TWO_SANS: "policy.Identity is content with any one of the names",
        Flaw.NO_SKI: "RFC 5280 does not demand it of leaf certificates",
        Flaw.LEAF_KEY_P384: "any ECDSA key will do",
        Flaw.CERTIFICATE_BY_ROOT: "every certificate of the chain is a trust anchor of its own",
        Flaw.CERTIFICATE_LONG_LIVED: "no limit to a leaf certificate's validity",
        Flaw.BODY_OF_OTHER_ENVELOPE: "an envelope's JSON is not canonical: its hash says nothing",
        Flaw.LOG_INDEX_UNSIGNED: "only the index in the inclusion proof is used",
        Flaw.CHECKPOINT_OF_OTHER_SIZE: "of a checkpoint only signature and root hash are used",
        Flaw.CHECKPOINT_OF_OTHER_ORIGIN: "of a checkpoint only signature and root hash are used",
        Flaw.MEDIA_TYPE_V02: "older versions of the format are read too",
        Flaw.DUPLICATE_MEMBER: "the JSON parser takes the last of several members",
    }
)
"""What sigstore-python accepts, and why: a verifier that minds has to check it itself.

Of a Rekor v1 bundle that is time-stamped as well (``timestamped=True``), it ignores timestamps that
do not verify, and a missing SET: one good witness of time is enough.
"""

FOREIGN_EXCEPTIONS: Final = frozenset(
    {
        Flaw.NO_EKU,
        Flaw.NO_KEY_USAGE,
        Flaw.RAW_EXTENSION,
        Flaw.LEAF_KEY_RSA,
        Flaw.LEAF_KEY_ED25519,
        Flaw.CERTIFICATE_TRUNCATED,
    }
)
"""What sigstore-python rejects with an exception that is none of its own errors."""
