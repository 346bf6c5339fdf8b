"""``python -m ci images``: build example disk images, each with a launch spec beside it."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.errors import SpecError, ToolMissing

if TYPE_CHECKING:
    from ci.images.catalogue import Image
    from ci.images.inputs import Inputs

_DESCRIPTION: Final = """\
Build disk images to measure, launch and audit, from Debian packages: a UKI,
boot loaders, a verity root, and so on; docs/example-images.md describes each.
No root is needed, and the same packages give the same bytes. Beside the disk
is a launch.toml for it. Needs mkfs.vfat, mtools, sgdisk, debugfs, mksquashfs,
veritysetup and qemu-img.
"""
_EPILOG: Final = """\
examples:
  python -m ci images                            lists them
  python -m ci images uki-257 --out images       writes images/uki-257
  python -m ci images verity --out i --format qcow2 --firmware ovmf-sid
"""
_SPEC: Final = """\
# Written by python -m ci images; docs/launch-spec.md explains every key.
schema = "mrtd.launch/1"

[about]
name = "{name}: {about}"

[vmm]
kind = "qemu"
version = "{qemu}"

[machine]
memory = "1 GiB"
vcpus = 1
cpu = "qemu64"
devices = [
{devices}]

[firmware]
path = "OVMF.fd"
{variables}
[boot]
kind = "disk"
disk = "disk0"
"""
_DISK: Final = """
[[disks]]
name = "{name}"
path = "{file}"
format = "{format}"
"""
_FIRMWARE: Final = "usr/share/ovmf/OVMF.fd"
# Code without a variable store, for images that bring one: only this build takes it.
_CODE: Final = ("ovmf-bookworm", "usr/share/OVMF/OVMF_CODE.fd")


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "images",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("names", metavar="NAME", nargs="*", help="images, or all; none lists them")
    verb.add_argument("--out", metavar="DIR", type=Path, help="where to write")
    verb.add_argument("--format", choices=("raw", "qcow2"), default="raw", help="(default: raw)")
    verb.add_argument(
        "--firmware",
        choices=("ovmf-bookworm", "ovmf-trixie", "ovmf-sid"),
        default="ovmf-trixie",
        help="(default: ovmf-trixie, edk2 2025.02); not for images with a vars.fd",
    )
    verb.add_argument("--qemu", metavar="PATH", type=Path, help="whose version the spec names")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List or build; the exit code."""
    from ci.images.catalogue import IMAGES  # noqa: PLC0415 - only when the verb runs

    if not arguments.names:
        _say(arguments, {image.name: image.about for image in IMAGES.values()})
        return 0
    names = list(IMAGES) if arguments.names == ["all"] else arguments.names
    if unknown := sorted(set(names) - set(IMAGES)):
        raise SpecError(
            f"no image is called {', '.join(unknown)}",
            origin="command line",
            hint="python -m ci images lists them",
        )
    if arguments.out is None:
        raise SpecError("--out DIR is missing", origin="command line")
    from ci.images.inputs import debian_inputs  # noqa: PLC0415
    from ci.packages import fetch  # noqa: PLC0415

    inputs = debian_inputs()
    version = _qemu_version(arguments.qemu)
    written = {}
    for name in names:
        folder = arguments.out / name
        write_image(IMAGES[name], inputs, folder, kind=arguments.format)
        brings_variables = (folder / "vars.fd").exists()
        part, file = _CODE if brings_variables else (arguments.firmware, _FIRMWARE)
        (folder / "OVMF.fd").write_bytes(fetch((part,))[part].file(file).read_bytes())
        text = spec_text(IMAGES[name], folder, kind=arguments.format, qemu=version)
        (folder / "launch.toml").write_text(text, encoding="utf-8")
        written[name] = str(folder / "launch.toml")
    _say(arguments, written)
    return 0


def write_image(image: Image, inputs: Inputs, folder: Path, *, kind: str) -> None:
    """Write an image's disks into a folder, whole or not at all, as ``raw`` or ``qcow2``.

    Raises:
        SpecError: the folder cannot be made.
        ToolMissing, ToolFailed: of the programs that make disks.
    """
    from ci.images.disk import write_qcow2  # noqa: PLC0415 - only when the verb runs
    from mrtd.cli.output import make_folder  # noqa: PLC0415

    make_folder(folder, option="--out")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        work = Path(temporary)
        image.build(inputs, work)
        if kind == "qcow2":
            for disk in sorted(work.glob("*.raw")):
                write_qcow2(disk, disk.with_suffix(".qcow2"))
                disk.unlink()
        if (folder / "keys").exists():
            shutil.rmtree(folder / "keys")
        for made in sorted(work.iterdir()):
            made.replace(folder / made.name)


def spec_text(image: Image, folder: Path, *, kind: str, qemu: str) -> str:
    """The launch spec for the disks in a folder, the boot disk first."""
    from ci.payload import CHANNEL_DEVICES  # noqa: PLC0415 - only when the verb runs

    files = sorted(folder.glob(f"*.{kind}"), key=lambda path: (path.stem != "disk", path.name))
    disks = {f"disk{number}": path.name for number, path in enumerate(files)}
    devices = (*CHANNEL_DEVICES, *(f"virtio-blk-pci,drive={name}" for name in disks))
    return _SPEC.format(
        name=image.name,
        about=image.about,
        qemu=qemu,
        variables='vars = "vars.fd"\n' if (folder / "vars.fd").exists() else "",
        devices="".join(f'    "{device}",\n' for device in devices),
    ) + "".join(_DISK.format(name=name, file=file, format=kind) for name, file in disks.items())


def _qemu_version(qemu: Path | None) -> str:
    from mrtd.qemu.process import find_qemu, qemu_version  # noqa: PLC0415

    try:
        return qemu_version(find_qemu(qemu))
    except ToolMissing:
        if qemu is not None:
            raise
        return "10.1"  # the first with TDX; nothing here runs it


def _say(arguments: argparse.Namespace, lines: dict[str, str]) -> None:
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(lines).decode())
        return
    width = max(map(len, lines), default=0)
    for name, text in lines.items():
        print(f"{name:{width}}  {text}")
