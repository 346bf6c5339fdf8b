"""Launch for evidence: the one place where cross-check and challenge meet `ci.launch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrtd.evidence.bundle import Bundle, bundle_of
from mrtd.evidence.manifest import MEMBERS
from mrtd.launch.spec import LaunchSpec

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Launched:
    """A launch that came to its end.

    Attributes:
        bundle: what the guest sent.
        qemu_version: such as ``11.1.3``.
    """

    bundle: Bundle
    qemu_version: str


def launch_plain(
    spec: LaunchSpec,
    folder: Path,
    *,
    qemu: Path | None,
    timeout: float,
    accel: str = "tcg",
    progress: Progress = lambda _: None,
) -> Launched:
    """Boot without TDX. Raises what `ci.launch.launch` raises."""
    from ci.launch import boot_plain  # noqa: PLC0415 - qemu.qmp is an extra

    progress("booting without TDX")
    result = boot_plain(spec, folder=folder, qemu=qemu, timeout=timeout, accel=accel)
    return Launched(_bundle(dict(result.files)), result.qemu_version)


def launch_tdx(
    spec: LaunchSpec,
    folder: Path,
    *,
    qemu: Path | None,
    timeout: float,
    report_data: bytes | None = None,
    progress: Progress = lambda _: None,
) -> Launched:
    """Launch a TD. Raises what `ci.launch.launch` raises."""
    from ci.launch import boot_tdx  # noqa: PLC0415 - qemu.qmp is an extra

    progress("launching a TD")
    result = boot_tdx(spec, folder=folder, qemu=qemu, timeout=timeout, report_data=report_data)
    return Launched(_bundle(dict(result.files)), result.qemu_version)


def _bundle(files: dict[str, bytes]) -> Bundle:
    known = {name: data for name, data in files.items() if name in MEMBERS}
    return bundle_of(known, origin="the launched guest")
