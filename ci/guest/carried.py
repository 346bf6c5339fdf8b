"""An image that carries the guest's agent: what was put in, and which registers that moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ci.guest.initramfs import DEFAULT_INIT, agent_files, build_initramfs
from mrtd.eventlog import register_of_pcr
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import RegisterName, Sha384, Target


class Carrier(StrEnum):
    """How the agent gets into a guest."""

    ROOT = "root"
    """PID 1 of a root file system that nothing measures."""
    ADDON = "addon"
    """An initrd in an add-on for systemd's stub, on the ESP."""
    INITRD = "initrd"
    """Appended to the initrd of a direct kernel boot."""


@dataclass(frozen=True, slots=True)
class Moved:
    """An event that the carrier adds or changes.

    Attributes:
        pcr: where a TPM has it.
        event: which one.
        digest: what it is now; None where it depends on what else the image has.
        why: what of the carrier it is of.
    """

    pcr: int
    event: str
    digest: Sha384 | None
    why: str

    def register(self, target: Target) -> RegisterName:
        """The register that it is extended into."""
        return register_of_pcr(self.pcr, target)


@dataclass(frozen=True, slots=True)
class Carried:
    """A launch that carries the agent.

    Attributes:
        carrier: how.
        spec: the launch; its paths are absolute.
        moved: events that differ from the image's own; empty: no register moves.
        about: what was done, and what the guest does not do for it, a sentence each.
    """

    carrier: Carrier
    spec: LaunchSpec
    moved: tuple[Moved, ...]
    about: tuple[str, ...]

    def registers(self, target: Target) -> frozenset[RegisterName]:
        """The registers that differ from the image's own."""
        return frozenset(event.register(target) for event in self.moved)


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent to carry.

    Attributes:
        busybox: a static busybox.
        modules: modules for the guest's kernel by file name, where it lacks a virtio-serial
            driver; loaded in the order of their names.
    """

    busybox: bytes
    modules: Mapping[str, bytes]

    def archive(self) -> bytes:
        """The initramfs with the agent, which overrides ``/init`` of one before it."""
        return build_initramfs(
            busybox=self.busybox, init=DEFAULT_INIT.read_bytes(), modules=self.modules
        )

    def files(self) -> dict[str, tuple[int, bytes]]:
        """The agent's files with their modes by relative path."""
        return agent_files(
            busybox=self.busybox, init=DEFAULT_INIT.read_bytes(), modules=self.modules
        )
