"""Flaws of log entries and bundles: how the JSON of a genuine one is changed."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from tests.lab.envelope import base64, flipped
from tests.lab.flaws import Flaw
from tests.lab.rekor import RekorLog, RekorV1

Json: TypeAlias = dict[str, Any]
ChangeEntry: TypeAlias = Callable[[Json, RekorLog, RekorLog], None]
ChangeBundle: TypeAlias = Callable[[Json], None]


def _removed(name: str) -> ChangeEntry:
    def change(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
        del entry[name]

    return change


def _kind_intoto(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    entry["kindVersion"] = {"kind": "intoto", "version": "0.0.2"}


def _one_more(name: str) -> ChangeEntry:
    def change(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
        entry[name] = str(int(entry[name]) + 1)

    return change


def _set_corrupted(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    promise = entry["inclusionPromise"]
    signature = b64decode(promise["signedEntryTimestamp"])
    promise["signedEntryTimestamp"] = base64(flipped(signature))


def _set_by_foreign_log(entry: Json, log: RekorLog, foreign: RekorLog) -> None:
    if not isinstance(log, RekorV1) or not isinstance(foreign, RekorV1):
        raise TypeError("only Rekor v1 signs entry timestamps")
    entry["inclusionPromise"]["signedEntryTimestamp"] = base64(foreign.promise(entry))


def _no_checkpoint(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    del entry["inclusionProof"]["checkpoint"]


def _inclusion_hash_corrupted(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    hashes = entry["inclusionProof"]["hashes"]
    hashes[0] = base64(flipped(b64decode(hashes[0])))


def _inclusion_hash_missing(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    entry["inclusionProof"]["hashes"].pop()


def _inclusion_of_other_index(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    proof = entry["inclusionProof"]
    proof["logIndex"] = str(int(proof["logIndex"]) ^ 1)  # its sibling's: as many hashes


def _inclusion_root_altered(entry: Json, log: RekorLog, _foreign: RekorLog) -> None:
    """Consistent with its checkpoint, but not with the hashes."""
    proof = entry["inclusionProof"]
    root = flipped(b64decode(proof["rootHash"]))
    proof["rootHash"] = base64(root)
    proof["checkpoint"]["envelope"] = log.checkpoint(int(proof["treeSize"]), root)


def _checkpoint(
    *, size: int = 0, other_root: bool = False, origin: str | None = None, by_foreign: bool = False
) -> ChangeEntry:
    def change(entry: Json, log: RekorLog, foreign: RekorLog) -> None:
        proof = entry["inclusionProof"]
        root = b64decode(proof["rootHash"])
        if by_foreign:
            # An unknown key under the known log's name: key hint and log id are public.
            foreign = _impostor(foreign, log)
        proof["checkpoint"]["envelope"] = (foreign if by_foreign else log).checkpoint(
            int(proof["treeSize"]) + size, flipped(root) if other_root else root, origin=origin
        )

    return change


def _impostor(foreign: RekorLog, log: RekorLog) -> RekorLog:
    return RekorLog(log.base_url.removeprefix("https://"), log.origin, foreign.key, log.log_id)


def _checkpoint_unsigned(entry: Json, _log: RekorLog, _foreign: RekorLog) -> None:
    checkpoint = entry["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = checkpoint["envelope"].partition("\n\n")[0] + "\n\n"


ENTRY_FLAWS: Final[Mapping[Flaw | None, ChangeEntry]] = {
    Flaw.ENTRY_KIND_INTOTO: _kind_intoto,
    Flaw.INTEGRATED_TIME_ALTERED: _one_more("integratedTime"),
    Flaw.NO_SET: _removed("inclusionPromise"),
    Flaw.SET_CORRUPTED: _set_corrupted,
    Flaw.SET_BY_FOREIGN_LOG: _set_by_foreign_log,
    Flaw.SET_OF_OTHER_LOG_INDEX: _one_more("logIndex"),
    Flaw.LOG_INDEX_UNSIGNED: _one_more("logIndex"),
    Flaw.NO_INCLUSION_PROOF: _removed("inclusionProof"),
    Flaw.INCLUSION_HASH_CORRUPTED: _inclusion_hash_corrupted,
    Flaw.INCLUSION_HASH_MISSING: _inclusion_hash_missing,
    Flaw.INCLUSION_OF_OTHER_INDEX: _inclusion_of_other_index,
    Flaw.INCLUSION_ROOT_ALTERED: _inclusion_root_altered,
    Flaw.NO_CHECKPOINT: _no_checkpoint,
    Flaw.CHECKPOINT_BY_FOREIGN_LOG: _checkpoint(by_foreign=True),
    Flaw.CHECKPOINT_OF_OTHER_ROOT: _checkpoint(other_root=True),
    Flaw.CHECKPOINT_OF_OTHER_SIZE: _checkpoint(size=1),
    Flaw.CHECKPOINT_OF_OTHER_ORIGIN: _checkpoint(origin="log.of.somebody.else"),
    Flaw.CHECKPOINT_UNSIGNED: _checkpoint_unsigned,
}


def _media_type(bundle: Json) -> None:
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v9.9+json"


def _version_02(bundle: Json) -> None:
    material = bundle["verificationMaterial"]
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}


def _no_certificate(bundle: Json) -> None:
    del bundle["verificationMaterial"]["certificate"]


def _public_key(bundle: Json) -> None:
    _no_certificate(bundle)
    bundle["verificationMaterial"]["publicKey"] = {"hint": "lab"}


def _certificate_truncated(bundle: Json) -> None:
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["rawBytes"] = base64(b64decode(certificate["rawBytes"])[:-9])


def _no_log_entry(bundle: Json) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def _two_log_entries(bundle: Json) -> None:
    bundle["verificationMaterial"]["tlogEntries"] *= 2


def _no_envelope(bundle: Json) -> None:
    del bundle["dsseEnvelope"]


def _message_signature(bundle: Json) -> None:
    envelope = bundle.pop("dsseEnvelope")
    bundle["messageSignature"] = {"signature": envelope["signatures"][0]["sig"]}


def _unknown_member(bundle: Json) -> None:
    bundle["verificationMaterial"]["note"] = "not in sigstore_bundle.proto"


BUNDLE_FLAWS: Final[Mapping[Flaw | None, ChangeBundle]] = {
    Flaw.MEDIA_TYPE_UNKNOWN: _media_type,
    Flaw.MEDIA_TYPE_V02: _version_02,
    Flaw.NO_CERTIFICATE: _no_certificate,
    Flaw.PUBLIC_KEY_INSTEAD: _public_key,
    Flaw.CERTIFICATE_TRUNCATED: _certificate_truncated,
    Flaw.NO_LOG_ENTRY: _no_log_entry,
    Flaw.TWO_LOG_ENTRIES: _two_log_entries,
    Flaw.NO_ENVELOPE: _no_envelope,
    Flaw.MESSAGE_SIGNATURE_INSTEAD: _message_signature,
    Flaw.UNKNOWN_MEMBER: _unknown_member,
}


def serialize(bundle: Json, flaw: Flaw | None) -> bytes:
    """The bundle's JSON text, with the flaws that only a text can have."""
    text = json.dumps(bundle, separators=(",", ":"), ensure_ascii=False).encode()
    if flaw is Flaw.DUPLICATE_MEMBER:
        return b'{"mediaType":"application/json",' + text[1:]
    if flaw is Flaw.NOT_JSON:
        return text[: len(text) // 2]
    return text
