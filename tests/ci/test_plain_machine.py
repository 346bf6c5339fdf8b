"""A libvirt machine as it can run without TDX: `ci.crosscheck_machine`."""

from __future__ import annotations

import json

from msgspec.structs import replace

from ci.crosscheck_machine import plain_machine
from fixtures.domains import CONSOLE, build_domain
from mrtd.launch.machine import HostFacts
from mrtd.launch.machines import read_domain
from mrtd.launch.spec import LaunchSpec


def libvirt_machine() -> LaunchSpec:
    data = build_domain(direct=True).replace(CONSOLE.encode(), b"")
    return read_domain(data, origin="x", host=HostFacts(version="11.1", phys_bits=46)).spec


def test_devices_in_json_form_stay_so_and_in_their_slots() -> None:
    spec = libvirt_machine()
    found = plain_machine(spec).spec.machine.devices
    # QEMU makes devices in the other form first: before the bus that they are on
    assert all(text.startswith("{") for text in found)
    before = [json.loads(text) for text in spec.machine.devices]
    after = [json.loads(text) for text in found]
    assert [d.get("addr") for d in after[: len(before)]] == [d.get("addr") for d in before]
    kept = {d["id"]: d for d in after if "id" in d}
    assert kept["virtio-vda"]["driver"] == "virtio-blk-pci"  # its disk is one of the spec's
    blank = plain_machine(replace(spec, disks=())).spec.machine.devices
    replaced = {d["id"]: d for d in map(json.loads, blank) if d["driver"] == "virtio-rng-pci"}
    assert replaced["virtio-vda"] == {
        "driver": "virtio-rng-pci", "id": "virtio-vda", "bus": "pci.2", "addr": "0x0",
    }  # fmt: skip
    assert [d["driver"] for d in after[len(before) :]] == [
        "virtio-serial-pci", "virtserialport", "isa-serial",
    ]  # fmt: skip
