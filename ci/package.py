"""Build the wheel and the sdist, look at them as a stranger would, and use them.

``python -m ci.package`` builds both, checks their metadata with twine and their contents (the
library and nothing else), installs the wheel into an empty environment, and runs ``mrtd`` there.
With ``--tool`` it also runs it as ``uvx`` and ``pipx run`` do. Needs a package index.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from mrtd import __version__
from mrtd.errors import MrtdError, ToolFailed

ROOT: Final = Path(__file__).resolve().parents[1]
_SECONDS: Final = 900
# What may lie beside `mrtd/` in a wheel and in an sdist.
_WHEEL: Final = ("mrtd", f"mrtd-{__version__}.dist-info")
_SDIST: Final = (
    ".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "docs", "fixtures", "mrtd",
    "pyproject.toml", "tests",
)  # fmt: skip
_NOT_OURS: Final = ("ci", "release", "benchmarks")
_METADATA: Final = (
    "Name: mrtd", f"Version: {__version__}", "License-Expression: Apache-2.0",
    "Requires-Python: >=3.11", "Description-Content-Type: text/markdown",
)  # fmt: skip


def build(folder: Path) -> tuple[Path, Path]:
    """Build into a folder; the wheel and the sdist. Raises `ToolFailed`."""
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)])
    wheels, sdists = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise ToolFailed(f"made {len(wheels)} wheels and {len(sdists)} sdists", origin="build")
    return wheels[0], sdists[0]


def problems(wheel: Path, sdist: Path) -> list[str]:
    """What is wrong with their contents, one sentence each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"mrtd-{__version__}.dist-info/METADATA").decode()
    with tarfile.open(sdist) as archive:
        below = [name.partition("/")[2] for name in archive.getnames()]
    found = [f"wheel: {name} does not belong there" for name in _strangers(names, _WHEEL)]
    found += [f"sdist: {name} does not belong there" for name in _strangers(below, _SDIST)]
    found += [f"wheel: {n} is missing" for n in ("mrtd/py.typed",) if n not in names]
    found += [f"metadata: no {line!r}" for line in _METADATA if line not in metadata.splitlines()]
    return found


def _strangers(names: Iterable[str], known: Sequence[str]) -> list[str]:
    tops = {name.partition("/")[0] for name in names if name}
    return sorted(top for top in tops if top not in known)


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install a wheel into an empty environment and use it there. Raises `ToolFailed`."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", str(wheel)])
    shown = run([str(folder / "bin" / "mrtd"), "--version"])
    if shown.strip() != f"mrtd {__version__}":
        raise ToolFailed(f"says {shown.strip()!r}", origin="mrtd --version")
    run([str(folder / "bin" / "mrtd"), "measure", "--help"])
    code = "import importlib.util as u; print(*[n for n in {!r} if u.find_spec(n)])"
    if others := run([python, "-c", code.format(_NOT_OURS)], cwd=folder).split():
        raise ToolFailed(f"brings {', '.join(others)}", origin=wheel.name)


def try_tools(wheel: Path) -> None:
    """Run a wheel as ``uvx`` and ``pipx run`` do. Raises `ToolFailed`."""
    for command in (
        ["uvx", "--from", str(wheel), "mrtd", "--version"],
        ["pipx", "run", "--spec", str(wheel), "mrtd", "--version"],
    ):
        shown = run(command)
        if f"mrtd {__version__}" not in shown:
            raise ToolFailed(f"says {shown.strip()!r}", origin=command[0])


def run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """What a program prints. Raises `ToolFailed`."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, cwd=cwd or tempfile.gettempdir(),
            encoding="utf-8", env=kept, errors="replace", stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"cannot be run: {error}", origin=command[0]) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ToolFailed(f"ended with {done.returncode}: {' | '.join(last)}", origin=command[0])
    return done.stdout


def main(words: list[str] | None = None) -> int:
    """Build, check, install, run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci.package", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep wheel and sdist there")
    parser.add_argument("--tools", action="store_true", help="run it with uvx and pipx, too")
    given = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory(prefix="mrtd-package-") as temporary:
            folder = Path(temporary)
            wheel, sdist = build(given.out or folder / "dist")
            run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
            if found := problems(wheel, sdist):
                print("\n".join(found))
                return 1
            try_wheel(wheel, folder / "environment")
            if given.tools:
                try_tools(wheel)
    except MrtdError as error:
        print(f"ci.package: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{wheel.name} and {sdist.name}: metadata complete, nothing but the library, runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
