"""The launch that ``nox -s measure`` measures when it is given none.

``python -m ci.example --out DIR`` writes DIR/launch.toml with its files: firmware, kernel and QEMU
from the distribution's packages, and an initrd built here; without any QEMU, RTMR0 stays unpinned
and is said to. Where no mirror can be reached it writes
an embedded example instead: parts built by ``fixtures/``, which measure but do not run.

Beside them it leaves DIR/example.json, which says which example it is and which package versions
it was made of, and DIR/options.txt, the options for ``mrtd measure``, one a line.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ci.apt import Package, PackagesUnavailable
from ci.guest.initramfs import DEFAULT_INIT, build_initramfs
from ci.packages import DEFAULT_CACHE, QEMU_PROGRAM, Part, fetch
from ci.system import distribution, find_program
from fixtures.acpi import build_tables
from fixtures.bzimage import build_bzimage
from fixtures.tdvf import LIKE_202502, build_tdvf
from mrtd.errors import MrtdError

_QEMU_SECONDS: Final = 30
# The first QEMU with upstream TDX support: what an example without a QEMU claims.
_TDX_QEMU: Final = "10.1.0"
_FILES: Final = {"firmware": "OVMF.fd", "kernel": "vmlinuz", "initrd": "initrd.img"}
_TABLES: Final = "acpi_tables.bin"

_SPEC: Final = """\
# Written by ci/example.py; docs/launch-spec.md explains every key.
schema = "mrtd.launch/1"

[about]
name = "{name}"
{packages}
[vmm]
kind = "qemu"
version = "{qemu}"

[machine]
type = "q35"
memory = "2 GiB"
vcpus = 2
cpu = "host"
phys_bits = 46
options = {{ hpet = false }}
devices = ["virtio-net-pci,netdev=net0", "virtio-blk-pci,drive=disk0"]

[firmware]
path = "{firmware}"
{acpi}
[boot]
kind = "direct"
kernel = "{kernel}"
initrd = "{initrd}"
cmdline = "console=ttyS0 panic=-1"
"""


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that runs here."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Example:
    """What is written.

    Attributes:
        kind: ``debian``, ``ubuntu`` or ``embedded``.
        label: what it is made of, in one line.
        files: file name to content.
        packages: what its files were taken from.
        qemu: the QEMU to ask for ACPI tables; None: the tables are among the files, or unknown.
    """

    kind: str
    label: str
    files: dict[str, bytes]
    packages: tuple[Package, ...]
    qemu: Path | None


def probe_qemu(path: Path) -> Qemu | None:
    """The QEMU at ``path`` with its version, or None if it does not run here."""
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_QEMU_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"version ([0-9]+\.[0-9]+\.[0-9]+)", done.stdout)
    return Qemu(path, version[1]) if done.returncode == 0 and version else None


def real_example(*, cache: Path = DEFAULT_CACHE) -> Example:
    """The example from the distribution's packages.

    Raises:
        MrtdError: some part is not to be had.
    """
    system = distribution()
    suite = "trixie" if system.id == "debian" else system.id
    names = tuple(f"{part}-{suite}" for part in ("ovmf", "kernel", "busybox"))
    parts = fetch(names, cache=cache, system=system)
    firmware, kernel, busybox = (parts[name] for name in names)
    initrd = build_initramfs(busybox=_busybox(busybox).read_bytes(), init=DEFAULT_INIT.read_bytes())
    qemu, packages = _real_qemu(system.id, cache)
    packages = [part.packages[0] for part in (firmware, kernel, busybox)] + packages
    said = [f"{package.name} {package.version}" for package in packages[:2]]
    version = qemu.version if qemu else _TDX_QEMU
    return Example(
        kind=system.id,
        label=f"{', '.join(said)}, QEMU {version if qemu else 'none'}",
        files={
            _FILES["firmware"]: firmware.file("usr/share/ovmf/OVMF.fd").read_bytes(),
            _FILES["kernel"]: kernel.file("boot/vmlinuz-*").read_bytes(),
            _FILES["initrd"]: initrd,
            "launch.toml": _spec(f"example from {system.id} packages", packages, version),
        },
        packages=tuple(packages),
        qemu=qemu.path if qemu else None,
    )


def embedded_example() -> Example:
    """The example for machines without a mirror: small parts built here, nothing that runs."""
    acpi = f'\n[acpi]\ntables = "{_TABLES}"\n'
    return Example(
        kind="embedded",
        label="embedded minimal example: built by fixtures/, does not run",
        files={
            _FILES["firmware"]: build_tdvf(modules=LIKE_202502),
            _FILES["kernel"]: build_bzimage(),
            _FILES["initrd"]: b"an initrd is measured as it is, whatever it holds\n",
            _TABLES: build_tables(hpet=False),
            "launch.toml": _spec("embedded minimal example", [], _TDX_QEMU, acpi),
        },
        packages=(),
        qemu=None,
    )


def write_example(example: Example, out: Path) -> None:
    """Write the example into the folder ``out``, whose older example goes away."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        for name, content in example.files.items():
            (new / name).write_bytes(content)
        packages = [asdict(package) for package in example.packages]
        about = {"kind": example.kind, "label": example.label, "packages": packages}
        text = json.dumps(about, indent=2) + "\n"
        (new / "example.json").write_text(text, encoding="utf-8")
        options = ["--qemu", str(example.qemu or "none")]
        text = "".join(f"{option}\n" for option in options)
        (new / "options.txt").write_text(text, encoding="utf-8")
        if out.exists():
            out.rename(Path(temporary, "old"))
        new.rename(out)


def _spec(name: str, packages: Sequence[Package], qemu: str, acpi: str = "") -> bytes:
    said = [f'"{package.name}" = "{package.version} ({package.suite})"\n' for package in packages]
    table = "\n[about.packages]\n" + "".join(said) if said else ""
    text = _SPEC.format(name=name, packages=table, qemu=qemu, acpi=acpi, **_FILES)
    return text.encode()


def _busybox(part: Part) -> Path:
    # bookworm and noble have it in /bin, later releases in /usr/bin
    merged = part.folder / "usr" / "bin" / "busybox"
    return merged if merged.exists() else part.file("bin/busybox")


def _real_qemu(system: str, cache: Path) -> tuple[Qemu | None, list[Package]]:
    """A QEMU that can launch TDs where one can be fetched, otherwise the system's, if any."""
    if system == "debian":
        try:
            part = fetch(("qemu-backports",), cache=cache)["qemu-backports"]
        except PackagesUnavailable as error:
            print(f"ci.example: no current QEMU: {error}", file=sys.stderr)
        else:
            if qemu := probe_qemu(part.file(QEMU_PROGRAM)):
                return qemu, [part.packages[0]]
    installed = find_program(QEMU_PROGRAM)
    if installed and (qemu := probe_qemu(installed)):
        return qemu, [Package(QEMU_PROGRAM, qemu.version, "", "as installed", "")]
    print(
        f"ci.example: {QEMU_PROGRAM} is neither to be fetched nor installed: RTMR0 is not pinned; "
        "as root: apt-get install qemu-system-x86",
        file=sys.stderr,
    )
    return None, []


def main(arguments: list[str]) -> int:
    """Write an example and say which; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci.example")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--embedded", action="store_true", help="do not try to fetch anything")
    options = parser.parse_args(arguments)
    try:
        example = embedded_example() if options.embedded else real_example(cache=options.cache)
    except MrtdError as error:
        print(f"ci.example: {error}", file=sys.stderr)
        example = embedded_example()
    write_example(example, options.out)
    # Not on stdout: that is for the measurements, which may be JSON.
    print(f"example ({example.kind}): {example.label}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
