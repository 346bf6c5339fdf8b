"""A bench for the harness: a spec, its files, and programs that do as they are told."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ci.launch import BootResult, boot_plain, boot_tdx
from mrtd.launch.spec import LaunchSpec, read_spec
from tests.lab import fake_qemu

SLEEP: Final = "import time; time.sleep(600)"
SPEC: Final = """
schema = "mrtd.launch/1"
[vmm]
kind = "qemu"
version = "10.1"
[machine]
memory = "1 GiB"
vcpus = 1
cpu = "qemu64"
devices = [
  "virtio-serial-pci,id=channel",
  "virtserialport,bus=channel.0,chardev=payload,name=org.mrtd.payload",
  "isa-serial,chardev=serial",
]
[firmware]
path = "OVMF.fd"
[boot]
kind = "direct"
kernel = "vmlinuz"
initrd = "initrd"
cmdline = "console=ttyS0"
"""


def shutdown(reason: str = "guest-shutdown") -> dict[str, Any]:
    """The event SHUTDOWN."""
    return {"event": "SHUTDOWN", "data": {"guest": True, "reason": reason}}


STOP: Final = {"event": "STOP"}
FILES: Final = {
    "log/binary_bios_measurements": b"log",
    "proc/cmdline": b"console=ttyS0\n",
    **{f"pcr-sha384/{index}": b"%096X\n" % index for index in range(24)},
}


def payload(files: Mapping[str, bytes]) -> str:
    """What an agent sends, in hex."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    archive = stream.getvalue()
    return (b"mrtd.payload/1 %d\n" % len(archive) + archive).hex()


GOOD: Final = {"payload": payload(FILES), "events": [shutdown()], "exit": 0}


def processes_about(text: str) -> list[str]:
    """Command lines of the running processes that mention a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended just now
        if text in line:
            found.append(line)
    return found


class Bench:
    """A spec, its files, and fake programs in ``bin``, which has to be on the search path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name in ("OVMF.fd", "vmlinuz", "initrd"):
            (folder / name).write_bytes(name.encode())
        body = Path(fake_qemu.__file__).read_text(encoding="utf-8")
        self.qemu = self.program("qemu-system-x86_64", f"#!{sys.executable}\n{body}")
        self.program("swtpm_setup", "#!/bin/sh\nexit 0\n")
        # The argument makes it findable if it were left behind.
        self.program("swtpm", f"#!/bin/sh\nexec {sys.executable} -c {SLEEP!r} {folder}\n")

    def program(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def scenario(self, scenario: Mapping[str, Any]) -> None:
        (self.bin / "scenario.json").write_text(json.dumps(scenario), encoding="utf-8")

    def boot(
        self, scenario: Mapping[str, Any], *, timeout: float = 120, spec: str = SPEC, **more: Any
    ) -> BootResult:
        """Boot without TDX."""
        self.scenario(scenario)
        return boot_plain(
            spec_of(spec), folder=self.folder, qemu=self.qemu, timeout=timeout, **more
        )

    def boot_td(
        self, scenario: Mapping[str, Any], *, timeout: float = 120, spec: str = SPEC, **more: Any
    ) -> BootResult:
        """Boot a TD."""
        self.scenario(scenario)
        return boot_tdx(spec_of(spec), folder=self.folder, qemu=self.qemu, timeout=timeout, **more)


def spec_of(text: str) -> LaunchSpec:
    """A spec from its text."""
    return read_spec(text, origin="test")
