"""The doctor, on hosts of every kind; and on this machine."""

from __future__ import annotations

import argparse
import errno
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import __main__ as command_line
from ci import doctor
from ci.doctor import Report, Wanted, examine, lines, to_json
from ci.doctor_findings import Finding, Need, State, exit_code
from ci.doctor_host import (
    KVM_CAP_SPLIT_IRQCHIP,
    KVM_CAP_VM_TYPES,
    KVM_X86_TDX_VM,
    Address,
    Tcp,
    ThisHost,
    Unix,
    Vsock,
)
from ci.doctor_services import QGS_SOCKET, read_address
from ci.doctor_tools import judge_firmware
from fixtures.tdvf import Section, build_tdvf, default_sections
from fixtures.varstore import build_varstore
from mrtd.errors import SpecError, ToolFailed, ToolMissing, TransportError
from mrtd.verifier.fetch import Response
from tests.conftest import ROOT, DebianParts, require_tool

OVMF: Final = "/usr/share/ovmf/OVMF.fd"
QCNL: Final = "/etc/sgx_default_qcnl.conf"
DMESG: Final = """\
[    0.000000] Linux version 6.16.3-amd64
[    5.205693] virt/tdx: BIOS enabled: private KeyID range [64, 128)
[   29.884504] virt/tdx: 1050644 KB allocated for PAMT
[   29.884513] virt/tdx: module initialized
"""
OBJECTS: Final = "List of user creatable objects:\n  memory-backend-memfd\n  tdx-guest\n"
CONFIG: Final = "CONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM_INTEL_TDX=y\n"
TDX_VMS: Final = 1 | 1 << KVM_X86_TDX_VM
GIB: Final = 1 << 30


def cpuinfo(vendor: str, flags: str) -> bytes:
    return f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu vme {flags}\n\n".encode()


@dataclass(frozen=True)
class FakeHost:
    """A host of a test: files, capabilities and answers; an `OSError` is raised."""

    files: Mapping[str, bytes | OSError]
    capabilities: Mapping[int, int] | OSError = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    sockets: Mapping[Address, OSError | None] = field(default_factory=dict)
    answers: Mapping[str, Response] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    kernel: str = "6.16.3-amd64"
    room: int = 100 * GIB
    modules: frozenset[str] = frozenset({"qemu.qmp", "dcap_qvl", "jwt"})
    asked: list[object] = field(default_factory=list)

    def release(self) -> str:
        return self.kernel

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        found = self.files.get(path, FileNotFoundError(errno.ENOENT, "No such file or directory"))
        if isinstance(found, OSError):
            raise found
        return found[:limit]

    def kvm(self, capability: int) -> int:
        if isinstance(self.capabilities, OSError):
            raise self.capabilities
        return self.capabilities.get(capability, 0)

    def which(self, program: str) -> str | None:
        return self.programs.get(program)

    def run(self, argv: Sequence[str]) -> str:
        name = " ".join(argv)
        if name not in self.said:
            raise ToolMissing(f"{argv[0]} cannot be executed")
        return self.said[name]

    def connect(self, address: Address) -> None:
        self.asked.append(address)
        error = self.sockets.get(address, FileNotFoundError(errno.ENOENT, "No such file"))
        if error is not None:
            raise error

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        self.asked.append((url, dict(headers)))
        if url not in self.answers:
            raise TransportError(f"no answer for {headers['Authorization']}")
        return self.answers[url]

    def free(self, path: str) -> int:
        self.asked.append(path)
        return self.room

    def has_module(self, name: str) -> bool:
        return name in self.modules

    # changed hosts

    def but(self, **changes: Any) -> FakeHost:
        return replace(self, **changes)

    def with_files(self, **files: Any) -> FakeHost:
        return self.but(files={**self.files, **files})


@pytest.fixture(scope="session")
def full(debian: DebianParts) -> FakeHost:
    """A host on which TDs can be launched and quoted."""
    return FakeHost(
        files={
            "/proc/cpuinfo": cpuinfo("GenuineIntel", "vmx sgx tme tdx_host_platform"),
            "/proc/meminfo": b"MemTotal: 264000000 kB\nMemAvailable: 200000000 kB\n",
            "/proc/config.gz": gzip.compress(CONFIG.encode()),
            "/sys/module/kvm_intel/parameters/tdx": b"Y\n",
            "/sys/module/kvm_intel/parameters/ept": b"Y\n",
            OVMF: debian.ovmf_2025_02.read_bytes(),
            QCNL: b'{ "pccs_url": "https://pccs.test:8081/sgx/certification/v4/" }',
        },
        capabilities={KVM_CAP_VM_TYPES: TDX_VMS, KVM_CAP_SPLIT_IRQCHIP: 1},
        programs={n: f"/usr/bin/{n}" for n in
                  ("qemu-system-x86_64", "swtpm", "swtpm_setup", "setpriv")},
        said={
            "dmesg": DMESG,
            "/usr/bin/qemu-system-x86_64 --version": "QEMU emulator version 10.1.2 (Debian)\n",
            "/usr/bin/qemu-system-x86_64 -machine none -object help": OBJECTS,
        },
        sockets={Vsock(2, 4050): None, Tcp("pccs.test", 8081): None},
    )  # fmt: skip


def found(host: FakeHost, wanted: Wanted | None = None) -> tuple[Report, dict[str, Finding]]:
    report = examine(host, wanted or Wanted())
    by_name = {finding.name: finding for finding in report.findings}
    assert len(by_name) == len(report.findings)
    for finding in report.findings:
        assert (finding.state is State.OK) == (not finding.remedy), finding
        assert finding.text.isprintable()
        assert finding.remedy.isprintable()
    return report, by_name


def bad(host: FakeHost, wanted: Wanted | None = None) -> set[str]:
    report, by_name = found(host, wanted)
    assert report.exit_code == 1
    return {n for n, f in by_name.items() if f.state is State.MISSING and f.decides}


# hosts


def test_full_host(full: FakeHost) -> None:
    report, by_name = found(full, Wanted(network=True))
    assert {f.state for f in report.findings if f.decides} == {State.OK}
    assert report.exit_code == 0
    assert by_name["firmware"].text == f"{OVMF}: TDVF, edk2-202502"
    assert by_name["qgs"].text == "vsock 2:4050 takes connections"
    assert by_name["pccs"].text == "pccs.test:8081 takes connections"
    assert lines(report)[-1] == "TDs can be launched and quoted here."
    assert all(report.works.values())


def test_without_the_network_nobody_is_asked(full: FakeHost) -> None:
    full.asked.clear()
    report, by_name = found(full)
    assert report.exit_code == 0
    assert by_name["pccs"].state is State.CANNOT_TELL
    assert by_name["runner_group"].state is State.CANNOT_TELL
    assert full.asked[1:] == [Unix(QGS_SOCKET), Vsock(2, 4050)]  # first, how much room there is


def test_tdx_vms_prove_what_cannot_be_read(full: FakeHost) -> None:
    files = {k: v for k, v in full.files.items() if k in {OVMF, "/proc/meminfo"}}
    files["/proc/cpuinfo"] = cpuinfo("GenuineIntel", "vmx")
    said = {k: v for k, v in full.said.items() if k != "dmesg"}
    report, by_name = found(full.but(files=files, said=said, kernel="6.8.0-1012-intel"))
    assert report.exit_code == 0
    assert "proves it" in by_name["bios"].text


def laptop(full: FakeHost) -> FakeHost:
    return full.but(
        files={
            "/proc/cpuinfo": cpuinfo("GenuineIntel", "vmx"),
            "/proc/meminfo": b"MemAvailable: 9000000 kB\n",
            "/sys/module/kvm_intel/parameters/ept": b"Y\n",
            OVMF: full.files[OVMF],
        },
        capabilities={KVM_CAP_VM_TYPES: 1, KVM_CAP_SPLIT_IRQCHIP: 1},
        said={**full.said, "dmesg": "[    0.000000] Linux version 6.12.0\n"},
        sockets={},
        kernel="6.12.0-amd64",
    )


def test_laptop(full: FakeHost) -> None:
    host = laptop(full)
    assert bad(host) == {
        "cpu", "bios", "tdx_module", "kernel", "kvm_intel.tdx", "kvm_tdx_vm", "qgs",
    }  # fmt: skip
    report, by_name = found(host)
    assert lines(report)[-1] == "TDs cannot be launched and quoted here. First: cpu."
    assert report.works["plain launches: QEMU under TCG with a software TPM"]
    assert by_name["kvm_intel.tdx"].text == "this kvm_intel has no parameter tdx"


def test_container_without_kvm(full: FakeHost) -> None:
    host = full.but(capabilities=FileNotFoundError(errno.ENOENT, "x"), said={}, programs={})
    report, by_name = found(host)
    assert report.exit_code == 1
    assert by_name["/dev/kvm"].state is State.MISSING
    assert "--device /dev/kvm" in by_name["/dev/kvm"].remedy
    for name in ("kvm_tdx_vm", "split_irqchip", "tdx-guest"):
        assert by_name[name].state is State.CANNOT_TELL
    assert by_name["cpu"].state is State.OK  # the flag is there
    assert not report.works["ask QEMU for its ACPI tables"]


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (PermissionError(errno.EACCES, "x"), "is not for this user", "usermod -aG kvm"),
        (OSError(errno.ENODEV, "No such device"), "cannot be used: No such device", "dmesg"),
    ],
)
def test_kvm_that_cannot_be_opened(full: FakeHost, error: OSError, text: str, remedy: str) -> None:
    _, by_name = found(full.but(capabilities=error))
    assert by_name["/dev/kvm"].text == text
    assert remedy in by_name["/dev/kvm"].remedy


def test_amd(full: FakeHost) -> None:
    host = laptop(full).with_files(**{"/proc/cpuinfo": cpuinfo("AuthenticAMD", "svm sev_snp")})
    _, by_name = found(host)
    assert by_name["cpu"].text == "AuthenticAMD: TDX is Intel's"
    assert by_name["bios"].state is State.MISSING


def test_arm(full: FakeHost) -> None:
    host = laptop(full).with_files(**{"/proc/cpuinfo": b"CPU implementer : 0x41\n"})
    _, by_name = found(host)
    assert by_name["cpu"].text == "no x86: TDX is Intel's"
    assert by_name["qgs"].remedy.startswith("enable SGX in the BIOS")


def test_virtual_machine_leaves_its_host_alone(full: FakeHost) -> None:
    guest = cpuinfo("GenuineIntel", "vmx tme hypervisor")
    host = laptop(full).with_files(**{"/proc/cpuinfo": guest})
    host.asked.clear()
    _, by_name = found(host)
    assert "on the host itself" in by_name["cpu"].text
    assert by_name["qgs"].state is State.CANNOT_TELL
    assert not [a for a in host.asked if isinstance(a, Vsock)]


# one thing wrong


def without_proof(full: FakeHost, **changes: Any) -> FakeHost:
    """The same host, but KVM offers no TDX VMs."""
    capabilities = {KVM_CAP_VM_TYPES: 1, KVM_CAP_SPLIT_IRQCHIP: 1}
    return full.but(capabilities=capabilities, **changes)


def test_parameter_is_off(full: FakeHost) -> None:
    host = without_proof(full).with_files(**{"/sys/module/kvm_intel/parameters/tdx": b"N\n"})
    assert bad(host) == {"kvm_intel.tdx", "kvm_tdx_vm"}
    assert "modprobe kvm_intel tdx=1" in found(host)[1]["kvm_intel.tdx"].remedy


def test_old_kernel(full: FakeHost) -> None:
    host = without_proof(full, kernel="6.12.0").with_files(**{"/proc/config.gz": b"no gzip"})
    assert "6.12.0: KVM launches TDs since 6.16" in found(host)[1]["kernel"].text


def test_kernel_without_tdx(full: FakeHost) -> None:
    config = gzip.compress(b"CONFIG_INTEL_TDX_HOST=y\n# CONFIG_KVM_INTEL_TDX is not set\n")
    host = without_proof(full).with_files(**{"/proc/config.gz": config})
    assert found(host)[1]["kernel"].text == "6.16.3-amd64: built without CONFIG_KVM_INTEL_TDX"


@pytest.mark.parametrize(("kernel", "more"), [("6.16.0", ""), ("6.8.0-intel", "older than 6.16")])
def test_configuration_in_boot(full: FakeHost, kernel: str, more: str) -> None:
    files = {k: v for k, v in full.files.items() if k != "/proc/config.gz"}
    files[f"/boot/config-{kernel}"] = CONFIG.encode()
    finding = found(without_proof(full, files=files, kernel=kernel))[1]["kernel"]
    assert finding.state is State.OK
    assert more in finding.text


def test_configuration_that_cannot_be_read(full: FakeHost) -> None:
    for packed in (gzip.compress(CONFIG.encode())[:-9], PermissionError(errno.EACCES, "x"), b""):
        host = without_proof(full).with_files(**{"/proc/config.gz": packed})
        assert found(host)[1]["kernel"].state in {State.CANNOT_TELL, State.MISSING}


LOGS: Final = {
    "hibernation": (
        "[1.0] virt/tdx: initialization failed: Hibernation support is enabled\n",
        "nohibernate",
    ),
    "no-module": ("[1.0] virt/tdx: SEAMCALL failed: TDX Module not loaded.\n", "update the BIOS"),
    "control": ("[1.0] virt/tdx: init failed \x1b[31m\n", "update the BIOS"),
}


@pytest.mark.parametrize("name", LOGS)
def test_what_the_log_says(full: FakeHost, name: str) -> None:
    text, remedy = LOGS[name]
    said = {**full.said, "dmesg": f"[0] Linux version 6.16\n{text}"}
    finding = found(without_proof(full, said=said))[1]["tdx_module"]
    assert finding.state is State.MISSING
    assert remedy in finding.remedy


def test_log_that_began_later(full: FakeHost) -> None:
    said = {**full.said, "dmesg": "[99.0] usb 1-1: new device\n"}
    files = {**full.files, "/proc/cpuinfo": cpuinfo("GenuineIntel", "vmx tme")}
    _, by_name = found(without_proof(full, said=said, files=files))
    states = {name: by_name[name].state for name in ("cpu", "bios", "tdx_module")}
    assert set(states.values()) == {State.CANNOT_TELL}
    assert "sudo dmesg" in by_name["bios"].remedy


def test_bios_switch(full: FakeHost) -> None:
    said = {**full.said, "dmesg": "[0] Linux version 6.16\n"}
    files = {**full.files, "/proc/cpuinfo": cpuinfo("GenuineIntel", "vmx tme")}
    assert "SEAM" in found(without_proof(full, said=said, files=files))[1]["bios"].remedy


@pytest.mark.parametrize(
    ("version", "objects", "wrong"),
    [
        ("QEMU emulator version 9.2.4", "sev-guest\n", {"qemu", "tdx-guest"}),
        ("QEMU emulator version 10.0.13", "sev-guest\n", {"qemu", "tdx-guest"}),
        ("QEMU emulator version 10.1.0", "sev-guest\n", {"tdx-guest"}),
        ("QEMU emulator version 8.2.2 (+tdx1.1)", OBJECTS, {"qemu"}),
        ("QEMU emulator version 10.1.0", "  my-tdx-guest2\n", {"tdx-guest"}),
    ],
)
def test_qemu(full: FakeHost, version: str, objects: str, wrong: set[str]) -> None:
    said = {
        "dmesg": DMESG,
        "/usr/bin/qemu-system-x86_64 --version": version,
        "/usr/bin/qemu-system-x86_64 -machine none -object help": objects,
    }
    assert bad(full.but(said=said)) == wrong


def test_qemu_that_says_nothing_of_use(full: FakeHost) -> None:
    said = {**full.said, "/usr/bin/qemu-system-x86_64 --version": "hello"}
    report, by_name = found(full.but(said=said))
    assert by_name["qemu"].state is State.CANNOT_TELL
    assert report.exit_code == 3


def test_qemu_that_is_not_there(full: FakeHost) -> None:
    _, by_name = found(full, Wanted(qemu="/opt/\x1bqemu"))
    assert by_name["qemu"].text == r"/opt/\x1bqemu is not installed"
    assert by_name["tdx-guest"].state is State.CANNOT_TELL


# firmware


def firmware(full: FakeHost, data: bytes | OSError) -> Finding:
    finding = found(full.with_files(**{"/fw": data}), Wanted(firmware="/fw"))[1]["firmware"]
    assert finding.text.startswith("/fw")
    return finding


def test_real_firmware(full: FakeHost, debian: DebianParts) -> None:
    for path in (debian.ovmf_2025_02, debian.ovmf_2026_08, debian.inteltdx_2026_08):
        assert firmware(full, path.read_bytes()).state is State.OK
    assert "signed" in firmware(full, debian.inteltdx_2026_08.read_bytes()).text
    old = firmware(full, debian.ovmf_2022_11.read_bytes())
    assert old.state is State.MISSING
    assert "measures nothing" in old.text


@pytest.mark.parametrize("release", ["bookworm", "trixie", "sid"])
def test_halves_of_firmware_are_named(full: FakeHost, debian: DebianParts, release: str) -> None:
    folder = debian.ovmf_folders[release]
    code = firmware(full, (folder / "OVMF_CODE_4M.fd").read_bytes())
    variables = firmware(full, (folder / "OVMF_VARS_4M.fd").read_bytes())
    assert "code only (OVMF_CODE)" in code.text
    assert "variables only (OVMF_VARS)" in variables.text
    assert code.state is variables.state is State.MISSING


@pytest.mark.parametrize("data", [b"", bytes(1000), bytes(1 << 20), IsADirectoryError(21, "x")])
def test_no_firmware(full: FakeHost, data: bytes | OSError) -> None:
    assert firmware(full, data).state is State.MISSING


def test_firmware_of_another_kind(full: FakeHost) -> None:
    assert firmware(full, build_tdvf()).state is not State.OK
    payload = Section(5, 0, 0, 0x10000000, 0x1000)
    shim = build_tdvf(sections=(*default_sections(len(build_varstore(())), 0x8000), payload))
    assert "section PAYLOAD, which QEMU does not know" in firmware(full, shim).text


def test_none_installed(full: FakeHost) -> None:
    files = {k: v for k, v in full.files.items() if k != OVMF}
    finding = found(full.but(files=files))[1]["firmware"]
    assert finding.text == "none of the files that distributions install"


def test_the_good_one_of_several_is_taken(full: FakeHost, debian: DebianParts) -> None:
    old = {"/usr/share/ovmf/OVMF.inteltdx.fd": debian.ovmf_2022_11.read_bytes()}
    assert found(full.with_files(**old))[1]["firmware"].text.startswith(OVMF)


@given(st.binary(max_size=3000))
def test_any_bytes_are_a_finding(data: bytes) -> None:
    for whole in (data, bytes(40) + b"_FVH" + data):
        finding = judge_firmware(FakeHost({"/fw": whole}), "/fw")
        assert finding.state is State.MISSING
        assert finding.text.isprintable()


# services


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (TimeoutError("timed out"), "silent", "restart it"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "nobody listens", "systemctl enable"),
        (ConnectionResetError(errno.ECONNRESET, "Reset by peer"), "Reset by peer", "systemctl"),
        (OSError(errno.ENODEV, "No such device"), "No such device", "vsock_loopback"),
        (PermissionError(errno.EACCES, "x"), "not for this user", "usermod"),
    ],
)
def test_qgs(full: FakeHost, error: OSError, text: str, remedy: str) -> None:
    host = full.but(sockets={Vsock(2, 4050): error})
    assert bad(host) == {"qgs"}
    finding = found(host)[1]["qgs"]
    assert text in finding.text
    assert remedy in finding.remedy
    assert finding.need is Need.EVIDENCE


def test_qgs_elsewhere(full: FakeHost) -> None:
    unix = full.but(sockets={Unix(QGS_SOCKET): None})
    assert found(unix)[1]["qgs"].text == f"{QGS_SOCKET} takes connections"
    port = full.but(sockets={Vsock(2, 4051): None}).with_files(**{"/etc/qgs.conf": b"port = 4051"})
    assert found(port)[1]["qgs"].state is State.OK
    named = full.but(sockets={Unix("/run/q"): None})
    assert found(named, Wanted(qgs="unix:/run/q"))[1]["qgs"].state is State.OK
    assert found(full, Wanted(qgs="vsock:3:1"))[1]["qgs"].text == "vsock 3:1: is not there"


@pytest.mark.parametrize("text", ["", "unix:", "unix:a", "vsock:2", "vsock:2:99999999999", "tcp:1"])
def test_addresses_that_are_none(full: FakeHost, text: str) -> None:
    with pytest.raises(SpecError, match="--qgs"):
        read_address(text)
    with pytest.raises(SpecError):
        examine(full, Wanted(qgs=text))


@given(st.text(max_size=40))
def test_any_address(text: str) -> None:
    with suppress(SpecError):
        assert isinstance(read_address(text), Unix | Vsock)


@pytest.mark.parametrize(
    ("config", "address"),
    [
        (b'{\n  // comment\n  "pccs_url": "https://p.test/sgx/",\n}', Tcp("p.test", 443)),
        (b"PCCS_URL=https://p.test:8081/sgx/certification/v3/\n", Tcp("p.test", 8081)),
        (b'{ "pccs_url": "http://[::1]/" }', Tcp("::1", 80)),
    ],
)
def test_pccs(full: FakeHost, config: bytes, address: Tcp) -> None:
    for error, state in ((None, State.OK), (socket.gaierror(-2, "x"), State.MISSING)):
        host = full.but(sockets={**full.sockets, address: error}).with_files(**{QCNL: config})
        finding = found(host, Wanted(network=True))[1]["pccs"]
        assert finding.state is state
        assert str(address) in finding.text


@pytest.mark.parametrize(
    "config", [b"", b"{}", b'# "pccs_url": "https://p"', b'"pccs_url": "https://a:b"', b"pccs_url="]
)
def test_pccs_that_is_not_configured(full: FakeHost, config: bytes) -> None:
    assert bad(full.with_files(**{QCNL: config})) == {"pccs"}


# the runner

API: Final = "https://api.github.com"
RUNNERS: Final = f"{API}/repos/o/r/actions/runners?per_page=100"
GROUP: Final = f"{API}/orgs/o/actions/runner-groups/7"
CLOSED: Final = {
    "visibility": "selected",
    "allows_public_repositories": True,
    "restricted_to_workflows": True,
    "selected_workflows": ["o/r/.github/workflows/release.yml@refs/heads/main"],
}
SECRET: Final = "ghs_" + "s" * 36


def runner(
    full: FakeHost, about: dict[str, object] | None, group: dict[str, object] | int
) -> dict[str, Finding]:
    listed = {"total_count": 1, "runners": [{"name": "tdx-1", "runner_group_id": 7, **about}]
              if about is not None else []}  # fmt: skip
    answered = Response(group, {}, b"{}") if isinstance(group, int) else (
        Response(200, {}, json.dumps(group).encode()))  # fmt: skip
    host = full.but(
        environment={"GITHUB_TOKEN": SECRET, "RUNNER_NAME": "tdx-1"},
        answers={RUNNERS: Response(200, {}, json.dumps(listed).encode()), GROUP: answered},
    )
    report, by_name = found(host, Wanted(repository="o/r"))
    assert report.exit_code == 0  # advice decides nothing
    assert SECRET not in "\n".join(lines(report)) + json.dumps(to_json(report))
    return by_name


def test_good_runner(full: FakeHost) -> None:
    by_name = runner(full, {"ephemeral": True}, dict(CLOSED))
    assert by_name["runner_ephemeral"].state is by_name["runner_group"].state is State.OK


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("visibility", "all", "all repositories"),
        ("selected_workflows", ["o/r/.github/workflows/release.yml"], "at any ref"),
        ("selected_workflows", None, "at any ref"),
        ("restricted_to_workflows", False, "every workflow"),
        ("restricted_to_workflows", None, "every workflow"),
    ],
)
def test_open_group(full: FakeHost, name: str, value: object, text: str) -> None:
    finding = runner(full, {"ephemeral": True}, {**CLOSED, name: value})["runner_group"]
    assert finding.state is State.MISSING
    assert text in finding.text
    assert "public repositories" in finding.text
    private = {**CLOSED, name: value, "allows_public_repositories": False}
    assert "public" not in runner(full, {"ephemeral": True}, private)["runner_group"].text


def test_runner_of_which_github_says_little(full: FakeHost) -> None:
    assert runner(full, {"ephemeral": False}, 404)["runner_ephemeral"].state is State.MISSING
    by_name = runner(full, {}, 403)
    assert by_name["runner_ephemeral"].state is State.CANNOT_TELL
    assert "HTTP 403" in by_name["runner_group"].text
    assert "no runner 'tdx-1'" in runner(full, None, 404)["runner_group"].text
    nobody = runner(full, {"runner_group_id": None}, 404)["runner_group"]
    assert nobody.state is State.CANNOT_TELL


def test_github_that_cannot_be_asked(full: FakeHost) -> None:
    environment = {"GITHUB_TOKEN": SECRET, "RUNNER_NAME": "tdx-1"}
    for answers in ({}, {RUNNERS: Response(200, {}, b"[]")}, {RUNNERS: Response(403, {}, b"")}):
        report, by_name = found(
            full.but(environment=environment, answers=answers), Wanted(repository="o/r")
        )
        assert by_name["runner_group"].state is State.CANNOT_TELL
        assert SECRET not in "\n".join(lines(report))


def test_hosted_runner(full: FakeHost) -> None:
    _, by_name = found(full.but(environment={"RUNNER_ENVIRONMENT": "github-hosted"}))
    assert by_name["runner_ephemeral"].state is State.OK


def test_repository_that_is_none(full: FakeHost) -> None:
    with pytest.raises(SpecError, match="--repo"):
        examine(full.but(environment={"GITHUB_TOKEN": SECRET}), Wanted(repository="../x?y"))


# room


def test_room(full: FakeHost) -> None:
    assert bad(full.but(room=GIB)) == {"disk"}
    assert bad(full.with_files(**{"/proc/meminfo": b"MemAvailable: 1000000 kB\n"})) == {"memory"}
    assert found(full.with_files(**{"/proc/meminfo": b""}))[0].exit_code == 3


# what follows


@given(st.lists(st.tuples(st.sampled_from(State), st.sampled_from(Need))))
def test_exit_code(rows: list[tuple[State, Need]]) -> None:
    deciding = {state for state, need in rows if need in {Need.LAUNCH, Need.EVIDENCE}}
    code = exit_code([Finding("n", state, "t", "r", need) for state, need in rows])
    assert (code == 1) == (State.MISSING in deciding)
    assert (code == 0) == (deciding <= {State.OK})
    assert code in {0, 1, 3}


def call(host: FakeHost, *words: str) -> int:
    top = argparse.ArgumentParser()
    doctor.add_to(top.add_subparsers(), "summary")
    return doctor.run(top.parse_args(["doctor", *words]), host)


def test_output(full: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(full) == 0
    text = capsys.readouterr().out
    assert "  ok           kvm_tdx_vm       KVM_CAP_VM_TYPES has TDX\n" in text
    assert call(laptop(full), "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["can_launch"] == "no"
    by_name = {c["name"]: c for c in document["checks"]}
    assert by_name["cpu"]["remedy"]
    assert by_name["/dev/kvm"]["remedy"] is None


# this machine


def test_this_machine_says_no_or_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ci", "doctor", "--json"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
        timeout=120,
    )
    assert done.stderr == b""
    document = json.loads(done.stdout)
    assert done.returncode == {"yes": 0, "no": 1, "cannot tell": 3}[document["can_launch"]]
    assert {c["name"] for c in document["checks"]} >= {"cpu", "qemu", "firmware", "qgs"}
    if b"GenuineIntel" not in Path("/proc/cpuinfo").read_bytes():
        assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.qemu
def test_real_qemu(debian: DebianParts, full: FakeHost) -> None:
    class Asked(FakeHost):
        def run(self, argv: Sequence[str]) -> str:
            return ThisHost().run(argv)

        def which(self, program: str) -> str | None:
            return ThisHost().which(program)

    host = Asked(**{name: getattr(full, name) for name in full.__dataclass_fields__})
    for binary, states in (
        (debian.qemu_11, (State.OK, State.OK)),
        (debian.qemu_10, (State.MISSING, State.MISSING)),
        (require_tool("qemu"), None),
    ):
        _, by_name = found(host, Wanted(qemu=str(binary)))
        if states is not None:
            assert (by_name["qemu"].state, by_name["tdx-guest"].state) == states


def test_programs_of_this_machine() -> None:
    host = ThisHost()
    assert host.run(["true"]) == ""
    with pytest.raises(ToolFailed, match="ended with status 1"):
        host.run(["false"])
    with pytest.raises(ToolMissing):
        host.run(["no-such-program"])
    assert host.which("no-such-program") is None
    assert not host.has_module("no_such_module")


def test_files_of_this_machine(tmp_path: Path) -> None:
    host, pipe = ThisHost(), tmp_path / "pipe"
    os.mkfifo(pipe)
    assert host.read(str(pipe)) == b""  # and nobody waits for a writer
    with pytest.raises(FileNotFoundError):
        host.read(str(tmp_path / "none"))
    with pytest.raises(OSError, match=r"directory"):
        host.read(str(tmp_path))
    assert host.free(str(tmp_path)) > 0


def test_sockets_of_this_machine(tmp_path: Path) -> None:
    host, path = ThisHost(), str(tmp_path / "s")
    with pytest.raises(FileNotFoundError):
        host.connect(Unix(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        with pytest.raises(ConnectionRefusedError):
            host.connect(Unix(path))
        listener.listen()
        host.connect(Unix(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        host.connect(Tcp("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        host.connect(Tcp("127.0.0.1", port))
    assert threading.active_count() == 1


def test_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["doctor", "--qgs", "x"]) == 2
    assert "--qgs" in capsys.readouterr().err
