"""An agent's ``/health``: which deployments it says it runs, in the shapes that agents send.

Older agents send ``deployments: ["name", ...]``; newer ones ``deployment_status: [{app_name, image,
image_digest, ...}]`` beside it, or such objects in ``deployments``. Both are read. An agent's own
``attestation_status`` is not: whoever wants one works it out from the digest.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from mrtd.errors import MalformedDocument
from mrtd.images.status import Deployment

SIZE_LIMIT: Final = 4 << 20
"""Largest ``/health``, bytes; it carries tokens and quotes besides."""
COUNT_LIMIT: Final = 1000
"""Most deployments of one agent."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Image = Annotated[str, msgspec.Meta(max_length=512)]


class _Entry(msgspec.Struct):
    app_name: _Name
    image: _Image = ""
    image_digest: _Image = ""


class _Document(msgspec.Struct):
    """What is used of ``/health``; agents send more."""

    agent_id: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    deployments: list[_Name | _Entry] = []
    deployment_status: list[_Entry] = []


class Health(msgspec.Struct, frozen=True):
    """What an agent says.

    Attributes:
        agent_id: its id, as it knows it; None if it does not say.
        deployments: each once; those of which only the name is told have no digest.
    """

    agent_id: str | None
    deployments: tuple[Deployment, ...]


def read_health(data: bytes, *, origin: str) -> Health:
    """Read ``/health``.

    Raises:
        MalformedDocument: not JSON, wrong types, or more than is shown.
    """
    if len(data) > SIZE_LIMIT:
        raise MalformedDocument(f"more than {SIZE_LIMIT} bytes", origin=origin)
    try:
        found = msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedDocument(f"is no /health: {error}"[:300], origin=origin) from error
    entries = [*found.deployment_status, *(e for e in found.deployments if isinstance(e, _Entry))]
    made = [Deployment(one.app_name, one.image, one.image_digest) for one in entries]
    told = {one.app_name for one in made}
    named = (name for name in found.deployments if isinstance(name, str))
    made += [Deployment(name) for name in named if name not in told]
    deployments = tuple(dict.fromkeys(made))
    if len(deployments) > COUNT_LIMIT:
        raise MalformedDocument(
            f"{len(deployments)} deployments, of which {COUNT_LIMIT} would be shown", origin=origin
        )
    return Health(found.agent_id, deployments)
