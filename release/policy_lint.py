"""``policy lint``: what a guest's container policy does, as the programs that apply it read it."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from mrtd.errors import ImagesError, InputError, MrtdError, SpecError, ToolMissing
from mrtd.images.program import Program
from mrtd.images.settings import ImageSettings
from mrtd.printable import printable
from release.policy_dummy import write_image
from release.policy_keys import check_key
from release.policy_probe import Consumer, Probe, probe
from release.policy_render import POLICY
from release.policy_scopes import (
    Finding,
    Scope,
    Surroundings,
    explain,
    findings,
    key_paths,
    rows_of,
)

_SIZE_LIMIT: Final = 1 << 22
_ATTACHMENTS: Final = "use-sigstore-attachments"


class Lint(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        policy: the file.
        checked: whether the real program read it, and was probed.
        scopes: each explained.
        findings: errors first.
        probe: of the program; None without one.
    """

    policy: str
    checked: bool
    scopes: tuple[Scope, ...]
    findings: tuple[Finding, ...]
    probe: Probe | None

    @property
    def exit_code(self) -> int:
        """1 with errors; 3 if the real program did not say; 0 with warnings alone."""
        if any(finding.level == "error" for finding in self.findings):
            return 1
        return 0 if self.checked else 3


@dataclass(frozen=True, slots=True)
class LintRequest:
    """What is looked at.

    Attributes:
        path: a rendered folder, or a ``policy.json`` in one.
        program: skopeo or podman; None without one.
        settings: ``images.toml``, if there is one.
        today: the day (UTC).
    """

    path: Path
    program: Program | None
    settings: ImageSettings | None
    today: dt.date


def lint(request: LintRequest) -> Lint:
    """Look at a policy. Raises `SpecError` if it cannot be read."""
    path = request.path / POLICY if request.path.is_dir() else request.path
    if not path.exists():
        hint = "python -m release policy render makes one"
        raise SpecError("is no policy, and no folder with one", origin=str(path), hint=hint)
    data = _read(path)
    found: list[Finding] = []
    probed, usable = _consume(request.program, data, found)
    rows = rows_of(_policy(data)) if usable else ()
    attachments = _attachments(path.parent / "registries.d", found) if usable else {}
    found += findings(rows, Surroundings(request.today, attachments, request.settings))
    found += _keys(path.parent, [one for row in rows for one in row[2]])
    order = ("error", "warning", "info")
    return Lint(
        policy=str(path),
        checked=probed is not None and probed.verifies is not None,
        scopes=explain(rows),
        findings=tuple(sorted(found, key=lambda finding: order.index(finding.level))),
        probe=probed,
    )


def _consume(
    program: Program | None, data: bytes, found: list[Finding]
) -> tuple[Probe | None, bool]:
    """Have the real program read the policy, and probe it; whether the policy can be explained."""
    shape = _shape(data)
    if program is None:
        remedy = "apt-get install skopeo (Debian 13 or newer); or --skopeo PATH"
        found.append(
            Finding("consumer_missing", "warning", POLICY, "no skopeo or podman read it", remedy)
        )
    else:
        try:
            said = _parsed(Consumer(program), data)
            probed = probe(program)
        except MrtdError as error:
            found.append(Finding("consumer_failed", "warning", str(program.path), error.message))
        else:
            found += said
            found += _of_probe(probed)
            return probed, not said and shape is None
    if shape is not None:
        found.append(Finding("policy_invalid", "error", POLICY, shape))
    return None, shape is None


def _parsed(consumer: Consumer, data: bytes) -> list[Finding]:
    """The program's word on the policy, given by an attempt to copy something."""
    with tempfile.TemporaryDirectory(prefix="mrtd-") as name:
        image = Path(name, "image")
        write_image(image, signed_by=None)
        asked = consumer.ask(data, image)
    if asked.answer == "invalid":
        return [Finding("policy_invalid", "error", POLICY, asked.text,
                        "one unknown key, and every image is refused")]  # fmt: skip
    if asked.answer == "failed":
        raise ToolMissing(f"did not say what it thinks of the policy: {asked.text}")
    return []


def _of_probe(probed: Probe) -> Iterator[Finding]:
    where = probed.version or probed.program
    if probed.verifies is False:
        wrong = [one for one in probed.checks[:4] if one.got != one.wanted]
        open_ = any(one.got == "accepted" for one in wrong)
        what = "accepts what is not signed" if open_ else "refuses what is signed right"
        yield Finding("signature_checking_off", "error", where, f"this build {what}: "
                      f"{wrong[0].id}: {wrong[0].text or 'accepted'}",
                      "use podman 5 or newer; Debian 12's is patched")  # fmt: skip
    elif probed.verifies is None:
        failed = next(one for one in probed.checks if one.got == "failed")
        yield Finding("consumer_failed", "warning", where, f"could not be probed: {failed.text}")
    if probed.key_lists is False:
        yield Finding("key_lists_unknown", "warning", where, "does not read keyPaths: keys cannot "
                      "be rotated")  # fmt: skip
    if probed.signer_uri is False:
        text = (
            "enforces keys; it cannot enforce which GitHub workflow signed: dd-podman and the "
            "control plane's status look at that"
        )
        yield Finding("workflow_not_enforced", "info", where, text)
    elif probed.signer_uri:
        yield Finding("workflow_enforceable", "info", where, "reads buildSignerURI: it could "
                      "enforce the workflow, too", "set guest.enforce_workflow")  # fmt: skip


def _keys(folder: Path, requirements: list[dict[str, Any]]) -> Iterator[Finding]:
    """Key files that are named and not there, and those that nothing names."""
    named = sorted({path for one in requirements for path in key_paths(one)})
    for text in named:
        path = folder / "keys" / Path(text).name
        path = path if path.exists() else Path(text)
        try:
            check_key(_read(path), origin=path.name)
        except ImagesError as error:
            yield Finding("key_invalid", "error", text, error.message)
        except InputError:
            yield Finding("key_missing", "error", text, "there is no such key file: what it signed "
                          "is refused", "render the policy again")  # fmt: skip
    known = {Path(text).name for text in named}
    for path in sorted((folder / "keys").glob("*")):
        if path.name not in known:
            yield Finding("key_unused", "info", f"keys/{path.name}", "no scope names it")


def _attachments(folder: Path, found: list[Finding]) -> dict[str, bool] | None:
    """Scopes of registries.d by name ("" for the default); None if it is not JSON."""
    scopes: dict[str, bool] = {}
    seen: set[str] = set()
    for path in sorted(folder.glob("*.yaml")):
        where = f"registries.d/{path.name}"
        try:
            rows = _attachment_rows(json.loads(_read(path)))
        except (ValueError, RecursionError, AttributeError, TypeError):
            text = "is not of the form that render writes: not looked into"
            found.append(Finding("registries_unread", "warning", where, text))
            return None
        for name in sorted(seen & rows.keys()):
            text = f"another file has {name or 'default-docker'}, too: every pull fails"
            found.append(Finding("registries_twice", "error", where, text, "keep one of them"))
        seen |= rows.keys()
        scopes |= {name: looked for name, looked in rows.items() if looked is not None}
    return scopes


def _attachment_rows(tree: Mapping[str, Any]) -> dict[str, bool | None]:
    """What each scope of a file says; None: nothing, so that the next wider one counts."""
    rows = dict(tree.get("docker", {}))
    if "default-docker" in tree:
        rows[""] = tree["default-docker"]
    return {name: row.get(_ATTACHMENTS) for name, row in rows.items()}


class _Requirement(msgspec.Struct, frozen=True, rename="camel"):
    """As much of containers-policy.json(5) as is looked into; the real program knows the rest."""

    type: str
    key_path: str | None = None
    key_paths: tuple[str, ...] | None = None
    key_data: str | None = None
    key_datas: tuple[str, ...] | None = None
    fulcio: dict[str, str] | None = None
    signed_identity: dict[str, str] | None = None


_Requirements = Annotated[tuple[_Requirement, ...], msgspec.Meta(min_length=1)]


class _Policy(msgspec.Struct, frozen=True):
    default: _Requirements
    transports: dict[str, dict[str, _Requirements]] = {}


def _shape(data: bytes) -> str | None:
    """Why this is no policy, as far as it can be told without the real program."""
    try:
        msgspec.json.decode(data, type=_Policy)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return f"is no policy: {printable(str(error))[:200]}"
    return None


def _policy(data: bytes) -> Mapping[str, Any]:
    tree: Mapping[str, Any] = json.loads(data)
    return tree


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path)) from error
    except ValueError as error:
        raise SpecError("is no path", origin=repr(str(path))) from error
    if len(data) > _SIZE_LIMIT:
        raise SpecError(f"more than {_SIZE_LIMIT} bytes", origin=str(path))
    return data
