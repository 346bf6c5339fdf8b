"""What can be otherwise in a launch whose spec and files are known: the dimensions of the search.

Each option says what changes in the expectation and what follows from it. The digests come from
the rules that derive a launch (`mrtd.firmware`, `mrtd.boot`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from mrtd.boot.efi_stub import load_options
from mrtd.boot.pe import authenticode
from mrtd.boot.qemu_header import patched_header
from mrtd.derive import Derivation, derive
from mrtd.errors import InputError
from mrtd.eventlog import EventLog
from mrtd.explain.acpi import AcpiCandidate
from mrtd.explain.findings import Change
from mrtd.explain.memory import hob_digests, shown_memory
from mrtd.explain.search import (
    Dimension,
    Line,
    Lines,
    Option,
    lines_of,
    replaced_by,
    substitute,
    without,
)
from mrtd.firmware.profiles import PROFILES, InitrdArgument
from mrtd.firmware.sequence import MEASURED_FW_CFG
from mrtd.firmware.td_build import fold, td_build
from mrtd.firmware.variables import SecureBoot, secure_boot_policy, variable_data
from mrtd.launch.inputs import LaunchInputs
from mrtd.launch.spec import DirectBoot, PageOrder
from mrtd.registers import RegisterName, Sha384, Unpinned
from mrtd.subject import Subject

_LOW_MEMORY_STEP: Final = 64 << 20
_LOW_MEMORY_END: Final = 0xB0000000  # from here on the header does not move (facts 4.1)
_EXIT_CALLED: Final = b"Exit Boot Services Invocation"
_FAILED: Final = b"Exit Boot Services Returned with Failure"
_ORDER_MEANING: Final = {
    PageOrder.TWO_PASS: "the host runs a pre-upstream KVM (TDX v19 series, such as Canonical's "
    "8.2.2+tdx of Ubuntu 24.04)",
    PageOrder.PER_PAGE: "the host runs upstream KVM (>= 6.16), or one before the v19 series",
}


class Known(msgspec.Struct, frozen=True):
    """A launch of which spec and files are at hand.

    Attributes:
        derivation: what was derived from them.
        inputs: its files.
        acpi: other ACPI blobs that may have been measured.
        profiles: the log of the launch under every other profile, by its name.
    """

    derivation: Derivation
    inputs: LaunchInputs
    acpi: tuple[AcpiCandidate, ...] = ()
    profiles: tuple[tuple[str, EventLog], ...] = ()


def known_launch(
    derivation: Derivation, inputs: LaunchInputs, acpi: tuple[AcpiCandidate, ...] = ()
) -> Known:
    """A known launch, derived under every profile."""
    return Known(derivation, inputs, acpi, tuple(_profile_logs(derivation, inputs)))


def _profile_logs(d: Derivation, inputs: LaunchInputs) -> Iterator[tuple[str, EventLog]]:
    unknown = Unpinned("taken from the derivation")
    # a dimension of its own: QEMU decides about it, too
    spec = d.spec
    if isinstance(spec.boot, DirectBoot):
        header = "patched" if d.header.patched else "plain"
        spec = replace(spec, boot=replace(spec.boot, kernel_header=header))
    for profile in PROFILES:
        firmware = replace(d.firmware, profile=profile)
        if profile.name == d.firmware.profile.name:
            continue
        try:
            yield (
                profile.name,
                derive(spec, inputs, firmware, target=d.target, fw_cfg=unknown).log,
            )
        except InputError:
            continue  # the image has not what this profile measures


def page_orders(known: Known) -> Iterator[tuple[Change, Sha384]]:
    """MRTD with the other page orders."""
    build = known.derivation.build
    firmware = known.derivation.firmware
    for order in PageOrder:
        if build is not None and order is not build.page_order:
            value = fold(td_build(firmware.tdvf, order), firmware.image)
            change = Change(
                "page_order",
                f"{order} page order",
                f'vmm.page_order = "{order}"',
                _ORDER_MEANING[order],
            )
            yield change, value


def dimensions(known: Known, name: RegisterName) -> tuple[Dimension, ...]:
    """What can be otherwise in a register; the profile first, for the others edit its lines."""
    makers = {
        RegisterName.RTMR0: (_profiles, _memory, _secure_boot, _acpi, _left_out, _separators),
        RegisterName.RTMR1: (_profiles, _header, _separators, _failed_exits),
        RegisterName.RTMR2: (_profiles, _cmdline, _initrd, _nothing_measured),
    }
    direct = isinstance(known.derivation.spec.boot, DirectBoot)
    chosen = (make for make in makers.get(name, ()) if direct or make not in _DIRECT_ONLY)
    found = (make(known, name) for make in chosen)
    return tuple(dimension for dimension in found if dimension.options)


def _profiles(known: Known, name: RegisterName) -> Dimension:
    """The register's lines under every profile; profiles that give the same ones are one option."""
    own = lines_of(known.derivation.log, name)
    options = [
        replaced_by(lines, profile_change(names), names=names)
        for lines, names in same_profiles(known, name).items()
        if lines != own
    ]
    return Dimension("profile", tuple(options))


def same_profiles(known: Known, name: RegisterName) -> dict[Lines, tuple[str, ...]]:
    """Names of the profiles by what a register has under them."""
    d = known.derivation
    same: dict[Lines, tuple[str, ...]] = {lines_of(d.log, name): (d.firmware.profile.name,)}
    for profile, log in known.profiles:
        lines = _filled(lines_of(log, name), d, name)
        same[lines] = (*same.get(lines, ()), profile)
    return same


def profile_change(names: tuple[str, ...]) -> Change:
    """Another profile: any of these."""
    return Change(
        "profile",
        f"firmware profile {' or '.join(names)}",
        f'firmware.profile = "{names[0]}"',
        "the firmware that ran behaves like another edk2 release",
    )


def _filled(lines: Lines, derivation: Derivation, name: RegisterName) -> Lines:
    """Digests that only QEMU knew, from the derivation that asked it."""
    own: dict[Subject, bytes | None] = {
        line.subject: line.digest
        for line in lines_of(derivation.log, name)
        if line.subject is not Subject.FW_CFG
    }
    return tuple(
        Line(line.subject, own.get(line.subject)) if line.digest is None else line for line in lines
    )


def _memory(known: Known, _: RegisterName) -> Dimension:
    table = hob_digests(known.derivation.firmware.tdvf)
    own = known.derivation.spec.memory_bytes
    options = [
        substitute(
            {Subject.TD_HOB: digest},
            Change(
                "memory",
                f"{shown_memory(memory)} of memory",
                f'machine.memory = "{shown_memory(memory)}"',
                "the VM was given another memory size",
            ),
        )
        for digest, memory in table.items()
        if memory != own
    ]
    return Dimension("memory", tuple(options))


def _secure_boot(known: Known, _: RegisterName) -> Dimension:
    own = {event.digest for event in known.derivation.log}
    options = []
    for state in SecureBoot:
        data = variable_data(secure_boot_policy((), state)[0])
        if Sha384.of(data) not in own:
            change = Change(
                "variables",
                f"SecureBoot {state}",
                ""
                if state is SecureBoot.ON
                else f"firmware.secure_boot = {'true' if state is SecureBoot.OFF else 'false'}",
                "the variable store or the build differs from the image's",
            )
            options.append(substitute({Subject.SECURE_BOOT: Sha384.of(data)}, change))
    return Dimension("secure boot", tuple(options))


def _acpi(known: Known, _: RegisterName) -> Dimension:
    return Dimension("acpi", tuple(acpi_option(candidate) for candidate in known.acpi))


def acpi_option(candidate: AcpiCandidate) -> Option:
    """The ACPI blobs of a candidate (and the TD HOB of its memory size, if it has another one)."""
    return substitute(candidate.digests, *candidate.changes)


def _left_out(_known: Known, _: RegisterName) -> Dimension:
    rows = (
        (Subject.FW_CFG, f"no fw_cfg events ({', '.join(MEASURED_FW_CFG[1:2])}, ...)"),
        (Subject.SMBIOS, "no SMBIOS event"),
        (Subject.BOOT_VARIABLE, "no boot variables"),
    )
    options = [
        without(subject, Change("profile", text, "", "a firmware build that leaves them out"))
        for subject, text in rows
    ]
    return Dimension("events left out", tuple(options))


def _separators(_known: Known, _: RegisterName) -> Dimension:
    separator = Line(Subject.SEPARATOR, Sha384.of(bytes(4)).raw)
    more = Change("profile", "one separator more", "", "another edk2 release, or a patched one")
    less = Change("profile", "one separator less", "", "another edk2 release, or a patched one")

    def drop(lines: Lines) -> Lines | None:
        places = [index for index, line in enumerate(lines) if line.subject is Subject.SEPARATOR]
        return (*lines[: places[-1]], *lines[places[-1] + 1 :]) if places else None

    added = Option((more,), lambda lines: (*lines, separator))
    return Dimension("separators", (added, Option((less,), drop)))


def _failed_exits(_known: Known, _: RegisterName) -> Dimension:
    """The kernel's first call of ExitBootServices failed, and its second succeeded.

    Firmware logs a pair for each call (edk2 SecurityPkg, Tcg2Dxe and TdTcg2Dxe:
    OnExitBootServicesFailed). A call fails where the memory map is no longer the one that the
    caller has seen (CoreExitBootServices, CoreTerminateMemoryMap), since a driver allocated in
    between. Linux's stub reads it again, once (efi_exit_boot_services). One cause is known, and
    seen in TPM logs, in no TD's: `mrtd.qemu.exit_flush`.
    """
    called, failed = (Line(Subject.ACTION, Sha384.of(text).raw) for text in (_EXIT_CALLED, _FAILED))

    def edit(lines: Lines) -> Lines | None:
        if called not in lines:
            return None
        place = lines.index(called)
        return (*lines[:place], called, failed, *lines[place:])

    change = Change(
        "profile",
        "ExitBootServices failed once first",
        "",
        "a firmware driver changed the memory map while the kernel's stub left boot services",
    )
    return Dimension(
        "exit boot services", (Option((change,), edit, frozenset({failed.digest or b""})),)
    )


def _header(known: Known, name: RegisterName) -> Dimension:
    """The kernel with a plain and with every patched setup header."""
    image, origin = memoryview(known.inputs.kernel.data), known.inputs.kernel.name
    spec = known.derivation.spec
    cmdline = spec.direct.cmdline
    own = {line.digest for line in lines_of(known.derivation.log, name)}
    options: dict[bytes, Option] = {}

    def add(head: bytes, change: Change) -> None:
        digest = authenticode(image, origin=origin, header=head)
        if digest.raw not in own:
            option = substitute({Subject.BOOT_IMAGE: digest}, change)
            options.setdefault(digest.raw, option)

    plain = "QEMU >= 10.2, or >= 10.0 with a firmware that reads etc/boot/kernel"
    add(b"", Change("header_patch", "plain kernel setup header",
                    'boot.kernel_header = "plain"', plain))  # fmt: skip
    low = range(_LOW_MEMORY_STEP, _LOW_MEMORY_END, _LOW_MEMORY_STEP)
    for memory in (spec.memory_bytes, _LOW_MEMORY_END, *low):
        for size in dict.fromkeys((known.inputs.initrd_size, None)):
            try:
                head = patched_header(
                    image, memory=memory, initrd_size=size, cmdline=cmdline, origin=origin
                )
            except InputError:
                continue
            if head not in options:
                options[head] = without(Subject.OTHER)  # the same header again: hashed once
                add(head, _patched(known, memory, size))
    return Dimension(
        "kernel header", tuple(option for option in options.values() if option.digests)
    )


def _patched(known: Known, memory: int, initrd_size: int | None) -> Change:
    text = "kernel setup header patched by QEMU"
    if memory != known.derivation.spec.memory_bytes:
        text += f", with {shown_memory(memory)} of memory"
    if initrd_size != known.inputs.initrd_size:
        text += ", without an initrd"
    return Change(
        "header_patch", text, 'boot.kernel_header = "patched"', "QEMU < 10.2 patches the header"
    )


def _cmdline(known: Known, name: RegisterName) -> Dimension:
    """Spellings of the command line that are easily confused, and places of initrd=initrd."""
    cmdline = known.derivation.spec.direct.cmdline
    own = {line.digest for line in lines_of(known.derivation.log, name)}
    options: dict[bytes, Option] = {}
    for text, how in _spellings(cmdline):
        for argument in (*InitrdArgument, None):
            data = load_options(
                text, initrd=argument is not None, argument=argument or InitrdArgument.SUFFIX
            )
            if not data:
                continue
            for content, end in ((data, ""), (data[:-2], ", without its NUL")):
                digest = Sha384.of(content)
                if digest.raw in own or digest.raw in options:
                    continue
                where = f"initrd=initrd as {argument}" if argument else "no initrd=initrd"
                change = Change("cmdline", f"{how}, {where}{end}", f"boot.cmdline = {_toml(text)}",
                                "the kernel got other load options")  # fmt: skip
                options[digest.raw] = substitute({Subject.LOAD_OPTIONS: digest}, change)
    return Dimension("command line", tuple(options.values()))


def _spellings(cmdline: str) -> Iterator[tuple[str, str]]:
    inner = cmdline.strip()
    yield cmdline, "command line as in the spec"
    for text, how in (
        (inner, "command line without surrounding spaces"),
        (f"{inner} ", "command line with a trailing space"),
        (f" {inner}", "command line with a leading space"),
        (f"{inner}\n", "command line with a trailing line feed"),
        (" ".join(inner.split()), "command line with single spaces"),
        (inner.strip("\"'"), "command line without its quotes"),
        (f'"{inner}"', "command line in quotes"),
        (inner.replace('"', ""), "command line without any quotes"),
        (f"kernel {inner}", "command line after 'kernel ' (shim)"),
        (f"{inner} initrd=initrd", "command line with an initrd=initrd of its own"),
        ("", "empty command line"),
        *((word, how) for word, how in _one_word_less(inner)),
    ):
        if text != cmdline:
            yield text, how


def _one_word_less(cmdline: str) -> Iterator[tuple[str, str]]:
    words = cmdline.split(" ")
    for index, word in enumerate(words[:64]):
        yield " ".join(words[:index] + words[index + 1 :]), f"command line without {word!r}"


def _initrd(_known: Known, _: RegisterName) -> Dimension:
    empty = Change("initrd", "empty initrd", "", "the VMM was given an empty file")
    gone = Change("initrd", "no initrd", "", "the VM was started without the initrd")
    return Dimension(
        "initrd",
        (without(Subject.INITRD, gone), substitute({Subject.INITRD: Sha384.of(b"")}, empty)),
    )


def _nothing_measured(_known: Known, _: RegisterName) -> Dimension:
    change = Change("kernel", "nothing measured by the kernel", "", "the kernel's EFI stub does "
                    "not know the CC protocol (Linux >= 6.9 does)")  # fmt: skip
    without_options = Change("cmdline", "no load options event", "", "the kernel got none")
    return Dimension(
        "stub", (replaced_by((), change), without(Subject.LOAD_OPTIONS, without_options))
    )


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# what only a kernel that QEMU gives can have otherwise
_DIRECT_ONLY: Final = frozenset({_header, _cmdline})
