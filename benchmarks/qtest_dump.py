"""How long it takes to ask QEMU for a launch's blobs: one shape after the other, and 64 at once.

    python benchmarks/qtest_dump.py [--qemu PATH] [--json]

Times are milliseconds of wall clock, QEMU's start and end included; the best and the median of
several runs. A dump waits for QEMU, so threads suffice to use every core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mrtd.launch.spec import DirectBoot, Firmware, LaunchSpec, Machine, Vmm
from mrtd.qemu.fw_cfg import dump
from mrtd.qemu.pci import Mmio64Rule
from mrtd.qemu.process import find_qemu, qemu_version
from mrtd.registers import Target

RUNS: Final = 9
PARALLEL: Final = 64
NET: Final = "virtio-net-pci,netdev=net0"
DISK: Final = "virtio-blk-pci,drive=disk0"
PORTS: Final = tuple(f"pcie-root-port,id=port{n},chassis={n}" for n in range(1, 13))
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "bare": {},
    "net and disk": {"vcpus": 4, "memory": "8 GiB", "devices": (NET, DISK)},
    "12 hotplug ports": {"vcpus": 4, "memory": "8 GiB", "devices": (*PORTS, f"{NET},bus=port1")},
    "64 vCPUs, 512 GiB": {"vcpus": 64, "memory": "512 GiB", "devices": (NET, DISK)},
}


def launch(memory: str = "2 GiB", vcpus: int = 1, **machine: Any) -> LaunchSpec:  # noqa: ANN401
    """A spec of this shape, whose files do not exist."""
    return LaunchSpec(
        schema="mrtd.launch/1",
        vmm=Vmm(kind="qemu", version="7.2"),
        machine=Machine(memory=memory, vcpus=vcpus, phys_bits=46, **machine),
        firmware=Firmware(path="OVMF.fd"),
        boot=DirectBoot(kernel="vmlinuz"),
    )


def milliseconds(spec: LaunchSpec, binary: Path) -> float:
    """Wall clock time of one dump."""
    start = time.perf_counter()
    dump(spec, binary=binary, target=Target.CC, ecam_base=0xE0000000, mmio64=Mmio64Rule())
    return (time.perf_counter() - start) * 1000


def parallel(binary: Path) -> float:
    """Wall clock time of 64 dumps of as many shapes, one worker per core."""
    specs = [
        launch(memory=f"{1 << n % 5} GiB", vcpus=1 + n, devices=(NET, DISK))
        for n in range(PARALLEL)
    ]
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda spec: milliseconds(spec, binary), specs))
    return (time.perf_counter() - start) * 1000


def main() -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description="Time QEMU table dumps.")
    parser.add_argument("--qemu", type=Path, help="the QEMU to ask")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    binary = find_qemu(options.qemu)
    result: dict[str, Any] = {"qemu": qemu_version(binary), "cores": os.cpu_count(), "shapes": {}}
    for name, machine in SHAPES.items():
        times = [milliseconds(launch(**machine), binary) for _ in range(RUNS)]
        result["shapes"][name] = {
            "best_ms": round(min(times), 1),
            "median_ms": round(statistics.median(times), 1),
        }
    total = parallel(binary)
    result["parallel"] = {
        "dumps": PARALLEL,
        "total_ms": round(total, 1),
        "per_dump_ms": round(total / PARALLEL, 1),
    }
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    lines = [
        f"QEMU {result['qemu']}, {result['cores']} cores",
        f"{'shape':<20}{'best':>8}{'median':>8}  ms",
    ]
    lines += [
        f"{name:<20}{row['best_ms']:>8}{row['median_ms']:>8}"
        for name, row in result["shapes"].items()
    ]
    lines.append(f"{PARALLEL} shapes at once: {total:.0f} ms, {total / PARALLEL:.1f} ms each")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
