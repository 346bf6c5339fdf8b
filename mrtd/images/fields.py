r"""Types of the fields of ``images.toml``: what a text may be.

Names of images are as containers/image spells them out ("docker.io/library/x", not "x"): a scope of
policy.json is compared with them as a text. So there is one spelling: domains are lower-case here.
A pattern ends in ``$(?!\n)`` because Python's ``$`` also matches before a final line end.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

_END: Final = r"$(?!\n)"
_LABEL: Final = "[a-z0-9]+(?:-+[a-z0-9]+)*"
_PORT: Final = ":[1-9][0-9]{0,4}"
_DOMAIN: Final = (
    rf"(?:(?:localhost|{_LABEL}(?:\.{_LABEL})+)(?:{_PORT})?|{_LABEL}{_PORT})"  # a host, not a path
)
_PATH: Final = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_NAME: Final = rf"{_DOMAIN}(?:/{_PATH})+"
_NAME_LENGTH: Final = 255

ImageRepository = Annotated[str, msgspec.Meta(pattern=f"^{_NAME}{_END}", max_length=_NAME_LENGTH)]
"""``registry/name``, written out: ``docker.io/library/alpine``, ``ghcr.io/owner/name``."""

PinnedImage = Annotated[
    str,
    msgspec.Meta(pattern=f"^{_NAME}@sha256:[0-9a-f]{{64}}{_END}", max_length=_NAME_LENGTH + 72),
]
"""``registry/name@sha256:digest``."""

NumericId = Annotated[str, msgspec.Meta(pattern=rf"^[1-9][0-9]{{0,18}}{_END}")]
"""A number of GitHub's, which a renamed or resurrected repository or owner does not have."""

KeyFile = Annotated[
    str, msgspec.Meta(pattern=rf"^[A-Za-z0-9_-]([A-Za-z0-9._-]{{0,98}}[A-Za-z0-9_-])?\.pub{_END}")
]
"""Name of a public key's file in the folder ``keys`` beside ``images.toml``."""

GuestFolder = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(/etc/containers|(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}){1,14}/\.config/containers)"
        + _END
    ),
]
"""Where podman looks for its configuration: the system's folder, or that below a ``HOME``."""

GuestPath = Annotated[
    str, msgspec.Meta(pattern=rf"^(/[A-Za-z0-9_-][A-Za-z0-9._-]{{0,63}}){{3,16}}{_END}")
]
"""An absolute path in the guest, of letters that no shell and no JSON reader reads as others."""

Workflow = Annotated[
    str, msgspec.Meta(pattern=rf"^\.github/workflows/[A-Za-z0-9._-]{{1,100}}\.ya?ml{_END}")
]
"""Path of a workflow's file."""

Issuer = Annotated[str, msgspec.Meta(pattern=rf"^https://[a-z0-9.-]+(/[A-Za-z0-9._-]+)*{_END}")]
"""Who issues the workflow's identity tokens."""
