"""What tests share: real parts, the corpus, foreign programs, and hypothesis's settings.

A test whose part or program is missing is skipped with the reason, which pytest prints (``-r s``);
in CI, where everything has to be there, it fails.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import hypothesis
import pytest

from ci.apt import PackagesUnavailable
from ci.packages import MANIFEST, Part, cached
from ci.system import TOOLS, find_program, install_command

ROOT: Final = Path(__file__).resolve().parents[1]
IN_CI: Final = bool(os.environ.get("CI"))

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "local")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if IN_CI:
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


@dataclass(frozen=True, slots=True)
class DebianParts:
    """Files of Debian packages, of versions that are not installed.

    ``ovmf_...``, ``inteltdx_...`` and ``kernel_...`` are named for what their suites had when the
    tests were written; `versions` says what they have, and golden figures go by file digest.

    Attributes:
        ovmf_2022_11: OVMF.fd of bookworm.
        ovmf_2025_02: OVMF.fd of trixie.
        ovmf_2026_08: OVMF.fd of sid (ovmf-generic).
        inteltdx_2026_08: OVMF.inteltdx.ms.fd of sid.
        ovmf_folders: folder with OVMF_CODE*.fd and OVMF_VARS*.fd, by Debian release.
        kernel_6_12: vmlinuz of trixie's cloud kernel.
        kernel_modules: folder with that kernel's modules (.ko.xz).
        qemu_10: qemu-system-x86_64 of trixie, runnable here.
        qemu_11: qemu-system-x86_64 of trixie-backports, runnable here.
        busybox: a static busybox.
        cosign: cosign of sid, runnable here.
        versions: part name to version of its package.
    """

    ovmf_2022_11: Path
    ovmf_2025_02: Path
    ovmf_2026_08: Path
    inteltdx_2026_08: Path
    ovmf_folders: dict[str, Path]
    kernel_6_12: Path
    kernel_modules: Path
    qemu_10: Path
    qemu_11: Path
    busybox: Path
    cosign: Path
    versions: dict[str, str]


def debian_part(name: str) -> Part:
    """A part that ``python -m ci.packages`` has fetched; skips, or fails in CI, without it."""
    part = cached(name)
    if part is None:
        unavailable(f"no {name}/{MANIFEST} in the cache: python -m ci.packages fetches it")
    return part


@pytest.fixture(scope="session")
def debian() -> DebianParts:
    """The parts that ``python -m ci.packages`` has fetched from Debian."""
    ovmf = {release: debian_part(f"ovmf-{release}") for release in ("bookworm", "trixie", "sid")}
    inteltdx, kernel = debian_part("inteltdx-sid"), debian_part("kernel-trixie")
    qemu = {suite: debian_part(f"qemu-{suite}") for suite in ("trixie", "backports")}
    busybox, cosign = debian_part("busybox-trixie"), debian_part("cosign-sid")
    parts = (*ovmf.values(), inteltdx, kernel, *qemu.values(), busybox, cosign)
    image = "usr/share/ovmf/OVMF.fd"
    try:
        return DebianParts(
            ovmf_2022_11=ovmf["bookworm"].file(image),
            ovmf_2025_02=ovmf["trixie"].file(image),
            ovmf_2026_08=ovmf["sid"].file(image),
            inteltdx_2026_08=inteltdx.file("usr/share/ovmf/OVMF.inteltdx.ms.fd"),
            ovmf_folders={name: part.file("usr/share/OVMF") for name, part in ovmf.items()},
            kernel_6_12=kernel.file("boot/vmlinuz-*"),
            kernel_modules=kernel.file("usr/lib/modules/*"),
            qemu_10=qemu["trixie"].file("qemu-system-x86_64"),
            qemu_11=qemu["backports"].file("qemu-system-x86_64"),
            busybox=busybox.file("usr/bin/busybox"),
            cosign=cosign.file("usr/bin/cosign"),
            versions={part.name: part.version for part in parts},
        )
    except PackagesUnavailable as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder with other projects' evidence from real machines, beside the checkout."""
    path = ROOT.parent / "shared" / "corpus"
    if not (path / "README.md").exists():
        # Not ours to publish, so its absence fails nothing, anywhere; but it is said.
        pytest.skip("no corpus beside the checkout (../shared/corpus)")
    return path


def require_tool(name: str) -> Path:
    """The program behind a name of `ci.system.TOOLS`; skips, or fails in CI, without it."""
    tool = TOOLS[name]
    found = find_program(tool.program)
    if found is None:
        unavailable(f"{tool.program} is not installed: {' '.join(install_command([tool]))}")
    return found


_LONG_ID = 60


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long text or bytes is no name: keys and times in it would differ between workers."""
    if isinstance(val, str | bytes) and (isinstance(val, bytes) or len(val) > _LONG_ID):
        return argname
    return None
