"""UEFI variables: read from the store, chosen by state, measured as Secure Boot policy."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given

from fixtures import varstore
from fixtures.guid import guid
from fixtures.tdvf import build_tdvf, default_sections, replace_section
from fixtures.varstore import (
    ADDED,
    DELETED,
    GLOBAL,
    IN_DELETED_TRANSITION,
    SECURITY_DATABASE,
    build_varstore,
)
from fixtures.volumes import VOLUME_HEADER, volume
from mrtd.errors import MalformedFirmware
from mrtd.firmware.identify import variables_of
from mrtd.firmware.tdvf import read_tdvf
from mrtd.firmware.variables import (
    SecureBoot,
    Variable,
    read_variables,
    secure_boot_policy,
    secure_boot_state,
    variable_data,
)
from mrtd.registers import Sha384
from tests.conftest import DebianParts
from tests.strategies import hostile, refused, variables

# edk2 SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h
ENABLE = guid("f0a30bc7-af08-4556-99c4-001009c93a44")
FIRST = VOLUME_HEADER + 28  # offset of the first variable in a CFV


def read(store: bytes) -> tuple[Variable, ...]:
    return read_variables(memoryview(store), origin="OVMF.fd", base=0x1000)


def refusal(store: bytes) -> str:
    with pytest.raises(MalformedFirmware) as caught:
        read(store)
    assert caught.value.offset is not None
    assert caught.value.field is not None
    return str(caught.value)


def entry(name: str, data: bytes, state: int = ADDED, vendor: bytes = GLOBAL) -> varstore.Variable:
    return varstore.Variable(vendor, name, data, state=state)


def expected_live(entries: list[varstore.Variable]) -> list[tuple[bytes, str, bytes]]:
    added = {(v.vendor, v.name) for v in entries if v.state == ADDED}
    return [
        (v.vendor, v.name, v.data)
        for v in entries
        if v.state == ADDED
        or (v.state == IN_DELETED_TRANSITION and (v.vendor, v.name) not in added)
    ]


@given(variables())
def test_a_store_reads_back(entries: list[varstore.Variable]) -> None:
    for authenticated in (True, False):
        found = read(build_varstore(entries, authenticated=authenticated))
        assert [(v.vendor, v.name, v.data) for v in found] == expected_live(entries)


def test_an_empty_store_has_no_variables() -> None:
    assert read(build_varstore()) == ()


def test_variables_know_where_they_are() -> None:
    found = read(build_varstore([entry("A", b"1"), entry("B", b"2")]))
    assert [v.offset for v in found] == [0x1000 + FIRST, 0x1000 + FIRST + 68]


def test_a_deleted_variable_is_not_there() -> None:
    assert read(build_varstore([entry("PK", b"old", DELETED)])) == ()


def test_a_variable_in_deletion_counts_until_its_successor_is_added() -> None:
    old = entry("PK", b"old", IN_DELETED_TRANSITION)
    assert [v.data for v in read(build_varstore([old]))] == [b"old"]
    assert [v.data for v in read(build_varstore([old, entry("PK", b"new")]))] == [b"new"]


def test_a_full_store_ends_without_erased_bytes() -> None:
    body = varstore.variable(entry("A", b"1234"))
    store = build_varstore([entry("A", b"1234")], store_size=28 + len(body))
    assert [v.name for v in read(store)] == ["A"]


def test_a_store_whose_last_variable_lacks_its_padding_is_read() -> None:
    body = varstore.variable(entry("A", b"1"))
    store = build_varstore([entry("A", b"1")], store_size=28 + len(body) - 3)
    assert [v.name for v in read(store)] == ["A"]


def patched(offset: int, value: bytes, entries: Iterable[varstore.Variable] = ()) -> bytes:
    store = bytearray(build_varstore(entries))
    store[offset : offset + len(value)] = value
    return bytes(store)


ONE = (entry("PK", b"1234"),)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (b"", "+0x1000: CFV volume header: needs 72 bytes, 0 are left"),
        (build_varstore()[:71], "CFV volume header: needs 72 bytes, 71 are left"),
        (bytes(0x4000), "CFV volume header: not a firmware volume with variables"),
        (volume(b"", 0x1000), "CFV volume header: not a firmware volume with variables"),
        (patched(40, b"_FVX"), "CFV volume header: not a firmware volume with variables"),
        (patched(48, b"\xff\xff"), "CFV volume header length: points to 0xffff, past the end"),
        (build_varstore()[:80], "variable store GUID: needs 16 bytes, 8 are left"),
        (build_varstore(store_guid=bytes(16)), "unknown store 00000000-0000-0000-0000-000"),
        (build_varstore(store_size=0), "variable store size: 0x0 does not fit the CFV"),
        (build_varstore(store_size=27), "variable store size: 0x1b does not fit the CFV"),
        (build_varstore(store_size=0x4000), "variable store size: 0x4000 does not fit"),
        (build_varstore(store_size=0xFFFFFFFF), "variable store size: 0xffffffff does not fit"),
        (build_varstore(store_state=0xFFFF), "state: 0xffff is not formatted and healthy"),
        (patched(FIRST + 36, b"\0\0\0\0", ONE), "variable name size: 0 is no size of UTF-16"),
        (patched(FIRST + 36, b"\3\0\0\0", ONE), "variable name size: 3 is no size of UTF-16"),
        (patched(FIRST + 36, b"\xfe\xff\xff\xff", ONE), "name: needs 4294967294 bytes"),
        (patched(FIRST + 40, b"\xff\xff\xff\xff", ONE), "data: needs 4294967295 bytes"),
        (patched(FIRST + 60, b"\0\xd8", ONE), "variable name: b'\\x00\\xd8"),
        (build_varstore(store_size=28 + 20, raw_tail=b"\xaa\x55\x3f"), "needs"),
    ],
)  # fmt: skip
def test_a_broken_store_is_refused_by_field(store: bytes, message: str) -> None:
    text = refusal(store)
    assert text.startswith("OVMF.fd+0x1")
    assert message in text


def test_a_store_may_be_larger_than_its_size_says() -> None:
    store = build_varstore(ONE, store_size=0x1000, raw_tail=b"")
    assert [v.name for v in read(store)] == ["PK"]


@given(hostile(build_varstore([entry("PK", b"1"), entry("db", b"22")], size=0x1000)))
def test_any_bytes_are_a_store_or_an_error_of_ours(data: bytes) -> None:
    error = refused(lambda: read(data))
    assert error is None or error.offset is not None


def policy(found: Iterable[Variable], state: SecureBoot) -> dict[str, str]:
    measured = secure_boot_policy(tuple(found), state)
    return {v.name: str(Sha384.of(variable_data(v))) for v in measured}


def test_digests_of_an_empty_policy() -> None:
    # facts 3.3: first 4 bytes, in logs of dstack, Debian, Ubuntu
    digests = policy((), SecureBoot.ABSENT)
    assert list(digests) == ["SecureBoot", "PK", "KEK", "db", "dbx"]
    assert [digest[:8] for digest in digests.values()] == [
        "9dc3a1f8", "6f2e3cbc", "d607c0ef", "08a74f89", "18cc6e01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "prefix"),  # facts 3.3
    [
        (SecureBoot.ABSENT, "9dc3a1f8"),
        (SecureBoot.OFF, "cfa4e2c6"),
        (SecureBoot.ON, "2cded0c6"),
    ],
)
def test_digest_of_each_state_of_secure_boot(state: SecureBoot, prefix: str) -> None:
    assert policy((), state)["SecureBoot"].startswith(prefix)


def test_dbt_is_measured_only_if_it_exists() -> None:
    dbt = Variable(SECURITY_DATABASE, "dbt", b"stamp")
    assert list(policy([dbt], SecureBoot.ON))[-1] == "dbt"


def test_a_variable_of_another_name_space_is_not_the_policy() -> None:
    alien = Variable(SECURITY_DATABASE, "PK", b"key")
    assert policy([alien], SecureBoot.OFF) == policy([], SecureBoot.OFF)


@pytest.mark.parametrize(
    ("found", "supported", "state"),
    [
        ([], False, SecureBoot.ABSENT),
        ([Variable(GLOBAL, "PK", b"key")], False, SecureBoot.ABSENT),
        ([], True, SecureBoot.OFF),
        ([Variable(GLOBAL, "PK", b"")], True, SecureBoot.OFF),
        ([Variable(GLOBAL, "PK", b"key")], True, SecureBoot.ON),
        (
            [Variable(GLOBAL, "PK", b"key"), Variable(ENABLE, "SecureBootEnable", b"\0")],
            True,
            SecureBoot.OFF,
        ),
        (
            [Variable(GLOBAL, "PK", b"key"), Variable(ENABLE, "SecureBootEnable", b"\1")],
            True,
            SecureBoot.ON,
        ),
        ([Variable(ENABLE, "SecureBootEnable", b"\1")], True, SecureBoot.OFF),
    ],
)
def test_secure_boot_is_on_with_a_platform_key_unless_disabled(
    found: list[Variable],
    supported: bool,  # noqa: FBT001 - parametrised
    state: SecureBoot,
) -> None:
    assert secure_boot_state(tuple(found), supported=supported) is state


def test_the_measured_form_of_a_variable() -> None:
    data = variable_data(Variable(GLOBAL, "db", b"xyz"))
    assert data == GLOBAL + struct.pack("<QQ", 2, 3) + b"d\0b\0" + b"xyz"


def test_a_name_outside_the_basic_plane_counts_in_utf16_units() -> None:
    data = variable_data(Variable(GLOBAL, "\U0001f511", b""))
    assert data == GLOBAL + struct.pack("<QQ", 2, 0) + "\U0001f511".encode("utf-16-le")


def vars_of(debian: DebianParts, release: str, name: str) -> tuple[Variable, ...]:
    path: Path = debian.ovmf_folders[release] / name
    return read_variables(memoryview(path.read_bytes()), origin=name)


@pytest.mark.parametrize("release", ["bookworm", "trixie", "sid"])
def test_debian_s_blank_variable_store(debian: DebianParts, release: str) -> None:
    path = debian.ovmf_folders[release] / "OVMF_VARS_4M.fd"
    content = path.read_bytes()
    # facts 1.2: identical in all three releases, and the CFV digest of dstack's TDs
    assert str(Sha384.of(content[:0x84000])) == (
        "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6"
        "412af21c097d473155875ffd561d6790"
    )
    assert vars_of(debian, release, "OVMF_VARS_4M.fd") == ()


def test_debian_s_variable_store_with_microsoft_s_keys(debian: DebianParts) -> None:
    found = {v.name: v for v in vars_of(debian, "trixie", "OVMF_VARS_4M.ms.fd")}
    assert found["PK"].vendor == GLOBAL
    assert found["KEK"].vendor == GLOBAL
    assert found["db"].vendor == SECURITY_DATABASE
    assert found["dbx"].vendor == SECURITY_DATABASE
    state = secure_boot_state(tuple(found.values()), supported=True)
    assert state is SecureBoot.ON
    assert policy(found.values(), state)["SecureBoot"].startswith("2cded0c6")


def test_keys_of_a_real_log_are_those_of_a_debian_variable_store(debian: DebianParts) -> None:
    # facts 3.3: db 9e9a3075 and dbx 5f95c505 in CCEL_data_grub are Debian's
    digests = policy(vars_of(debian, "bookworm", "OVMF_VARS_4M.ms.fd"), SecureBoot.ON)
    assert digests["db"].startswith("9e9a3075")
    assert digests["dbx"].startswith("5f95c505")


def test_keys_in_the_image_of_the_inteltdx_build(debian: DebianParts) -> None:
    image = memoryview(debian.inteltdx_2026_08.read_bytes())
    metadata = read_tdvf(image, origin="inteltdx")
    sizes = {v.name: len(v.data) for v in variables_of(image, metadata)}
    # facts 1.2: sizes of the keys, digest of the CFV
    assert [sizes[name] for name in ("PK", "KEK", "db", "dbx")] == [1005, 4071, 7636, 21292]
    cfv = next(s for s in metadata.sections if s.type.name == "CFV")
    assert str(Sha384.of(cfv.content(image))).startswith("327d4a91229b3993")


def test_variables_of_an_image_with_two_cfvs_are_refused() -> None:
    sections = default_sections(0x4000, 0x8000)
    extra = replace_section(sections, 1, address=0xF0000000)[1]
    image = memoryview(build_tdvf(sections=(*sections, extra)))
    with pytest.raises(MalformedFirmware, match="more than one CFV"):
        variables_of(image, read_tdvf(image, origin="OVMF.fd"))


def test_an_image_without_cfv_has_no_variables() -> None:
    bfv, _, *ram = default_sections(0x4000, 0x8000)
    image = memoryview(build_tdvf(sections=(bfv, *ram)))
    assert variables_of(image, read_tdvf(image, origin="OVMF.fd")) == ()
