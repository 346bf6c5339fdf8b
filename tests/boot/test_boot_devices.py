"""Boot options: of the machine's devices and of a variable store.

Digests are those of logs of Debian's OVMF 2025.02 and 2026.08 (booted in ``tests/ci``).
"""

from __future__ import annotations

import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.varstore import build_varstore
from mrtd.boot.device_options import BootDevice, device_option, disk_boot_variables
from mrtd.boot.stored_options import read_option, started_before, stored_options
from mrtd.errors import MalformedFirmware, SpecError
from mrtd.firmware.boot_options import BootOption
from mrtd.firmware.guids import GLOBAL_VARIABLE, guid, guid_text
from mrtd.firmware.profiles import profile_named
from mrtd.firmware.variable_stores import read_variable_store
from mrtd.firmware.variables import Variable
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import Sha384, Unpinned
from mrtd.start.machine_devices import BootDevices, boot_devices
from tests.strategies import mutated, refused

CHANNEL = ("virtio-serial-pci,id=channel", "virtserialport,bus=channel.0", "isa-serial,chardev=s")
DISK = BootDevice("UEFI Misc Device", ((2, 0),))
PARTITION = guid("90e9a8fb-6c12-503f-90f8-4587eed33f3c")


def spec(*devices: str) -> LaunchSpec:
    document = {
        "schema": "mrtd.launch/1",
        "vmm": {"kind": "qemu", "version": "10.1.0"},
        "machine": {"memory": "1 GiB", "vcpus": 1, "devices": [*CHANNEL, *devices]},
        "firmware": {"path": "OVMF.fd"},
        "boot": {"kind": "disk", "disk": "disk0"},
    }
    return msgspec.convert(document, LaunchSpec)


def known(*devices: str) -> BootDevices:
    found = boot_devices(spec(*devices))
    assert isinstance(found, BootDevices)
    return found


@pytest.mark.parametrize(
    ("profile", "digests"),
    [
        ("edk2-202502", ["a86aca8abe40b92c", "23ada07f5261f12f", "b2e2a1b3202eb132",
                         "f0fb2cdcc47bf204"]),
        ("edk2-202608", ["a97633e993e95c2d", "5068e6a9ded2a1c3", "dd424f2eeb35f3e8",
                         "b2e2a1b3202eb132", "af47986215d18083"]),
    ],
)  # fmt: skip
def test_boot_variables_of_a_disk(profile: str, digests: list[str]) -> None:
    rules = profile_named(profile, origin="test")
    found = disk_boot_variables(rules.boot_apps, (DISK,), rules.late_apps)
    assert [str(Sha384.of(v.data))[:16] for v in found] == digests


def test_bootindex_puts_a_disk_first_and_takes_other_devices_away() -> None:
    rules = profile_named("edk2-202502", origin="test")
    disks = (BootDevice("other", ((1, 0),)), msgspec.structs.replace(DISK, bootindex=1))
    found = disk_boot_variables(rules.boot_apps, disks, rules.late_apps)
    assert [v.name for v in found] == ["BootOrder", "Boot0002", "Boot0000", "Boot0003"]
    assert found[-1].description == "EFI Internal Shell"
    alone = disk_boot_variables(rules.boot_apps, disks[1:], rules.late_apps)
    assert str(Sha384.of(alone[0].data)).startswith("8b688b865e64d438")


@pytest.mark.parametrize(
    ("devices", "path"),
    [
        (("virtio-blk-pci,drive=disk0",), ((2, 0),)),
        (("virtio-blk-pci,drive=disk0,addr=0x5.1",), ((5, 1),)),
        (("virtio-rng-pci", "virtio-blk-pci,drive=disk0"), ((3, 0),)),
        (("pcie-root-port,id=rp1", "virtio-blk-pci,drive=disk0,bus=rp1"), ((2, 0), (0, 0))),
        (("virtio-rng-pci,addr=0x2", "virtio-blk-pci,drive=disk0"), ((3, 0),)),
        (('{"driver": "virtio-blk-pci", "drive": "disk0"}',), ((2, 0),)),
        # as libvirt writes addresses, and with the USB controllers that it adds
        (
            (
                "ich9-usb-ehci1,addr=0x1d.0x7",
                "ich9-usb-uhci1,addr=0x1d,multifunction=on",
                "pcie-root-port,id=pci.2,addr=0x3.0x1",
                "virtio-blk-pci,drive=disk0,bus=pci.2,addr=0x0",
            ),
            ((3, 1), (0, 0)),
        ),
    ],
)
def test_where_a_disk_is(devices: tuple[str, ...], path: tuple[tuple[int, int], ...]) -> None:
    found = known(*devices)
    assert [device.path for device in found.known] == [path]
    assert found.known[0].drive == "disk0"


def test_other_disks_and_networks_are_named() -> None:
    assert "nvme" in known("nvme,serial=1", "virtio-blk-pci,drive=disk0").reason
    network = known("virtio-net-pci,netdev=n", "virtio-blk-pci,drive=disk0")
    assert "virtio-net-pci" in network.reason
    assert "bootindex" in network.reason
    assert network.drivers == ("virtio-net-pci",)
    indexed = known("virtio-net-pci,netdev=n,romfile=", "virtio-blk-pci,drive=disk0,bootindex=0")
    assert indexed.reason == ""
    assert indexed.drivers == ()


def test_a_device_of_unknown_kind_leaves_addresses_open() -> None:
    assert isinstance(boot_devices(spec("frobnicator", "virtio-blk-pci,drive=disk0")), Unpinned)


@pytest.mark.parametrize(
    "device",
    ["virtio-blk-pci,bus=nowhere", "virtio-blk-pci,addr=0x99", "virtio-blk-pci,bootindex=x"],
)
def test_addresses_that_are_none_are_refused(device: str) -> None:
    with pytest.raises(SpecError, match=r"machine\.devices"):
        boot_devices(spec(device))


def option(path: str, *, attributes: int = 1, optional: str = "") -> bytes:
    hard_drive = struct.pack("<BBHIQQ16sBB", 4, 1, 42, 1, 2048, 131072, PARTITION, 2, 2)
    file = (path + "\0").encode("utf-16-le")
    nodes = hard_drive + struct.pack("<BBH", 4, 4, 4 + len(file)) + file + b"\x7f\xff\4\0"
    text = (optional + "\0").encode("utf-16-le") if optional else b""
    head = struct.pack("<IH", attributes, len(nodes)) + "mrtd\0".encode("utf-16-le")
    return head + nodes + text


def test_a_stored_option_names_partition_file_and_options() -> None:
    found = read_option(option("\\EFI\\a.efi", optional="quiet"), 3, origin="store")
    assert (found.partition, found.path) == (guid_text(PARTITION), "/EFI/a.efi")
    assert (found.options, found.active, found.description) == ("quiet", True, "mrtd")


def test_stored_options_come_before_those_of_the_firmware() -> None:
    variables = (
        Variable(GLOBAL_VARIABLE, "BootOrder", b"\0\0"),
        Variable(GLOBAL_VARIABLE, "Boot0000", option("\\a")),
    )
    order, options = stored_options(variables, origin="store")
    stored = {n: BootOption(o.description, o.data) for n, o in options.items()}
    rules = profile_named("edk2-202502", origin="test")
    found = disk_boot_variables(rules.boot_apps, (DISK,), rules.late_apps, (order, stored))
    names = ["mrtd", "UiApp", "UEFI Misc Device", "EFI Internal Shell"]
    assert [v.description for v in found[1:]] == names


@given(st.data())
def test_a_broken_option_is_refused_or_read(data: st.DataObject) -> None:
    broken = data.draw(mutated(option("\\EFI\\a.efi", optional="quiet")))
    refused(lambda: read_option(broken, 0, origin="store"))
    refused(lambda: read_option(device_option(DISK), 0, origin="store"))


JSON = {
    "version": 2,
    "variables": [
        {"name": "PK", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "attr": 39, "data": "0a"}
    ],
}


def test_both_kinds_of_stores_are_read() -> None:
    assert read_variable_store(json.dumps(JSON).encode(), origin="s") == (
        Variable(GLOBAL_VARIABLE, "PK", b"\n"),
    )
    assert read_variable_store(build_varstore([]), origin="s") == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is no JSON"),
        ('{"version": 1}', "version: is not version 2"),
        ('{"version": 2}', "variables: is no list"),
        ('{"version": 2, "variables": [1]}', r"variables\[0\]: is no object"),
        ('{"version": 2, "variables": [{}]}', "has no name"),
        ('{"version": 2, "variables": [{"name": "a", "guid": "x"}]}', "'x' is no GUID"),
        (json.dumps({**JSON, "variables": JSON["variables"] * 2}), "PK is there twice"),  # type: ignore[operator]
        (json.dumps(JSON).replace("0a", "0"), "data: is no hex"),
    ],
)
def test_a_json_store_that_is_none_is_refused(document: str, message: str) -> None:
    with pytest.raises(MalformedFirmware, match=message):
        read_variable_store(document.encode(), origin="s")


@given(st.data())
def test_a_broken_store_is_refused_or_read(data: st.DataObject) -> None:
    broken = data.draw(mutated(json.dumps(JSON).encode()))
    refused(lambda: read_variable_store(broken, origin="s"))


@pytest.mark.parametrize(
    ("name", "data", "decides"),
    [("BootNext", bytes(2), True), ("DriverOrder", bytes(2), True),
     ("SysPrepOrder", bytes(2), True), ("OsIndications", bytes([1]) + bytes(7), True),
     ("OsIndications", bytes(8), False), ("Timeout", bytes(2), False)],
)  # fmt: skip
def test_variables_that_start_something_before_boot_order(
    name: str,
    data: bytes,
    decides: bool,  # noqa: FBT001
) -> None:
    assert started_before((Variable(GLOBAL_VARIABLE, name, data),)) == (name,) * decides
    assert not started_before((Variable(PARTITION, name, data),))


def test_applications_are_no_options_that_boot() -> None:
    assert read_option(option("\\EFI\\a.efi"), 3, origin="store").active
    application = option("\\EFI\\a.efi", attributes=0x101)
    assert not read_option(application, 3, origin="store").active
