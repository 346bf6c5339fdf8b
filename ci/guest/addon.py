"""Puts the guest's agent into the launch of a real image, and says which registers that moves.

How it gets in depends on the image. The first way that its boot takes is chosen, the one that
leaves most as it is: PID 1 of a root file system that nothing measures (no register moves), an
add-on of systemd's stub, the initrd of a direct boot. The image itself is never written: what
changes is a copy in another folder, with a spec that launches it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ci.guest.carried import Agent, Carried, Carrier
from ci.guest.carry_addon import carry_addon, check_addon
from ci.guest.carry_initrd import carry_initrd
from ci.guest.carry_root import carry_root, check_root
from ci.guest.image import Image
from ci.spec_text import absolute
from mrtd.errors import InputError, SpecError
from mrtd.launch.spec import DirectBoot, DiskBoot, LaunchSpec

Stub = Callable[[], bytes]
_CHECKS: Final[dict[Carrier, Callable[[Image], object]]] = {
    Carrier.ROOT: check_root,
    Carrier.ADDON: check_addon,
}


def possible(spec: LaunchSpec) -> dict[Carrier, str]:
    """Every carrier with the reason against it, empty where there is none.

    ``spec``: a launch whose paths are absolute.
    """
    if isinstance(spec.boot, DirectBoot):
        direct = "the launch is a direct kernel boot"
        return {Carrier.ROOT: direct, Carrier.ADDON: direct, Carrier.INITRD: ""}
    if not isinstance(spec.boot, DiskBoot):
        reason = "td-shim is not launched here, only derived"
        return dict.fromkeys(Carrier, reason)
    found = {}
    for carrier, check in _CHECKS.items():
        try:
            check(Image(spec))
            found[carrier] = ""
        except InputError as error:
            found[carrier] = error.message
    return found | {Carrier.INITRD: "the initrd comes from the disk"}


def carry(
    spec: LaunchSpec,
    folder: Path,
    out: Path,
    agent: Agent,
    *,
    stub: Stub,
    carrier: Carrier | None = None,
) -> Carried:
    """Write what a launch needs to carry the agent.

    Args:
        spec: the launch of the image.
        folder: what its paths are relative to.
        out: the folder to write to, which is there.
        agent: what is carried.
        stub: gets systemd's stub of add-ons, if it is needed.
        carrier: which way; by default the first that is possible.

    Raises:
        SpecError: the image does not take that carrier, or any; the hint names others.
        InputError: the image is malformed.
        ToolMissing, ToolFailed: of the programs that change disks.
    """
    spec = absolute(spec, folder)
    image = Image(spec)
    reasons = possible(spec)
    free = [way for way, reason in reasons.items() if not reason]
    if carrier is None and not free:
        why = "; ".join(f"{way}: {reason}" for way, reason in reasons.items())
        raise SpecError(
            f"nothing carries the agent into this image ({why})",
            origin="launch spec",
            hint="start its kernel, initrd and command line directly (boot.kind = direct)",
        )
    if carrier is not None and reasons[carrier]:
        raise SpecError(
            f"the image takes no {carrier} carrier: {reasons[carrier]}",
            origin="launch spec",
            hint=f"possible: {', '.join(free) or 'none'}",
        )
    match carrier or free[0]:
        case Carrier.ROOT:
            return carry_root(image, out, agent)
        case Carrier.ADDON:
            return carry_addon(image, out, agent, stub)
        case Carrier.INITRD:
            return carry_initrd(spec, out, agent)
