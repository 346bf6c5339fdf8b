"""Speed, as ratios of two measurements of the same run: machines differ, ratios hardly do.

``python -m benchmarks.measure`` prints a line each for: MRTD against hashing the same bytes; a
whole ``mrtd measure`` process against a process that only imports and hashes; the memory that it
takes. Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ci.example import Example, embedded_example, real_example, write_example
from mrtd.errors import MrtdError
from mrtd.firmware.td_build import BuildPass, TdBuild, fold, td_build
from mrtd.firmware.tdvf import PAGE, read_tdvf
from mrtd.launch.spec import PageOrder

_ROUNDS: Final = 15
_SECONDS: Final = 300
_MRTD_BOUND: Final = 2.5
_PROCESS_BOUND: Final = 1.5
_MIB: Final = 1 << 20
_MEMORY_BOUND: Final = 64 * _MIB  # and the size of the largest PE image
_LARGE_INITRD: Final = 64 * _MIB  # what distributions build
NAMED: Final = 'profile = "edk2-202502"\nsecure_boot = false'
_ADD_RECORD: Final = 128  # bytes that are hashed when a page is added
_EXTEND_RECORDS: Final = 16 * (128 + 256)  # and when it is extended
# what the installed `mrtd` script does
SCRIPT: Final = "import sys; from mrtd.cli.main import main; sys.exit(main())"
_PEAK: Final = """\
import re, sys
from mrtd.cli.main import main
main(["measure", sys.argv[1], "--json"])
with open("/proc/self/status") as status:
    sys.stderr.write(re.search("VmHWM:\\\\s+([0-9]+) kB", status.read())[1])
"""
_FLOOR: Final = """\
import argparse, hashlib, sys, tomllib
import msgspec
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        hashlib.file_digest(file, "sha384")
hashlib.sha384(bytes(int(sys.argv[1])))
"""


def best(action: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """The shortest of some runs, in seconds: what else the machine did disturbs it least."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def record_bytes(build: TdBuild) -> int:
    """How many bytes a TD build hashes."""
    total = 0
    for step in build.steps:
        pages = step.section.memory_size // PAGE
        if step.build_pass is not BuildPass.EXTEND:
            total += pages * _ADD_RECORD
        if step.build_pass is not BuildPass.ADD:
            total += pages * _EXTEND_RECORDS
    return total


def bench_mrtd(firmware: bytes) -> None:
    """MRTD against one hash call over as many bytes."""
    image = memoryview(firmware)
    build = td_build(read_tdvf(image, origin="firmware"), PageOrder.PER_PAGE)
    records = bytes(record_bytes(build))
    ours = best(lambda: fold(build, image))
    floor = best(lambda: hashlib.sha384(records))
    _report("MRTD", f"{len(firmware) >> 20} MiB of firmware", ours, floor, _MRTD_BOUND)


def bench_process(example: Example, folder: Path, what: str) -> None:
    """A whole ``mrtd measure`` with blobs given against imports and the raw hashing."""
    image = memoryview(example.files["OVMF.fd"])
    build = td_build(read_tdvf(image, origin="firmware"), PageOrder.PER_PAGE)
    inputs = [folder / name for name in ("OVMF.fd", "vmlinuz", "initrd.img")]
    measure = [sys.executable, "-c", SCRIPT, "measure", str(folder / "launch.toml")]
    floor = [sys.executable, "-c", _FLOOR, str(record_bytes(build)), *map(str, inputs)]
    ours, raw = best(lambda: run([*measure, "--json"])), best(lambda: run(floor))
    _report("mrtd measure", what, ours, raw, _PROCESS_BOUND)
    peak = _peak_memory(folder / "launch.toml")
    bound = _MEMORY_BOUND + len(example.files["vmlinuz"])
    verdict = "within" if peak <= bound else "OVER"
    print(f"  peak memory {peak / _MIB:.1f} MiB, {verdict} the bound of {bound / _MIB:.1f} MiB")


def _peak_memory(spec: Path) -> int:
    """Largest resident set of a measuring process, bytes.

    As it says itself: what wait4() reports starts with the memory of the process that forked it.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(spec)], check=True, capture_output=True, timeout=_SECONDS
    )
    return int(done.stderr) << 10


def _cases(example: Example) -> dict[str, Example]:
    """The example with ACPI tables given, so that QEMU is not part of what is timed."""
    tables = embedded_example().files["acpi_tables.bin"]
    text = example.files["launch.toml"].decode()
    if "[acpi]" not in text:
        text = text.replace("[boot]", '[acpi]\ntables = "acpi_tables.bin"\n\n[boot]', 1)
    named = re.sub(r"(?m)^profile = .*\n", "", text)
    named = named.replace("[firmware]\n", f"[firmware]\n{NAMED}\n", 1)
    initrd = example.files["initrd.img"]

    def case(spec: str, ramdisk: bytes) -> Example:
        files = {"launch.toml": spec.encode(), "acpi_tables.bin": tables, "initrd.img": ramdisk}
        return Example(example.kind, example.label, example.files | files, example.packages, None)

    large = (initrd * (_LARGE_INITRD // len(initrd) + 1))[:_LARGE_INITRD]
    size = f"{len(initrd) / _MIB:.1f} MiB"
    return {
        f"profile and secure_boot named, initrd {size}": case(named, initrd),
        "profile and secure_boot named, initrd 64 MiB": case(named, large),
        f"profile read from the image, initrd {size}": case(text, initrd),
        "profile read from the image, initrd 64 MiB": case(text, large),
    }


def run(command: Sequence[str]) -> None:
    """Run a program to its end; what it prints is dropped."""
    # No timeout: with one, subprocess polls for the end every 50 ms, and that would be timed.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _report(name: str, what: str, ours: float, floor: float, bound: float) -> None:
    ratio = ours / floor
    verdict = "within" if ratio <= bound else "OVER"
    print(
        f"{name}: {what}: {ours * 1000:.1f} ms, floor {floor * 1000:.1f} ms, "
        f"ratio {ratio:.2f}, {verdict} the bound of {bound}"
    )


def main() -> int:
    """Run all of it; the exit code."""
    try:
        example = real_example()
    except MrtdError as error:
        print(f"bench: {error}; measuring the embedded example", file=sys.stderr)
        example = embedded_example()
    print(f"example ({example.kind}): {example.label}")
    bench_mrtd(example.files["OVMF.fd"])
    with tempfile.TemporaryDirectory() as folder:
        for what, case in _cases(example).items():
            write_example(case, Path(folder, "example"))
            bench_process(case, Path(folder, "example"), what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
