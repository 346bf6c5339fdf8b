"""``images.toml``: read whole, or refused with the place and what to write instead."""

from __future__ import annotations

import contextlib
import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.schema import SCHEMAS, schema_text
from mrtd.errors import ImagesError
from mrtd.images.reference import ImageReference, Repository
from mrtd.images.settings import ImageSettings, read_images, read_images_file
from tests.release.policy.guest import DIGEST, SIGNER, images_toml

OURS = "ghcr.io/owner/ours"
THIRD = f"docker.io/ollama/ollama@{DIGEST}"
WHOLE = images_toml(sources={OURS: ("one.pub",)}, exceptions={THIRD: "2027-01-01"})


def test_what_it_says() -> None:
    settings = read_images(WHOLE, origin="images.toml")
    source, exception = settings.source(OURS), settings.exception(THIRD)
    assert source is not None
    assert exception is not None
    assert (source.identity.signer, source.identity.owner_id) == (SIGNER, "2000002")
    assert (source.bundle, source.keys, settings.keys) == ("required", ("one.pub",), ("one.pub",))
    assert (exception.repository, exception.digest) == ("docker.io/ollama/ollama", DIGEST)
    assert [exception.expired(date(2026, 12, 31)), exception.expired(date(2027, 1, 1))] == [0, 1]
    assert settings.source("ghcr.io/owner/ours/below") is None
    assert settings.exception("docker.io/ollama/ollama@sha256:" + "cd" * 32) is None


@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("images/1", "images/2", "schema", "images/2"),
        ("reason", "raeson", "exceptions[0]", "unknown field `raeson`"),
        ("owner_id = 2000002\n", "", "repositories[0].identity", "gh api repos/OWNER/NAME"),
        ("2000002", "0", "repositories[0].identity.owner_id", "is no number such as"),
        ("2000002", "true", "repositories[0].identity.owner_id", "Expected `str`"),
        ("release.yml", "../release.yml", "repositories[0].identity.workflow", "NAME.yml"),
        (OURS, "ghcr.io/Owner/ours", "repositories[0].repository", "in lower case"),
        (OURS, "owner/ours", "repositories[0].repository", "written out"),
        (OURS, "*.io/owner", "repositories[0].repository", "written out"),
        (OURS, "docker.io/ours", "repositories[0].repository", "docker.io/library/ours"),
        (OURS, "index.docker.io/o/ours", "repositories[0].repository", "as docker.io"),
        (OURS, f"ghcr.io/{'a' * 248}", "repositories[0].repository", "length <= 255"),
        (OURS, f"{OURS}:tag", "repositories[0].repository", "is not of the form"),
        (OURS, f"{OURS}\\n", "repositories[0].repository", "is not of the form"),
        ("one.pub", "../one.pub", "repositories[0].keys[0]", "is no file name"),
        ("one.pub", "one.pub\\u0000", "repositories[0].keys[0]", "is no file name"),
        ("one.pub", ".pub", "repositories[0].keys[0]", "is no file name"),
        ('"one.pub"', "", "repositories[0].keys", "length >= 1"),
        ('"one.pub"', '"one.pub", "one.pub"', "repositories[0].keys", "names a file twice"),
        ("sha256", "sha512", "exceptions[0].image", "is not of the form"),
        (DIGEST, DIGEST.upper(), "exceptions[0].image", "is not of the form"),
        (DIGEST, DIGEST[:-1], "exceptions[0].image", "is not of the form"),
        (f"@{DIGEST}", ":latest", "exceptions[0].image", "is not of the form"),
        (f"ollama@{DIGEST}", f"ollama:latest@{DIGEST}", "exceptions[0].image", "is not of the"),
        ("docker.io/ollama/ollama", OURS, "exceptions[0].image", "sign it instead"),
        ('reason = "needed"', 'reason = ""', "exceptions[0].reason", "matching regex"),
        ("2027-01-01", '"soon"', "exceptions[0].expires", "Invalid RFC3339"),
        ("expires = 2027-01-01\n", "", "exceptions[0]", "missing required field `expires`"),
        ("/var/lib/guest/.config", "/var/lib/$(x)/.config", "guest.folder", "/HOME/.config"),
        ("/var/lib/guest/.config", "/var/../etc/.config", "guest.folder", "/HOME/.config"),
        ("/bin/podman", "/bin/a b", "guest.podman", "plain letters"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, field: str, said: str) -> None:
    assert old in WHOLE
    with pytest.raises(ImagesError) as caught:
        read_images(WHOLE.replace(old, new), origin="images.toml")
    assert str(caught.value).startswith(f"images.toml: {field}: ")
    assert said in str(caught.value)


def test_nothing_is_there_twice() -> None:
    table = WHOLE[WHOLE.index("[[repositories]]") : WHOLE.index("[[exceptions]]")]
    for text in (WHOLE + table, WHOLE + WHOLE[WHOLE.index("[[exceptions]]") :]):
        with pytest.raises(ImagesError, match="is there twice"):
            read_images(text, origin="images.toml")


@pytest.mark.parametrize("text", ["x", "a = [" + "[" * 5000, "a = " + "9" * 5000, "\0", "[a]\n[a]"])
def test_what_is_no_toml(text: str) -> None:
    with pytest.raises(ImagesError):
        read_images(text, origin="images.toml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "images.toml"
    for data in (None, b"\xff", b"#" * (1 << 21)):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ImagesError, match=r"images\.toml: (cannot be read|more than)"):
            read_images_file(path)


WORDS = st.sampled_from(WHOLE.split())


@given(st.text(max_size=400) | st.builds(WHOLE.replace, WORDS, st.text(max_size=40)))
def test_nothing_but_our_errors(text: str) -> None:
    with contextlib.suppress(ImagesError):
        assert isinstance(read_images(text, origin="images.toml"), ImageSettings)


NAMES = st.text(alphabet="aA0.-_/:@*$'\"\n\\ ", max_size=30)


@given(NAMES, NAMES)
def test_a_name_that_is_taken_is_one_that_podman_compares_with(host: str, path: str) -> None:
    name = f"{host}/{path}"
    text = images_toml(exceptions={json.dumps(f"{name}@{DIGEST}")[1:-1]: "2027-01-01"})
    try:
        settings = read_images(text, origin="images.toml")
    except ImagesError:
        return
    assert str(Repository.read(name)) == name  # nothing about it is written otherwise
    assert str(ImageReference.read(settings.exceptions[0].image)) == f"{name}@{DIGEST}"


def test_the_schema_is_published() -> None:
    folder = Path(__file__).resolve().parents[3] / "docs" / "schema"
    assert SCHEMAS["images.schema.json"] is ImageSettings
    published = (folder / "images.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(ImageSettings)


def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ImagesError, match="more than"):
        read_images_file(Path("/dev/zero"))
