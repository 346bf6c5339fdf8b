r"""Types of the fields of reference values: what a text or a number may be.

A pattern ends in ``$(?!\n)`` because Python's ``$`` also matches before a final line end.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

INT_MAX: Final = 2**53 - 1
"""Largest integer that every JSON reader reads as it is (RFC 8785, section 3.2.2.3)."""

_END: Final = r"$(?!\n)"

Sha256Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}" + _END)]
"""A SHA-256 digest, lower-case hex."""

CommitHex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{40}" + _END)]
"""A git commit."""

Bits64 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}" + _END)]
"""A 64-bit integer, most significant digit first."""

RootHash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32,128}" + _END)]
"""A dm-verity root hash."""

Repository = Annotated[
    str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}" + _END)
]
"""``owner/name``."""

GitRef = Annotated[str, msgspec.Meta(pattern="^refs/[!-~]{1,250}" + _END)]
"""A whole git ref, such as ``refs/heads/main``."""

Tag = Annotated[str, msgspec.Meta(pattern="^[!-~]{1,200}" + _END)]
"""A release tag: printable ASCII without blanks."""

Instant = Annotated[
    str,
    msgspec.Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z" + _END),
]
"""RFC 3339, UTC, whole seconds."""

Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,199}" + _END)]
"""A shape or a file: no blanks, no slashes."""

Text = Annotated[str, msgspec.Meta(pattern="^[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]{1,4096}" + _END)]
"""One line for a person."""

Size = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
"""Bytes."""

Sequence = Annotated[int, msgspec.Meta(ge=1, le=INT_MAX)]
"""Number of a release in its channel: the first-parent commit count of the release branch."""

Register = Literal["mrtd", "rtmr0", "rtmr1", "rtmr2"]

ConfirmationKind = Literal["derived", "launched-tdx", "ita", "dcap", "tpm-crosscheck"]
"""How figures were confirmed: derived again elsewhere, seen in a launched TD, by Intel Trust
Authority, by a quote, or by a TPM in a VM of the same firmware without TDX.
"""

ConfirmationOutcome = Literal["confirmed", "refuted", "not-checked"]


class Object(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of a document: every field is there, and no other."""
