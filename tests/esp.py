"""An ESP in memory, and UKIs to put on it, for tests of boot chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fixtures.bzimage import Section, build_bzimage
from mrtd.boot.chain import Chain, Image, MachineFacts
from mrtd.boot.secure_boot import SecureBootPolicy
from mrtd.errors import MalformedDisk
from mrtd.eventlog import Event
from mrtd.registers import Target

KERNEL = build_bzimage()
FACTS = MachineFacts(
    smbios_type_1=b"\1\x1b\0\1" + bytes(23) + b"QEMU\0\0",
    consoles=("console=uart,io,0x3f8",),
    stored=frozenset(),
    random_source="",
)


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """A file or folder."""

    name: str
    directory: bool = False


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """Files by path, without ``/`` in front; paths ignore case."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    volume_id: str = "1A2B-3C4D"

    def exists(self, path: str) -> bool:
        wanted = _key(path)
        return any(
            _key(name) == wanted or _key(name).startswith(f"{wanted}/") for name in self.files
        )

    def listdir(self, path: str = "") -> tuple[MemoryEntry, ...]:
        above = f"{_key(path)}/" if _key(path) else ""
        inner = [name[len(above) :] for name in self.files if _key(name).startswith(above)]
        names = dict.fromkeys(name.split("/")[0] for name in inner)
        return tuple(MemoryEntry(name, name not in inner) for name in names)

    def read(self, path: str, limit: int) -> bytes:
        for name, content in self.files.items():
            if _key(name) == _key(path) and len(content) <= limit:
                return content
        raise MalformedDisk("no such file", origin="ESP", field=path)


def _key(path: str) -> str:
    return path.replace("\\", "/").strip("/").lower()


def pe_image(*sections: tuple[str, bytes]) -> bytes:
    """A PE image that is no kernel, with these sections."""
    made = [Section(name.encode(), data) for name, data in sections]
    return build_bzimage(linux=False, sections=made)


def uki(*sections: tuple[str, bytes], version: str = "257.13-1") -> bytes:
    """A UKI with a stub of that version."""
    magic = f"#### LoaderInfo: systemd-stub {version} ####".encode()
    return pe_image((".sdmagic", magic), *sections)


def started(
    data: bytes,
    *,
    files: Mapping[str, bytes] | None = None,
    options: str = "",
    target: Target = Target.TPM,
    facts: MachineFacts = FACTS,
    policy: SecureBootPolicy | None = None,
    entry: str | None = None,
    path: str = "/EFI/BOOT/BOOTX64.EFI",
    extended: bool = False,
) -> Chain:
    """The chain after an image was started."""
    chain = Chain(target, facts, policy=policy, entry=entry, partition=1, extended=extended)
    esp = MemoryFiles({path.strip("/"): data, **(files or {})})
    chain.start(Image(memoryview(data), path, esp), options)
    return chain


def of(chain: Chain, register: str) -> list[Event]:
    """The events of a register."""
    return [event for event in chain.recorder.events if event.register == register]


def labels(chain: Chain, register: str) -> list[str]:
    """What the events of a register say."""
    return [event.description for event in of(chain, register)]
