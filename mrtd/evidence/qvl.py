"""The border to dcap-qvl: imported on first use, its errors translated.

dcap-qvl has no error classes, only text in a ``ValueError`` (and Rust panics, which are no
`Exception`). The texts here are those of 0.7.0; one that is not here stays a refusal.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from mrtd.errors import (
    CollateralExpired,
    CollateralInvalid,
    PlatformRevoked,
    QuoteInvalid,
    TcbRejected,
    TdUnprotected,
    ToolMissing,
    VerificationError,
)


class Refusal(Exception):
    """dcap-qvl raised; its text is all that is known. Never leaves `mrtd.evidence`."""


def import_qvl() -> ModuleType:
    """The module ``dcap_qvl``, on first use. Raises `ToolMissing`."""
    try:
        return importlib.import_module("dcap_qvl")
    except ImportError as error:
        raise ToolMissing(
            "dcap-qvl, which verifies quotes, is not installed", hint="pip install './mrtd[dcap]'"
        ) from error


def call(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - foreign values
    """Call dcap-qvl; whatever goes wrong in it comes out as `Refusal`, a Rust panic too."""
    try:
        return function(*arguments)
    except Exception as error:
        raise Refusal(str(error)) from error
    except BaseException as error:
        # pyo3's PanicException derives from BaseException; an interrupt is not ours
        if type(error).__name__ != "PanicException":
            raise
        raise Refusal(f"panic: {error}") from error


_NOW: Final = "fetch the collateral again, or check the clock"
_OTHER: Final = "fetch the collateral for this quote's platform (FMSPC) again"
_TD: Final = "launch the TD without this attribute"

# Looked for in this order: text of dcap-qvl 0.7.0 (verify.rs, and rustls-webpki's error names),
# our error, what to do next.
_TEXTS: Final[tuple[tuple[str, type[VerificationError], str], ...]] = (
    ("CertRevoked", PlatformRevoked, "a certificate is on Intel's revocation list"),
    ("TCB status is invalid: Revoked", PlatformRevoked, "Intel has revoked this TCB level"),
    ("CrlExpired", CollateralExpired, _NOW),
    ("CertExpired", CollateralExpired, _NOW),
    ("CertNotValidYet", CollateralExpired, _NOW),
    ("TCBInfo expired", CollateralExpired, _NOW),
    ("QE Identity expired", CollateralExpired, _NOW),
    ("issue date is in the future", CollateralExpired, _NOW),
    ("QE report validation failed", QuoteInvalid, "the quoting enclave is in debug mode"),
    ("Debug mode is enabled", TdUnprotected, _TD),
    ("TD profiling is enabled", TdUnprotected, _TD),
    ("TD migration is enabled", TdUnprotected, _TD),
    ("SERVTD_EXT is enabled", TdUnprotected, _TD),
    ("Invalid MR service TD", TdUnprotected, "launch the TD without a service TD"),
    ("Reserved bits in TD attributes", TdUnprotected, _TD),
    ("SEPT_VE_DISABLE is not enabled", TdUnprotected, "launch the TD with sept-ve-disable=on"),
    ("Fmspc mismatch", CollateralInvalid, _OTHER),
    ("non-TDX TCB info", CollateralInvalid, _OTHER),
    ("No TDX module identity", CollateralInvalid, _OTHER),
    ("TDX TCB Info is missing", CollateralInvalid, _OTHER),
    ("UnknownRevocationStatus", CollateralInvalid, _OTHER),
    ("Unsupported QE Identity", CollateralInvalid, _OTHER),
    ("Signature is invalid for tcb_info", CollateralInvalid, _OTHER),
    ("Signature is invalid for qe_identity", CollateralInvalid, _OTHER),
    ("Failed to decode TcbInfo", CollateralInvalid, _OTHER),
    ("Failed to decode QeIdentity", CollateralInvalid, _OTHER),
    ("Failed to parse root CA CRL", CollateralInvalid, _OTHER),
    ("Failed to parse PCK CRL", CollateralInvalid, _OTHER),
)
# The platform is older than all that Intel lists
_BELOW: Final = ("No matching TCB level found", "is below minimum required")


def translate(text: str) -> VerificationError:
    """The error of ours for what dcap-qvl said; `QuoteInvalid` for what nobody knows."""
    said = " ".join(text.split()).removeprefix("Verification failed: ")
    if any(below in said for below in _BELOW):
        return TcbRejected(
            f"the platform is below every TCB level that Intel lists: {said}",
            failed=("tcb_level",),
            hint="update the platform",
        )
    for known, error, hint in _TEXTS:
        if known in said:
            return error(f"the quote is refused: {said}", hint=hint)
    return QuoteInvalid(f"the quote is refused: {said}")
