"""What systemd-stub, the program of a UKI, measures, and what it passes on to the kernel.

Sources: systemd src/boot/stub.c, measure.c, cpio.c and src/fundamental/uki.h of the versions in
`mrtd.boot.stub_versions`; UAPI Group, "Unified Kernel Image" (sections, profiles).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mrtd.boot.chain import Chain, Image
from mrtd.boot.newc import archive, pad4
from mrtd.boot.recorder import Content, utf16
from mrtd.boot.sidecars import Addon, read_addons, sidecar_archives
from mrtd.boot.stub_versions import LoaderInfo, StubRow, stub_row
from mrtd.boot.uki import Uki, read_uki
from mrtd.eventlog import EventType, InputName, Origin
from mrtd.registers import Sha384, Target, Unpinned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SECTIONS_PCR: Final = 11
_PARAMETERS_PCR: Final = 12
_PLATFORM_PCR: Final = 1
_PROFILE_TAG: Final = 0x13AED6DB
_UCODE_ADDON_TAG: Final = 0xDAC08E1A
_INITRD_ADDON_TAG: Final = 0x49DFFE0F
_SMBIOS_TYPE_1_TAG: Final = 0xD5CB7CBC
_PROFILE: Final = re.compile(r"@(\d{1,9})(?: |\Z)")
_CONSOLE: Final = re.compile(r"(?:\A| )console=")
# sections of which the stub takes one that fits the machine, if any
_SELECTED: Final = (".dtbauto", ".efifw")
_FOLDER_MODE: Final = 0o555
_FILE_MODE: Final = 0o444


def start_uki(chain: Chain, image: Image, info: LoaderInfo, options: str) -> None:
    """What a UKI measures when it is started, until its kernel leaves the firmware.

    Args:
        chain: the boot.
        image: the UKI.
        info: what its stub says of itself.
        options: the load options that it is started with; empty if none.

    Raises:
        InputError: the UKI or an add-on is malformed, or has no such profile.
    """
    row = stub_row(info.major)
    if row is None:
        reason = f"the rules of systemd-stub {info.version} are not known"
        chain.unknown((1, 4, 9, 11, 12, 13), reason, f"UKI with systemd-stub {info.version}")
        return
    _Stub(chain, image, row, options).run()


class _Stub:
    def __init__(self, chain: Chain, image: Image, row: StubRow, options: str) -> None:
        self.chain = chain
        self.image = image
        self.row = row
        number, self.options = _split_profile(options) if row.profiles else (0, options)
        self.options = mangled(self.options)
        self.profile = number
        self.uki: Uki = read_uki(image.data, origin=image.path, profile=number)
        self.measures = chain.target is Target.TPM or row.cc

    def run(self) -> None:
        if self.profile:
            text = str(self.profile)
            self.tagged(_PROFILE_TAG, utf16(text), text, f"UKI profile {text}", self.origin())
        self.measure_sections()
        cmdline = self.cmdline()
        addons: tuple[Addon, ...] = ()
        if self.row.addons:
            addons = read_addons(self.chain, self.image, self.uki.text(".uname"))
        extra = mangled(" ".join(mangled(a.cmdline) for a in addons if a.cmdline))
        if extra:
            self.ipl(_PARAMETERS_PCR, utf16(extra), extra, self.origin("add-ons"))
            cmdline = f"{cmdline} {extra}" if cmdline else extra
        kernel_options = self.with_console(cmdline)
        if self.row.measures_smbios:
            measure_smbios(self.chain, through_cc=self.row.cc_tagged)
        initrd = self.initrd(addons)
        kernel = self.uki.content(".linux")
        if self.row.loads_kernel and not self.chain.secure_boot:
            self.chain.measure_image(kernel, f"{self.image.path} .linux", InputName.KERNEL)
        self.chain.start_kernel(
            kernel,
            kernel_options,
            initrd,
            where=f"{self.image.path} .linux",
            cmdline_where=f"{self.image.path} .cmdline",
            initrd_where=f"{self.image.path} .initrd and what the stub adds",
        )

    def measure_sections(self) -> None:
        for name in self.row.sections:
            section = self.uki.section(name)
            if section is None:
                continue
            where = self.origin(name, section.raw_offset, _INPUTS.get(name, InputName.UKI))
            shown = utf16(name)
            content: Content = self.uki.content(name)
            if name in _SELECTED:
                content = Unpinned(f"which {name} fits the machine is not derived")
            self.ipl(_SECTIONS_PCR, name.encode() + b"\0", name, where, shown)
            self.ipl(_SECTIONS_PCR, content, f"{name}: {section.size} bytes", where, shown)

    def cmdline(self) -> str:
        """The command line before anything is added; one from outside is measured."""
        embedded = self.uki.text(".cmdline")
        confidential = self.row.confidential_cmdline and self.chain.target is Target.CC
        dropped = self.chain.secure_boot and (embedded is not None or confidential)
        if self.options and not dropped:
            where = Origin(InputName.CMDLINE, "load options")
            self.ipl(_PARAMETERS_PCR, utf16(self.options), self.options, where)
            return self.options
        return mangled(embedded or "")

    def with_console(self, cmdline: str) -> str | Unpinned:
        if not self.row.appends_console or _CONSOLE.search(cmdline):
            return cmdline
        found = self.chain.machine.consoles
        if isinstance(found, Unpinned):
            return found
        return " ".join([*([cmdline] if cmdline else []), *found])

    def initrd(self, addons: tuple[Addon, ...]) -> Sha384 | Unpinned | None:
        """Digest of all initrds together, as the kernel loads them; None if there is none."""
        parts = [*self.addon_parts(reversed(addons), _UCODE_ADDON_TAG, "ucode")]
        parts += self.embedded((".ucode", ".initrd"))
        if self.image.files is not None:
            for sidecar in sidecar_archives(self.image.files, self.image.path, self.row):
                self.ipl(sidecar.pcr, sidecar.archive, sidecar.label, self.origin(sidecar.label))
                parts.append(sidecar.archive)
        parts += self.packed_sections()
        parts += self.addon_parts(addons, _INITRD_ADDON_TAG, "initrd")
        if self.row.boot_secret and self.chain.machine.random_source:
            return Unpinned(
                "systemd-stub adds a random secret to the initrd where the machine has a source "
                f"of randomness ({self.chain.machine.random_source})"
            )
        if len(parts) == 1:
            return Sha384.of(parts[0])
        return Sha384.of(*map(pad4, parts)) if parts else None

    def addon_parts(self, addons: Iterable[Addon], tag: int, what: str) -> Iterator[bytes]:
        """What add-ons bring of one kind, each of which is measured."""
        for addon in addons:
            content = addon.ucode if what == "ucode" else addon.initrd
            if content:
                where = Origin(InputName.UKI, addon.path)
                self.tagged(tag, content, addon.name, f"{what} of add-on {addon.name}", where)
                yield content

    def embedded(self, names: tuple[str, ...]) -> Iterator[bytes]:
        for name in names:
            known = name in self.row.sections and self.uki.section(name) is not None
            if known:
                yield self.uki.content(name)

    def packed_sections(self) -> Iterator[bytes]:
        for name, file in self.row.extra:
            if self.uki.section(name) is not None:
                yield archive(
                    ".extra", [(file, self.uki.content(name))], folder_mode=_FOLDER_MODE,
                    file_mode=_FILE_MODE,
                )  # fmt: skip

    def ipl(
        self, pcr: int, content: Content, label: str, origin: Origin, data: bytes = b""
    ) -> None:
        if self.measures:
            self.chain.recorder.measure(
                pcr, EventType.EV_IPL, content, label, origin, data=data or utf16(label),
                unconfirmed=self.row.unconfirmed,
            )  # fmt: skip

    def tagged(self, tag: int, content: Content, text: str, label: str, where: Origin) -> None:
        """An EV_EVENT_TAG event, which older stubs make in a TPM only."""
        self.chain.tagged(
            _PARAMETERS_PCR, tag, content, text=text, label=label, origin=where,
            through_cc=self.row.cc_tagged,
        )  # fmt: skip

    def origin(
        self, what: str = "", offset: int | None = None, source: InputName = InputName.UKI
    ) -> Origin:
        return Origin(source, f"{self.image.path} {what}".rstrip(), offset)


def measure_smbios(chain: Chain, *, through_cc: bool | None) -> None:
    """Measure SMBIOS type 1, unless another program of systemd has done so in this boot."""
    if chain.smbios_measured:
        return
    chain.smbios_measured = True
    chain.tagged(
        _PLATFORM_PCR, _SMBIOS_TYPE_1_TAG, chain.machine.smbios_type_1, text="smbios:type1",
        label="SMBIOS type 1", origin=Origin(InputName.SMBIOS, "QEMU's SMBIOS type 1"),
        through_cc=through_cc,
    )  # fmt: skip


_INPUTS: Final = {
    ".linux": InputName.KERNEL,
    ".cmdline": InputName.CMDLINE,
    ".initrd": InputName.INITRD,
}


def _split_profile(options: str) -> tuple[int, str]:
    """``@N`` in front of load options, and the rest (stub.c, parse_profile_from_cmdline)."""
    found = _PROFILE.match(options)
    return (int(found[1]), options[found.end() :]) if found else (0, options)


def mangled(text: str) -> str:
    """Text as mangle_stub_cmdline leaves it: trimmed, control characters as spaces."""
    spaced = "".join(" " if c <= " " or c == "\x7f" else c for c in text)
    return spaced.strip(" ")
