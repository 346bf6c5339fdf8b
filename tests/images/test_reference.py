"""Names of images: by digest, with the registry written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.images.reference import ImageReference, MalformedReference, Repository, read_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "path"),
    [
        ("ghcr.io/owner/name", "ghcr.io", "owner/name"),
        ("localhost/owner/name", "localhost", "owner/name"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000", "a/b/c"),
        ("registry:5000/a_b/c--d.e", "registry:5000", "a_b/c--d.e"),
        ("[::1]:5000/name", "[::1]:5000", "name"),
        ("docker.io/alpine", "docker.io", "library/alpine"),
        ("index.docker.io/library/alpine", "docker.io", "library/alpine"),
    ],
)
def test_names(text: str, registry: str, path: str) -> None:
    image = ImageReference.read(f"{text}@{DIGEST}")
    assert (image.repository.registry, image.repository.path) == (registry, path)
    assert str(image) == f"{registry}/{path}@{DIGEST}"
    assert ImageReference.read(str(image)) == image
    assert image.hex == "a" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ghcr.io/owner/name", "names no digest"),
        ("ghcr.io/owner/name:v1", "names no digest"),
        (f"ghcr.io/owner/name:v1@{DIGEST}", "has a tag"),
        (f"owner/name@{DIGEST}", "names no registry"),
        (f"name@{DIGEST}", "names no registry"),
        (f"ghcr.io/Owner/name@{DIGEST}", "is no repository"),
        (f"ghcr.io/owner/../name@{DIGEST}", "is no repository"),
        (f"ghcr.io//name@{DIGEST}", "is no repository"),
        (f"--option.example/name@{DIGEST}", "names no registry"),
        ("ghcr.io/owner/name@sha256:abc", "is no digest"),
        (f"ghcr.io/owner/name@{DIGEST.upper()}", "is no digest"),
        (f"ghcr.io/owner/name@sha512:{'a' * 128}", "is no digest"),
        (f"ghcr.io/{'a' * 600}@{DIGEST}", "names no registry"),
        ("", "names no digest"),
    ],
)
def test_what_is_no_name_by_digest(text: str, message: str) -> None:
    with pytest.raises(MalformedReference, match=message):
        ImageReference.read(text)


@given(st.text(max_size=80) | st.from_regex(r"[a-z.]{1,9}/[a-z/]{1,9}@sha256:[0-9a-f]{64}"))
def test_any_text_is_a_reference_or_an_error_of_ours(text: str) -> None:
    try:
        image = ImageReference.read(text)
    except MalformedReference:
        return
    assert ImageReference.read(str(image)) == image


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("localhost:5000", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("10.0.0.1", False),
        ("ghcr.io", False),
    ],
)
def test_only_this_machine_goes_without_tls(registry: str, *, loopback: bool) -> None:
    assert Repository.read(f"{registry}/owner/name").is_loopback is loopback


def test_tags() -> None:
    assert read_tag("v1.2.3") == "v1.2.3"
    for text in ("", "-v1", "a b", "a" * 129, "ü"):
        with pytest.raises(MalformedReference):
            read_tag(text)
