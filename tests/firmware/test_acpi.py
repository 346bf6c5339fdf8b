"""ACPI blobs: which tables there are, and the loader script and RSDP that follow from them."""

from __future__ import annotations

import itertools
import struct
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.acpi import BLOB_SIZE, FACS_SIZE, build_tables, facs, fadt, table
from mrtd.errors import MalformedAcpi
from mrtd.firmware.acpi import derive_loader, derive_rsdp, measured_files, read_tables
from tests.strategies import hostile, refused

TABLES = build_tables()
SIGNATURES = ["FACS", "DSDT", "FACP", "APIC", "HPET", "MCFG", "WAET", "RSDT"]


def refusal(blob: bytes) -> str:
    with pytest.raises(MalformedAcpi) as caught:
        derive_loader(blob, origin="acpi.tables")
    return str(caught.value)


def padded(*tables: bytes) -> bytes:
    return b"".join(tables).ljust(BLOB_SIZE, b"\0")


def test_tables_are_found_up_to_the_padding() -> None:
    found = read_tables(memoryview(TABLES), origin="acpi.tables")
    assert [t.signature for t in found] == SIGNATURES
    assert [(t.offset, t.length) for t in found][:2] == [(0, FACS_SIZE), (FACS_SIZE, 36 + 7)]
    assert all(t.offset + t.length == after.offset for t, after in itertools.pairwise(found))


def test_a_blob_without_padding_is_read() -> None:
    end = read_tables(memoryview(TABLES), origin="acpi.tables")[-1]
    blob = TABLES[: end.offset + end.length]
    assert len(read_tables(memoryview(blob), origin="acpi.tables")) == len(SIGNATURES)


@given(
    vcpus=st.integers(1, 64),
    dsdt=st.binary(max_size=64),
    hpet=st.booleans(),
    others=st.lists(st.sampled_from([b"SRAT", b"HMAT", b"SLIT", b"DMAR"]), max_size=3),
)
def test_any_machine_s_tables_have_a_script_of_whole_commands(
    vcpus: int,
    dsdt: bytes,
    hpet: bool,  # noqa: FBT001 - given
    others: list[bytes],
) -> None:
    blob = build_tables(
        vcpus=vcpus, dsdt=dsdt, hpet=hpet, others=[(name, b"body") for name in others]
    )
    script = derive_loader(blob, origin="acpi.tables")
    assert len(script) == 4096
    assert measured_files(script, origin="loader") == (
        "etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables",
    )  # fmt: skip


def commands(script: bytes) -> list[tuple[object, ...]]:
    """The script's commands, by their kind (qemu hw/acpi/bios-linker-loader.c)."""

    def text(raw: bytes) -> str:
        return raw.rstrip(b"\0").decode().removeprefix("etc/acpi/")

    found: list[tuple[object, ...]] = []
    for at in range(0, len(script), 128):
        kind, file = struct.unpack_from("<I56s", script, at)
        if kind == 1:
            found.append(("allocate", text(file), *struct.unpack_from("<IB", script, at + 60)))
        elif kind == 2:
            target, offset, size = struct.unpack_from("<56sIB", script, at + 60)
            found.append(("pointer", text(file), text(target), offset, size))
        elif kind == 3:
            found.append(("checksum", text(file), *struct.unpack_from("<III", script, at + 60)))
        else:
            assert script[at:] == bytes(len(script) - at)
            break
    return found


def test_the_script_has_qemu_s_commands_in_qemu_s_order() -> None:
    # facts 3.4
    at = {t.signature: t for t in read_tables(memoryview(TABLES), origin="acpi.tables")}

    def checksum(name: str) -> tuple[object, ...]:
        t = at[name]
        return ("checksum", "tables", t.offset + 9, t.offset, t.length)

    facp, rsdt = at["FACP"].offset, at["RSDT"].offset
    assert commands(derive_loader(TABLES, origin="acpi.tables")) == [
        ("allocate", "rsdp", 16, 2),
        ("allocate", "tables", 64, 1),
        checksum("DSDT"),
        ("pointer", "tables", "tables", facp + 36, 4),
        ("pointer", "tables", "tables", facp + 40, 4),
        ("pointer", "tables", "tables", facp + 140, 8),
        *(checksum(name) for name in ("FACP", "APIC", "HPET", "MCFG", "WAET")),
        *(("pointer", "tables", "tables", rsdt + 36 + 4 * n, 4) for n in range(5)),
        checksum("RSDT"),
        ("pointer", "rsdp", "tables", 16, 4),
        ("checksum", "rsdp", 8, 0, 20),
    ]


def test_the_rsdp_is_unpatched() -> None:
    rsdt = TABLES.index(b"RSDT")
    rsdp = derive_rsdp(TABLES, origin="acpi.tables")
    assert rsdp == b"RSD PTR \0BOCHS \0" + struct.pack("<I", rsdt)
    assert len(rsdp) == 20


def test_blobs_of_a_real_machine(corpus: Path) -> None:
    tables = (corpus / "acpi" / "q35-with-hpet.tables").read_bytes()
    found = read_tables(memoryview(tables), origin="q35-with-hpet")
    assert [t.signature for t in found] == SIGNATURES
    assert derive_rsdp(tables, origin="q35-with-hpet")[-4:] == (0x256F).to_bytes(4, "little")
    # 18 commands and one that the firmware never sees: RTMR0 in test_sequence.py covers them all
    assert len(commands(derive_loader(tables, origin="q35-with-hpet"))) == 19


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "acpi.tables+0x0: ACPI tables: no table"),
        (bytes(BLOB_SIZE), "ACPI tables: no table"),
        (b"\xff" * 16, "+0x0: ACPI table signature: b'\\xff\\xff\\xff\\xff' is no table signature"),
        (b"AB D" + bytes(16), "ACPI table signature: b'AB D' is no table signature"),
        (padded(facs()) + b"\1", "ACPI tables padding: not a table and not zero"),
        (facs() + b"DSDT", "+0x40: ACPI tables padding: not a table and not zero"),
        (b"DSDT" + bytes(32), "+0x4: ACPI table DSDT length: 0x0 bytes do not fit"),
        (b"DSDT" + struct.pack("<I", 35) + bytes(60), "DSDT length: 0x23 bytes do not fit"),
        (b"DSDT\xff\xff\xff\xff" + bytes(60), "DSDT length: 0xffffffff bytes do not fit"),
        (TABLES[:0x60], "+0x44: ACPI table DSDT length: 0x2b bytes do not fit"),
        (padded(*[table(b"SRAT", b"")] * 65), "ACPI tables: more than 64 tables"),
        (build_tables(without=[b"RSDT"]), "0 RSDT tables, not 1"),
        (build_tables(without=[b"FACP"]), "0 FACP tables, not 1"),
        (build_tables(repeat={b"FACP": 2}), "2 FACP tables, not 1"),
        (padded(table(b"FACP", b""), table(b"RSDT", b"")), "FACP: too short for the pointer at 36"),
        (
            padded(fadt(0)[:4] + struct.pack("<I", 144) + fadt(0)[8:144], table(b"RSDT", b"")),
            "+0x0: FACP: too short for the pointer at 140",
        ),
        (
            padded(fadt(0), table(b"RSDT", b"12345")),
            "+0xf4: RSDT: too short for the pointer at 40",
        ),
        (
            build_tables(others=[(b"SRAT", b"")] * 20),
            "59 loader commands, more than the 32 of a page",
        ),
    ],
)
def test_broken_tables_are_refused_by_table(blob: bytes, message: str) -> None:
    text = refusal(blob)
    assert text.startswith("acpi.tables")
    assert message in text


@pytest.mark.parametrize("signature", [b"SSDT", b"TPM2", b"HEST"])
def test_tables_with_a_file_of_their_own_need_a_given_script(signature: bytes) -> None:
    # the script also allocates etc/vmgenid_guid, etc/acpi/nvdimm-mem, etc/tpm/log, ...
    text = refusal(build_tables(others=[(signature, bytes(40))]))
    assert f"{signature.decode()}: the script does more for it than it shows" in text
    assert "give the script as acpi.loader" in text


def test_an_rsdp_without_rsdt_is_refused() -> None:
    with pytest.raises(MalformedAcpi, match="0 RSDT tables"):
        derive_rsdp(build_tables(without=[b"RSDT"]), origin="acpi.tables")


@pytest.mark.parametrize("size", [1, 127, 129, 4095])
def test_a_script_of_no_whole_commands_is_refused(size: int) -> None:
    with pytest.raises(MalformedAcpi, match="loader command: needs 128 bytes"):
        measured_files(bytes(size), origin="etc/table-loader")


def test_measured_files_are_in_the_order_of_their_allocation() -> None:
    def allocate(name: bytes) -> bytes:
        return (struct.pack("<I56s", 1, name)).ljust(128, b"\0")

    script = allocate(b"etc/tpm/log") + bytes(128) + allocate(b"etc/acpi/tables")
    assert measured_files(script, origin="loader") == (
        "etc/table-loader", "etc/tpm/log", "etc/acpi/tables",
    )  # fmt: skip


@given(hostile(TABLES[:0x400], derive_loader(TABLES, origin="")[:0x400]))
def test_any_bytes_are_blobs_or_errors_of_ours(data: bytes) -> None:
    for parse in (derive_loader, derive_rsdp, measured_files):
        error = refused(partial(parse, data, origin="acpi.tables"))
        assert error is None or error.origin == "acpi.tables"
