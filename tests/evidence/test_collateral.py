"""Collateral from a file, a folder and a service's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedCollateral
from mrtd.evidence.collateral import (
    FILES,
    MAX_SIZE,
    Collateral,
    assemble_collateral,
    encode_collateral,
    load_collateral,
    read_collateral,
)

# The signed text has to survive byte for byte: here with spaces, an escape and a repeated key.
TCB_INFO = '{"id": "TDX","x":"\\u0041","x":1.0}'
COLLATERAL = Collateral(
    pck_crl_issuer_chain="chain 1",
    root_ca_crl=b"\x30\x01",
    pck_crl=b"\x30\x02",
    tcb_info_issuer_chain="chain 2",
    tcb_info=TCB_INFO,
    tcb_info_signature=bytes(64),
    qe_identity_issuer_chain="chain 3",
    qe_identity="{}",
    qe_identity_signature=b"\1" * 64,
)
PARTS = {
    "pck_crl_issuer_chain": b"chain 1",
    "root_ca_crl": b"\x30\x01",
    "pck_crl": b"\x30\x02",
    "tcb_info_issuer_chain": b"chain 2",
    "tcb_info": f'{{"tcbInfo":{TCB_INFO},"signature":"{"00" * 64}"}}'.encode(),
    "qe_identity_issuer_chain": b"chain 3",
    "qe_identity": f'{{"enclaveIdentity":{{}},"signature":"{"01" * 64}"}}'.encode(),
}


def read(data: bytes) -> Collateral:
    return read_collateral(data, origin="c.json")


def save(folder: Path, parts: dict[str, bytes]) -> Path:
    for name, content in parts.items():
        (folder / FILES[name]).write_bytes(content)
    return folder


@pytest.mark.parametrize("chain", [None, "PCK chain"])
def test_a_file_is_read_as_it_is_written(chain: str | None) -> None:
    collateral = Collateral(
        **{name: getattr(COLLATERAL, name) for name in COLLATERAL.__struct_fields__[:-1]},
        pck_certificate_chain=chain,
    )
    assert read(encode_collateral(collateral)) == collateral


def test_dcap_qvl_reads_and_writes_the_same_file() -> None:
    qvl = pytest.importorskip("dcap_qvl")
    other = qvl.QuoteCollateralV3.from_json(encode_collateral(COLLATERAL).decode())
    assert (other.tcb_info, other.pck_crl) == (TCB_INFO, b"\x30\x02")
    assert read(other.to_json().encode()) == COLLATERAL


def test_a_folder_holds_the_answers_of_a_service(tmp_path: Path) -> None:
    assert load_collateral(save(tmp_path, PARTS)) == COLLATERAL


def test_a_folder_may_hold_the_chain_of_a_quote_that_has_none(tmp_path: Path) -> None:
    save(tmp_path, {**PARTS, "pck_certificate_chain": b"PCK"})
    assert load_collateral(tmp_path).pck_certificate_chain == "PCK"


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "collateral.json"
    path.write_bytes(encode_collateral(COLLATERAL))
    assert load_collateral(path) == COLLATERAL


def test_revocation_lists_may_be_hex_as_a_pccs_answers() -> None:
    parts = {**PARTS, "root_ca_crl": b"3001", "pck_crl": b"3002\n"}
    assert assemble_collateral(parts, origin="test") == COLLATERAL


@pytest.mark.parametrize("name", list(PARTS))
def test_a_missing_part_is_named_by_its_file(name: str) -> None:
    parts = {key: value for key, value in PARTS.items() if key != name}
    with pytest.raises(MalformedCollateral, match="is missing") as caught:
        assemble_collateral(parts, origin="folder")
    assert caught.value.field == FILES[name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tcb_info", b"", "PCS"),
        ("tcb_info", b"\xff", "PCS"),
        ("tcb_info", b'{"signature":""}', "tcbInfo"),
        ("tcb_info", b'{"tcbInfo":{},"signature":"0"}', "hex"),
        ("qe_identity", PARTS["tcb_info"], "enclaveIdentity"),
        ("pck_crl", b"zz", "hex"),
        ("root_ca_crl", b"\xff", "UTF-8"),
        ("pck_crl_issuer_chain", b"\xff", "UTF-8"),
        ("root_ca_crl", b"\x30" * (MAX_SIZE + 1), "more than"),
        ("tcb_info", b"[" * 100_000, "PCS"),
    ],
)
def test_a_part_that_is_something_else_is_refused(name: str, content: bytes, message: str) -> None:
    with pytest.raises(MalformedCollateral, match=message) as caught:
        assemble_collateral({**PARTS, name: content}, origin="folder")
    assert caught.value.field == FILES[name]


def test_a_file_with_an_unknown_field_is_refused() -> None:
    document = json.loads(encode_collateral(COLLATERAL)) | {"surprise": 1}
    with pytest.raises(MalformedCollateral, match="surprise"):
        read(json.dumps(document).encode())


def test_a_file_with_a_part_that_is_no_hex_is_refused() -> None:
    document = json.loads(encode_collateral(COLLATERAL)) | {"pck_crl": "xx"}
    with pytest.raises(MalformedCollateral, match="pck_crl: is no hex"):
        read(json.dumps(document).encode())


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(MalformedCollateral, match="cannot be read"):
        load_collateral(tmp_path / "nothing.json")


def test_a_file_that_is_too_big_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.truncate(MAX_SIZE * 1000)
    with pytest.raises(MalformedCollateral, match="more than"):
        load_collateral(path)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)))
def test_hostile_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(MalformedCollateral):
        read(data)
    with pytest.raises(MalformedCollateral):
        assemble_collateral({**PARTS, "tcb_info": data, "pck_crl": data}, origin="x")
