"""Machines as others describe them, read into launch specs."""

from __future__ import annotations

from mrtd.launch.arguments import MachineReading
from mrtd.launch.libvirt import domain_words
from mrtd.launch.machine import HostFacts
from mrtd.launch.qemu_cmdline import read_command_line, read_words

__all__ = ["HostFacts", "read_command_line", "read_domain"]


def read_domain(data: bytes, *, origin: str, host: HostFacts) -> MachineReading:
    """Read a libvirt domain: what ``virsh dumpxml`` prints of a defined one.

    Args:
        data: the XML.
        origin: its file.
        host: what the domain does not say.

    Raises:
        SpecError: it is none, has no addresses yet, or launches something that no spec can say.
    """
    words, arguments = domain_words(data, origin=origin)
    return read_words(words, origin=origin, host=host, also=arguments)
