r"""The context of dd's registrations: what the proof covers besides nonce and token.

It is the rest of the request, so that nobody on the way can give the VM another name or other
ports; ``u16`` and ``u32`` are big-endian, and ``field(x) = u32(len(x)) || x``::

    context = "mrtd.register/v1\0" || field(vm_name)
              || u32(number of extra_ingress)
              || field(hostname_label) || u16(port)      for each, in the order of the request

Texts are UTF-8; without ``extra_ingress`` their number is 0. Where an agent says at which address
it answers ``/health``, the context is another one, that ends in it::

    context = "mrtd.register/v2\0" || ... as above ... || field(health)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from mrtd.errors import MalformedDocument

_CONTEXT: Final = b"mrtd.register/v1\0"
_WITH_HEALTH: Final = b"mrtd.register/v2\0"
_FIELDS: Final = {"hostname_label", "port"}
_PORTS: Final = range(1 << 16)


class Ingress(Protocol):
    """A further host name of a VM, and the port behind it."""

    @property
    def hostname_label(self) -> str:
        """First label of the host name."""

    @property
    def port(self) -> int:
        """TCP port."""


def register_context(
    vm_name: str,
    extra_ingress: Sequence[Ingress | Mapping[str, object]] = (),
    *,
    health: str | None = None,
) -> bytes:
    """What an agent's proof covers besides nonce and token; see the module.

    Args:
        vm_name: of the request.
        extra_ingress: of the request, in its order: objects, or what JSON makes of them.
        health: of the request; None if it has none.

    Raises:
        MalformedDocument: a wrong type, a port that is none, or a field that the context does not
            have (which anybody on the way could change).
    """
    if not isinstance(extra_ingress, (list, tuple)):
        raise MalformedDocument("is no list", origin="registration", field="extra_ingress")
    magic = _CONTEXT if health is None else _WITH_HEALTH
    parts = [magic, _field(vm_name, "vm_name"), len(extra_ingress).to_bytes(4, "big")]
    for ingress in extra_ingress:
        label, port = _ingress(ingress)
        if type(port) is not int or port not in _PORTS:
            raise MalformedDocument("is no port", origin="registration", field="port")
        parts += [_field(label, "hostname_label"), port.to_bytes(2, "big")]
    if health is not None:
        parts.append(_field(health, "health"))
    return b"".join(parts)


def _ingress(ingress: Ingress | Mapping[str, object]) -> tuple[object, object]:
    if not isinstance(ingress, Mapping):
        return getattr(ingress, "hostname_label", None), getattr(ingress, "port", None)
    if set(ingress) != _FIELDS:
        text = "an entry has not exactly hostname_label and port"
        raise MalformedDocument(text, origin="registration", field="extra_ingress")
    return ingress["hostname_label"], ingress["port"]


def _field(text: object, name: str) -> bytes:
    try:
        data = text.encode() if isinstance(text, str) else None
    except UnicodeEncodeError:
        data = None
    if data is None:
        raise MalformedDocument("is no text", origin="registration", field=name)
    return len(data).to_bytes(4, "big") + data
