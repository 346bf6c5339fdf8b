"""Whether to admit a VM: `Verifier` takes what the VM presents, and gives a `Verdict`.

What a control plane needs is here. Names are imported when they are first used: importing this
package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mrtd.evidence.tcb import TcbStatus
    from mrtd.verifier.binding import (
        Binding,
        NonceBinding,
        ReportDataBinding,
        proof_message,
        prove,
        registration_data,
        report_data,
    )
    from mrtd.verifier.claims import TdClaims
    from mrtd.verifier.clock import Clock
    from mrtd.verifier.fetch import Fetch, HttpFetch, Response
    from mrtd.verifier.nonce import Nonces, nonce_text, read_nonce
    from mrtd.verifier.policy import Policy
    from mrtd.verifier.registration import register_context
    from mrtd.verifier.settings import policy_from_environment, read_policy
    from mrtd.verifier.verdict import Attestation, Check, Outcome, Reason, Verdict
    from mrtd.verifier.verifier import Verifier

__all__ = [
    "Attestation",
    "Binding",
    "Check",
    "Clock",
    "Fetch",
    "HttpFetch",
    "NonceBinding",
    "Nonces",
    "Outcome",
    "Policy",
    "Reason",
    "ReportDataBinding",
    "Response",
    "TcbStatus",
    "TdClaims",
    "Verdict",
    "Verifier",
    "nonce_text",
    "policy_from_environment",
    "proof_message",
    "prove",
    "read_nonce",
    "read_policy",
    "register_context",
    "registration_data",
    "report_data",
]

_MODULES: Final = {  # below mrtd
    "evidence.tcb": ("TcbStatus",),
    "verifier.binding": (
        "Binding",
        "NonceBinding",
        "ReportDataBinding",
        "proof_message",
        "prove",
        "registration_data",
        "report_data",
    ),
    "verifier.claims": ("TdClaims",),
    "verifier.clock": ("Clock",),
    "verifier.fetch": ("Fetch", "HttpFetch", "Response"),
    "verifier.nonce": ("Nonces", "nonce_text", "read_nonce"),
    "verifier.policy": ("Policy",),
    "verifier.registration": ("register_context",),
    "verifier.settings": ("policy_from_environment", "read_policy"),
    "verifier.verdict": ("Attestation", "Check", "Outcome", "Reason", "Verdict"),
    "verifier.verifier": ("Verifier",),
}
_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}


def __dir__() -> list[str]:
    """What there is, imported or not yet."""
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # it would make type checkers believe in any name

    def __getattr__(name: str) -> object:
        """Import a name with its first use (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"mrtd.{_HOME[name]}"), name)
        globals()[name] = value
        return value
