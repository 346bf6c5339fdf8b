"""The guest's container policy, rendered from ``images.toml``. Pure: the same bytes each time.

What podman reads are containers-policy.json(5) and containers-registries.d(5). Both are parsed
strictly, a single unknown key refuses every image, so that nothing else is in them.
"""

from __future__ import annotations

import datetime as dt
import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from mrtd.images.settings import ImageSettings, ImageSource
from release.policy_workflow import TRUSTED_ROOT, fulcio_keys, workflow_requirement
from release.refusals import Refusal, refuse

POLICY: Final = "policy.json"
REGISTRIES: Final = "registries.d/mrtd.yaml"
LAUNCHER: Final = "dd-podman"
WORKLOAD: Final = "podman-bootstrap/workload.json"
EXECUTABLE: Final = frozenset({LAUNCHER})
_SCRIPTS: Final = Path(__file__).resolve().parent / "guest"
_PLACE: Final = re.compile(r"@[a-z]+@")
_END_OF_FILE: Final = "END-OF-FILE"
_BINARIES: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def render(
    settings: ImageSettings,
    *,
    keys: Mapping[str, bytes],
    today: dt.date,
    trusted_root: bytes | None = None,
) -> dict[str, bytes]:
    """All files of a guest policy by name.

    Args:
        settings: what may run.
        keys: content of the key files that it names.
        today: exceptions have to hold on that day (UTC).
        trusted_root: keys of the Sigstore instance, if they go into the guest.

    Raises:
        ReleaseRefused: an exception has expired.
        ImagesError: the trusted root has no keys to enforce a workflow with.
    """
    refuse(of_expiry(settings, today), what="not rendered")
    files = {POLICY: _json(policy(settings, trusted_root)), REGISTRIES: _registries(settings)}
    files |= {f"keys/{name}": keys[name] for name in settings.keys}
    if trusted_root is not None:
        files[TRUSTED_ROOT] = trusted_root
    files[LAUNCHER] = _launcher(settings).encode()
    files[WORKLOAD] = _workload(settings, files)
    return dict(sorted(files.items()))


def of_expiry(settings: ImageSettings, today: dt.date) -> Iterator[Refusal]:
    """Exceptions that do not hold any more."""
    for exception in settings.exceptions:
        if exception.expired(today):
            yield Refusal(
                "exception_expired",
                exception.image,
                f"the exception expired on {exception.expires} ({exception.owner}: "
                f"{exception.reason})",
                "remove it, or have its owner look at the image again and set a new date",
            )


def policy(settings: ImageSettings, trusted_root: bytes | None = None) -> dict[str, Any]:
    """``policy.json``: what is not named is refused, of whatever transport.

    Raises:
        ImagesError: the workflow is to be enforced, and the trusted root has no keys for that.
    """
    scopes: dict[str, Any] = {
        source.repository: [_signed(source, settings.guest.folder)]
        for source in settings.repositories
    }
    if settings.guest.enforce_workflow and trusted_root is not None:
        keys = fulcio_keys(trusted_root)
        for source in settings.repositories:  # a list of requirements has to be met whole
            scopes[source.repository].append(workflow_requirement(source.identity, keys))
    scopes |= {one.image: [{"type": "insecureAcceptAnything"}] for one in settings.exceptions}
    # A guest with no images at all: an empty table of scopes is no error, and says the same.
    return {"default": [{"type": "reject"}], "transports": {"docker": dict(sorted(scopes.items()))}}


def _signed(source: ImageSource, folder: str) -> dict[str, Any]:
    """A signature by any of the keys, made for this repository.

    cosign signs no tag, so that the name is compared without one (matchRepository); a guest pulls
    by digest, which says more than a tag.
    """
    paths = [f"{folder}/keys/{name}" for name in source.keys]
    keys = {"keyPath": paths[0]} if len(paths) == 1 else {"keyPaths": paths}
    return {"type": "sigstoreSigned", **keys, "signedIdentity": {"type": "matchRepository"}}


def _registries(settings: ImageSettings) -> bytes:
    """Where signatures are: beside the images. JSON is YAML, and hides no surprise in a name."""
    scopes = {one.repository: {"use-sigstore-attachments": True} for one in settings.repositories}
    return _json({"docker": dict(sorted(scopes.items()))})


def _launcher(settings: ImageSettings) -> str:
    guest = settings.guest
    sources = [
        f"    {shlex.quote(one.repository)})\n"
        f"        kind=signed\n"
        f"        identity={shlex.quote(one.identity.signer)}\n"
        f"        issuer={shlex.quote(one.identity.issuer)}\n"
        f"        ;;"
        for one in settings.repositories
    ]
    exceptions = [
        f"    {shlex.quote(one.image)})\n"
        f"        kind=exception\n"
        f"        terms={shlex.quote(f'until {one.expires}, {one.owner}: {one.reason}')}\n"
        f"        ;;"
        for one in settings.exceptions
    ]
    return _filled(
        LAUNCHER,
        path=f"{posixpath.dirname(guest.podman)}:{_BINARIES}",
        folder=guest.folder,
        home=guest.home,
        podman=guest.podman,
        sources="\n".join(sources) or "    *) ;;",
        exceptions="\n".join(exceptions) or "    *) ;;",
    )


def _workload(settings: ImageSettings, files: Mapping[str, bytes]) -> bytes:
    """The workload of that name in dd, with this policy instead of one that accepts anything."""
    guest = settings.guest
    folder = posixpath.dirname(guest.podman)
    script = _filled(
        "podman-bootstrap",
        state=posixpath.dirname(folder),
        bin=folder,
        home=guest.home,
        folder=guest.folder,
        podman=guest.podman,
        files="\n".join(_placed(settings, files)),
    )
    command = ["/bin/busybox", "sh", "-c", script]
    return _json({"app_name": "podman-bootstrap", "cmd": command})


def _placed(settings: ImageSettings, files: Mapping[str, bytes]) -> Iterator[str]:
    """Shell that puts the files in place, or makes sure that the image has them."""
    if settings.guest.in_home:
        yield 'rm -rf "$folder"'
        yield 'mkdir -p "$folder/registries.d" "$folder/keys"'
        for name, data in files.items():
            if name != LAUNCHER:
                yield _put(f"$folder/{name}", data)
    else:
        yield "# They are part of the image, where they are measured."
        for name in files:
            if name != LAUNCHER:
                yield f'[ -s "$folder/{name}" ] || {{ echo "no $folder/{name}" >&2; exit 1; }}'
    yield _put(f"$bin/.{LAUNCHER}", files[LAUNCHER])


def _put(path: str, data: bytes) -> str:
    """A here-document, whose end stands in no line of the file."""
    text = data.decode().removesuffix("\n")
    end = _END_OF_FILE
    while end in text:
        end += "-"
    return f"put \"{path}\" <<'{end}'\n{text}\n{end}"


def _filled(script: str, **values: str) -> str:
    """A script with its places filled; each value only once, so that it cannot name another."""
    text = (_SCRIPTS / f"{script}.sh").read_text(encoding="utf-8")
    return _PLACE.sub(lambda found: values[found[0].strip("@")], text)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
