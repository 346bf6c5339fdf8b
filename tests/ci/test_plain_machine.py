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
    replaced = {d["id"]: d for d in after if d["driver"] == "virtio-rng-pci"}
    assert replaced == {
        "net0": {
            "driver": "virtio-rng-pci",
            "id": "net0",
            "bus": "pci.1",
            "addr": "0x0",
        }
    }  # the disks are those of the spec, and stay
    assert [d["driver"] for d in after[len(before) :]] == [
        "virtio-serial-pci", "virtserialport", "isa-serial",
    ]  # fmt: skip


def test_the_first_serial_port_gets_the_console() -> None:
    spec = read_domain(build_domain(), origin="x", host=HostFacts(version="11.1")).spec
    found = [json.loads(text) for text in plain_machine(spec).spec.machine.devices]
    ports = [device for device in found if device["driver"] == "isa-serial"]
    assert ports == [
        {"driver": "isa-serial", "chardev": "serial", "id": "serial0", "index": 0},
    ]
    short = replace(spec.machine, devices=("isa-serial,id=s,chardev=x,index=0",))
    devices = plain_machine(replace(spec, machine=short)).spec.machine.devices
    assert devices[0] == "isa-serial,id=s,chardev=serial,index=0"
