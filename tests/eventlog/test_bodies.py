"""Event bodies: decoded where they are what their type says, shown generically where not."""

from __future__ import annotations

import struct
import tracemalloc
from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mrtd.errors import InputError, MalformedEventLog
from mrtd.eventlog import EventType
from mrtd.eventlog.bodies import Generic, SeparatorBody, TaggedBody, decode
from mrtd.eventlog.certificate import certificate_subject
from mrtd.eventlog.describe import describe
from mrtd.eventlog.device_path import read_device_path
from mrtd.eventlog.gpt import GptBody
from mrtd.eventlog.images import ImageBody
from mrtd.eventlog.no_action import NoActionBody, PlatformId
from mrtd.eventlog.signatures import SignatureLists, read_signature_lists
from mrtd.eventlog.tcg2 import read_log
from mrtd.eventlog.variable_data import BootOrder, LoadOption, VariableBody
from mrtd.registers import Target

END = bytes([0x7F, 0xFF, 4, 0])
SOME_GUID = UUID("12345678-9abc-def0-1122-334455667788")
EFI_GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")


def node(kind: int, subtype: int, data: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def variable(name: str, data: bytes, vendor: UUID = EFI_GLOBAL) -> bytes:
    wide = name.encode("utf-16-le")
    return vendor.bytes_le + struct.pack("<QQ", len(name), len(data)) + wide + data


def option(text: str, path: bytes, optional: bytes = b"", attributes: int = 1) -> bytes:
    wide = f"{text}\0".encode("utf-16-le")
    return struct.pack("<IH", attributes, len(path)) + wide + path + optional


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", ""),
        (END, ""),
        (node(1, 1, b"\2\x1f") + END, "Pci(0x1f,0x2)"),
        (node(1, 3, struct.pack("<IQQ", 11, 0x1000, 0x1FFF)) + END,
         "MemoryMapped(0xb,0x1000,0x1fff)"),
        (node(1, 4, SOME_GUID.bytes_le + b"\1") + END, f"VenHw({SOME_GUID},01)"),
        (node(2, 1, struct.pack("<II", 0x0A0341D0, 0)) + node(1, 1, b"\0\1") + END,
         "PciRoot(0x0)/Pci(0x1,0x0)"),
        (node(2, 1, struct.pack("<II", 0x050141D0, 1)) + END, "Acpi(PNP0501,0x1)"),
        (node(2, 1, struct.pack("<II", 0x12345678, 1)) + END, "Acpi(0x12345678,0x1)"),
        (node(3, 2, struct.pack("<HH", 1, 2)) + END, "Scsi(0x1,0x2)"),
        (node(3, 18, struct.pack("<HHH", 0, 0xFFFF, 0)) + END, "Sata(0x0,0xffff,0x0)"),
        (node(3, 5, b"\3\0") + END, "USB(0x3,0x0)"),
        (node(3, 23, struct.pack("<IQ", 1, 0x0102030405060708)) + END,
         "NVMe(0x1,01-02-03-04-05-06-07-08)"),
        (node(3, 11, bytes.fromhex("525400123456") + bytes(26) + b"\1") + END,
         "MAC(525400123456,0x1)"),
        (node(3, 12, IPv4Address("10.0.2.15").packed + IPv4Address("10.0.2.2").packed + bytes(11))
         + END, "IPv4(10.0.2.2,local 10.0.2.15)"),
        (node(3, 13, bytes(15) + b"\1" + bytes(15) + b"\2" + bytes(28)) + END,
         "IPv6(::2,local ::1)"),
        (node(3, 24, b"http://boot/uki.efi") + END, "Uri(http://boot/uki.efi)"),
        (node(4, 1, struct.pack("<IQQ", 1, 0x800, 0x1000) + SOME_GUID.bytes_le + b"\2\2") + END,
         f"HD(1,GPT,{SOME_GUID},0x800,0x1000)"),
        (node(4, 1, struct.pack("<IQQ", 1, 1, 2) + b"\x78\x56\x34\x12" + bytes(12) + b"\1\1") + END,
         "HD(1,MBR,12345678,0x1,0x2)"),
        (node(4, 4, "\\EFI\\BOOT\0".encode("utf-16-le")) + END, "\\EFI\\BOOT"),
        (node(1, 1, b"\0\1") + node(0x7F, 1) + node(1, 1, b"\0\2") + END,
         "Pci(0x1,0x0)/,/Pci(0x2,0x0)"),
        (node(9, 9, b"\xab") + END, "Path(9,9,ab)"),
        (node(1, 1, b"\2") + END, "Path(1,1,02)"),
    ],
)  # fmt: skip
def test_device_paths(path: bytes, text: str) -> None:
    assert str(read_device_path(path, origin="path", error=MalformedEventLog)) == text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (node(1, 1, b"\0\0"), "no end node"),
        (bytes([1, 1, 3, 0]), "3 is less than its header"),
        (bytes([1, 1, 9, 0]), "needs 5 bytes, 0 are left"),
        (node(9, 9) * 129 + END, "more than 128 nodes"),
    ],
)
def test_broken_device_paths(path: bytes, message: str) -> None:
    with pytest.raises(MalformedEventLog, match=message):
        read_device_path(path, origin="path", error=MalformedEventLog)


def test_a_boot_option_with_two_paths() -> None:
    path = node(4, 4, "a\0".encode("utf-16-le")) + END
    body = decode(EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0003", option("x", path * 2, b"z")))
    assert body.remark == ""
    assert isinstance(body.body, VariableBody)
    assert isinstance(body.body.value, LoadOption)
    assert [str(p) for p in body.body.value.paths] == ["a", "a"]
    assert body.body.value.optional_data == b"z"


SHA256_TYPE = UUID("c1c41626-504c-4092-aca9-41f936934328")
DBX = SHA256_TYPE.bytes_le + struct.pack("<III", 76, 0, 48) + SOME_GUID.bytes_le + b"\7" * 32


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("SecureBoot", b"", "SecureBoot: empty"),
        ("SecureBoot", b"\1", "SecureBoot: on"),
        ("SecureBoot", b"\0", "SecureBoot: off"),
        ("SecureBoot", b"\7", "SecureBoot: 0x07"),
        ("BootOrder", b"\2\0\1\0", "BootOrder: 0002, 0001"),
        ("SbatLevel", b"sbat,1\n", "SbatLevel: sbat,1\\n"),
        ("Wide", "wide \u00ff".encode("utf-16-le"), "Wide: wide \u00ff"),
        ("dbx", DBX * 2, "dbx: 2 x SHA-256 digest"),
        ("Boot0000", option("Shell", b"", attributes=0), "Boot0000: 'Shell', inactive"),
        ("Other", b"\xff\xfe\xfd", "Other: 3 bytes"),
        ("a\x1b", b"\0\0\1", "a\\x1b: 3 bytes"),
    ],
)
def test_variables(name: str, data: bytes, text: str) -> None:
    assert describe(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable(name, data)) == text


@pytest.mark.parametrize(
    ("name", "data", "remark"),
    [
        ("BootOrder", b"\1", "1 bytes left over"),
        ("BootOrder", bytes(2050), "1025 options"),
        ("Boot0000", b"\1\0\0\0\0\0x", "text without an end"),
        ("Boot0000", option("x", END)[:-1], "needs 4 bytes, 3 are left"),
        ("Boot0000", option("x", node(1, 1)), "no end node"),
        ("Boot0000", option("x", END * 17), "more than 16 device paths"),
        ("db", b"\0" * 28, "signature size"),
        ("db", DBX[:-1], "needs 48 bytes"),
    ],
)
def test_a_variable_that_breaks_its_own_format_is_kept(name: str, data: bytes, remark: str) -> None:
    found = decode(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable(name, data))
    assert isinstance(found.body, VariableBody)
    assert (found.body.data, found.body.value) == (data, None)
    assert remark in found.remark


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def certificate(*names: bytes, version: bool = True) -> bytes:
    head = [der(0xA0, der(2, b"\2"))] if version else []
    issuer = der(0x30, der(0x31, der(0x30, der(6, b"\x55\4\3"), der(12, b"issuer"))))
    fill = der(4, bytes(300))
    return der(0x30, der(0x30, *head, der(2, b"\1"), der(0x30), issuer, der(0x30),
                         der(0x30, *names), fill))  # fmt: skip


def name_part(identifier: bytes, text: bytes, tag: int = 12) -> bytes:
    return der(0x31, der(0x30, der(6, identifier), der(tag, text)))


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        (certificate(name_part(b"\x55\4\x0a", b"Acme"), name_part(b"\x55\4\3", b"CA 1")), "CA 1"),
        (certificate(name_part(b"\x55\4\x0a", b"Acme"), version=False), "Acme"),
        (certificate(name_part(b"\x55\4\3", "CA".encode("utf-16-be"), 0x1E)), "CA"),
        (certificate(), ""),
        (certificate()[:40], ""),
        (b"\x30\x80", ""),
        (b"\x04\x00", ""),
    ],
)
def test_the_subject_of_a_certificate(data: bytes, subject: str) -> None:
    assert certificate_subject(data) == subject


def test_a_database_names_its_certificates_and_counts_its_digests() -> None:
    x509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
    cert = certificate(name_part(b"\x55\4\3", b"CA 1"))
    size = 16 + len(cert)
    entry = x509.bytes_le + struct.pack("<III", 28 + size, 0, size) + SOME_GUID.bytes_le + cert
    assert str(read_signature_lists(entry + DBX)) == "CA 1, 1 x SHA-256 digest"
    assert "..." in str(read_signature_lists(entry * 9))
    assert str(SignatureLists(())) == "empty"
    both = [variable("db", SOME_GUID.bytes_le + cert), variable("Shim", cert)]
    texts = [describe(EventType.EV_EFI_VARIABLE_AUTHORITY, body) for body in both]
    assert texts == ["db: CA 1", "Shim: CA 1"]


def gpt(names: list[str], *, size: int = 128, count: int | None = None) -> bytes:
    head = b"EFI PART" + bytes(48) + SOME_GUID.bytes_le + bytes(12) + struct.pack("<II", size, 0)
    entries = b"".join(
        SOME_GUID.bytes_le * 2
        + struct.pack("<QQQ", 34, 99, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for name in names
    )
    return head + struct.pack("<Q", len(names) if count is None else count) + entries


def test_a_partition_table() -> None:
    body = decode(EventType.EV_EFI_GPT_EVENT, gpt(["EFI", ""])).body
    assert isinstance(body, GptBody)
    assert [(p.name, p.first_block, p.last_block) for p in body.partitions] == [
        ("EFI", 34, 99),
        ("", 34, 99),
    ]
    assert str(body) == f"GPT of disk {SOME_GUID}: 2 partitions (EFI, {SOME_GUID})"
    assert str(decode(EventType.EV_EFI_GPT_EVENT, gpt(["a"] * 17)).body).endswith("a, ...)")


@pytest.mark.parametrize(
    ("body", "remark"),
    [
        (b"EFI PARX" + bytes(100), "is not 'EFI PART'"),
        (gpt(["a"], size=64), "64 where 128 or more"),
        (gpt(["a"], count=2**63), "number of partitions"),
        (gpt(["a"])[:-1], "number of partitions"),
        (gpt([])[:60], "needs"),
    ],
)
def test_broken_partition_tables(body: bytes, remark: str) -> None:
    found = decode(EventType.EV_EFI_GPT_EVENT, body)
    assert isinstance(found.body, Generic)
    assert remark in found.remark


TABLE = SOME_GUID.bytes_le + struct.pack("<Q", 0x1000)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, struct.pack("<QQQQ", 1, 2, 3, 0),
         "image no device path: loaded from memory (2 bytes)"),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, struct.pack("<QQ", 0x800000, 16),
         "firmware blob at 0x800000 (16 bytes)"),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"\3abc" + struct.pack("<QQ", 1, 2),
         "abc at 0x1 (2 bytes)"),
        (EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
         b"\x28Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)" + struct.pack("<QQ", 1, 2),
         "firmware volume OVMF DXE volume at 0x1 (2 bytes)"),
        (EventType.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 1) + TABLE,
         f"tables: {SOME_GUID} at 0x1000"),
        (EventType.EV_EFI_HANDOFF_TABLES2, b"\1x" + struct.pack("<Q", 5) + TABLE * 5,
         "x: " + f"{SOME_GUID} at 0x1000, " * 4 + "..."),
        (EventType.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 0), "tables: none"),
        (EventType.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 2) + TABLE,
         "EV_EFI_HANDOFF_TABLES (32 bytes)"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", "ACPI DATA"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"QEMU FW CFG\0" + b"bootorder".ljust(56, b"\0"),
         "QEMU FW CFG bootorder"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"td_payload_info\0" + struct.pack("<I", 3) + b"abc",
         "td-shim td_payload_info (3 bytes)"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"\xff\xfe", "EV_PLATFORM_CONFIG_FLAGS (2 bytes)"),
        (EventType.EV_IPL, "quiet splash\0".encode("utf-16-le"), "quiet splash"),
        (EventType.EV_IPL, b"grub_cmd: linux /vmlinuz\0", "grub_cmd: linux /vmlinuz"),
        (EventType.EV_EVENT_TAG, b"LOADED_IMAGE::LoadOptions\0", "LOADED_IMAGE::LoadOptions"),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 7, 9) + b"x", "EV_EVENT_TAG (9 bytes)"),
        (EventType.EV_SEPARATOR, b"\xff" * 4, "separator ffffffff"),
        (EventType.EV_SEPARATOR, b"\1\0\0\0", "error separator 01000000"),
        (EventType.EV_S_CRTM_VERSION, "1.0\0".encode("utf-16-le"), "1.0"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0\3", "TPM started from locality 3"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0", "EV_NO_ACTION (16 bytes)"),
        (EventType.EV_NO_ACTION, b"vendor's own\0\xff", "vendor's own"),
        (EventType.EV_NO_ACTION, b"SP800-155 Event\0" + bytes(4) + SOME_GUID.bytes_le,
         f"SP800-155 Event: {SOME_GUID}"),
    ],
)  # fmt: skip
def test_what_bodies_say(kind: EventType, body: bytes, text: str) -> None:
    assert describe(kind, body) == text


def test_a_platform_id() -> None:
    strings = [b"Google\0", b"GCE\0", b"1\0", b"Google, Inc.\0"]
    body = b"SP800-155 Event3" + struct.pack("<I", 11129) + SOME_GUID.bytes_le
    body += b"".join(bytes([len(s)]) + s for s in strings) + bytes(4) + b"\x02v\0" + bytes(40)
    found = decode(EventType.EV_NO_ACTION, body)
    assert isinstance(found.body, NoActionBody)
    assert found.body.content == PlatformId(
        11129, str(SOME_GUID), ("Google", "GCE", "1", "Google, Inc.", "v")
    )
    assert str(found.body) == "SP800-155 Event3: Google GCE 1 Google, Inc. v"


def test_separators_report_errors() -> None:
    assert not SeparatorBody(bytes(4)).is_error
    assert not SeparatorBody(b"\xff" * 4).is_error
    assert SeparatorBody(b"\5\0\0\0").is_error


def test_a_tag_without_header() -> None:
    assert decode(EventType.EV_EVENT_TAG, b"Linux initrd\0").body == TaggedBody(
        None, b"Linux initrd\0"
    )


def test_every_body_of_real_logs_is_understood(corpus: Path) -> None:
    seen = 0
    for path in (corpus / "eventlogs").iterdir():
        for event in read_log(path.read_bytes(), origin=path.name, target=Target.CC):
            found = decode(event.type, event.data)
            assert found.remark == ""
            assert not isinstance(found.body, Generic), event
            seen += 1
    assert seen == 147


def test_what_a_real_boot_started(corpus: Path) -> None:
    data = (corpus / "eventlogs" / "ovmf-shim-grub.ccel").read_bytes()
    log = read_log(data, origin="ccel", target=Target.CC)
    paths = [
        str(body.path).rpartition("/")[2]
        for body in (decode(event.type, event.data).body for event in log)
        if isinstance(body, ImageBody)
    ]
    assert paths == [
        "\\EFI\\BOOT\\BOOTX64.EFI",
        "\\EFI\\BOOT\\fbx64.efi",
        "\\EFI\\ubuntu\\shimx64.efi",
        "\\EFI\\ubuntu\\grubx64.efi",
        "",
    ]
    told = [event.description for event in log]
    assert "db: Microsoft Windows Production PCA 2011, Microsoft Corporation UEFI CA 2011" in told
    orders = [body.value for body in (decode(e.type, e.data).body for e in log)
              if isinstance(body, VariableBody) and body.name == "BootOrder"]  # fmt: skip
    assert orders == [BootOrder((1, 0))]


BODIES = (
    variable("db", DBX),
    variable("Boot0000", option("x", node(4, 4, b"a\0\0\0") + END)),
    gpt(["a"]),
    struct.pack("<QQQQ", 1, 2, 3, 4) + END,
)


@given(st.sampled_from(EventType), st.binary(max_size=400), st.sampled_from(BODIES), st.data())
@example(EventType.EV_IPL, b"\xd8\xd8\0\0", b"", None)
def test_no_body_is_unreadable(
    kind: EventType, noise: bytes, body: bytes, data: st.DataObject | None
) -> None:
    cut = 0 if data is None else data.draw(st.integers(0, len(body)))
    for content in (noise, body[:cut] + noise, body[:cut] + noise + body[cut + len(noise) :]):
        text = describe(kind, content)
        assert text.isprintable()
        assert 0 < len(text) < 2000


SIZE = 1 << 16


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0000", option("x", END * 16_000))),
        (EventType.EV_EFI_VARIABLE_BOOT, variable("BootOrder", bytes(SIZE))),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", SOME_GUID.bytes_le
         + struct.pack("<III", 28 + 17 * 4000, 0, 17) + bytes(17 * 4000))),
        (EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("x" * SIZE, b"")),
        (EventType.EV_EFI_GPT_EVENT, gpt([""] * 512)),
        (EventType.EV_EFI_GPT_EVENT, gpt([], count=2**64 - 1)),
        (EventType.EV_EFI_HANDOFF_TABLES, struct.pack("<Q", 2700) + TABLE * 2700),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
         struct.pack("<QQQQ", 1, 2, 3, 16_000 * 4) + node(9, 9) * 16_000),
        (EventType.EV_IPL, b"\x1b" * SIZE),
        (EventType.EV_IPL, b"a\0" * SIZE),
        (EventType.EV_IPL, b"\xff" * SIZE),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 1, SIZE) + bytes(SIZE)),
    ],
)  # fmt: skip
def test_memory_of_a_hostile_body_is_bounded(kind: EventType, body: bytes) -> None:
    describe(kind, body)  # imports
    tracemalloc.start()
    describe(kind, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * len(body) + 20_000


@given(st.binary(max_size=200))
def test_device_paths_raise_only_what_was_asked_for(data: bytes) -> None:
    class Wanted(InputError):
        pass

    try:
        found = read_device_path(data, origin="path", error=Wanted)
    except Wanted:
        return
    assert str(found).isprintable()
