"""The agent as PID 1 of a root file system that nothing measures: no register moves.

All that a launch measures is measured when PID 1 starts; what the image's own software would
extend later (RTMR3, IMA's PCR 10) is missing, for it does not start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ci.guest.carried import Agent, Carried, Carrier
from ci.guest.image import Image
from ci.images.disk import add_to_ext4, read_from_ext4
from mrtd.disk.verity_cmdline import parameters, verity_arguments
from mrtd.disk.volumes import Volume
from mrtd.errors import SpecError

FOLDER: Final = "usr/lib/mrtd"
"""Where the agent is on the root file system."""

_INITS: Final = ("sbin/init", "usr/sbin/init")
_SHEBANG: Final = b"#!/bin/busybox sh\n"
_OURS: Final = f"#!/{FOLDER}/bin/busybox sh\n".encode()


def check_root(image: Image) -> Volume:
    """The partition whose init can be replaced.

    Raises:
        SpecError: there is none, or what is on it is measured.
    """
    cmdline = image.cmdline()
    if cmdline is None:
        raise SpecError("which root file system it mounts is not known", origin=image.origin)
    if hashes := verity_arguments(cmdline):
        raise SpecError(
            f"the command line's {hashes[0].key}= protects the root file system: changed, it "
            "would not be mounted",
            origin=image.origin,
        )
    device = dict(parameters(cmdline)).get("root", "")
    found = image.volumes(device)
    if len(found) != 1:
        raise SpecError(
            f"root={device or '?'} does not tell which partition is the root file system",
            origin=image.origin,
        )
    if found[0].content is None or found[0].content.kind != "ext4":
        raise SpecError(
            f"{found[0]} is not ext4, which alone can be written to", origin=image.origin
        )
    return found[0]


def carry_root(image: Image, out: Path, agent: Agent) -> Carried:
    """Write a copy of the disk whose PID 1 is the agent.

    Args:
        image: the disk that boots.
        out: the folder to write to.
        agent: what is carried.

    Raises:
        SpecError: see `check_root`; or the file system has no init.
        ToolMissing, ToolFailed: of qemu-img or debugfs.
    """
    volume = check_root(image)
    copy = image.copy_to(out)
    named = dict(parameters(image.cmdline() or "")).get("init", "").lstrip("/")
    inits = [named] if named else list(_INITS)
    there = [name for name in inits if read_from_ext4(copy, name, offset=volume.offset)]
    if not there:
        copy.unlink()
        raise SpecError(f"{volume} has no /{' and no /'.join(inits)}", origin=image.origin)
    files = {f"{FOLDER}/{name}": content for name, (_, content) in agent.files().items()}
    init = f"{FOLDER}/init"
    files[init] = _OURS + files[init].removeprefix(_SHEBANG)
    # not a link: the agent looks for its files beside itself
    files[there[0]] = _OURS + f"exec /{init}\n".encode()
    executable = [init, f"{FOLDER}/bin/busybox", there[0]]
    add_to_ext4(copy, files, offset=volume.offset, executable=executable)
    about = (
        f"{volume}: /{there[0]} is the agent, in a copy of the disk",
        "the image's software does not start; what it would extend itself is missing",
    )
    return Carried(Carrier.ROOT, image.spec_with(copy), (), about)
