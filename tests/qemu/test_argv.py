"""A spec as QEMU arguments: `mrtd.qemu.argv`, `mrtd.qemu.devices`."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import SpecError
from mrtd.qemu.argv import machine_arguments, phys_bits_known
from mrtd.qemu.devices import parse_device, stand_ins, tpm_ids
from mrtd.registers import Target
from tests.conftest import ROOT
from tests.qemu.machines import launch


def value(arguments: tuple[str, ...], option: str) -> str:
    return next(after for name, after in itertools.pairwise(arguments) if name == option)


def arguments(*, target: Target = Target.CC, dump: bool = True, **machine: Any) -> tuple[str, ...]:
    return machine_arguments(launch(**machine), target=target, dump=dump)


def test_everything_in_the_order_of_the_spec() -> None:
    assert arguments(
        target=Target.TPM,
        memory="3.5 GiB",
        vcpus=4,
        type="pc-q35-7.2",
        cpu="qemu64,+smep",
        phys_bits=46,
        options={"hpet": False, "x-note": "a,b"},
        devices=("virtio-rng-pci,addr=5", "virtio-net-pci,netdev=n"),
        fw_cfg={"opt/a": "x,y", "opt/b": ""},
    ) == (
        *("-nodefaults", "-no-user-config"),
        *("-machine", "pc-q35-7.2,hpet=off,x-note=a,,b"),
        *("-m", "3584M", "-smp", "4", "-cpu", "qemu64,phys-bits=46,+smep"),
        *("-fw_cfg", "name=opt/a,string=x,,y", "-fw_cfg", "name=opt/b,string="),
        *("-device", "virtio-rng-pci,addr=5", "-device", "virtio-net-pci,netdev=n"),
        *("-device", "tpm-crb,tpmdev=tpm0"),
    )


@pytest.mark.parametrize("dump", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"smm": False, "pic": "no"},
        {"smm": "auto"},
        {"kernel-irqchip": "split"},
        {"kernel_irqchip": "split", "pic": "off"},
    ],
)
def test_a_td_says_what_tdx_forces(options: dict[str, bool | str], *, dump: bool) -> None:
    machine = value(arguments(options=options, dump=dump), "-machine").split(",")
    assert sorted(machine) == ["kernel_irqchip=split", "pic=off", "q35", "smm=off"]


@pytest.mark.parametrize(
    "options",
    [
        {"smm": True},
        {"smm": "yes"},
        {"pic": "on"},
        {"kernel-irqchip": "off"},
        {"kernel_irqchip": True},
        {"kernel_irqchip": "split", "kernel-irqchip": "split"},
        {"accel": "kvm"},
        {"confidential-guest-support": "tdx"},
        {"memory-backend": "ram"},
        {"hpet,accel": "kvm"},
        {"": True},
    ],
)
def test_options_that_contradict_the_launch(options: dict[str, bool | str]) -> None:
    with pytest.raises(SpecError, match=r"machine\.options"):
        arguments(options=options)


def test_a_vm_with_a_tpm_keeps_its_own_options() -> None:
    found = arguments(target=Target.TPM, options={"smm": True})
    assert value(found, "-machine") == "q35,smm=on"


@pytest.mark.parametrize(
    ("machine", "dump", "expected"),
    [
        ({"phys_bits": 46}, True, "max,vendor=GenuineIntel,phys-bits=46"),
        ({"cpu": "host,-avx", "phys_bits": 52}, True, "max,vendor=GenuineIntel,phys-bits=52,-avx"),
        ({"cpu": "host,-avx", "phys_bits": 46}, False, "host,-avx"),
        ({"cpu": "max", "phys_bits": 46}, True, "max,phys-bits=46"),
        ({"cpu": "max", "phys_bits": 46}, False, "max,phys-bits=46"),
        ({"cpu": "EPYC"}, True, "EPYC"),
    ],
)
def test_cpu(machine: dict[str, Any], expected: str, *, dump: bool) -> None:
    assert value(arguments(dump=dump, **machine), "-cpu") == expected


@pytest.mark.parametrize(
    ("cpu", "phys_bits", "known"),
    [
        ("host", None, False),
        ("max,+x", None, False),
        ("host", 46, True),
        ("EPYC", None, True),
    ],
)
def test_phys_bits_known(cpu: str, phys_bits: int | None, *, known: bool) -> None:
    assert phys_bits_known(launch(cpu=cpu, phys_bits=phys_bits)) is known


def test_stand_ins_for_what_the_host_gives() -> None:
    spec = launch(
        devices=(
            "virtio-blk-pci,drive=a,,b",
            "virtio-net-pci,netdev=n",
            '{"driver":"virtio-blk-pci","drive":"d","iothread":"t","bootindex":1}',
            "isa-serial,chardev=c",
            "pci-serial,chardev=c",
        )
    )
    assert stand_ins(spec) == (
        *("-blockdev", "driver=null-co,node-name=a,,b,size=1073741824,read-zeroes=on"),
        *("-netdev", "hubport,id=n,hubid=0"),
        *("-blockdev", "driver=null-co,node-name=d,size=1073741824,read-zeroes=on"),
        *("-object", "iothread,id=t"),
        *("-chardev", "null,id=c"),
    )


def test_vsock_is_replaced_in_a_dump_only() -> None:
    devices = ("vhost-vsock-pci,guest-cid=3,id=v,addr=7,vhostfd=9",)
    assert value(arguments(devices=devices, dump=False), "-device") == devices[0]
    assert value(arguments(devices=devices), "-device") == "virtio-rng-pci,id=v,addr=7"


def test_a_tpm_of_the_spec_is_the_only_one() -> None:
    found = arguments(target=Target.TPM, devices=("tpm-tis,tpmdev=mine",))
    assert tpm_ids(found) == ("mine",)
    assert tpm_ids(arguments(target=Target.TPM)) == ("tpm0",)
    assert tpm_ids(arguments()) == ()


@pytest.mark.parametrize("text", ["", ",addr=1", "addr=1", "{", "{}", '{"driver":""}', "{" * 9000])
def test_devices_without_a_driver(text: str) -> None:
    with pytest.raises(SpecError, match=r"machine\.devices"):
        parse_device(text)


@given(st.text(max_size=60) | st.text(alphabet='{}",=:driver', max_size=60))
def test_any_text_is_a_device_or_a_spec_error(text: str) -> None:
    try:
        parse_device(text, replace=True)
    except SpecError:
        return


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.booleans(), max_size=3))
def test_options_never_add_arguments(options: dict[str, str | bool]) -> None:
    try:
        found = arguments(options=options, target=Target.TPM)
    except SpecError:
        return
    plain = value(found, "-machine").replace(",,", "")
    assert plain.count(",") == len(options)
    assert len(found) == len(arguments(target=Target.TPM))


def test_asking_qemu_loads_no_heavy_module() -> None:
    heavy = ("asyncio", "concurrent.futures", "logging", "qemu", "requests", "rich", "ssl")
    program = (
        f"import sys, mrtd.qemu.fw_cfg; sys.exit(str([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"
