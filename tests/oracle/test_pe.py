"""Our Authenticode digests against lief's."""

from __future__ import annotations

import pytest

from fixtures.bzimage import build_bzimage, win_certificate
from mrtd.boot.pe import authenticode
from tests.conftest import DebianParts, unavailable

pytestmark = pytest.mark.oracle


def lief_digest(image: bytes) -> str:
    try:
        import lief
    except ImportError:
        unavailable("lief is not installed (dependency group oracle)")
    lief.logging.disable()
    parsed = lief.PE.parse(list(image))
    assert parsed is not None
    digest: bytes = bytes(parsed.authentihash(lief.PE.ALGORITHMS.SHA_384))
    return digest.hex()


def our_digest(image: bytes) -> str:
    return str(authenticode(memoryview(image), origin="image"))


def test_real_kernel(debian: DebianParts) -> None:
    image = debian.kernel_6_12.read_bytes()
    assert our_digest(image) == lief_digest(image)


@pytest.mark.parametrize(
    "image",
    [
        build_bzimage(),
        build_bzimage(pe32=True),
        build_bzimage(certificate=win_certificate(b"signature")),
        build_bzimage(certificate=win_certificate(b"signature"), trailing=bytes(64)),
    ],
    ids=["plain", "pe32", "signed", "signed, with bytes before the certificate"],
)
def test_built_kernels(image: bytes) -> None:
    assert our_digest(image) == lief_digest(image)


def test_what_no_digest_covers() -> None:
    """The checksum is skipped; the certificates too, but not the bytes before them."""
    plain = our_digest(build_bzimage())
    assert our_digest(build_bzimage(checksum=0)) == plain
    signed = [build_bzimage(certificate=win_certificate(bytes(size))) for size in (8, 800)]
    assert our_digest(signed[0]) == our_digest(signed[1])
