"""How a launch can fail: one stable code per thing that an engineer would do differently.

``docs/launching.md`` has the same table with the evidence for each; a test compares the two.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """Stable codes of launch failures; jobs and documents refer to them."""

    QEMU_REFUSED = "qemu_refused"
    NO_TDX_OBJECT = "no_tdx_object"
    NO_TDX_IN_KVM = "no_tdx_in_kvm"
    NO_KVM = "no_kvm"
    QEMU_DIED = "qemu_died"
    MONITOR_SILENT = "monitor_silent"
    MONITOR_FAILED = "monitor_failed"
    EMULATION_FAILED = "emulation_failed"
    FIRMWARE_SILENT = "firmware_silent"
    FIRMWARE_STUCK = "firmware_stuck"
    FIRMWARE_CRASHED = "firmware_crashed"
    NOTHING_TO_BOOT = "nothing_to_boot"
    IMAGE_REFUSED = "image_refused"
    KERNEL_PANIC = "kernel_panic"
    GUEST_PANICKED = "guest_panicked"
    GUEST_RESET = "guest_reset"
    GUEST_ENDED = "guest_ended"
    NO_PAYLOAD = "no_payload"
    PAYLOAD_TRUNCATED = "payload_truncated"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    PAYLOAD_MALFORMED = "payload_malformed"
    NO_EVENT_LOG = "no_event_log"
    NO_QUOTE_INTERFACE = "no_quote_interface"
    QUOTE_REFUSED = "quote_refused"
    REPORT_DATA_DIFFERS = "report_data_differs"
    UNKNOWN = "unknown"


REMEDIES: Final[dict[Outcome, str]] = {
    Outcome.QEMU_REFUSED: "correct the option that QEMU names, or take the spec's QEMU",
    Outcome.NO_TDX_OBJECT: "take QEMU 10.1 or later, or one that its distribution patched for TDX",
    Outcome.NO_TDX_IN_KVM: "run on a TDX host with kvm_intel.tdx=1: python -m ci doctor",
    Outcome.NO_KVM: "load kvm_intel and let this user open /dev/kvm: python -m ci doctor",
    Outcome.QEMU_DIED: "look for the out-of-memory killer (dmesg), and at QEMU's last words",
    Outcome.MONITOR_SILENT: "QEMU hangs before it answers: look at its output, try another build",
    Outcome.MONITOR_FAILED: "that is no QMP: look at QEMU's output, try another build",
    Outcome.EMULATION_FAILED: "this KVM cannot run that firmware: take accel tcg, or another host",
    Outcome.FIRMWARE_SILENT: "check that firmware.path is a whole TDVF that boots with -bios",
    Outcome.FIRMWARE_STUCK: "the firmware started no kernel: look at its last lines on the console",
    Outcome.FIRMWARE_CRASHED: "the firmware, or what it started, crashed: check both files",
    Outcome.NOTHING_TO_BOOT: "check boot.kernel, or that the disk has an EFI boot loader",
    Outcome.IMAGE_REFUSED: "sign the kernel for the keys in the firmware, or take other firmware",
    Outcome.KERNEL_PANIC: "look at the console: a missing initrd, init or root file system",
    Outcome.GUEST_PANICKED: "the guest gave up and said so to QEMU: look at the console",
    Outcome.GUEST_RESET: "the guest restarted: a panic with panic=, or firmware that resets",
    Outcome.GUEST_ENDED: "the guest ended in another way than by powering off",
    Outcome.NO_PAYLOAD: "the guest ran without its agent: is the initrd one of ci.guest.initramfs?",
    Outcome.PAYLOAD_TRUNCATED: "the agent was cut off: look at the console for its messages",
    Outcome.PAYLOAD_TOO_LARGE: "no agent of ours sends so much: do not trust that guest",
    Outcome.PAYLOAD_MALFORMED: "no agent of ours sends that: do not trust that guest",
    Outcome.NO_EVENT_LOG: "firmware and kernel both need a driver for TDX (TdTcg2Dxe) or the TPM",
    Outcome.NO_QUOTE_INTERFACE: "the guest's kernel needs CONFIG_TDX_GUEST_DRIVER and TSM_REPORTS",
    Outcome.QUOTE_REFUSED: "is the quote generation service (qgsd) up, at the address given?",
    Outcome.REPORT_DATA_DIFFERS: "the evidence answers another question than was asked: refuse it",
    Outcome.UNKNOWN: "look at the evidence",
}
"""What to do about each."""

_KVM_ABSENT: Final = (
    rb"Could not access KVM kernel module|failed to initialize kvm|requires KVM|KVM required"
)
_REFUSALS: Final = (
    # seen with QEMU 7.2.22, on an option that 11.1.3 takes
    (Outcome.NO_TDX_OBJECT, re.compile(rb"does not accept value 'tdx-guest'[^\n]*")),
    # seen with QEMU 11.1.3 on a KVM without TDX
    (Outcome.NO_TDX_IN_KVM, re.compile(rb"vm-type TDX not supported by KVM[^\n]*")),
    # seen with QEMU 7.2.22 and 11.1.3: no /dev/kvm, no right to open it, `-accel tcg -cpu host`
    (Outcome.NO_KVM, re.compile(rb"[^\n]*(?:" + _KVM_ABSENT + rb")[^\n]*")),
    # seen with QEMU 7.2.22 on kvm_pvm; QEMU keeps running after it
    (Outcome.EMULATION_FAILED, re.compile(rb"KVM internal error[^\n]*")),
)

CONSOLE: Final = (
    (Outcome.KERNEL_PANIC, re.compile(rb"Kernel panic - not syncing[^\n]*\n")),
    (
        Outcome.NOTHING_TO_BOOT,
        # the second where the firmware has a shell, as Debian's OVMF.fd
        re.compile(
            rb"No bootable option or device was found[^\n]*\n|UEFI Interactive Shell v[^\n]*\n"
        ),
    ),
    # OVMF's exception handler, which halts (edk2 CpuExceptionHandlerLib)
    (Outcome.FIRMWARE_CRASHED, re.compile(rb"!!!! X64 Exception Type[^\n]*\n")),
    (Outcome.IMAGE_REFUSED, re.compile(rb"Secure boot image verification failed[^\n]*\n")),
)
"""Console lines after which a guest just stands there: a kernel that panics resets the machine only
if ``panic=`` asks for it, and OVMF waits for a key."""


def of_refusal(stderr: bytes) -> Outcome:
    """Why a QEMU that ended before its guest ran did so, from its standard error."""
    for outcome, pattern in _REFUSALS:
        if pattern.search(stderr):
            return outcome
    return Outcome.QEMU_REFUSED


def of_console(line: bytes) -> Outcome:
    """What a console line means that `HOPELESS` has found."""
    return next((code for code, pattern in CONSOLE if pattern.search(line)), Outcome.UNKNOWN)


HOPELESS: Final = re.compile(b"|".join(pattern.pattern for _, pattern in CONSOLE))
"""Any line of `CONSOLE`."""
