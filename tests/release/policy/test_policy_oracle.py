"""What the rendered policy does, asked of the real skopeo and a real registry."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrtd.images.cosign import Cosign
from mrtd.images.reference import ImageReference, Repository
from mrtd.images.signing import SigningKey, sign_key
from mrtd.images.skopeo import Admitted, Rejected, Skopeo
from tests.conftest import debian_part, require_tool
from tests.lab.registry import Registry, registry
from tests.release.policy.guest import Rendered, images_toml, skopeo_key, write_layout

PASSWORD = "a password"  # noqa: S105 - of a key that is made here
PLATFORM = "linux/amd64"


@dataclass(frozen=True, slots=True)
class Published:
    """Images in a registry: ours is signed with our key, the rest is not.

    Attributes:
        skopeo: the real one.
        ours: signed with ``public``.
        unsigned: of the same repository.
        foreign: of the same repository, signed with another key.
        third: of somebody else, unsigned.
        other: of the same repository as ``third``.
        copied: of another repository of ours: the signature of ``ours`` is beside it.
    """

    skopeo: Skopeo
    registry: Registry
    public: bytes
    other_public: bytes
    ours: ImageReference
    unsigned: ImageReference
    foreign: ImageReference
    third: ImageReference
    other: ImageReference
    copied: ImageReference
    key: SigningKey


@pytest.fixture(scope="module")
def published(skopeo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("published")
    tool = Skopeo.find(skopeo)
    keys = []
    for name in ("release", "other"):
        (folder / name).mkdir()
        private, public = skopeo_key(skopeo, folder / name, PASSWORD)
        keys.append((SigningKey(private.decode(), PASSWORD), public))
    (key, public), (other_key, other_public) = keys
    with registry(require_tool("registry"), folder / "registry") as running:

        def push(path: str, text: str, sign: SigningKey | None = None) -> ImageReference:
            repository = Repository(running.host, path)
            layout = folder / "layouts" / f"{path}-{text}"
            digest = write_layout(layout, text=text)
            tool.push(layout, repository, text, sign=sign)
            return repository.at(digest)

        ours = push("o/ours", "ours", key)
        copied = push("o/copy", "ours")
        tag = f"{ours.digest.replace(':', '-')}.sig"
        kind, data = running.manifest("o/ours", tag)
        subprocess.run(
            [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false",
             "--dest-tls-verify=false", f"docker://{running.host}/o/ours:{tag}",
             f"docker://{running.host}/o/copy:{tag}"],
            check=True, capture_output=True, timeout=120, cwd=folder,
        )  # fmt: skip
        assert running.manifest("o/copy", tag) == (kind, data)
        yield Published(
            skopeo=tool,
            registry=running,
            public=public,
            other_public=other_public,
            ours=ours,
            unsigned=push("o/ours", "unsigned"),
            foreign=push("o/ours", "foreign", other_key),
            third=push("x/third", "third"),
            other=push("x/third", "other"),
            copied=copied,
            key=key,
        )


@pytest.fixture
def policy(published: Published, rendered: Rendered) -> Path:
    """The policy that names our repositories, and one exception."""
    rendered.key("release.pub", published.public)
    names = ("o/ours", "o/copy")
    text = images_toml(
        folder=rendered.policy,
        sources={f"{published.registry.host}/{name}": ("release.pub",) for name in names},
        exceptions={str(published.third): "2999-01-01"},
    )
    assert rendered.render(text) == 0
    return rendered.policy


def why(published: Published, image: ImageReference, policy: Path) -> str:
    found = published.skopeo.admits(image, policy, platform=PLATFORM)
    assert isinstance(found, (Admitted, Rejected)), found
    return found.why if isinstance(found, Rejected) else "admitted"


def test_ours_is_admitted_and_a_digest_that_is_excepted(published: Published, policy: Path) -> None:
    assert why(published, published.ours, policy) == "admitted"
    assert why(published, published.third, policy) == "admitted"


def test_the_rest_is_not(published: Published, policy: Path) -> None:
    assert "no signature exists" in why(published, published.unsigned, policy)
    assert "signature verification failed" in why(published, published.foreign, policy)
    assert "no rule for it" in why(published, published.other, policy)


def test_a_signature_says_for_which_repository(published: Published, policy: Path) -> None:
    assert "is not accepted" in why(published, published.copied, policy)


def test_a_tag_of_an_excepted_image_is_no_digest(
    published: Published, policy: Path, skopeo: Path, tmp_path: Path
) -> None:
    asked = subprocess.run(
        [skopeo, "--policy", policy / "policy.json", "copy", "--src-tls-verify=false",
         f"docker://{published.third.repository}:third", f"dir:{tmp_path / 'copy'}"],
        check=False, capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert asked.returncode == 1
    assert "is rejected by policy" in asked.stderr


def test_while_keys_are_rotated_both_are_good(published: Published, rendered: Rendered) -> None:
    rendered.key("release.pub", published.public)
    rendered.key("next.pub", published.other_public)
    name = str(published.ours.repository)
    for keys, foreign in ((("release.pub", "next.pub"), True), (("release.pub",), False)):
        assert rendered.render(images_toml(folder=rendered.policy, sources={name: keys})) == 0
        assert why(published, published.ours, rendered.policy) == "admitted"
        said = why(published, published.foreign, rendered.policy)
        assert (said == "admitted") is foreign


def test_a_repository_below_another_has_its_own_keys(
    published: Published, rendered: Rendered
) -> None:
    rendered.key("release.pub", published.public)
    rendered.key("other.pub", published.other_public)
    host = published.registry.host
    text = images_toml(
        folder=rendered.policy,
        sources={f"{host}/o": ("other.pub",), f"{host}/o/ours": ("release.pub",)},
    )
    assert rendered.render(text) == 0
    assert why(published, published.ours, rendered.policy) == "admitted"
    assert "verification failed" in why(published, published.copied, rendered.policy)
    assert "verification failed" in why(published, published.foreign, rendered.policy)


def test_cosign_signs_what_the_policy_admits(
    published: Published, policy: Path, tmp_path: Path
) -> None:
    cosign = Cosign.find(debian_part("cosign-sid").file("usr/bin/cosign"))
    layout = tmp_path / "layout"
    digest = write_layout(layout, text="by cosign")
    published.skopeo.push(layout, published.ours.repository, "by-cosign")
    image = published.ours.repository.at(digest)
    assert "no signature exists" in why(published, image, policy)
    sign_key(cosign, image, published.key)
    assert why(published, image, policy) == "admitted"
