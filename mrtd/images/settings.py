"""``images.toml``: which container images may run in a guest, and who vouches for them.

The classes are the schema (``mrtd.images/1``), which ``docs/guest-policy.md`` explains and
``docs/schema/images.schema.json`` repeats. The guest's policy is rendered from this file
(``python -m release policy render``), and the control plane's status reads the same one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from mrtd.errors import ImagesError
from mrtd.images.fields import (
    GuestFolder,
    GuestPath,
    ImageRepository,
    Issuer,
    KeyFile,
    NumericId,
    PinnedImage,
    Workflow,
)
from mrtd.reference.fields import GitRef, Repository, Text

SCHEMA: Final = "mrtd.images/1"
_SIZE_LIMIT: Final = 1 << 20
_COUNT: Final = 1000
_IDS: Final = ("repository_id", "owner_id")
_PLACE: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_DOCKER_IO: Final = re.compile(r"docker\.io/[^/]+")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown fields are refused."""


class WorkflowIdentity(_Table, frozen=True, kw_only=True):
    """The GitHub workflow that signs an image keyless (values of the certificate; exact).

    Attributes:
        repository: ``owner/name``, as GitHub spells it.
        repository_id: its number.
        owner_id: its owner's number.
        workflow: path of the workflow file.
        ref: git ref that it runs on.
        issuer: of its identity token.
    """

    repository: Repository
    repository_id: NumericId
    owner_id: NumericId
    workflow: Workflow
    ref: GitRef = "refs/heads/main"
    issuer: Issuer = "https://token.actions.githubusercontent.com"

    @property
    def signer(self) -> str:
        """Subject alternative name of its certificates."""
        return f"https://github.com/{self.repository}/{self.workflow}@{self.ref}"


class ImageSource(_Table, frozen=True, kw_only=True):
    """A repository of ours: its images run if they are signed.

    Attributes:
        repository: registry and name.
        keys: files of public keys; a signature by any of them is enough, so that one can follow
            another.
        identity: the workflow that signs, besides the key.
        bundle: whether the control plane's status demands the workflow's signature
            (``required``), or takes the key's alone for yellow (``optional``).
    """

    repository: ImageRepository
    keys: Annotated[tuple[KeyFile, ...], msgspec.Meta(min_length=1, max_length=8)]
    identity: WorkflowIdentity
    bundle: Literal["required", "optional"] = "required"


class ImageException(_Table, frozen=True, kw_only=True):
    """An image of somebody else, which runs although nobody signed it: this content, until then.

    Attributes:
        image: repository and digest.
        reason: why it is needed.
        owner: who answers for it.
        expires: the first day (UTC) on which it does not hold any more.
    """

    image: PinnedImage
    reason: Text
    owner: Text
    expires: dt.date

    @property
    def repository(self) -> str:
        """Registry and name."""
        return self.image.partition("@")[0]

    @property
    def digest(self) -> str:
        """``sha256:`` and 64 hex digits."""
        return self.image.partition("@")[2]

    def expired(self, today: dt.date) -> bool:
        """Whether it does not hold on a day (UTC)."""
        return today >= self.expires


class Guest(_Table, frozen=True, kw_only=True):
    """Where things are in the guest.

    Attributes:
        folder: of ``policy.json``, ``registries.d`` and ``keys``. Podman looks for
            ``registries.d`` in ``/etc/containers`` and in ``$HOME/.config/containers``: it is
            the one, or ends like the other where ``/etc`` cannot be written.
        podman: the program that ``dd-podman`` runs, with the guest's storage settings.
        trusted_root: whether ``trusted_root.json`` beside ``images.toml`` goes into the guest, so
            that ``dd-podman`` can verify the workflow's signature there.
        enforce_workflow: whether podman itself is to enforce the workflow, which takes one that
            reads ``buildSignerURI``; no release that we know does.
    """

    folder: GuestFolder = "/etc/containers"
    podman: GuestPath = "/var/lib/easyenclave/bin/podman"
    trusted_root: bool = False
    enforce_workflow: bool = False

    @property
    def home(self) -> str:
        """``HOME`` of podman: where it finds the folder, and nothing else."""
        return self.folder.removesuffix("/.config/containers") if self.in_home else "/nonexistent"

    @property
    def in_home(self) -> bool:
        """Whether the folder is made at boot, below a ``HOME``, and not part of the image."""
        return self.folder != "/etc/containers"


class ImageSettings(_Table, frozen=True, kw_only=True):
    """Which images may run: ``mrtd.images/1``. Everything else is refused.

    Attributes:
        guest: where things are in the guest.
        repositories: whose images run if they are signed.
        exceptions: images that run unsigned.
    """

    schema: Literal["mrtd.images/1"]
    guest: Guest = Guest()
    repositories: Annotated[tuple[ImageSource, ...], msgspec.Meta(max_length=_COUNT)] = ()
    exceptions: Annotated[tuple[ImageException, ...], msgspec.Meta(max_length=_COUNT)] = ()

    def source(self, repository: str) -> ImageSource | None:
        """What is said of a repository of ours, by its exact name."""
        return next((one for one in self.repositories if one.repository == repository), None)

    def exception(self, image: str) -> ImageException | None:
        """The exception for ``repository@digest``, expired or not."""
        return next((one for one in self.exceptions if one.image == image), None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of all key files, each once, sorted."""
        return tuple(sorted({key for source in self.repositories for key in source.keys}))


def read_images(text: str, *, origin: str) -> ImageSettings:
    """Read and check an ``images.toml``.

    Raises:
        ImagesError: not TOML, unknown or missing fields, wrong values, or rows that contradict
            each other.
    """
    try:
        tree = msgspec.toml.decode(text)
        _as_texts(tree)
        settings = msgspec.convert(tree, ImageSettings)
    except RecursionError as error:
        raise ImagesError("nested too deeply", origin=origin) from error
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        message, field = (found[1], found[2]) if found else (str(error), "")
        raise ImagesError(
            _plain(message, field), origin=origin, field=field or None, hint=_hint(field)
        ) from error
    except ValueError as error:  # of the TOML reader, and of int() for a number of 4300 digits
        raise ImagesError(f"is no TOML: {error}", origin=origin) from error
    _check(settings, origin)
    return settings


def read_images_file(path: Path) -> ImageSettings:
    """Read and check the ``images.toml`` at ``path``. Raises `ImagesError`."""
    try:
        with path.open("rb") as stream:  # of any kind: what has no end is not read to its end
            data = stream.read(_SIZE_LIMIT + 1)
        if len(data) > _SIZE_LIMIT:
            raise ImagesError(f"more than {_SIZE_LIMIT} bytes", origin=str(path))
        text = data.decode()
    except OSError as error:
        raise ImagesError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    except ValueError as error:
        raise ImagesError(f"cannot be read: {error}", origin=str(path)) from error
    return read_images(text, origin=str(path))


def _as_texts(tree: dict[str, Any]) -> None:
    """Numeric ids may be written as numbers, as ``gh api`` prints them."""
    rows = tree.get("repositories")
    for row in rows if isinstance(rows, list) else ():
        identity = row.get("identity") if isinstance(row, dict) else None
        if isinstance(identity, dict):
            identity.update({n: str(identity[n]) for n in _IDS if type(identity.get(n)) is int})


_MEANT: Final = {
    "image": "is not of the form registry/name@sha256:DIGEST, in lower case and written out",
    "repository": "is not of the form registry/name, in lower case and written out",
    "identity.repository": "is not of the form owner/name",
    "identity.repository_id": "is no number such as 1000001",
    "identity.owner_id": "is no number such as 1000001",
    "identity.workflow": "is not of the form .github/workflows/NAME.yml",
    "identity.ref": "is no whole ref such as refs/heads/main",
    "keys": "is no file name such as release-2026.pub (files are in the folder keys)",
    "folder": "is neither /etc/containers nor of the form /HOME/.config/containers",
    "podman": "is no absolute path of plain letters, three names deep",
}


def _name(field: str) -> str:
    """The field without the places in lists: ``repositories[0].keys[1]`` is ``keys``."""
    return re.sub(r"^(repositories|exceptions|guest)(\[[^]]*\])?\.|\[[^]]*\]", "", field)


def _plain(message: str, field: str) -> str:
    """What msgspec says, without its pattern."""
    broken = message.startswith("Expected `str` matching regex")
    return _MEANT.get(_name(field), message) if broken else message


def _hint(field: str) -> str:
    if _name(field) in {"identity", *(f"identity.{name}" for name in _IDS)}:
        return "find the numbers with: gh api repos/OWNER/NAME --jq '.id, .owner.id'"
    return "docs/guest-policy.md lists every field"


def _check(settings: ImageSettings, origin: str) -> None:
    """Refuse rows that contradict each other, or that podman would never compare with."""
    if settings.guest.enforce_workflow and not settings.guest.trusted_root:
        problem = "takes the keys in trusted_root.json: set guest.trusted_root"
        raise ImagesError(problem, origin=origin, field="guest.enforce_workflow")
    for field, problem in (*_of_sources(settings), *_of_exceptions(settings)):
        raise ImagesError(problem, origin=origin, field=field)


def _of_sources(settings: ImageSettings) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for index, source in enumerate(settings.repositories):
        field = f"repositories[{index}]"
        if problem := _spelling(source.repository):
            yield f"{field}.repository", problem
        if source.repository in seen:
            yield f"{field}.repository", f"{source.repository} is there twice"
        if len(set(source.keys)) != len(source.keys):
            yield f"{field}.keys", "names a file twice"
        seen.add(source.repository)


def _of_exceptions(settings: ImageSettings) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for index, exception in enumerate(settings.exceptions):
        field = f"exceptions[{index}].image"
        if problem := _spelling(exception.repository):
            yield field, problem
        if exception.image in seen:
            yield field, f"{exception.image} is there twice"
        if settings.source(exception.repository) is not None:
            yield field, "is of a repository of ours: sign it instead"
        seen.add(exception.image)


def _spelling(repository: str) -> str | None:
    """Why containers/image would call it otherwise, if so."""
    if _DOCKER_IO.fullmatch(repository):
        return f"is written out as docker.io/library/{repository.partition('/')[2]}"
    if repository.startswith("index.docker.io/"):
        return "is written out as docker.io"
    return None
