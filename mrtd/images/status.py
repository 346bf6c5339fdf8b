"""Workload status: what is known of the image that a deployment runs, in one of four colours.

Decided from the digest that podman names (``.ImageDigest``), from ``images.toml``, and from what an
`ImageChecker` found; never from what an agent says of itself, nor from a name: ``podman tag`` gives
any image any name. The rules:

* **green**: a repository of ours, the release key signed this digest, and so did its workflow;
* **yellow**: an exception names this digest, or the workflow's signature is missing (or could not
  be looked at) where ``images.toml`` makes it optional;
* **red**: a signature was looked at and does not hold, a required one is not there, an exception
  has expired, nobody vouches for the digest, or it is not the one that was asked for;
* **unknown**: what decides could not be looked at.

What is red stays red whatever else could not be looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from mrtd.errors import InputError
from mrtd.images.outcome import NotChecked, NotSigned, Refused, SignatureOutcome, Signed
from mrtd.images.reference import ImageReference, Repository, read_tag
from mrtd.images.settings import ImageException, ImageSettings, ImageSource
from mrtd.printable import printable

_SHOWN: Final = 300


class Colour(StrEnum):
    """What a reader should do: nothing, know, act, find out."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    UNKNOWN = "unknown"


class Code(StrEnum):
    """Why a status is what it is; stable."""

    SIGNED = "signed"
    EXCEPTION = "exception"
    WORKFLOW_OPTIONAL = "workflow_optional"
    EXCEPTION_EXPIRED = "exception_expired"
    NOT_ALLOWED = "not_allowed"
    DIGEST_DIFFERS = "digest_differs"
    NOT_SIGNED = "not_signed"
    REFUSED = "refused"
    NOT_CHECKED = "not_checked"
    NOT_REPORTED = "not_reported"


_COLOURS: Final = {
    Code.SIGNED: Colour.GREEN,
    Code.EXCEPTION: Colour.YELLOW,
    Code.WORKFLOW_OPTIONAL: Colour.YELLOW,
    Code.EXCEPTION_EXPIRED: Colour.RED,
    Code.NOT_ALLOWED: Colour.RED,
    Code.DIGEST_DIFFERS: Colour.RED,
    Code.NOT_SIGNED: Colour.RED,
    Code.REFUSED: Colour.RED,
    Code.NOT_CHECKED: Colour.UNKNOWN,
    Code.NOT_REPORTED: Colour.UNKNOWN,
}


class Deployment(msgspec.Struct, frozen=True):
    """What is said to run.

    Attributes:
        app_name: name of the deployment.
        image: the image's name as it was asked for; empty if that is not told.
        image_digest: podman's ``.ImageDigest``; empty if that is not told.
    """

    app_name: str
    image: str = ""
    image_digest: str = ""


class ImageCheck(msgspec.Struct, frozen=True):
    """What was found about an image of ours.

    Attributes:
        key: the release key's signature.
        workflow: the workflow's.
        run: URL of the workflow run that signed; empty if it is not known.
        log_index: of its entry in the transparency log.
    """

    key: SignatureOutcome
    workflow: SignatureOutcome
    run: str = ""
    log_index: int | None = None


class ImageChecker(Protocol):
    """Looks for the signatures of an image; safe to call from several threads."""

    def check(self, source: ImageSource, image: ImageReference) -> ImageCheck:
        """Look. Never raises: what could not be looked at is `NotChecked`."""


class ImageStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one image.

    Attributes:
        code: why.
        reason: the same for a person, one printable line.
        checked_at: when that was looked at.
        check: what was found, where signatures were asked for.
    """

    code: Code
    reason: str
    checked_at: datetime
    check: ImageCheck | None = None

    @property
    def colour(self) -> Colour:
        """What a reader should do."""
        return _COLOURS[self.code]


class DeploymentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of ``deployment_status``: what agents report and programs read."""

    app_name: str
    image: str
    image_digest: str
    attestation_status: Colour
    reason: str
    checked_at: str

    @classmethod
    def of(cls, deployment: Deployment, status: ImageStatus) -> DeploymentStatus:
        """The entry of a deployment."""
        return cls(
            app_name=deployment.app_name,
            image=deployment.image,
            image_digest=deployment.image_digest,
            attestation_status=status.colour,
            reason=status.reason,
            checked_at=status.checked_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


class Subject(msgspec.Struct, frozen=True):
    """An image of a repository of ours, whose signatures decide."""

    source: ImageSource
    image: ImageReference


def appraise(
    deployment: Deployment, settings: ImageSettings, now: datetime
) -> ImageStatus | Subject:
    """The status of a deployment, or what has to be checked for it.

    Args:
        deployment: image and digest.
        settings: whose images may run.
        now: for exceptions that expire; the control plane's clock.
    """
    if not deployment.image_digest or not deployment.image:
        text = "the agent names no image and digest (podman's .ImageDigest)"
        return _status(Code.NOT_REPORTED, text, now)
    try:
        image, asked = _read(deployment)
    except InputError as error:
        return _status(Code.NOT_ALLOWED, error.message, now)
    if asked is not None and asked != image.digest:
        text = "another image runs than the digest that was asked for"
        return _status(Code.DIGEST_DIFFERS, text, now)
    if (source := settings.source(str(image.repository))) is not None:
        return Subject(source, image)
    if (exception := settings.exception(str(image))) is not None:
        return _of_exception(exception, now)
    text = "nobody vouches for it: images.toml has neither its repository nor its digest"
    return _status(Code.NOT_ALLOWED, text, now)


def judge(source: ImageSource, check: ImageCheck, now: datetime) -> ImageStatus:
    """The status that follows from what was found about an image of ours."""
    code, reason = _verdict(source, check)
    return _status(code, reason, now, check)


def _verdict(source: ImageSource, check: ImageCheck) -> tuple[Code, str]:
    key, workflow = check.key, check.workflow
    optional = source.bundle == "optional"
    for outcome in (key, workflow):
        if isinstance(outcome, Refused):
            return Code.REFUSED, f"the {_name(outcome, check)} does not hold: {outcome.why}"
    for outcome in (key,) if optional else (key, workflow):
        if isinstance(outcome, NotSigned):
            return Code.NOT_SIGNED, f"there is no {_name(outcome, check)}: {outcome.why}"
    for outcome in (key,) if optional else (key, workflow):
        if isinstance(outcome, NotChecked):
            return Code.NOT_CHECKED, f"the {_name(outcome, check)}: {outcome.why}"
    # what is left: the key has signed, and so has the workflow unless it is optional
    if isinstance(key, Signed) and isinstance(workflow, Signed):
        return Code.SIGNED, f"signed by {key.by} and by {workflow.by}"
    why = "" if isinstance(workflow, Signed) else workflow.why
    return Code.WORKFLOW_OPTIONAL, f"the key has signed; the workflow's signature: {why}"


def _name(outcome: SignatureOutcome, check: ImageCheck) -> str:
    return "key's signature" if outcome is check.key else "workflow's signature"


def _of_exception(exception: ImageException, now: datetime) -> ImageStatus:
    until = exception.expires.isoformat()
    if exception.expired(now.astimezone(UTC).date()):
        text = f"the exception of {exception.owner} ended on {until}: {exception.reason}"
        return _status(Code.EXCEPTION_EXPIRED, text, now)
    text = f"unsigned, by exception of {exception.owner} until {until}: {exception.reason}"
    return _status(Code.EXCEPTION, text, now)


def _read(deployment: Deployment) -> tuple[ImageReference, str | None]:
    """The image that runs, and the digest that was asked for, if any. Raises `InputError`."""
    name, at, asked = deployment.image.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
        read_tag(tag)
    repository = Repository.read(name)
    if at:
        repository.at(asked)
    return repository.at(deployment.image_digest), asked if at else None


def _status(code: Code, reason: str, now: datetime, check: ImageCheck | None = None) -> ImageStatus:
    return ImageStatus(code=code, reason=printable(reason)[:_SHOWN], checked_at=now, check=check)
