"""The log reader: real logs of other projects, and logs written here to break each rule."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import MalformedEventLog
from mrtd.eventlog import EventType, InputName, replay
from mrtd.eventlog.describe import describe
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import ZERO, Exact, RegisterName, Sha384, Target

SHA1, SHA256, SHA384 = 0x0004, 0x000B, 0x000C
SIZES = {SHA1: 20, SHA256: 32, SHA384: 48}
TPM_BANKS = {SHA256: 32, SHA384: 48}
ONE = Sha384.of(b"one")


def header(
    sizes: Mapping[int, int] = TPM_BANKS,
    *,
    index: int = 0,
    kind: int = 3,
    digest: bytes = bytes(20),
    signature: bytes = b"Spec ID Event03\0",
    vendor: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A TCG_PCR_EVENT with a TCG_EfiSpecIDEvent."""
    body = signature + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(sizes))
    body += b"".join(struct.pack("<HH", *item) for item in sizes.items())
    body += bytes([len(vendor)]) + vendor + tail
    return struct.pack("<II", index, kind) + digest + struct.pack("<I", len(body)) + body


def event(
    index: int,
    kind: int,
    body: bytes,
    digest: Sha384 = ONE,
    *,
    sizes: Mapping[int, int] = TPM_BANKS,
) -> bytes:
    """A TCG_PCR_EVENT2 whose other digests are 0xdd bytes."""
    record = struct.pack("<III", index, kind, len(sizes))
    for algorithm, size in sizes.items():
        value = digest.raw if algorithm == SHA384 else b"\xdd" * size
        record += struct.pack("<H", algorithm) + value
    return record + struct.pack("<I", len(body)) + body


LOG = (
    header()
    + event(4, EventType.EV_EFI_ACTION, b"hello")
    + event(7, EventType.EV_SEPARATOR, bytes(4))
)


def tpm(data: bytes) -> tuple[object, ...]:
    return read_log(data, origin="log", target=Target.TPM)


# Values: each file's replay as its project publishes it; see the corpus's README.md.
CORPUS_VALUES = """
gce-cos-113.ccel
3fa2f61f395b7f5feefb4ec2df61297f109ad8abcd6410c1b7df60f21f37b19297fc35e544039c7e1edece752afd17f6
f62dbc072bd5d3f3438b7b35c39a727f5aea2ffc2473f43723953f530daf62504f0a7944aa62c41a86e8a878c2b122c1
4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1
gce-cos-113-dupe-separator.ccel
a4de2df23e9611299123ba4359c42a5e578b0f8488bf1bba8ef5606d9ea5d81c97c064b482a5eac537d166bd0f0f752d
0ee9366c928a77092f55e9e114c7394181fd264699155f0df77d23577618d5f650568a17d379355a07bd846e552f4e20
4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1
ovmf-direct-2gib.ccel
8566f998798db09443b244c62de9a3041fb02e2e6936c4396d784bba2e90177329ec5aba3bb484404f2ab9cc90abe193
775b9f6bfe99f8a31396f0d0218e67ffa796d3b96ccf961cbb0deba48c79c00f082cda1a5567c1c16305f1fc210c13c6
94eaf7a7bf398ed8d888c91057ae0261802e4f3df084213a76ca7f0b5055ac9d2241de43cd58d9e8b49c503bbf25f34a
ovmf-shim-grub.ccel
cec0a104f691f60da2387fea3c2de00c4ac035e2bb479ff02edcce69039d9e9907f0b3e55031da3dc7038f423adebd79
6c289e0c62182d41ebe97bdbc9872d10998a08eaa86adcdc684001a363207ee72942c7522cdf00a4bbc3d784bed7b670
08919d017ba0e52cd6d966351c7de16fe76c1d3d3d3da4554239e4c7d16cb8b82a94e7eaea3a0e6e18eb690b999fd31e
"""
_LINES = CORPUS_VALUES.split()
CORPUS = {_LINES[start]: _LINES[start + 1 : start + 4] for start in range(0, len(_LINES), 4)}
RTMRS = (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2)


@pytest.mark.parametrize("name", CORPUS)
def test_logs_of_real_tds_replay_to_their_registers(corpus: Path, name: str) -> None:
    data = (corpus / "eventlogs" / name).read_bytes()
    values = replay(read_log(data, origin=name, target=Target.CC))
    assert values == {
        register: Exact(Sha384.fromhex(value))
        for register, value in zip(RTMRS, CORPUS[name], strict=True)
    }


def test_no_log_of_the_corpus_is_left_out(corpus: Path) -> None:
    assert {path.name for path in (corpus / "eventlogs").iterdir()} == set(CORPUS)


def test_a_log_replays_to_the_quote_of_the_same_boot(corpus: Path) -> None:
    quote = (corpus / "quotes" / "gce-cos-113.quote").read_bytes()
    # Quote v4: 48 B header, then TDREPORT fields: TCB SVN 16, MRSEAM 48, MRSIGNERSEAM 48, SEAM
    # attributes, TD attributes and XFAM 8 each, MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG, RTMR0-3.
    rtmr0 = 48 + 16 + 2 * 48 + 3 * 8 + 4 * 48
    data = (corpus / "eventlogs" / "gce-cos-113.ccel").read_bytes()
    values = replay(read_log(data, origin="ccel", target=Target.CC))
    for index, register in enumerate(RTMRS):
        start = rtmr0 + 48 * index
        assert values[register] == Exact(Sha384(quote[start : start + 48]))


def test_events_of_a_real_log(corpus: Path) -> None:
    data = (corpus / "eventlogs" / "ovmf-direct-2gib.ccel").read_bytes()
    log = read_log(data, origin="ccel", target=Target.CC)
    assert [(event.register, event.description) for event in log] == [
        ("rtmr0", "Spec ID Event03 (sha384)"),
        ("rtmr0", "TdxTable: TD HOB at 0x809000"),
        ("rtmr0", "Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX) at 0xffc00000 (540672 bytes)"),
        *[("rtmr0", f"{name}: empty") for name in ("SecureBoot", "PK", "KEK", "db", "dbx")],
        ("rtmr0", "separator"),
        *[("rtmr0", "ACPI DATA")] * 3,
        ("rtmr1", "image VenMedia(QEMU kernel loader)/kernel (10854912 bytes)"),
        ("rtmr0", "BootOrder: 0000"),
        ("rtmr0", "Boot0000: 'UiApp' at Fv(OVMF DXE volume)/FvFile(UiApp)"),
        ("rtmr1", "Calling EFI Application from Boot Option"),
        ("rtmr0", "separator"),
        (
            "rtmr2",
            "tag 0x8f3b22ed LOADED_IMAGE::LoadOptions (load options of the EFI stub)",
        ),
        ("rtmr2", "tag 0x8f3b22ec Linux initrd (initrd of the EFI stub)"),
        ("rtmr1", "Exit Boot Services Invocation"),
        ("rtmr1", "Exit Boot Services Returned with Success"),
    ]
    # Of these types, the digest is that of the body.
    for event in log:
        if event.type in {EventType.EV_SEPARATOR, EventType.EV_EFI_ACTION}:
            assert event.digest == Sha384.of(event.data)


def test_a_tpm_log() -> None:
    spec_id, action, separator = read_log(LOG, origin="log", target=Target.TPM)
    assert (spec_id.type, spec_id.digest) == (EventType.EV_NO_ACTION, ZERO)
    assert spec_id.data.startswith(b"Spec ID Event03\0")
    assert (action.register, action.digest, action.data) == (RegisterName.PCR4, ONE, b"hello")
    assert action.origin.input is InputName.LOG
    assert action.origin.where == f"log+{len(header()):#x}"
    assert (separator.register, separator.description) == (RegisterName.PCR7, "separator")


@pytest.mark.parametrize("index", range(5))
def test_registers_of_a_td(index: int) -> None:
    data = header({SHA384: 48}, index=1) + event(index, 4, b"", sizes={SHA384: 48})
    _, read = read_log(data, origin="log", target=Target.CC)
    assert read.register == ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")[index]


@pytest.mark.parametrize(
    "padding",
    [
        b"",
        bytes(1),
        bytes(4000),
        b"\xff",
        b"\xff" * 3,
        b"\xff" * 4,
        b"\xff" * 4000,
        b"\xff" * 4 + bytes(100),
    ],
)
def test_the_unused_rest_of_the_area(padding: bytes) -> None:
    assert tpm(LOG + padding) == tpm(LOG)


def test_a_body_that_ends_in_zeros_is_no_padding() -> None:
    data = LOG + event(1, EventType.EV_IPL, bytes(100)) + bytes(64)
    assert len(tpm(data)) == 4


def test_an_unknown_bank_and_vendor_info() -> None:
    sizes = {0x0099: 7} | SIZES
    data = header(sizes, vendor=b"acme") + event(0, 8, b"", sizes=sizes)
    assert len(tpm(data)) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"log\+0x0: Spec ID register index: needs 4 bytes, 0 are left"),
        (header(index=24), r"log\+0x0: register index: 0x18, while target tpm has 0 to 23"),
        (header(kind=4), r"log\+0x4: Spec ID event type: 0x4 where EV_NO_ACTION"),
        (header(digest=b"\1" * 20), "Spec ID digest: not zero"),
        (header(signature=b"Spec ID Event00\0"), "Spec ID signature"),
        (header({SHA256: 32}), r"has no SHA-384 digests \(algorithms: 0x000b\)"),
        (header({}), r"has no SHA-384 digests \(algorithms: none\)"),
        (header({SHA384: 32}), "digest size: 32 bytes for algorithm 0x000c"),
        (header(tail=b"x"), "Spec ID body: 1 bytes left over"),
        (header()[:40], "Spec ID body: needs"),
        (
            header().replace(struct.pack("<HH", SHA256, 32), struct.pack("<HH", SHA384, 48)),
            "0x000c is listed twice",
        ),
        (header() + event(24, 4, b""), "register index: 0x18, while target tpm has 0 to 23"),
        (header() + event(1, 4, b"", sizes=SIZES), "digest count: 3 digests, of 2 algorithms"),
        (header() + event(1, 4, b"", sizes={SHA1: 20}), "0x0004 is not in the Spec ID event"),
        (header() + event(1, 4, b"", sizes={SHA256: 32}), "the event has no SHA-384 digest"),
        (header() + event(1, 4, b"", sizes={}), "the event has no SHA-384 digest"),
        (
            header() + struct.pack("<IIIH48sH48s", 1, 4, 2, SHA384, b"", SHA384, b""),
            "0x000c comes twice",
        ),
        (header() + struct.pack("<III", 1, 4, 0xFFFFFFFF), "digest count: 4294967295 digests"),
        (
            LOG[:-8] + struct.pack("<I", 0xFFFFFFF0) + bytes(3) + b"x",
            "event body: needs 4294967280",
        ),
        (LOG + b"\xff" * 8 + b"x", "padding after the end of the log: 1 bytes left over"),
        (
            LOG + b"\xff" * 8 + bytes(8) + b"\xff",
            "padding after the end of the log: 1 bytes left over",
        ),
        (LOG + b"\xff\xfe", "register index: needs 4 bytes, 2 are left"),
        (header(signature=b"Spec ID Event02\0"), "a TCG 1.2 log, which has SHA-1 digests only"),
        (header(dict.fromkeys(range(0x100, 0x111), 1)), "17 is more than any TPM has"),
        (LOG + bytes(9) + b"x", "digest count: needs 4 bytes, 2 are left"),
    ],
)
def test_broken_logs(data: bytes, message: str) -> None:
    with pytest.raises(MalformedEventLog, match=message):
        tpm(data)


def test_a_td_has_five_registers() -> None:
    data = header({SHA384: 48}, index=1) + event(5, 4, b"", sizes={SHA384: 48})
    with pytest.raises(MalformedEventLog, match="0x5, while target cc has 0 to 4") as error:
        read_log(data, origin="ccel", target=Target.CC)
    assert error.value.hint == "a TPM's log is read as target tpm, CCEL as target cc"


@given(st.binary(max_size=512), st.sampled_from(Target))
def test_nothing_foreign_from_any_bytes(data: bytes, target: Target) -> None:
    for prefix in (b"", header(), LOG):
        with contextlib.suppress(MalformedEventLog):
            read_log(prefix + data, origin="log", target=target)


@given(st.integers(0, len(LOG) - 1), st.integers(1, 255), st.integers(0, len(LOG)))
def test_nothing_foreign_from_a_changed_or_cut_log(offset: int, change: int, end: int) -> None:
    data = bytearray(LOG)
    data[offset] ^= change
    for broken in (bytes(data), bytes(data[:end]), LOG[:end]):
        with contextlib.suppress(MalformedEventLog):
            tpm(broken)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 23), st.integers(0, 2**32 - 1), st.binary(max_size=64), st.binary()
        )
    )
)
def test_what_is_written_is_read(records: list[tuple[int, int, bytes, bytes]]) -> None:
    data = header() + b"".join(event(i, k, body, Sha384.of(seed)) for i, k, body, seed in records)
    log = read_log(data, origin="log", target=Target.TPM)[1:]
    assert [(e.register, e.type, e.data, e.digest) for e in log] == [
        (f"pcr{i}", k, body, Sha384.of(seed)) for i, k, body, seed in records
    ]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (EventType.EV_IPL, b"\x1b[31mred\n", "EV_IPL (9 bytes)"),
        (EventType.EV_IPL, b"x" * 500, "x" * 100 + "..."),
        (EventType.EV_IPL, b"", "EV_IPL (0 bytes)"),
        (
            EventType.EV_EFI_VARIABLE_BOOT,
            bytes(16) + b"\xff" * 16,
            "EV_EFI_VARIABLE_BOOT (32 bytes)",
        ),
        (EventType.EV_EFI_VARIABLE_BOOT, b"", "EV_EFI_VARIABLE_BOOT (0 bytes)"),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 7, 0), "tag 0x00000007"),
        (EventType.EV_EFI_HANDOFF_TABLES2, b"\x09x", "EV_EFI_HANDOFF_TABLES2 (2 bytes)"),
        (0x12345678, b"abc", "abc"),
        (0x12345678, b"ab\xff", "0x12345678 (3 bytes)"),
    ],
)
def test_descriptions(kind: int, body: bytes, text: str) -> None:
    assert describe(kind, body) == text


@given(st.sampled_from(EventType) | st.integers(0, 2**32 - 1), st.binary(max_size=300))
def test_descriptions_are_safe_to_print(kind: int, body: bytes) -> None:
    text = describe(kind, body)
    assert text
    assert text.isprintable()
