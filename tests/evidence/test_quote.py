"""The quote reader: real quotes of other projects, and quotes written to break each rule."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.quotes import PEM, Signatures, Td, build_quote, certification
from mrtd.errors import MalformedQuote
from mrtd.eventlog.event import Event, EventType, InputName, Origin
from mrtd.eventlog.replay import replay
from mrtd.eventlog.tcg2 import read_log
from mrtd.evidence import td_report
from mrtd.evidence.certification import (
    CertificationType,
    PckCertificates,
    PckIdentifier,
    PlatformManifest,
    QeCertification,
)
from mrtd.evidence.quote import Quote, read_quote, to_json
from mrtd.registers import ZERO, Exact, RegisterName, Sha384, Target
from tests.strategies import hostile, refused

RTMRS = (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2, RegisterName.RTMR3)


def read(data: bytes) -> Quote:
    return read_quote(data, origin="test.quote")


def corpus_quote(corpus: Path, name: str) -> bytes:
    path = corpus / "quotes" / name
    if path.suffix == ".json":
        return bytes.fromhex(json.loads(path.read_text())["quote"])
    data = path.read_bytes()
    if name == "spr-v4.quote":
        return data[:4935]  # "extra bytes(only for testing purpose)" follow
    return data


# Version of quote and report, TDATTRIBUTES, XFAM, padding; by hexdump of the files
REAL = [
    ("gce-cos-113.quote", 4, "1.0", 0x10000000, 0x600E7, 3065),
    ("spr-v4.quote", 4, "1.0", 0x40000000, 0x61AE7, 0),
    ("dstack-quote-report.json", 4, "1.0", 0x10000000, 0x602E7, 70),
    ("v5-sample.quote", 5, "1.5", 0x10000000, 0x602E7, 0),
]


@pytest.mark.parametrize(("name", "version", "report", "attributes", "xfam", "padding"), REAL)
def test_real_quotes_are_read(  # noqa: PLR0917 - one parameter a column
    corpus: Path, name: str, version: int, report: str, attributes: int, xfam: int, padding: int
) -> None:
    quote = read(corpus_quote(corpus, name))
    assert (quote.header.version, quote.report.version) == (version, report)
    assert quote.report.td_attributes.value == attributes
    assert quote.report.xfam.value == xfam
    assert quote.padding == padding
    # a real machine's firmware and signer: neither zero nor unknown bits
    assert not quote.report.mr_td.is_zero
    assert quote.report.mr_signer_seam.is_zero
    assert quote.report.td_attributes.unknown == quote.report.xfam.unknown == ()
    assert isinstance(quote.certification, QeCertification)
    assert isinstance(quote.certification.certification, PckCertificates)
    assert len(quote.certification.certification.certificates) == 3


@pytest.mark.parametrize("name", [row[0] for row in REAL])
def test_dcap_qvl_reads_the_same(corpus: Path, name: str) -> None:
    qvl = pytest.importorskip("dcap_qvl")
    data = corpus_quote(corpus, name)
    quote, other = read(data), qvl.parse_quote(data)
    assert other.header.version == quote.header.version
    assert other.header.qe_vendor_id == quote.header.qe_vendor_id
    assert other.header.user_data == quote.header.user_data
    report = quote.report
    assert other.report.tee_tcb_svn == report.tee_tcb_svn
    assert other.report.mr_seam == report.mr_seam.raw
    assert other.report.seam_attributes == report.seam_attributes
    assert other.report.td_attributes == report.td_attributes.value.to_bytes(8, "little")
    assert other.report.xfam == report.xfam.value.to_bytes(8, "little")
    assert other.report.mr_td == report.mr_td.raw
    assert other.report.mr_config_id == report.mr_config_id.raw
    assert other.report.mr_owner == report.mr_owner.raw
    assert other.report.mr_owner_config == report.mr_owner_config.raw
    assert other.report.report_data == report.report_data
    assert [getattr(other.report, f"rt_mr{n}") for n in range(4)] == [v.raw for v in report.rtmrs]
    if report.v15:
        assert other.report.tee_tcb_svn2 == report.v15.tee_tcb_svn2
        assert other.report.mr_service_td == report.v15.mr_service_td.raw


def test_a_quote_holds_what_its_event_log_replays_to(corpus: Path) -> None:
    quote = read(corpus_quote(corpus, "gce-cos-113.quote"))
    log = (corpus / "eventlogs" / "gce-cos-113.ccel").read_bytes()
    replayed = replay(read_log(log, origin="gce-cos-113.ccel", target=Target.CC))
    for name in RTMRS[:3]:
        assert replayed[name] == Exact(quote.registers[name])
    prefixes = [str(quote.registers[name])[:8] for name in RTMRS[:3]]
    assert prefixes == ["3fa2f61f", "f62dbc07", "4969684d"]  # shared/corpus/README.md
    assert quote.registers[RegisterName.RTMR3] == ZERO


def test_a_quote_holds_what_its_json_log_replays_to(corpus: Path) -> None:
    report = json.loads((corpus / "quotes" / "dstack-quote-report.json").read_text())
    origin = Origin(InputName.LOG, "dstack")
    log = [
        Event(
            RegisterName(f"rtmr{record['imr']}"),
            EventType.EV_EFI_ACTION,
            Sha384.fromhex(record["digest"]),
            "",
            origin,
        )
        for record in json.loads(report["event_log"])
    ]
    registers = read(bytes.fromhex(report["quote"])).registers
    assert replay(log) == {name: Exact(registers[name]) for name in RTMRS}


def test_offsets_are_those_of_the_format() -> None:
    # Intel TDX DCAP Quoting Library API, A.3.2: offsets in the TD quote body
    offsets = {
        td_report.MR_SEAM: 16,
        td_report.MR_SIGNER_SEAM: 64,
        td_report.SEAM_ATTRIBUTES: 112,
        td_report.TD_ATTRIBUTES: 120,
        td_report.XFAM: 128,
        td_report.MR_TD: 136,
        td_report.MR_CONFIG_ID: 184,
        td_report.MR_OWNER: 232,
        td_report.MR_OWNER_CONFIG: 280,
        td_report.RTMR0: 328,
        td_report.RTMR3: 472,
        td_report.REPORT_DATA: 520,
        td_report.TEE_TCB_SVN2: 584,
        td_report.MR_SERVICE_TD: 600,
    }
    assert {field: field.start for field in offsets} == offsets
    assert list(td_report.SIZE_OF_VERSION.values()) == [584, 648, 885]


@pytest.mark.parametrize(
    ("version", "body_type", "report"),
    [(4, 3, "1.0"), (5, 2, "1.0"), (5, 3, "1.5"), (5, 4, "1.5ex")],
)
def test_every_kind_of_tdx_quote_is_read(version: int, body_type: int, report: str) -> None:
    td = Td(mr_service_td=b"\x77" * 48, tee_tcb_svn2=b"\x07" * 16)
    data = build_quote(td, version=version, body_type=body_type)
    quote = read(data)
    assert quote.report.version == report
    assert quote.registers[RegisterName.MRTD].raw == td.mr_td
    assert tuple(value.raw for value in quote.report.rtmrs) == td.rtmrs
    assert quote.report.report_data == td.report_data
    if report != "1.0":
        assert quote.report.v15
        assert quote.report.v15.mr_service_td.raw == td.mr_service_td
        assert quote.report.v15.tee_tcb_svn2 == td.tee_tcb_svn2
    if report == "1.5ex":
        assert quote.report.v15ex
        assert quote.report.v15ex.td_id == b"\x1d" * 32
    assert quote.raw == data
    assert data.startswith(quote.signed)
    assert len(data) - len(quote.signed) == 4 + len(Signatures().encode())


def test_a_td_report_has_the_size_of_its_version() -> None:
    with pytest.raises(MalformedQuote, match=r"584 bytes are no TD report 1\.5") as caught:
        td_report.read_td_report(memoryview(bytes(584)), version="1.5", origin="x", base=54)
    assert caught.value.offset == 54


def test_zero_bytes_after_a_quote_are_cut_off_and_counted() -> None:
    data = build_quote()
    quote = read(data + bytes(100))
    assert (quote.padding, quote.raw) == (100, data)


def test_other_bytes_after_a_quote_are_refused() -> None:
    data = build_quote()
    with pytest.raises(MalformedQuote, match="2 bytes follow") as caught:
        read(data + b"\0x")
    assert caught.value.offset == len(data)
    assert str(len(data)) in (caught.value.hint or "")


def test_the_padded_sample_of_another_project_is_refused_with_its_size(corpus: Path) -> None:
    data = (corpus / "quotes" / "spr-v4.quote").read_bytes()
    with pytest.raises(MalformedQuote, match="the quote has 4935 bytes"):
        read(data)


def patched(offset: int, value: bytes, *, version: int = 4) -> bytes:
    data = bytearray(build_quote(version=version))
    data[offset : offset + len(value)] = value
    return bytes(data)


SIGNATURES_4 = 48 + 584 + 4
CERTIFICATION_4 = SIGNATURES_4 + 128
INNER_4 = CERTIFICATION_4 + 6 + 384 + 64 + 2 + 32


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (patched(0, b"\x03\0"), "SGX", 0),
        (patched(0, b"\x06\0"), "version", 0),
        (patched(2, b"\x03\0"), "P-256", 2),
        (patched(4, b"\0"), "SGX", 4),
        (patched(4, b"\x07"), "unknown", 4),
        (patched(48, b"\x01\0", version=5), "body type", 48),
        (patched(50, b"\x48\x02", version=5), "584 is not the size", 50),
        (patched(632, b"\xff\xff\xff\xff"), "4294967295", 636),
        (patched(CERTIFICATION_4, b"\x08\0"), "no known type", CERTIFICATION_4),
        (patched(CERTIFICATION_4 + 2, b"\xff\xff\xff\xff"), "4294967295", CERTIFICATION_4 + 6),
        (patched(INNER_4, b"\x06\0"), "certifies a QE report", INNER_4),
        (patched(INNER_4, b"\0\0"), "no known type", INNER_4),
        (patched(INNER_4 + 6, b"-----BEGIN CERTIFICATF"), "no PEM", INNER_4 + 6),
        (patched(INNER_4 + 6 + 28, b"!"), "base64", INNER_4 + 6),
        (build_quote(signatures=bytes(64)), "attestation key", SIGNATURES_4 + 64),
        (b"", "version", 0),
    ],
)
def test_each_broken_rule_is_named(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(MalformedQuote, match=message) as caught:
        read(data)
    assert caught.value.offset == offset
    assert caught.value.origin == "test.quote"


def test_bytes_after_the_certification_data_are_refused() -> None:
    with pytest.raises(MalformedQuote, match="1 bytes left over"):
        read(build_quote(signatures=Signatures().encode() + b"\0"))


def test_bytes_after_the_inner_certification_data_are_refused() -> None:
    with pytest.raises(MalformedQuote, match="1 bytes left over"):
        read(build_quote(signatures=Signatures(inner=certification(5, PEM) + b"\0").encode()))


def inner_of(kind: int, body: bytes) -> Any:
    quote = read(build_quote(signatures=Signatures(inner=certification(kind, body)).encode()))
    assert isinstance(quote.certification, QeCertification)
    return quote.certification.certification


@pytest.mark.parametrize(("kind", "size"), [(1, 16), (2, 256), (3, 384)])
def test_a_platform_is_named_by_its_ppid(kind: int, size: int) -> None:
    body = b"\x0f" * size + b"\x0c" * 16 + b"\x0b\0" + b"\x01\0"
    expected = PckIdentifier(CertificationType(kind), b"\x0f" * size, b"\x0c" * 16, 11, 1)
    assert inner_of(kind, body) == expected
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(MalformedQuote):
            inner_of(kind, wrong)


def test_a_platform_manifest_stays_opaque() -> None:
    assert inner_of(7, b"manifest") == PlatformManifest(b"manifest")


@pytest.mark.parametrize("tail", [b"", b"\0", b"\r\n\0\0"])
def test_certificates_are_split(tail: bytes) -> None:
    assert inner_of(5, PEM * 3 + tail).certificates == (b"0\0",) * 3
    assert inner_of(4, PEM + tail).certificates == (b"0\0",)


@pytest.mark.parametrize("body", [b"", b"\0", PEM * 9, PEM[:-5], PEM + b"x", b"x" + PEM])
def test_what_is_no_chain_of_certificates_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedQuote, match="certificate"):
        inner_of(5, body)


def test_certification_without_a_qe_report_is_read() -> None:
    quote = read(build_quote(signatures=bytes(128) + certification(5, PEM)))
    assert isinstance(quote.certification, PckCertificates)


def test_a_quote_becomes_json() -> None:
    td = Td(attributes=1 | 1 << 28 | 1 << 40)
    document = json.loads(json.dumps(to_json(read(build_quote(td, version=5) + bytes(3)))))
    assert document["report"]["mr_td"] == "11" * 48
    assert document["report"]["rtmrs"][1] == "21" * 48
    assert document["report"]["td_attributes"] == {
        "value": "0x0000010010000001",
        "names": ["DEBUG", "SEPT_VE_DISABLE"],
        "unknown": [40],
    }
    assert document["header"]["qe_vendor_id"] == "939a7233f79c4ca9940a0db3957f0607"
    assert document["certification"]["certification"]["certificates"] == ["3000"]
    assert (document["padding"], document["size"]) == (3, len(build_quote(version=5)))
    assert "raw" not in document


@given(hostile(build_quote(), build_quote(version=5), build_quote(version=5, body_type=4)))
def test_hostile_bytes_raise_only_our_error(data: bytes) -> None:
    error = refused(lambda: read(data))
    assert error is None or isinstance(error, MalformedQuote)


@given(st.integers(0, len(build_quote()) - 1))
def test_a_truncated_quote_is_refused(size: int) -> None:
    with pytest.raises(MalformedQuote):
        read(build_quote()[:size])


@given(
    st.sampled_from([632, CERTIFICATION_4 + 2, INNER_4 - 34, INNER_4 + 2]),
    st.binary(min_size=4, max_size=4),
)
def test_no_claimed_size_makes_the_reader_allocate(offset: int, size: bytes) -> None:
    data = patched(offset, size)
    tracemalloc.start()
    try:
        refused(lambda: read(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50 * len(data)
