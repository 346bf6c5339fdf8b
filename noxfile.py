"""The commands of this project: ``nox -l`` lists them, ``nox -s measure`` is the first to try.

Sessions run in plain virtual environments (or uv's, where uv is installed) with the versions that
``uv.lock`` names. Only ``measure``, ``tests`` and ``oracle`` need more than Python: see
``ci/system.py`` (system packages) and ``ci/packages.py`` (firmware, kernels and QEMU from Debian).
"""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT: Final = Path(__file__).parent
CACHE: Final = ROOT / ".cache"
PYPROJECT: Final = nox.project.load_toml(ROOT / "pyproject.toml")
# What the dependencies have most to do with; everything else is the same with any version.
OF_DEPENDENCIES: Final = ("tests/verifier", "tests/reference", "tests/service", "tests/cli")
COVERAGE_FLOOR_PERCENT: Final = 95
COVERED: Final = ("mrtd/boot", "mrtd/disk", "mrtd/eventlog", "mrtd/firmware")


def _constraints() -> Path:
    """The lock file as pip understands it, so that no session depends on uv."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    packages = [entry for entry in locked if "registry" in entry["source"]]
    # A package locked twice has one version for each platform or Python: pip chooses by itself.
    versions = Counter(entry["name"] for entry in packages)
    lines = [f"{p['name']}=={p['version']}\n" for p in packages if versions[p["name"]] == 1]
    path = CACHE / "constraints.txt"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(path)
    return path


def _install(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install the project and dependency groups of pyproject.toml, at the locked versions."""
    requirements = [r for group in groups for r in nox.project.dependency_groups(PYPROJECT, group)]
    project = f".[{extras}]" if extras else "."
    session.install("-c", str(_constraints()), "-e", project, *requirements)


def _pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest in a network namespace of its own: a test that reaches out fails."""
    session.run("python", "-m", "ci.offline", "python", "-m", "pytest", *arguments)


def _covered(session: nox.Session, folder: str) -> bool:
    """Report the coverage of a folder; whether it is as high as it has to be."""
    floor = f"--fail-under={COVERAGE_FLOOR_PERCENT}"
    try:
        session.run("coverage", "report", f"--include={folder}/*", floor)
    except nox.command.CommandFailed:
        return False
    return True


@nox.session
def measure(session: nox.Session) -> None:
    """Measure a TD launch: an example from real parts, or the ``launch.toml`` after ``--``."""
    _install(session)
    arguments = session.posargs
    if not arguments or arguments[0].startswith("-"):
        example = CACHE / "example"
        session.run("python", "-m", "ci.example", "--out", str(example))
        options = (example / "options.txt").read_text(encoding="utf-8").splitlines()
        arguments = [str(example / "launch.toml"), *options, *arguments]
    session.run("mrtd", "measure", *arguments)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests without a network; arguments after ``--`` go to pytest."""
    _install(session, "test", extras="ci,service")
    session.run("python", "-m", "ci.system", "qemu", "swtpm", "tpm2", "busybox", "cpio")
    session.run("python", "-m", "ci.system", "dash", "shellcheck", "registry", "npm", "redis")
    session.run("python", "-m", "ci.system", "qemu-img", "sgdisk", "mkfs.vfat", "mkfs.ext4")
    session.run("python", "-m", "ci.system", "mtools", "veritysetup", "mksquashfs")
    session.run("python", "-m", "ci.system", "debugfs", "sbsign")
    session.run("python", "-m", "ci.system", "chromium")  # by itself: not every release has it
    session.run("python", "-m", "ci.packages")
    if session.posargs:
        _pytest(session, *session.posargs)
        return
    _pytest(session, "-n", "2", "-m", "not oracle", "--cov", "--cov-report=")
    below = [folder for folder in COVERED if not _covered(session, folder)]
    if below:
        session.error(f"coverage below {COVERAGE_FLOOR_PERCENT} %: {', '.join(below)}")


@nox.session(default=False)
def crosscheck(session: nox.Session) -> None:
    """Boot the example (or a ``launch.toml``) without TDX, and check what was derived of it."""
    _install(session, extras="ci,dcap,verifier")
    session.run("python", "-m", "ci.system", "swtpm")
    arguments = session.posargs
    if not arguments or arguments[0].startswith("-"):
        example = CACHE / "example"
        session.run("python", "-m", "ci.example", "--out", str(example))
        options = (example / "options.txt").read_text(encoding="utf-8").splitlines()
        arguments = [str(example / "launch.toml"), *options, *arguments]
    session.run("python", "-m", "ci", "crosscheck", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, workflows, and that generated files are what the code generates."""
    _install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--quiet", ".github/workflows")
    session.run("python", "-m", "ci.schema", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly, tests and this file included."""
    _install(session, "lint", "test", extras="ci,service")
    session.run("mypy", *session.posargs)


@nox.session
def oracle(session: nox.Session) -> None:
    """Compare with foreign programs: lief (Authenticode), virt-firmware (firmware), libvirt."""
    _install(session, "test", "oracle", extras="ci,service")
    session.run("python", "-m", "ci.system", "qemu", "virsh", "libvirt")
    session.run("python", "-m", "ci.packages")
    _pytest(session, "-m", "oracle", *session.posargs)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """Build wheel and sdist, look into them, and run them as pip, uvx and pipx do."""
    _install(session, "package")
    session.run("python", "-m", "ci.package", "--tools", *session.posargs)


@nox.session(default=False)
def reproduce(session: nox.Session) -> None:
    """Build the package and the example twice, in different places and times; compare bytes."""
    _install(session, "package")
    session.install("hatchling")  # the builds share it: what is compared is what it makes
    session.run("python", "-m", "ci.packages")
    session.run("python", "-m", "ci.reproduce", *session.posargs)


@nox.session(default=False)
@nox.parametrize("versions", ["minimum", "newest"])
def dependencies(session: nox.Session, versions: str) -> None:
    """Tests with the oldest dependencies that pyproject.toml allows, or with today's newest."""
    resolution = {"minimum": "lowest-direct", "newest": "highest"}[versions]
    session.install("uv")
    session.run("uv", "pip", "install", "--quiet", "--upgrade", "--resolution", resolution,
                "-e", ".[ci,service]", "--group", "test")  # fmt: skip
    chosen = session.posargs or OF_DEPENDENCIES
    _pytest(session, "-n", "2", "-m", "not qemu and not oracle", *chosen)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Report speed as ratios within one run: hashing, a whole measurement, asking QEMU."""
    _install(session, "test", extras="ci,service")
    session.run("python", "-m", "ci.system", "wrk")
    session.run("python", "-m", "ci.packages")
    session.run("python", "-m", "benchmarks.measure")
    session.run("python", "-m", "benchmarks.matrix", success_codes=[0, 1])
    session.run("python", "-m", "benchmarks.eventlog")
    session.run("python", "-m", "benchmarks.attest")
    session.run("python", "-m", "benchmarks.disk")
    session.run("python", "-m", "benchmarks.verifier")
    session.run("python", "-m", "benchmarks.service")
    session.run("python", "-m", "benchmarks.fleet")
    session.run("python", "-m", "benchmarks.scale")
    qemu = CACHE / "parts" / "qemu-backports" / "qemu-system-x86_64"
    options = ["--qemu", str(qemu)] if qemu.exists() else []
    session.run("python", "-m", "benchmarks.qtest_dump", *options, *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Fuzz every parser with atheris; ``-- SECONDS`` for each, 20 by default."""
    _install(session, "fuzz", extras="verifier")
    session.run("python", "-m", "ci.fuzz", *session.posargs)
