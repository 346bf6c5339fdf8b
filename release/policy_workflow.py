"""The part of a policy in which podman itself enforces the workflow: ``buildSignerURI``. Pure.

No released podman reads it (container-libs PR 625): it is rendered only where ``images.toml`` says
so, and a program at hand has been asked. It takes a signature with a certificate of Fulcio and a
promise of Rekor's first version (policy.json(5): ``rekorPublicKeyData`` is mandatory with it).
"""

from __future__ import annotations

import base64
import json
import textwrap
from typing import Any, Final

from mrtd.errors import ImagesError
from mrtd.images.settings import WorkflowIdentity

TRUSTED_ROOT: Final = "trusted_root.json"
# Rekor's second version signs no promise, and has an Ed25519 key.
_PROMISING: Final = "PKIX_ECDSA_P256_SHA_256"


def fulcio_keys(trusted_root: bytes) -> dict[str, Any]:
    """The keys of a Sigstore instance, as policy.json has them. Raises `ImagesError`."""
    try:
        tree = json.loads(trusted_root)
        chains = [one["certChain"]["certificates"] for one in tree["certificateAuthorities"]]
        authorities = [_pem("CERTIFICATE", cert["rawBytes"]) for chain in chains for cert in chain]
        logs = [log["publicKey"] for log in tree["tlogs"]]
        keys = [_pem("PUBLIC KEY", k["rawBytes"]) for k in logs if k["keyDetails"] == _PROMISING]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise ImagesError("has no certificates or keys of logs", origin=TRUSTED_ROOT) from error
    if not authorities or not keys:
        raise ImagesError("names no authority, or no log that promises", origin=TRUSTED_ROOT)
    data = [_base64(key) for key in keys]
    rekor = {"rekorPublicKeyData": data[0]} if len(data) == 1 else {"rekorPublicKeyDatas": data}
    return {"caData": _base64("".join(authorities)), "rekor": rekor}


def workflow_requirement(identity: WorkflowIdentity, keys: dict[str, Any]) -> dict[str, Any]:
    """A signature by the workflow, for this repository."""
    return {
        "type": "sigstoreSigned",
        "fulcio": {
            "caData": keys["caData"],
            "oidcIssuer": identity.issuer,
            "buildSignerURI": identity.signer,
        },
        **keys["rekor"],
        "signedIdentity": {"type": "matchRepository"},
    }


def _pem(label: str, raw: str) -> str:
    text = base64.b64encode(base64.b64decode(raw, validate=True)).decode()
    body = "\n".join(textwrap.wrap(text, 64))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
