"""Which entry of db lets an image start, with certificates and signatures made here.

The signatures are PKCS #7 as ``cryptography`` makes them; those of sbsign and Microsoft are read in
the boots of ``tests/ci``.
"""

from __future__ import annotations

import datetime as dt
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fixtures.bzimage import build_bzimage, win_certificate
from mrtd.boot.authenticode_signature import read_certificate, read_signatures
from mrtd.boot.chain import Chain
from mrtd.boot.pe import authenticode_digest
from mrtd.boot.secure_boot import Allowed, SecureBootPolicy
from mrtd.boot.shim import verify_with_shim
from mrtd.errors import MalformedKernel, SpecError
from mrtd.eventlog import EventType
from mrtd.firmware.guids import IMAGE_SECURITY_DATABASE, guid
from mrtd.firmware.variables import Variable, variable_data
from mrtd.registers import Target, Unpinned
from tests.esp import FACTS, KERNEL, of, pe_image, started, uki
from tests.strategies import mutated, refused

OWNER = guid("77fa9abd-0359-4d32-bd60-28f4e78f784b")
X509 = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = guid("c1c41626-504c-4092-aca9-41f936934328")
X509_SHA256 = guid("3bd2a492-96c0-4079-b420-fcf98ef103ed")
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey


@cache
def issued(name: str, issuer: str, serial: int) -> tuple[Key, x509.Certificate]:
    """A key and its certificate; its issuer's name is its own for a root."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = key if issuer == name else issued(issuer, issuer, 1)[0]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
    built = x509.CertificateBuilder(
        names[1], names[0], key.public_key(), serial, START, START + dt.timedelta(days=9)
    )
    return key, built.sign(signer, hashes.SHA256())


def der(name: str, issuer: str, serial: int = 1) -> bytes:
    return issued(name, issuer, serial)[1].public_bytes(serialization.Encoding.DER)


CA = der("CA", "CA")


@cache
def signature() -> bytes:
    key, certificate = issued("signer", "CA", 7)
    builder = pkcs7.PKCS7SignatureBuilder().set_data(b"digest")
    builder = builder.add_signer(certificate, key, hashes.SHA256())
    builder = builder.add_certificate(issued("CA", "CA", 1)[1])
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.NoAttributes])


SIGNED = build_bzimage(certificate=win_certificate(signature()))
UNSIGNED = build_bzimage()


def database(*entries: tuple[bytes, bytes]) -> bytes:
    """EFI_SIGNATURE_LISTs of one entry each: type and data."""
    lists = b""
    for kind, data in entries:
        size = 16 + len(data)
        numbers = (28 + size, 0, size)
        lists += kind + b"".join(n.to_bytes(4, "little") for n in numbers) + OWNER + data
    return lists


def authority(
    image: bytes, db: bytes, dbx: bytes = b"", *, required: bool = True
) -> Allowed | None:
    policy = SecureBootPolicy(db, dbx, origin="store")
    return policy.authority(memoryview(image), "image", required=required)


@pytest.mark.parametrize("trusted", [CA, der("signer", "CA", 7)], ids=["issuer", "signer itself"])
def test_the_certificate_in_the_chain_is_measured_with_its_owner(trusted: bytes) -> None:
    db = database((X509, der("other", "other")), (X509, trusted))
    found = authority(SIGNED, db)
    assert found is not None
    body = variable_data(Variable(IMAGE_SECURITY_DATABASE, "db", OWNER + trusted))
    assert found.variable == body


def test_the_first_certificate_of_db_that_fits_counts() -> None:
    signer = der("signer", "CA", 7)
    for entries in (((X509, CA), (X509, signer)), ((X509, signer), (X509, CA))):
        found = authority(SIGNED, database(*entries))
        assert found is not None
        assert isinstance(found.variable, bytes)
        assert found.variable.endswith(entries[0][1])


def test_certificates_of_one_name_are_not_chosen_between() -> None:
    db = database((X509, CA), (X509, der("CA", "CA", 2)))
    found = authority(SIGNED, db)
    assert found is not None
    assert isinstance(found.variable, Unpinned)


@pytest.mark.parametrize("image", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
def test_an_image_may_be_allowed_by_its_digest(image: bytes) -> None:
    digest = authenticode_digest(memoryview(image), "sha256", origin="x")
    found = authority(image, database((SHA256, digest)))
    assert found is not None
    assert isinstance(found.variable, bytes)
    assert found.variable.endswith(OWNER + digest)


@pytest.mark.parametrize(
    ("image", "message"),
    [(SIGNED, "no certificate in db signed it"), (UNSIGNED, "it is not signed")],
)
def test_what_nothing_allows_is_refused(image: bytes, message: str) -> None:
    db = database((X509, der("other", "other")))
    with pytest.raises(SpecError, match=message):
        authority(image, db)
    assert authority(image, db, required=False) is None


def revocations() -> dict[str, bytes]:
    body = read_certificate(CA, origin="x").body_digest("sha256")
    image = authenticode_digest(memoryview(SIGNED), "sha256", origin="x")
    return {
        "digest": database((SHA256, image)),
        "certificate": database((X509, CA)),
        "body of a certificate": database((X509_SHA256, body + bytes(16))),
    }


@pytest.mark.parametrize("what", ["digest", "certificate", "body of a certificate"])
def test_dbx_goes_before_db(what: str) -> None:
    with pytest.raises(SpecError, match="Secure Boot forbids it"):
        authority(SIGNED, database((X509, CA)), revocations()[what])


def test_each_authority_is_measured_once_and_before_its_image() -> None:
    policy = SecureBootPolicy(database((X509, CA)), b"", origin="store")
    boot = pe_image((".sdmagic", b"#### LoaderInfo: systemd-boot 257.13 ####"))
    files = {"loader/entries/k.conf": b"linux /k.efi\n", "k.efi": SIGNED}
    chain = started(boot, files=files, policy=policy)
    assert [e.type for e in of(chain, "pcr7")] == [EventType.EV_EFI_VARIABLE_AUTHORITY]
    types = [event.type for event in chain.recorder.events]
    assert types.index(EventType.EV_EFI_VARIABLE_AUTHORITY) < types.index(
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    )


def test_under_secure_boot_a_uki_keeps_its_command_line_and_loads_no_image() -> None:
    policy = SecureBootPolicy(database((X509, CA)), b"", origin="store")
    image = uki((".cmdline", b"mine"), (".linux", KERNEL))
    unsigned = pe_image((".cmdline", b"addon"))
    files = {"loader/addons/a.addon.efi": unsigned}
    chain = started(image, options="yours", policy=policy, files=files)
    assert chain.cmdline == "mine"
    assert not of(chain, "pcr12")
    assert not of(chain, "pcr4")
    assert started(image, options="yours").cmdline == "yours"


@pytest.mark.parametrize(
    ("db", "vendor", "name"),
    [(CA, der("other", "other"), "db"), (der("other", "other"), CA, "MokListRT"),
     (der("signer", "CA", 7), CA, None)],
    ids=["db", "shim", "both"],
)  # fmt: skip
def test_what_lets_shim_start_an_image(db: bytes, vendor: bytes, name: str | None) -> None:
    policy = SecureBootPolicy(database((X509, db)), b"", origin="store")
    chain = Chain(Target.TPM, FACTS, policy=policy)
    chain.vendor = vendor
    verify_with_shim(chain, memoryview(SIGNED), "/grubx64.efi")
    (event,) = chain.recorder.events
    assert isinstance(event.digest, Unpinned) is (name is None)
    assert name is None or event.description.startswith(f"{name}: ")


@pytest.mark.parametrize("broken", [b"", b"0", signature()[:-30], b"0\x03\x02\x01\x01"])
def test_a_signature_that_is_none_is_refused(broken: bytes) -> None:
    image = build_bzimage(certificate=win_certificate(broken))
    with pytest.raises(MalformedKernel):
        read_signatures(memoryview(image), origin="image")


@given(st.data())
def test_a_broken_signature_is_refused_or_read(data: st.DataObject) -> None:
    broken = data.draw(mutated(signature()))
    image = memoryview(build_bzimage(certificate=win_certificate(broken)))
    refused(lambda: read_signatures(image, origin="image"))
    refused(lambda: read_certificate(data.draw(mutated(CA)), origin="certificate"))
