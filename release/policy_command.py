"""``python -m release policy``: its options, and what it prints."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import SpecError, ToolMissing
from mrtd.images.program import Program
from mrtd.images.settings import read_images_file
from mrtd.printable import printable
from release.job import Job
from release.policy_folder import Drift, drift, write
from release.policy_inputs import DEFAULT, read_inputs
from release.policy_lint import Lint, LintRequest, lint
from release.policy_probe import Probe, probe
from release.refusals import Refusal, refuse

OUT: Final = Path("guest-policy")
_WIDTH: Final = 80
_SECONDS: Final = 60
_ABOUT: Final = """\
What may run in a guest is written in one file, images.toml: repositories of
ours with the keys that sign them, and images of others by digest, each with a
reason, an owner and an expiry date. Everything else is refused.

  make the guest's files of it
    python -m release policy render --out guest-policy
  are they what would be made?
    python -m release policy render --check
  what do they do, in sentences?
    python -m release policy lint guest-policy
  does this podman verify at all?
    python -m release policy probe --podman PATH
"""
_RENDER: Final = """\
Files: policy.json and registries.d (what podman applies when it pulls), keys,
dd-podman (the launcher: pull under the policy, compare the digest, start), and
the workload podman-bootstrap for dd, which puts all of it in place. The same
images.toml gives the same bytes. An exception that has expired is not
rendered. With guest.enforce_workflow, a program is asked first whether it
reads buildSignerURI.
"""
_LINT: Final = """\
skopeo (or podman) itself reads the policy, and is asked whether it verifies
anything: some distributions' builds do not. exit codes: 0 nothing wrong
(warnings do not count), 1 errors, 2 it cannot be read, 3 no program could be
asked.
"""
_PROBE: Final = """\
The program has to accept an image that is signed right and to refuse three
that are not. No released podman can enforce which GitHub workflow signed an
image (buildSignerURI): this says whether the one at hand can. exit codes: 0 it
verifies, 1 it does not, 3 it could not be asked.
"""


class Rendered(msgspec.Struct, frozen=True):
    """What ``render`` did.

    Attributes:
        folder: where.
        files: names.
        changed: whether the folder was written; with ``--check``, whether it would be.
        checked: whether it was only compared.
        drift: how the folder differed.
        exceptions: when each expires.
    """

    folder: str
    files: tuple[str, ...]
    changed: bool
    checked: bool
    drift: tuple[Drift, ...]
    exceptions: dict[str, str]


def add(verb: argparse.ArgumentParser) -> None:
    """Add the options of ``policy``."""
    raw = argparse.RawDescriptionHelpFormatter
    verb.formatter_class, verb.description = raw, _ABOUT
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, about: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=about, formatter_class=raw)
        made.add_argument("--json", action="store_true", help="JSON on stdout")
        return made

    one = action("render", "make the guest's policy of images.toml", _RENDER)
    one.add_argument("--images", type=Path, default=DEFAULT, metavar="TOML",
                     help="what may run (%(default)s)")  # fmt: skip
    one.add_argument("--out", type=Path, default=OUT, metavar="DIR",
                     help="where to (%(default)s)")  # fmt: skip
    one.add_argument("--check", action="store_true", help="write nothing; exit 1 on a difference")
    _programs(one)
    one = action("lint", "what a policy does, and what is wrong with it", _LINT)
    one.add_argument("path", nargs="?", type=Path, default=OUT, metavar="FOLDER|policy.json",
                     help="(%(default)s)")  # fmt: skip
    one.add_argument("--images", type=Path, metavar="TOML",
                     help=f"to compare with ({DEFAULT}, if it is there)")  # fmt: skip
    _programs(one)
    one = action("probe", "does a skopeo or podman verify signatures?", _PROBE)
    _programs(one)


def _programs(action: argparse.ArgumentParser) -> None:
    which = action.add_mutually_exclusive_group()
    which.add_argument("--skopeo", type=Path, metavar="PATH",
                       help="the program to ask (that on the search path)")  # fmt: skip
    which.add_argument("--podman", type=Path, metavar="PATH", help="ask this podman instead")


def run(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    """Run an action: exit code, text for people, report for programs."""
    return {"render": _render, "lint": _lint, "probe": _probe}[given.action](job, given)


def _render(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    inputs = read_inputs(given.images)
    files = inputs.render(job.now.date())
    if given.check and not given.out.is_dir():
        raise SpecError("is no folder", origin=str(given.out), hint="render it without --check")
    found = drift(given.out, files) if given.out.is_dir() else ()
    if inputs.settings.guest.enforce_workflow and not given.check:
        refuse(_of_enforcement(probe(_program(given))), what="not rendered")
    changed = bool(found) if given.check else write(given.out, files)
    report = Rendered(
        folder=str(given.out),
        files=tuple(files),
        changed=changed,
        checked=given.check,
        drift=found,
        exceptions={one.image: str(one.expires) for one in inputs.settings.exceptions},
    )
    return int(given.check and changed), _of_render(report), report


def _of_enforcement(found: Probe) -> Iterator[Refusal]:
    """A podman that does not know ``buildSignerURI`` would refuse every image."""
    if not found.signer_uri:
        yield Refusal(
            "workflow_not_enforceable",
            "guest.enforce_workflow",
            f"{found.version} does not read buildSignerURI, so that it would refuse every image",
            "leave it out: dd-podman and the status look at the workflow",
        )


def _lint(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    images = given.images or (DEFAULT if DEFAULT.exists() else None)
    settings = read_images_file(images) if images else None
    try:
        program: Program | None = _program(given)
    except ToolMissing:
        if given.skopeo or given.podman:
            raise
        program = None
    found = lint(LintRequest(given.path, program, settings, job.now.date()))
    return found.exit_code, _of_lint(found), found


def _probe(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    job.progress("asking")
    found = probe(_program(given))
    code = {True: 0, False: 1, None: 3}[found.verifies]
    return code, "\n".join(_of_probe(found)) + "\n", found


def _program(given: argparse.Namespace) -> Program:
    if given.podman:
        return Program.find("podman", given.podman, seconds=_SECONDS)
    return Program.find("skopeo", given.skopeo, seconds=_SECONDS)


def _of_render(report: Rendered) -> str:
    lines = [f"folder     {report.folder}"]
    lines += [f"file       {name}" for name in report.files if not report.checked]
    for image, expires in report.exceptions.items():
        lines += _wrap(f"exception  until {expires}: {image}")
    lines += [f"{one.kind:<10} {one.name}" for one in report.drift if report.checked]
    told = {
        (True, True): "DIFFERS from what images.toml says: render it again",
        (True, False): "is what images.toml says",
        (False, True): "written",
        (False, False): "unchanged",
    }
    return "\n".join([*lines, told[report.checked, report.changed]]) + "\n"


def _of_lint(found: Lint) -> str:
    lines = _wrap(f"policy  {found.policy}", 8)
    for scope in found.scopes:
        lines += ["", *_wrap(f"{scope.transport}:{scope.name}" if scope.name else scope.transport
                             or "default", 2), *_wrap(f"  {scope.text}", 2)]  # fmt: skip
    for one in found.findings:
        lines += ["", *_wrap(f"{one.level}: {one.id}: {one.where}", 2)]
        lines += _wrap(f"  {one.text}", 2)
        lines += _wrap(f"  -> {one.remedy}", 5) if one.remedy else []
    if found.probe is not None:
        lines += ["", *_of_probe(found.probe)]
    counts = {level: sum(one.level == level for one in found.findings)
              for level in ("error", "warning")}  # fmt: skip
    lines += ["", ", ".join(f"{count} {level}s" for level, count in counts.items())]
    return "\n".join(lines) + "\n"


def _of_probe(found: Probe) -> Iterable[str]:
    yield from _wrap(f"program  {found.version}, {found.program}", 9)
    for one in found.checks:
        if one.id == "signer_uri":
            continue
        yield f"  {one.id:<10} {one.got}{'' if one.got == one.wanted else f', not {one.wanted}'}"
    words: dict[bool | None, str] = {True: "yes", False: "NO", None: "could not be found out"}
    yield f"verifies signatures       {words[found.verifies]}"
    yield f"reads lists of keys       {words[found.key_lists]}"
    yield f"can enforce the workflow  {words[found.signer_uri]}"


def _wrap(text: str, indent: int = 11) -> list[str]:
    indented = " " * indent
    return textwrap.wrap(
        printable(text), _WIDTH, subsequent_indent=indented, break_on_hyphens=False
    )
