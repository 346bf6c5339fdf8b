"""A matrix of 64 shapes against 64 measuring processes, and against the QEMUs that it asks.

``python -m benchmarks.matrix`` prints a line for: ACPI blobs given, with the firmware's profile
named and read from the image; QEMU asked, against the same dumps and nothing else. Ratios of one
run, as in `benchmarks.measure`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.measure import NAMED, SCRIPT, best, run
from ci.example import embedded_example, real_example, write_example
from mrtd.errors import MrtdError
from mrtd.firmware.profiles import profile_named
from mrtd.launch.spec import LaunchSpec, read_spec_file
from mrtd.qemu.fw_cfg import dump
from mrtd.qemu.pci import Mmio64Rule
from mrtd.qemu.process import find_qemu
from mrtd.registers import Target
from mrtd.shapes import MEMORY, VCPUS, Axis, shapes

_VCPUS: Final = tuple(str(number) for number in (1, 2, 4, 6, 8, 16, 32, 64))
_MEMORY: Final = ("1 GiB", "2 GiB", "3 GiB", "4 GiB", "8 GiB", "16 GiB", "64 GiB", "128 GiB")
_AXES: Final = (Axis(VCPUS, _VCPUS), Axis(MEMORY, _MEMORY))
_ROUNDS: Final = 3
_FASTER: Final = 20.0
_DUMPS_BOUND: Final = 1.3


def bench_given(spec: Path, what: str) -> bool:
    """Blobs given: one process for all shapes against one for each; whether it is fast enough."""
    folder, tables = spec.parent, embedded_example().files["acpi_tables.bin"]
    found = shapes(read_spec_file(spec), _AXES, origin=str(spec))
    text = spec.read_text(encoding="utf-8")
    commands = []
    for shape in found:
        place = folder / "blobs" / shape.name
        place.mkdir(parents=True, exist_ok=True)
        (place / "tables").write_bytes(tables)
        one = folder / f"{shape.name}.toml"
        one.write_text(_of_shape(text, shape.settings, f"blobs/{shape.name}/tables"), "utf-8")
        commands.append([sys.executable, "-c", SCRIPT, "measure", str(one), "--json"])
    matrix = _command(spec, "--acpi", str(folder / "blobs"))
    ours = best(lambda: run(matrix), _ROUNDS)
    theirs = best(lambda: _one_by_one(commands), 1)
    verdict = "within" if theirs / ours >= _FASTER else "BELOW"
    print(
        f"matrix: {len(found)} shapes, blobs given, {what}: {ours * 1000:.0f} ms, "
        f"{len(found)} x mrtd measure {theirs * 1000:.0f} ms, "
        f"{theirs / ours:.1f} times faster, {verdict} the bound of {_FASTER:.0f}"
    )
    return theirs / ours >= _FASTER


def bench_asked(spec: Path, qemu: Path) -> None:
    """QEMU asked: one process for all shapes against the dumps alone, as many at once."""
    found = [shape.spec for shape in shapes(read_spec_file(spec), _AXES, origin=str(spec))]
    matrix = _command(spec, "--qemu", str(qemu))
    ours = best(lambda: run(matrix), 1)
    dumps = best(lambda: _dumps(found, qemu), 1)
    ratio = ours / dumps
    verdict = "within" if ratio <= _DUMPS_BOUND else "OVER"
    print(
        f"matrix: {len(found)} shapes, QEMU asked: {ours * 1000:.0f} ms, the dumps alone "
        f"{dumps * 1000:.0f} ms, ratio {ratio:.2f}, {verdict} the bound of {_DUMPS_BOUND}"
    )


def _one_by_one(commands: list[list[str]]) -> None:
    for command in commands:
        run(command)


def _dumps(specs: list[LaunchSpec], qemu: Path) -> None:
    profile = profile_named("edk2-202502", origin="benchmark")
    rule = Mmio64Rule(
        max_phys_bits=profile.window_max_phys_bits,
        avoids_reserved=profile.window_avoids_reserved,
    )

    def ask(spec: LaunchSpec) -> None:
        dump(spec, binary=qemu, target=Target.CC, ecam_base=profile.ecam_base, mmio64=rule)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(ask, specs))


def _command(spec: Path, *options: str) -> list[str]:
    axes = ["--vcpus", ",".join(_VCPUS), "--memory", ",".join(_MEMORY)]
    return [sys.executable, "-c", SCRIPT, "matrix", str(spec), *axes, "--json", *options]


def _of_shape(text: str, settings: dict[str, str], tables: str) -> str:
    text = re.sub(r"(?m)^vcpus = .*$", f"vcpus = {settings[VCPUS]}", text)
    text = re.sub(r"(?m)^memory = .*$", f'memory = "{settings[MEMORY]}"', text)
    text = re.sub(r"(?m)^\[acpi\]\n(.+\n)*", "", text)
    return text.replace("[boot]", f'[acpi]\ntables = "{tables}"\n\n[boot]', 1)


def main() -> int:
    """Run all of it; the exit code."""
    parser = argparse.ArgumentParser(description="Time matrices of shapes.")
    parser.add_argument("--qemu", type=Path, help="the QEMU to ask")
    options = parser.parse_args()
    try:
        example = real_example()
    except MrtdError as error:
        print(f"bench: {error}; measuring the embedded example", file=sys.stderr)
        example = embedded_example()
    print(f"example ({example.kind}): {example.label}")
    with tempfile.TemporaryDirectory() as name:
        spec = Path(name, "example", "launch.toml")
        write_example(example, spec.parent)
        text = spec.read_text(encoding="utf-8")
        try:
            bench_asked(spec, find_qemu(options.qemu or example.qemu))
        except MrtdError as error:
            print(f"bench: QEMU is not asked: {error}", file=sys.stderr)
        fast = bench_given(spec, "profile read from the image")
        named = re.sub(r"(?m)^profile = .*\n", "", text)
        spec.write_text(named.replace("[firmware]\n", f"[firmware]\n{NAMED}\n", 1), "utf-8")
        fast = bench_given(spec, "profile named") and fast
    return 0 if fast else 1


if __name__ == "__main__":
    sys.exit(main())
