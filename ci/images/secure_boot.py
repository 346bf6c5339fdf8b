"""Secure Boot with keys of our own: a variable store that enrols them, and images signed by them.

The keys are drawn anew by `generate_keys`, so what they sign differs from one to the next; nothing
else does. Their private halves stay in the folder that they are written to.

Source: UEFI 2.10, 32.4.1 (EFI_SIGNATURE_LIST).
"""

from __future__ import annotations

import datetime as dt
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ci.images.disk import name_guid
from ci.images.run import EPOCH, run
from ci.images.variables import with_variables
from fixtures.varstore import Variable
from mrtd.eventlog.signatures import read_signature_lists
from mrtd.firmware.guids import (
    GLOBAL_VARIABLE,
    IMAGE_SECURITY_DATABASE,
    SECURE_BOOT_ENABLE,
    guid,
)
from mrtd.firmware.variables import read_variables

OWNER: Final = guid(name_guid("secure-boot-owner"))
"""Owner of the enrolled certificates."""

_X509: Final = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_KEY_BITS: Final = 2048
_YEARS: Final = dt.timedelta(days=3650)
_BOOT: Final = 0x3  # non-volatile, boot
_AUTHENTICATED: Final = 0x27  # non-volatile, boot, runtime, time-based authenticated


@dataclass(frozen=True, slots=True)
class Keys:
    """Where keys and certificates are: PK, KEK and db, each with .key, .pem and .der."""

    folder: Path

    def certificate(self, name: str) -> bytes:
        """A certificate, DER."""
        return (self.folder / f"{name}.der").read_bytes()


def generate_keys(folder: Path) -> Keys:
    """Draw PK, KEK and db into a folder that only its owner may read."""
    from cryptography import x509  # noqa: PLC0415 - only who signs needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    start = dt.datetime.fromtimestamp(EPOCH, dt.UTC)
    for number, name in enumerate(("PK", "KEK", "db"), start=1):
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"mrtd example {name}")])
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), number)
            .not_valid_before(start)
            .not_valid_after(start + _YEARS)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_bytes(private)
        encoding = serialization.Encoding
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(encoding.PEM))
        (folder / f"{name}.der").write_bytes(certificate.public_bytes(encoding.DER))
    return Keys(folder)


def sign_image(image: bytes, keys: Keys) -> bytes:
    """A PE image with a signature of db's key. Raises `ToolMissing`, `ToolFailed`."""
    with tempfile.TemporaryDirectory(prefix="mrtd-sign-") as temporary:
        unsigned, signed = Path(temporary, "unsigned"), Path(temporary, "signed")
        unsigned.write_bytes(image)
        key, certificate = keys.folder / "db.key", keys.folder / "db.pem"
        run("sbsign", "--key", key, "--cert", certificate, "--output", signed, unsigned)
        return signed.read_bytes()


def enrol(blank: bytes, keys: Keys, *, more_db: Sequence[bytes] = ()) -> bytes:
    """A variable store with PK, KEK, db and Secure Boot switched on.

    Args:
        blank: an authenticated variable store without variables (``OVMF_VARS*.fd``).
        keys: whose certificates are enrolled.
        more_db: further DER certificates for db.

    Raises:
        MalformedFirmware: no blank store of this kind.
    """
    databases = {
        (GLOBAL_VARIABLE, "PK"): [keys.certificate("PK")],
        (GLOBAL_VARIABLE, "KEK"): [keys.certificate("KEK")],
        (IMAGE_SECURITY_DATABASE, "db"): [keys.certificate("db"), *more_db],
    }
    variables = [
        Variable(vendor, name, b"".join(map(_signature_list, entries)), _AUTHENTICATED)
        for (vendor, name), entries in databases.items()
    ]
    return with_variables(
        blank, [*variables, Variable(SECURE_BOOT_ENABLE, "SecureBootEnable", b"\1", _BOOT)]
    )


def certificates(store: bytes) -> list[bytes]:
    """The DER certificates in the db of a variable store. Raises `MalformedFirmware`."""
    variables = read_variables(memoryview(store), origin="OVMF_VARS")
    found = [variable.data for variable in variables if variable.name == "db"]
    return [entry.data for data in found for entry in read_signature_lists(data).signatures]


def _signature_list(certificate: bytes) -> bytes:
    size = 16 + len(certificate)
    return _X509 + struct.pack("<III", 28 + size, 0, size) + OWNER + certificate
