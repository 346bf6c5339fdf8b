"""launch.toml: every key, and every way to get one wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import SpecError
from mrtd.launch.spec import (
    DiskBoot,
    LaunchSpec,
    PageOrder,
    PayloadBoot,
    read_spec,
    read_spec_file,
)
from tests.strategies import refused

# the minimal spec of the issue, without the optional keys
MINIMAL = """\
schema = "mrtd.launch/1"
[vmm]
kind = "qemu"
version = "10.1.0"
[machine]
memory = "2 GiB"
vcpus = 2
[firmware]
path = "OVMF.fd"
[boot]
kind = "direct"
kernel = "vmlinuz"
"""

FULL = """\
schema = "mrtd.launch/1"

[about]
name = "example"
packages = { ovmf = "2025.02-8", linux = "6.12" }

[vmm]
kind = "qemu"
version = "10.1"
page_order = "two-pass"

[machine]
type = "pc-q35-10.1"
memory = "3.5 GiB"
vcpus = 4
cpu = "host,-avx512f"
phys_bits = 46
options = { hpet = false, kernel_irqchip = "split" }
devices = ["virtio-rng-pci", "virtio-net-pci,netdev=net0"]
fw_cfg = { "opt/ovmf/X-PciMmio64Mb" = "262144" }

[firmware]
path = "OVMF_CODE.fd"
vars = "OVMF_VARS.fd"
profile = "edk2-202502"
secure_boot = false

[acpi]
tables = "acpi_tables.bin"
rsdp = "rsdp.bin"
loader = "table-loader.bin"

[smbios]
measured = "smbios.bin"

[boot]
kind = "direct"
kernel = "vmlinuz"
initrd = "initrd.img"
cmdline = "console=ttyS0 é"
kernel_header = "plain"
"""


def read(text: str) -> LaunchSpec:
    return read_spec(text, origin="launch.toml")


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read(text)
    assert caught.value.origin == "launch.toml"
    assert str(caught.value).startswith("launch.toml: ")
    return caught.value


def with_key(table: str, line: str, *, text: str = MINIMAL) -> str:
    """The text with another key in a table."""
    if f"[{table}]\n" not in text:
        return f"{text}[{table}]\n{line}\n"
    return text.replace(f"[{table}]\n", f"[{table}]\n{line}\n")


def without(key: str) -> str:
    return re.sub(rf"(?m)^{key} = .*\n", "", MINIMAL, count=1)


def replaced(old: str, new: str) -> str:
    assert MINIMAL.count(old) == 1
    return MINIMAL.replace(old, new)


def test_the_minimal_spec_has_these_defaults() -> None:
    spec = read(MINIMAL)
    assert spec.memory_bytes == 2 << 30
    assert spec.vmm.page_order is None
    assert spec.machine.type == "q35"
    assert spec.machine.cpu == "host"
    assert spec.machine.phys_bits is None
    assert (spec.machine.options, spec.machine.devices, spec.machine.fw_cfg) == ({}, (), {})
    assert (spec.firmware.vars, spec.firmware.profile, spec.firmware.secure_boot) == (None,) * 3
    assert (spec.acpi.tables, spec.acpi.rsdp, spec.acpi.loader) == (None,) * 3
    assert spec.smbios.measured is None
    assert (spec.direct.initrd, spec.direct.cmdline, spec.direct.kernel_header) == (None, "", None)
    assert spec.about is None


def test_every_key_is_read() -> None:
    spec = read(FULL)
    assert spec.about is not None
    assert spec.about.packages == {"ovmf": "2025.02-8", "linux": "6.12"}
    assert spec.vmm.page_order is PageOrder.TWO_PASS
    assert spec.machine.type == "pc-q35-10.1"
    assert spec.memory_bytes == 3584 << 20
    assert spec.machine.options == {"hpet": False, "kernel_irqchip": "split"}
    assert spec.machine.devices == ("virtio-rng-pci", "virtio-net-pci,netdev=net0")
    assert spec.machine.fw_cfg == {"opt/ovmf/X-PciMmio64Mb": "262144"}
    assert spec.machine.phys_bits == 46
    assert spec.firmware.vars == "OVMF_VARS.fd"
    assert spec.firmware.secure_boot is False
    assert spec.acpi.loader == "table-loader.bin"
    assert spec.smbios.measured == "smbios.bin"
    assert spec.direct.initrd == "initrd.img"
    assert spec.direct.cmdline == "console=ttyS0 é"
    assert spec.direct.kernel_header == "plain"


def test_a_spec_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_text(FULL, encoding="utf-8")
    assert read_spec_file(path) == read(FULL)


@pytest.mark.parametrize("key", ["schema", "kind", "version", "memory", "vcpus", "path", "kernel"])
def test_a_missing_key_is_named(key: str) -> None:
    assert f"missing required field `{key}`" in str(refusal(without(key)))


@pytest.mark.parametrize("table", ["vmm", "machine", "firmware", "boot"])
def test_a_missing_table_is_named(table: str) -> None:
    text = re.sub(rf"(?ms)^\[{table}\]\n.*?(?=^\[|\Z)", "", MINIMAL)
    assert f"missing required field `{table}`" in str(refusal(text))


@pytest.mark.parametrize("table", ["vmm", "machine", "firmware", "acpi", "smbios", "boot"])
def test_an_unknown_key_is_refused_in_every_table(table: str) -> None:
    error = refusal(with_key(table, "colour = 1"))
    assert "unknown field `colour`" in str(error)
    assert error.field == table
    assert "docs/launch-spec.md lists every key" in str(error)


def test_an_unknown_table_is_refused() -> None:
    assert "unknown field `network`" in str(refusal(MINIMAL + "[network]\n"))


@pytest.mark.parametrize(
    ("table", "line", "field"),
    [
        ("vmm", "page_order = 'zigzag'", "vmm.page_order"),
        ("vmm", "page_order = 2", "vmm.page_order"),
        ("machine", "type = 'i440fx'", "machine.type"),
        ("machine", "type = 'pc-q35-10'", "machine.type"),
        ("machine", "type = 1", "machine.type"),
        ("machine", "cpu = ''", "machine.cpu"),
        ("machine", "cpu = 1", "machine.cpu"),
        ("machine", "phys_bits = 31", "machine.phys_bits"),
        ("machine", "phys_bits = 58", "machine.phys_bits"),
        ("machine", "phys_bits = '46'", "machine.phys_bits"),
        ("machine", "options = { hpet = 1 }", "machine.options"),
        ("machine", "options = ['hpet']", "machine.options"),
        ("machine", "devices = 'virtio-rng-pci'", "machine.devices"),
        ("machine", "devices = [1]", "machine.devices"),
        ("machine", "fw_cfg = { a = 1 }", "machine.fw_cfg"),
        ("firmware", "vars = false", "firmware.vars"),
        ("firmware", "profile = 202502", "firmware.profile"),
        ("firmware", "secure_boot = 'no'", "firmware.secure_boot"),
        ("acpi", "tables = 1", "acpi.tables"),
        ("smbios", "measured = 1", "smbios.measured"),
        ("boot", "initrd = []", "boot.initrd"),
        ("boot", "cmdline = 1", "boot.cmdline"),
        ("boot", "kernel_header = 'half'", "boot.kernel_header"),
        ("boot", "kernel_header = true", "boot.kernel_header"),
    ],
)
def test_a_wrong_value_is_refused_by_key(table: str, line: str, field: str) -> None:
    error = refusal(with_key(table, line))
    assert error.field is not None
    assert error.field.startswith(field)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"mrtd.launch/1"', '"mrtd.launch/2"', "schema"),
        ('"mrtd.launch/1"', "1", "schema"),
        ('kind = "qemu"', 'kind = "bhyve"', "vmm.kind"),
        ('kind = "direct"', 'kind = "tape"', "boot.kind"),
        ('kind = "direct"', 'kind = "disk"', "boot"),
        ('"10.1.0"', '"10"', "vmm.version"),
        ('"10.1.0"', '"10.1.0.1"', "vmm.version"),
        ('"10.1.0"', '"v10.1"', "vmm.version"),
        ('"10.1.0"', '"10.1.0-rc1"', "vmm.version"),
        ('"10.1.0"', '"99999.1"', "vmm.version"),
        ('"10.1.0"', '"\u0661.1"', "vmm.version"),
        ('"10.1.0"', "10.1", "vmm.version"),
        ("vcpus = 2", "vcpus = 0", "machine.vcpus"),
        ("vcpus = 2", "vcpus = -1", "machine.vcpus"),
        ("vcpus = 2", "vcpus = 4097", "machine.vcpus"),
        ("vcpus = 2", "vcpus = 2.0", "machine.vcpus"),
        ("vcpus = 2", "vcpus = true", "machine.vcpus"),
        ("vcpus = 2", "vcpus = '2'", "machine.vcpus"),
        ("vcpus = 2", "vcpus = 1979-05-27", "machine.vcpus"),
        ('"2 GiB"', "2048", "machine.memory"),
        ('"2 GiB"', '"2 GB"', "machine.memory"),
        ('"2 GiB"', '"2048"', "machine.memory"),
        ('"2 GiB"', '"-2 GiB"', "machine.memory"),
        ('"2 GiB"', '"0 GiB"', "machine.memory"),
        ('"2 GiB"', '"5000 TiB"', "machine.memory"),
    ],
)
def test_a_wrong_required_value_is_refused_by_key(old: str, new: str, field: str) -> None:
    assert refusal(replaced(old, new)).field == field


@pytest.mark.parametrize(
    "text",
    [
        "schema",
        "= 1",
        "[vmm",
        "a = 1\na = 2",
        "[a]\n[a]",
        "\0",
        'x = "\\ud800"',
        "x = 1979-99-99",
        "x = " + "9" * 5000,
        "x = '''",
    ],
)
def test_what_is_not_toml_is_refused(text: str) -> None:
    assert "not TOML: " in str(refusal(text))


@pytest.mark.parametrize("nested", ["[" * 100_000, "[" * 1500 + "]" * 1500, "{a=" * 100_000])
def test_deep_nesting_is_refused(nested: str) -> None:
    assert "nested" in str(refusal(f"x = {nested}")) or "unknown field" in str(
        refusal(f"x = {nested}")
    )


@pytest.mark.parametrize(
    ("table", "line", "field"),
    [
        ("machine", r'cpu = "host\u0000"', "machine.cpu"),
        ("machine", r'cpu = "host\n"', "machine.cpu"),
        ("machine", r'type = "q35\n"', "machine.type"),
        ("machine", r'options = { "a\nb" = true }', "machine.options"),
        ("machine", r'options = { a = "b\u007f" }', "machine.options"),
        ("machine", r'devices = ["virtio-rng-pci\n"]', "machine.devices"),
        ("machine", r'fw_cfg = { "opt/a" = "b\tc" }', "machine.fw_cfg"),
        ("machine", r'fw_cfg = { "opt/\u001b" = "b" }', "machine.fw_cfg"),
        ("boot", r'cmdline = "quiet\nsplash"', "boot.cmdline"),
        ("boot", r'cmdline = "quiet\u0000"', "boot.cmdline"),
    ],
)
def test_control_characters_are_refused_by_key(table: str, line: str, field: str) -> None:
    error = refusal(with_key(table, line))
    assert error.field == field
    assert "control character in" in str(error)
    assert not re.search(r"[\0-\x1f\x7f]", str(error))  # nor does the message hold one


def test_a_version_with_a_line_end_is_refused() -> None:
    assert refusal(replaced('"10.1.0"', r'"10.1.0\n"')).field == "vmm.version"


def test_phys_bits_of_the_cpu_have_a_key_of_their_own() -> None:
    error = refusal(with_key("machine", 'cpu = "max,phys-bits=46"'))
    assert error.field == "machine.cpu"
    assert "set machine.phys_bits instead" in str(error)


@pytest.mark.parametrize("key", ["rsdp", "loader"])
def test_an_acpi_blob_without_tables_contradicts_itself(key: str) -> None:
    error = refusal(with_key("acpi", f'{key} = "{key}.bin"'))
    assert error.field == "acpi.tables"
    assert "missing, while acpi.rsdp or acpi.loader is given" in str(error)


def test_a_spec_that_is_missing_is_refused_by_path(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be read: .*No such file"):
        read_spec_file(tmp_path / "none.toml")


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be read: .*directory"):
        read_spec_file(tmp_path)


def test_a_spec_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_bytes(MINIMAL.encode("utf-16"))
    with pytest.raises(SpecError, match=r"cannot be read: .*UTF-8"):
        read_spec_file(path)


def test_a_file_without_an_end_is_no_spec() -> None:
    with pytest.raises(SpecError, match="larger than"):
        read_spec_file(Path("/dev/zero"))


def test_a_binary_file_is_no_spec(tmp_path: Path) -> None:
    path = tmp_path / "OVMF.fd"
    path.write_bytes(bytes(100))
    with pytest.raises(SpecError, match="not TOML"):
        read_spec_file(path)


@given(st.text(max_size=80))
def test_any_text_is_a_spec_or_refused(text: str) -> None:
    error = refused(lambda: read(text))
    assert error is None or error.origin == "launch.toml"


@given(st.data())
def test_any_mutation_of_a_spec_is_a_spec_or_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(FULL)))
    until = data.draw(st.integers(at, min(at + 20, len(FULL))))
    text = FULL[:at] + data.draw(st.text(max_size=8)) + FULL[until:]
    error = refused(lambda: read(text))
    assert error is None or error.origin == "launch.toml"


DISK_BOOT = MINIMAL.replace('kind = "direct"\nkernel = "vmlinuz"', 'kind = "disk"\ndisk = "root"')
ROOT_DISK = '\n[[disks]]\nname = "root"\npath = "image.qcow2"\nformat = "qcow2"\n'


def test_a_disk_boot_names_one_of_its_disks() -> None:
    spec = read(DISK_BOOT + ROOT_DISK)
    assert isinstance(spec.boot, DiskBoot)
    assert (spec.boot.kind, spec.boot.disk) == ("disk", "root")
    assert [(disk.path, disk.format, disk.readonly) for disk in spec.disks] == [
        ("image.qcow2", "qcow2", False)
    ]
    with pytest.raises(SpecError, match="direct kernel boot is needed"):
        _ = spec.direct


def test_a_payload_boot_has_a_payload() -> None:
    text = MINIMAL.replace('kind = "direct"\nkernel', 'kind = "payload"\npayload')
    spec = read(text)
    assert isinstance(spec.boot, PayloadBoot)
    assert (spec.boot.kind, spec.boot.payload, spec.boot.cmdline) == ("payload", "vmlinuz", "")


@pytest.mark.parametrize(
    ("disks", "field"),
    [
        ("", "boot.disk"),
        (ROOT_DISK.replace('"root"', '"other"'), "boot.disk"),
        (ROOT_DISK * 2, "disks.name"),
        (ROOT_DISK.replace('"root"', '"a,file=b"'), "disks[0].name"),
        (ROOT_DISK.replace('"qcow2"', '"vmdk"'), "disks[0].format"),
    ],
)
def test_disks_that_contradict_the_boot_are_refused(disks: str, field: str) -> None:
    assert refusal(DISK_BOOT + disks).field == field
