"""CPU, BIOS, TDX module, kernel and KVM.

Sources: Linux Documentation/arch/x86/tdx.rst and arch/x86/virt/vmx/tdx/tdx.c (messages, the CPU
flag ``tdx_host_platform``, hibernation); Documentation/virt/kvm/api.rst (``KVM_CAP_VM_TYPES``);
arch/x86/include/uapi/asm/kvm.h of Linux 6.16, the first release whose KVM launches TDs.

That KVM offers the TDX VM type proves what comes before it: the kernel initialises the TDX module
when kvm_intel is loaded, and offers the type only if that went well.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from dataclasses import dataclass
from typing import Final

from ci.doctor_findings import Finding, missing, ok, text_of, unknown
from ci.doctor_host import KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_VM_TYPES, KVM_X86_TDX_VM, Host
from mrtd.errors import MrtdError
from mrtd.printable import printable

FIRST_KERNEL: Final = (6, 16)
_CONFIG: Final = ("CONFIG_INTEL_TDX_HOST", "CONFIG_KVM_INTEL_TDX")
_CONFIG_LIMIT: Final = 4 << 20
_PROVEN: Final = "KVM offers TDX VMs, which proves it"
_READ_DMESG: Final = "read it as root: sudo dmesg | grep -i virt/tdx"
_BIOS: Final = (
    "in the BIOS set-up enable TME, TME-MT (multi-tenant), TDX, SEAM loader and SGX, "
    "leave keys for TDX (TME-MT/TDX key split > 0), and switch the machine off and on"
)
_BAD: Final = re.compile(r"fail|not (?:loaded|support|initiali|enabled)|disabled|invalid")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What several checks need to know.

    Attributes:
        vendor: of the CPU, such as ``GenuineIntel``; empty if it has none (it is not an x86).
        flags: of the CPU.
        tdx_vm: whether KVM offers TDX VMs; None if KVM cannot be asked.
        kvm_error: why it cannot.
        log: the kernel's messages about TDX; None if they cannot be read.
        log_whole: whether the log begins with the boot, so that what is not in it did not happen.
    """

    vendor: str
    flags: frozenset[str]
    tdx_vm: bool | None
    kvm_error: OSError | None
    log: tuple[str, ...] | None
    log_whole: bool

    @property
    def virtual(self) -> bool:
        """Whether this machine is itself a virtual one."""
        return "hypervisor" in self.flags


def look(host: Host) -> Hardware:
    """Look at a host. Never raises."""
    cpuinfo = text_of(host, "/proc/cpuinfo") or ""
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:(.*)", cpuinfo, re.MULTILINE)
    tdx_vm, kvm_error = None, None
    try:
        tdx_vm = bool(host.kvm(KVM_CAP_VM_TYPES) >> KVM_X86_TDX_VM & 1)
    except OSError as error:
        kvm_error = error
    log, whole = _log(host)
    return Hardware(
        vendor=printable(vendor[1])[:40] if vendor else "",
        flags=frozenset(flags[1].split()) if flags else frozenset(),
        tdx_vm=tdx_vm,
        kvm_error=kvm_error,
        log=log,
        log_whole=whole,
    )


def _log(host: Host) -> tuple[tuple[str, ...] | None, bool]:
    try:
        text = host.run(["dmesg"])
    except MrtdError:
        return None, False
    lines = text.splitlines()
    found = [printable(line).strip()[:200] for line in lines if "virt/tdx:" in line]
    return tuple(found), any("Linux version " in line for line in lines[:5])


def check_hardware(host: Host, seen: Hardware) -> list[Finding]:
    """All checks of this module, in the order in which things have to be put right."""
    return [
        _cpu(seen),
        _bios(seen),
        _tdx_module(seen),
        _kernel(host, seen),
        _parameter(host, seen),
        _kvm_access(seen),
        _vm_type(seen),
        _irqchip(host, seen),
    ]


def _cpu(seen: Hardware) -> Finding:
    name = "cpu"
    remedy = "a Xeon with TDX is needed: 5th generation or later, or a 4th that is sold with it"
    if seen.tdx_vm:
        return ok(name, f"{seen.vendor}: {_PROVEN}")
    if seen.vendor != "GenuineIntel":
        return missing(name, f"{seen.vendor or 'no x86'}: TDX is Intel's", remedy)
    if seen.virtual:
        text = "this is a virtual machine; TDs are launched on the host itself"
        return missing(name, text, "run on bare metal")
    if "tdx_host_platform" in seen.flags:
        return ok(name, "flag tdx_host_platform")
    return _cpu_without_flag(name, remedy, tme="tme" in seen.flags)


def _cpu_without_flag(name: str, remedy: str, *, tme: bool) -> Finding:
    if tme:
        text = "has tme but no tdx_host_platform: TDX is off, or unknown to CPU or kernel"
        return unknown(name, text, _BIOS)
    text = "no flag tdx_host_platform, and none for memory encryption (tme)"
    return missing(name, text, f"{remedy}; if it is one: {_BIOS}")


def _bios(seen: Hardware) -> Finding:
    name = "bios"
    if seen.tdx_vm or "tdx_host_platform" in seen.flags:
        return ok(name, _PROVEN if seen.tdx_vm else "the kernel found key ids for TDX")
    for line in seen.log or ():
        if "BIOS enabled" in line:
            return ok(name, line)
    if seen.vendor != "GenuineIntel" or seen.virtual:
        return missing(name, "no BIOS switch for TDX on such a machine", "see cpu")
    if seen.log is not None and seen.log_whole:
        text = "the kernel's log has no 'virt/tdx: BIOS enabled'"
        return missing(name, text, _BIOS)
    text = "the kernel's log cannot be read from its beginning; MSR 0x87 (key ids) needs root"
    return unknown(name, text, _READ_DMESG)


def _tdx_module(seen: Hardware) -> Finding:
    name = "tdx_module"
    if seen.tdx_vm:
        return ok(name, _PROVEN)
    said = next((f for f in map(_said_of_module, reversed(seen.log or ())) if f), None)
    if said is not None:
        return said
    if seen.vendor != "GenuineIntel" or seen.virtual:
        return missing(name, "none on such a machine", "see cpu")
    if seen.log is not None and seen.log_whole:
        text = "the kernel's log has no 'virt/tdx: module initialized'"
        return missing(name, text, "load kvm_intel with tdx=1; the kernel initialises it then")
    return unknown(name, "the kernel's log cannot be read from its beginning", _READ_DMESG)


def _said_of_module(line: str) -> Finding | None:
    """What a line of the kernel's log says about the TDX module; None if nothing."""
    name = "tdx_module"
    if "module initialized" in line:
        return ok(name, line)
    if "ibernat" in line:
        return missing(name, line, "boot the kernel with nohibernate")
    if _BAD.search(line):
        remedy = "update the BIOS, which brings the TDX module, or load a newer module"
        return missing(name, line, remedy)
    return None


def _kernel(host: Host, seen: Hardware) -> Finding:
    name = "kernel"
    release = printable(host.release())[:80]
    if seen.tdx_vm:
        return ok(name, f"{release}: {_PROVEN}")
    wanted = ".".join(map(str, FIRST_KERNEL))
    remedy = f"install Linux >= {wanted} with {'=y and '.join(_CONFIG)}=y"
    config = _config(host, release)
    lacking = [] if config is None else [key for key in _CONFIG if f"{key}=y" not in config]
    if lacking:
        return missing(name, f"{release}: built without {' and '.join(lacking)}", remedy)
    match = re.match(r"(\d{1,4})\.(\d{1,4})", release)
    young = match is not None and (int(match[1]), int(match[2])) >= FIRST_KERNEL
    if config is not None:
        more = "" if young else f"; older than {wanted}, so with patches of its distribution"
        return ok(name, f"{release}: built with {' and '.join(_CONFIG)}{more}")
    if young:
        text = f"{release}: no configuration in /proc/config.gz or /boot"
        return unknown(name, text, f"make sure that it has {'=y and '.join(_CONFIG)}=y")
    return missing(name, f"{release}: KVM launches TDs since {wanted}", remedy)


def _config(host: Host, release: str) -> frozenset[str] | None:
    """Lines of the kernel's configuration; None if it cannot be read."""
    try:
        packed = host.read("/proc/config.gz", _CONFIG_LIMIT)
        with gzip.open(io.BytesIO(packed)) as stream:
            return frozenset(stream.read(_CONFIG_LIMIT).decode("ascii", "replace").splitlines())
    except (OSError, EOFError, zlib.error):
        found = text_of(host, f"/boot/config-{release}")
        return None if found is None else frozenset(found.splitlines())


def _parameter(host: Host, seen: Hardware) -> Finding:
    name = "kvm_intel.tdx"
    value = (text_of(host, "/sys/module/kvm_intel/parameters/tdx") or "").strip()
    remedy = (
        "boot with kvm_intel.tdx=1 nohibernate, or: "
        "modprobe -r kvm_intel && modprobe kvm_intel tdx=1"
    )
    if value in {"Y", "1"} or seen.tdx_vm:
        return ok(name, value or _PROVEN)
    if value:
        return missing(name, printable(value)[:20], remedy)
    if text_of(host, "/sys/module/kvm_intel/parameters/ept") is None:
        return missing(name, "kvm_intel is not loaded", remedy)
    text = "this kvm_intel has no parameter tdx"
    return missing(name, text, "see kernel: it knows nothing of TDX")


def _kvm_access(seen: Hardware) -> Finding:
    name, error = "/dev/kvm", seen.kvm_error
    if error is None:
        return ok(name, "can be opened")
    if isinstance(error, FileNotFoundError):
        remedy = "enable VMX in the BIOS and modprobe kvm_intel; in a container: --device /dev/kvm"
        return missing(name, "is not there", remedy)
    if isinstance(error, PermissionError):
        remedy = 'sudo usermod -aG kvm "$USER", and log in again'
        return missing(name, "is not for this user", remedy)
    return missing(name, f"cannot be used: {error.strerror or error}", "see dmesg | grep kvm")


def _vm_type(seen: Hardware) -> Finding:
    name = "kvm_tdx_vm"
    if seen.tdx_vm is None:
        return unknown(name, "/dev/kvm cannot be asked", "see /dev/kvm")
    if seen.tdx_vm:
        return ok(name, "KVM_CAP_VM_TYPES has TDX")
    text = "KVM_CAP_VM_TYPES has no TDX: QEMU would say 'vm-type TDX not supported by KVM'"
    return missing(name, text, "put right what is missing above, then: modprobe kvm_intel tdx=1")


def _irqchip(host: Host, seen: Hardware) -> Finding:
    name = "split_irqchip"
    if seen.tdx_vm is None:
        return unknown(name, "/dev/kvm cannot be asked", "see /dev/kvm")
    try:
        found = host.kvm(KVM_CAP_SPLIT_IRQCHIP)
    except OSError as error:
        return unknown(name, error.strerror or str(error), "see /dev/kvm")
    if found:
        return ok(name, "KVM_CAP_SPLIT_IRQCHIP")
    return missing(name, "KVM has none, and TDs need it", "install a kernel with KVM for x86")
