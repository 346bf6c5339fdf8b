"""The builders of test inputs refuse to build what does not fit."""

from __future__ import annotations

import pytest

from fixtures.bzimage import Section, build_bzimage, win_certificate
from fixtures.tdvf import build_tdvf
from fixtures.volumes import Module


def test_volume_too_small_for_its_modules() -> None:
    with pytest.raises(ValueError, match="does not fit a volume of"):
        build_tdvf(modules=[Module("Large", bytes(0x9000))], compressed=False)


def test_more_sections_than_headers_have_room_for() -> None:
    with pytest.raises(ValueError, match="reach into the setup header"):
        build_bzimage(sections=[Section(b".x", b"")] * 8)


def test_certificate_is_padded() -> None:
    certificate = win_certificate(b"abc")
    assert len(certificate) == 16
    assert int.from_bytes(certificate[:4], "little") == 11


def test_builders_are_reproducible() -> None:
    assert build_tdvf(modules=[Module("A")]) == build_tdvf(modules=[Module("A")])
