"""What to collect or to try next, for what no hypothesis explains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mrtd.compare import log_mismatches
from mrtd.explain.findings import Finding, FindingKind
from mrtd.registers import RegisterName
from mrtd.side import Side
from mrtd.subject import ACPI_SUBJECTS, Subject

_ACPI: Final = (
    "copy the measured ACPI blobs (in the guest: /sys/firmware/qemu_fw_cfg/by_name/etc/acpi/"
    "tables/raw, as root) and explain again with --acpi DIR; or give the host's QEMU with --qemu"
)
_STEPS: Final[dict[Subject, str]] = {
    **dict.fromkeys(ACPI_SUBJECTS, _ACPI),
    Subject.TD_HOB: "ask for the VM's memory size and the firmware's TDVF layout "
    "(mrtd inspect FIRMWARE); another VMM than QEMU writes another TD HOB",
    Subject.CFV: "get the firmware file that the host really gave to -bios: its variable store "
    "differs; `mrtd inspect FIRMWARE` shows it",
    Subject.KEYS: "compare the Secure Boot keys in the log with those of the firmware file",
    Subject.SMBIOS: "edk2 >= 202505 measures SMBIOS tables, which are not predicted: take the "
    "measured table from a launch that is trusted, as smbios.measured",
    Subject.BOOT_IMAGE: "compare the SHA-256 of the kernel file on the host, the size of its "
    "initrd and the QEMU version",
    Subject.LOAD_OPTIONS: "read /proc/cmdline in the guest: the kernel's load options differ",
    Subject.INITRD: "compare `sha384sum` of the host's initrd with the event's digest",
    Subject.GPT: "the VM booted from a disk: expect a launch with boot.kind = 'disk' and the "
    "image that it booted",
    Subject.LOADER: "the VM started through a boot loader: expect a launch with "
    "boot.kind = 'disk' and the image that it booted, configuration and all",
}
_REGISTER_STEPS: Final[dict[RegisterName, str]] = {
    RegisterName.MRTD: "compare the SHA-256 of the firmware file on the host with the spec's: no "
    "page order of this one gives the MRTD",
    RegisterName.RTMR0: _ACPI,
    RegisterName.RTMR1: _STEPS[Subject.BOOT_IMAGE],
    RegisterName.RTMR2: f"{_STEPS[Subject.LOAD_OPTIONS]}; {_STEPS[Subject.INITRD]}",
}
_NO_LOG: Final = (
    "collect the event log of the same boot (in the guest: /sys/firmware/acpi/tables/data/CCEL, "
    "or `mrtd evidence collect`): with it each event is explained on its own"
)
_NO_LAUNCH: Final = "give the launch spec with its files, so that hypotheses can be tried: --expect"


def next_steps(
    observed: Side, findings: Iterable[Finding], missing: Iterable[Subject], *, launch: bool
) -> tuple[str, ...]:
    """What would help most, first; nothing if everything is explained."""
    failed = [f for f in findings if f.kind is FindingKind.UNEXPLAINED]
    steps = _steps(observed, failed, missing, launch=launch) if failed else ()
    return tuple(dict.fromkeys(steps))


def _steps(
    observed: Side, failed: list[Finding], missing: Iterable[Subject], *, launch: bool
) -> Iterator[str]:
    if log_mismatches(observed):
        yield "take quote and event log in one boot, without a step in between: these two differ"
    if not launch:
        yield _NO_LAUNCH
    if observed.log is None:
        yield _NO_LOG
    yield from (_STEPS[subject] for subject in missing if subject in _STEPS)
    events = {f.register for f in failed if f.event_index is not None}
    for finding in failed:
        if finding.register in _REGISTER_STEPS and finding.register not in events:
            yield _REGISTER_STEPS[finding.register]
