"""The sections of a unified kernel image, and of one of its profiles.

Sources: UAPI Group, "Unified Kernel Image" ("PE sections", "Multi-profile UKIs"); systemd
src/boot/pe.c (pe_locate_profile_sections: a profile's sections stand behind its ``.profile`` and
come before those of the base).
"""

from __future__ import annotations

import msgspec

from mrtd.boot.pe import PeSection, pe_sections
from mrtd.errors import MalformedKernel

_PROFILE = ".profile"
_MAX_PROFILES = 256  # systemd src/fundamental/uki.h: UNIFIED_PROFILES_MAX


class Uki(msgspec.Struct, frozen=True):
    """A UKI, seen through one of its profiles.

    Attributes:
        image: the whole file.
        sections: those that count, by name.
        profiles: how many profiles it has; 0 if it does not have ``.profile`` sections.
    """

    image: memoryview
    sections: dict[str, PeSection]
    profiles: int

    def section(self, name: str) -> PeSection | None:
        """A section that is there and is not empty."""
        found = self.sections.get(name)
        return found if found is not None and found.size else None

    def content(self, name: str) -> bytes:
        """The bytes of a section, as many as it has in memory; none if it is not there."""
        found = self.section(name)
        return b"" if found is None else found.content(self.image)

    def text(self, name: str) -> str | None:
        """A section as text up to its first NUL; None if it is not there."""
        if self.section(name) is None:
            return None
        return self.content(name).split(b"\0", 1)[0].decode("utf-8", "replace")


def read_uki(image: memoryview, *, origin: str, profile: int = 0) -> Uki:
    """Read the sections of a PE image.

    Args:
        image: the whole file.
        origin: its name, for messages.
        profile: which profile's sections come before those of the base; 0 is there in any UKI.

    Raises:
        MalformedKernel: not a PE image, or one without that profile.
    """
    parts: list[dict[str, PeSection]] = [{}]
    for section in pe_sections(image, origin=origin):
        if section.name == _PROFILE:
            parts.append({})
        parts[-1].setdefault(section.name, section)
    base, *profiles = parts
    if len(profiles) > _MAX_PROFILES:
        raise MalformedKernel(
            f"{len(profiles)} profiles, at most {_MAX_PROFILES} are allowed", origin=origin,
            field=_PROFILE,
        )  # fmt: skip
    if profile and profile >= len(profiles):
        raise MalformedKernel(
            f"has {len(profiles)} profiles, and none with number {profile}", origin=origin,
            field=_PROFILE,
        )  # fmt: skip
    chosen = profiles[profile] if profiles else {}
    return Uki(image, base | chosen, len(profiles))


def profile_ids(image: memoryview, *, origin: str) -> tuple[str, ...]:
    """The ``ID=`` of each profile, empty where one has none. Raises `MalformedKernel`."""
    found = []
    for section in pe_sections(image, origin=origin):
        if section.name == _PROFILE:
            lines = section.content(image).decode("utf-8", "replace").splitlines()
            named = (line[3:].strip().strip("\"'") for line in lines if line.startswith("ID="))
            found.append(next(named, ""))
    return tuple(found)
