"""Specs as TOML: what is written is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mrtd.launch.spec import (
    About,
    Acpi,
    DirectBoot,
    Disk,
    DiskBoot,
    Firmware,
    LaunchSpec,
    Machine,
    NotModelled,
    PageOrder,
    PayloadBoot,
    Vmm,
    read_spec,
)  # fmt: skip
from mrtd.launch.write_spec import write_spec

# a spec refuses control characters where QEMU would see them
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
SPEC = LaunchSpec(
    schema="mrtd.launch/1",
    vmm=Vmm(kind="qemu", version="10.1"),
    machine=Machine(memory="2 GiB", vcpus=2),
    firmware=Firmware(path="OVMF.fd"),
    boot=DirectBoot(kernel="vmlinuz"),
)


def test_the_smallest_one_has_no_defaults() -> None:
    assert write_spec(SPEC) == (
        'schema = "mrtd.launch/1"\n\n[vmm]\nkind = "qemu"\nversion = "10.1"\n\n[machine]\n'
        'memory = "2 GiB"\nvcpus = 2\n\n[firmware]\npath = "OVMF.fd"\n\n[boot]\n'
        'kind = "direct"\nkernel = "vmlinuz"\n'
    )


def test_everything_is_read_back() -> None:
    spec = replace(
        SPEC,
        about=About(name="x\ny", packages={"a b": "1", "c": '"'}),
        vmm=Vmm(kind="gce", version="1.0", page_order=PageOrder.TWO_PASS),
        machine=Machine(
            memory="2 GiB", vcpus=2, phys_bits=46, options={"hpet": False, "a.b": "c"},
            devices=("x,a=b", '{"driver": "x"}', "it's", 'both\'"'), topology={"sockets": 2},
            serial_ports=1, globals=("a.b=c",), smbios=("type=1,serial=,,",),
            boot_options="strict=on", fw_cfg={"opt/a": ""},
            not_modelled=(
                NotModelled(code="a", argument="-a", reason="b", registers=("rtmr0", "rtmr1")),
                NotModelled(code="b", argument="-b", reason="c"),
            ),
        ),
        acpi=Acpi(tables="t"),
        disks=(Disk(name="a", path="a", format="raw", readonly=True),
               Disk(name="b", path="b", format="qcow2")),
        boot=DiskBoot(disk="a", cmdline=""),
    )  # fmt: skip
    assert read_spec(write_spec(spec), origin="x") == spec
    payload = replace(SPEC, boot=PayloadBoot(payload="k", cmdline="c"))
    assert read_spec(write_spec(payload), origin="x") == payload


@given(
    st.lists(texts, max_size=4), st.dictionaries(texts, texts, max_size=3), texts,
    st.dictionaries(texts, texts | st.booleans(), max_size=3),
)  # fmt: skip
def test_any_text_is_read_back(
    devices: list[str], items: dict[str, str], cmdline: str, options: dict[str, str | bool]
) -> None:
    options.pop("max-ram-below-4g", None)
    machine = replace(SPEC.machine, devices=tuple(devices), fw_cfg=items, options=options)
    spec = replace(SPEC, machine=machine, boot=DirectBoot(kernel="k", cmdline=cmdline))
    assert read_spec(write_spec(spec), origin="x") == spec
