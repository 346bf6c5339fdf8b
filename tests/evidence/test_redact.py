"""Redaction: planted identifiers and secrets are in no byte of the result, the rest still reads."""

from __future__ import annotations

import base64
import json
import tomllib
import uuid
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.quotes import Signatures, build_quote, certification, enclave_report
from mrtd.evidence.bundle import Bundle, bundle_of, encode_bundle
from mrtd.evidence.identifiers import Blanker, find, kind_of_name
from mrtd.evidence.manifest import MEMBERS
from mrtd.evidence.quote import read_quote
from mrtd.evidence.redact import redact

SECRET: Final = "hunter2-Zebra"  # noqa: S105 - planted
HOST: Final = "frobnicator"
USER: Final = "aldebaran"
MAC: Final = "52:54:00:ab:cd:ef"
ADDRESS: Final = "192.0.2.77"
ADDRESS6: Final = "2001:db8:77::1"
DISK: Final = "6f3c9a7e-1111-4222-8333-944455556666"
SERIAL: Final = "SN-77-QUUX"
MACHINE: Final = uuid.UUID("0fedcba9-8765-4321-8888-0123456789ab")
PLANTED: Final = (SECRET, HOST, USER, MAC, ADDRESS, ADDRESS6, DISK, SERIAL, str(MACHINE))

CMDLINE: Final = (
    f"console=ttyS0 root=UUID={DISK} rd.luks.password={SECRET} ip={ADDRESS}::192.0.2.1 "
    f"systemd.hostname={HOST} ifname=eth0:{MAC} dns6={ADDRESS6} log=/home/{USER}/log quiet"
)


def in_any_spelling(text: str, data: bytes) -> bool:
    """Whether data hold a text: as ASCII, as UTF-16, or as hex digits of one of them."""
    low = data.lower()
    raw = (text.lower().encode(), text.lower().encode("utf-16-le"))
    return any(one in low for one in raw) or any(
        form.encode(coding).hex().encode() in low
        for form in (text, text.lower())
        for coding in ("ascii", "utf-16-le")
    )


def smbios() -> bytes:
    def structure(kind: int, body: bytes, *strings: str) -> bytes:
        head = bytes((kind, 4 + len(body), kind, 0))
        return head + body + (b"".join(s.encode() + b"\0" for s in strings) or b"\0") + b"\0"

    system = bytes((1, 2, 0, 3)) + MACHINE.bytes_le + bytes((6, 0, 0))
    return b"".join(
        (
            structure(0, bytes(20), "a vendor"),
            structure(1, system, "QEMU", "Standard PC", SERIAL),
            structure(3, bytes((1, 3, 0, 2)), "QEMU", SERIAL),
            structure(11, b"\x02", "io.systemd.credential:x=" + SECRET, f"host={HOST}"),
            structure(17, bytes(0x14) + b"\x01\x02", f"{SERIAL}-DIMM", "asset-77"),
            structure(200, b"\x01secretbody", SERIAL),
            structure(127, b""),
        )
    )


def log() -> bytes:
    """Bodies of events: load options in UTF-16, GRUB's text, a boot option with a device path."""
    body = CMDLINE.encode("utf-16-le") + b"\0\0"
    boot = "UEFI PXEv4 (MAC:525400ABCDEF)".encode("utf-16-le") + b"\0\0"
    node = b"\x03\x0b\x25\x00" + bytes.fromhex(MAC.replace(":", "")) + bytes(27)
    return bytes(range(100)) + body + b"\1" + body + CMDLINE.encode() + b"\0" + boot + node


def document() -> bytes:
    fields = {
        "schema": "mrtd.measurement/1",
        "events": [
            {"data": CMDLINE.encode("utf-16-le").hex(), "digest": "ab" * 48, "register": "rtmr2"}
        ],
        "inputs": [{"key": "boot.kernel", "name": f"/home/{USER}/vmlinuz"}],
        "spec": {"boot": {"cmdline": CMDLINE}, "fw_cfg": {"opt/example/token": SECRET}},
    }
    return json.dumps(fields).encode()


SPEC: Final = f"""\
schema = "mrtd.launch/1"
[machine]
memory = "2 GiB"
devices = ["virtio-net-pci,netdev=n0,mac={MAC}", "virtio-blk-pci,drive=d,serial={SERIAL}"]
fw_cfg = {{ "opt/example/api-token" = "{SECRET}" }}
[boot]
kernel = "/home/{USER}/vmlinuz"
cmdline = "{CMDLINE} passphrase=\\"two {SECRET} words\\""
"""


def claims_token() -> bytes:
    claims = {"tdx_mrtd": "ab" * 48, "attester_tcb_status": "UpToDate", "sub": HOST}
    claims |= {"tdx_report_data": "77" * 64, "attester_held_data": SECRET}
    parts = [json.dumps(part).encode() for part in ({"alg": "PS384"}, claims)]
    return b".".join([*(base64.urlsafe_b64encode(p).rstrip(b"=") for p in parts), b"c2lnbmF0dXJl"])


PPID: Final = b"\xd1" * 16
QE_ID: Final = b"\xee" * 16
KEYS: Final = (b"\xa1" * 64, b"\xa2" * 64, b"\xa3" * 64, b"\xa4" * 32, b"\xa5" * 64)


def quote(version: int = 4, kind: int = 5) -> bytes:
    """A quote in which everything that identifies its platform has a value of its own."""
    pem = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n"
    bodies = {5: pem % base64.b64encode(PPID * 40), 1: PPID + bytes(20), 7: PPID * 5}
    signature, key, qe_signature, authentication, report_data = KEYS
    return build_quote(
        version=version,
        signatures=Signatures(
            signature=signature,
            key=key,
            qe_report=enclave_report(report_data=report_data),
            qe_signature=qe_signature,
            authentication_data=authentication,
            inner=certification(kind, bodies[kind]),
        ).encode(),
    )


@pytest.fixture
def planted() -> Bundle:
    return bundle_of(
        {
            "tdx/quote": quote(),
            "log/CCEL": log(),
            "log/binary_bios_measurements": log(),
            "dmi/DMI": smbios(),
            "fw_cfg/etc/smbios/smbios-tables": smbios() + bytes(7),
            "fw_cfg/bootorder": f"/pci@i0cf8/ethernet@2 host={HOST}\n".encode(),
            "proc/cmdline": CMDLINE.encode(),
            "proc/uname": f"Linux {HOST} 6.12.0 #1 SMP x86_64".encode(),
            "collector/messages": f"tdx/quote: no /home/{USER}/x on {HOST} {MACHINE}\n".encode(),
            "token.jwt": claims_token(),
            "launch.toml": SPEC.encode(),
            "measurement.json": document(),
            "pcr-sha384/0": b"00" * 48,
        }
    )


def test_nothing_planted_is_in_any_byte(planted: Bundle) -> None:
    result, removed = redact(planted)
    data = encode_bundle(result)
    for text in PLANTED:
        assert in_any_spelling(text, encode_bundle(planted)), text
        assert not in_any_spelling(text, data), text
        assert not any(in_any_spelling(text, line.encode()) for line in removed)
    for raw in (PPID, QE_ID, *KEYS, MACHINE.bytes, MACHINE.bytes_le, bytes.fromhex("525400abcdef")):
        assert raw[:8] not in data
    assert base64.b64encode(PPID * 3)[:40] not in data
    assert b"525400ABCDEF" not in data.replace(b"\0", b"")


def test_it_says_what_it_removed(planted: Bundle) -> None:
    result, removed = redact(planted)
    said = dict(line.split(": ", 1) for line in removed)
    assert result.redacted == removed
    assert "the signature no longer verifies" in said["tdx/quote"]
    assert said["dmi/DMI"] == "serial numbers, UUID, asset tags, OEM strings"
    assert "the digests are those of the original bodies" in said["log/CCEL"]
    assert "removed whole" in said["token.jwt"]
    assert "2 claims are kept in token-claims.json" in said["token.jwt"]
    assert "host name (1)" in said["proc/uname"]
    untouched = {"pcr-sha384/0"}
    assert set(said) == set(planted.files) - untouched


def test_the_rest_can_still_be_read(planted: Bundle) -> None:
    files = redact(planted)[0].files
    assert [*files] == [
        n for n in MEMBERS if n in {*planted.files, "token-claims.json"} - {"token.jwt"}
    ]
    assert (
        read_quote(files["tdx/quote"], origin="redacted").report
        == read_quote(planted.files["tdx/quote"], origin="planted").report
    )
    spec = tomllib.loads(files["launch.toml"].decode())
    assert spec["machine"]["memory"] == "2 GiB"
    assert spec["machine"]["devices"][0] == "virtio-net-pci,netdev=n0,mac=xxxxxxxxxxxxxxxxx"
    assert spec["boot"]["cmdline"].startswith("console=ttyS0 root=UUID=xxxxxxxx")
    found = json.loads(files["measurement.json"])
    assert found["events"][0]["digest"] == "ab" * 48
    assert found["inputs"][0] == {"key": "boot.kernel", "name": f"/home/{'x' * 9}/vmlinuz"}
    assert bytes.fromhex(found["events"][0]["data"]).decode("utf-16-le").startswith("console=ttyS0")
    claims = json.loads(files["token-claims.json"])
    assert claims == {"tdx_mrtd": "ab" * 48, "attester_tcb_status": "UpToDate"}
    for name in ("log/CCEL", "dmi/DMI", "tdx/quote", "proc/cmdline"):
        assert len(files[name]) == len(planted.files[name])
    assert files["log/CCEL"][:100] == bytes(range(100))
    assert b"Standard PC" in files["dmi/DMI"]


def test_redacting_twice_changes_nothing(planted: Bundle) -> None:
    once, _ = redact(planted)
    twice, removed = redact(once)
    assert removed == ()
    assert twice == once


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("kind", [1, 5, 7])
def test_quotes_of_every_certification(version: int, kind: int) -> None:
    data = quote(version, kind)
    (name,) = redact(bundle_of({"tdx/quote": data}))[0].files
    result = redact(bundle_of({"tdx/quote": data}))[0].files[name]
    for raw in (PPID, QE_ID, *KEYS):
        assert raw[:8] in data.replace(base64.b64encode(PPID * 40), PPID)
        assert raw[:8] not in result
    assert len(result) == len(data)
    assert read_quote(result, origin="x").report == read_quote(data, origin="x").report


@pytest.mark.parametrize("name", ["gce-cos-113.quote", "spr-v4.quote", "v5-sample.quote"])
def test_real_quotes(corpus: Path, name: str) -> None:
    data = (corpus / "quotes" / name).read_bytes()
    result = redact(bundle_of({"tdx/quote": data}))[0].files["tdx/quote"]
    quote = read_quote(result, origin=name)
    assert result[48:600] == data[48:600]
    assert set(quote.signature + quote.attestation_key + quote.header.user_data) == {0}
    assert b"-----BEGIN CERTIFICATE-----\nAAAA" in result
    assert data.count(b"BEGIN CERT") > 1
    assert result.count(b"BEGIN CERT") == 1


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("tdx/quote", b"no quote at all", "it cannot be read"),
        ("dmi/DMI", b"\x01\x02", "it cannot be read"),
        ("measurement.json", b"{", "it is no JSON"),
        ("measurement.json", b'{"a":' * 900 + b"1" + b"}" * 900, "removed whole"),
    ],
)
def test_what_nobody_can_read_is_removed(name: str, data: bytes, why: str) -> None:
    result, removed = redact(bundle_of({name: data}))
    assert result.files == {}
    assert why in removed[0]


def test_a_bundle_without_identifiers_stays_as_it_is() -> None:
    bundle = bundle_of(
        {"proc/cmdline": b"console=ttyS0 panic=-1 initrd=initrd", "log/CCEL": b"abc"}
    )
    assert redact(bundle) == (bundle, ())


@pytest.mark.parametrize(
    ("text", "blanked"),
    [
        ('password="two words" x', 'password="xxxxxxxxx" x'),
        ("password='two words' x", "password='xxxxxxxxx' x"),
        ('password="never ends', 'password="xxxxxxxxxx'),
        ("luks.key=a=b=c next", "luks.key=xxxxx next"),
        ("a=b=password=qwertz,next", "a=b=password=xxxxxx,next"),
        ("http://me:pw@box.example/x", "http://xxxxxxxxxxxxxxxxx/x"),
        ("https://github.com/tianocore/edk2", "https://github.com/tianocore/edk2"),
        ("mail to me@box.example now", "mail to xxxxxxxxxxxxxx now"),
        ("eyJhbGciOi.eyJzdWIiOi.c2ln", "xxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("addr 10.0.0.1/24", "addr xxxxxxxx/24"),
        ("addr 127.0.0.1 0.0.0.0 ::1 ::", "addr 127.0.0.1 0.0.0.0 ::1 ::"),
        ("version 1.2.3 6.12.94-1 300.1.2.3", "version 1.2.3 6.12.94-1 300.1.2.3"),
        ("keymap=us iommu=pt console=ttyS0,115200", "keymap=us iommu=pt console=ttyS0,115200"),
        ("password=pässwörd-ü x", "password=xxxxxxxxxx x"),
    ],
)
def test_texts(text: str, blanked: str) -> None:
    assert Blanker(()).text(text)[0] == blanked


def test_names() -> None:
    for name in ("Password", "rd.luks.key", "API_KEY", "apiToken", "x-secret-y", "user.pin"):
        assert kind_of_name(name) == "secret", name
    for name in ("console", "keymap", "kernel", "initrd", "bypass", "monkey"):
        assert kind_of_name(name) is None, name


@given(
    st.text(st.characters(codec="latin-1"), max_size=200),
    st.text("abcXYZ0129=\"'\\ .:/-", max_size=99),
)
def test_lengths_stay(text: str, more: str) -> None:
    for one in (text, more, f"password={more}{text}"):
        blanked, _ = Blanker((f.kind, f.text) for f in find(one)).text(one)
        assert len(blanked) == len(one)


@pytest.mark.parametrize("part", ["a=", "eyJ", "a.", "key=", ":", "1.", "a@a.", 'key="', "/home/"])
def test_no_text_takes_long(part: str) -> None:
    """Quadratic searching would exceed the test's time limit."""
    text = part * (400_000 // len(part))
    assert len(Blanker(()).text(text)[0]) == len(text)


@given(st.dictionaries(st.sampled_from(list(MEMBERS)), st.binary(max_size=200), max_size=6))
def test_any_bundle_can_be_redacted(files: dict[str, bytes]) -> None:
    result, _ = redact(bundle_of(files))
    assert set(result.files) <= {*files, "token-claims.json"}
