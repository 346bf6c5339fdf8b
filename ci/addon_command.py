"""``python -m ci addon``: the launch of a real image with the measuring agent in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.errors import SpecError

if TYPE_CHECKING:
    from ci.guest.carried import Carried
    from mrtd.registers import Target

_DESCRIPTION: Final = """\
Put the agent that sends evidence into the launch of a real image, which is not
written: what changes is a copy in DIR, with a launch.toml that launches it.
Says which registers the agent moves; the others show the image as it is.
"""
_EPILOG: Final = """\
carriers, tried in this order:
  root    PID 1 of an ext4 root that nothing measures; moves no register
  addon   an add-on beside the UKI on the ESP (systemd-stub from 257 on)
  initrd  appended to the initrd of a direct kernel boot

examples:
  python -m ci addon launch.toml --out carried
  python -m ci crosscheck carried/launch.toml --save boot.zip

exit codes: 0 written; 2 the image takes no such carrier, or bad input;
3 a program is missing
"""
_STUBS: Final = Path("/usr/lib/systemd/boot/efi/addonx64.efi.stub")


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "addon",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("spec", metavar="SPEC", type=Path, help="launch.toml of the image")
    verb.add_argument("--out", metavar="DIR", type=Path, required=True, help="where to write")
    verb.add_argument("--carrier", choices=("root", "addon", "initrd"), help="(default: first)")
    verb.add_argument("--busybox", metavar="FILE", type=Path, help="static (default: fetched)")
    verb.add_argument(
        "--module", metavar="FILE", type=Path, action="append", default=[],
        help="kernel module for the guest (.ko, .ko.xz); may be repeated, order kept",
    )  # fmt: skip
    verb.add_argument("--stub", metavar="FILE", type=Path, help="systemd's stub of add-ons")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the launch and say what moves; the exit code."""
    from ci.guest.addon import carry  # noqa: PLC0415 - only when the verb runs
    from ci.guest.carried import Agent, Carrier  # noqa: PLC0415
    from ci.spec_text import spec_text  # noqa: PLC0415
    from mrtd.cli.output import make_folder  # noqa: PLC0415
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415

    spec = read_spec_file(arguments.spec)
    folder = arguments.spec.parent
    if arguments.out.resolve() == folder.resolve():
        raise SpecError("is the folder of SPEC, which is left as it is", origin="--out")
    modules = {
        f"{number:02}-{path.name}": _read(path) for number, path in enumerate(arguments.module)
    }
    make_folder(arguments.out, option="--out")
    carried = carry(
        spec,
        folder,
        arguments.out,
        Agent(_busybox(arguments.busybox), modules),
        stub=lambda: _stub(arguments.stub),
        carrier=Carrier(arguments.carrier) if arguments.carrier else None,
    )
    written = arguments.out / "launch.toml"
    written.write_text(spec_text(carried.spec), encoding="utf-8")
    _say(carried, written, as_json=arguments.json)
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", origin=str(path)) from error


def _busybox(path: Path | None) -> bytes:
    from ci.guest.initramfs import read_busybox  # noqa: PLC0415
    from ci.packages import fetch  # noqa: PLC0415

    if path is not None:
        return read_busybox(path)
    return fetch(("busybox-trixie",))["busybox-trixie"].file("usr/bin/busybox").read_bytes()


def _stub(path: Path | None) -> bytes:
    from ci.packages import fetch  # noqa: PLC0415

    if path is None and not _STUBS.exists():
        return fetch(("systemd-trixie",))["systemd-trixie"].file(str(_STUBS)[1:]).read_bytes()
    return _read(path or _STUBS)


def _say(carried: Carried, written: Path, *, as_json: bool) -> None:
    from mrtd.document import encode  # noqa: PLC0415
    from mrtd.registers import Target  # noqa: PLC0415

    def names(target: Target) -> list[str]:
        ordered = sorted(carried.moved, key=lambda event: event.pcr)
        return list(dict.fromkeys(event.register(target).upper() for event in ordered))

    if as_json:
        events = [
            {
                "pcr": event.pcr,
                "register": event.register(Target.CC),
                "event": event.event,
                "digest": None if event.digest is None else str(event.digest),
                "why": event.why,
            }
            for event in carried.moved
        ]
        answer = {"carrier": carried.carrier, "spec": str(written), "about": carried.about}
        moves = {"rtmrs": names(Target.CC), "pcrs": names(Target.TPM), "events": events}
        sys.stdout.write(encode(answer | {"moves": moves}).decode())
        return
    print(f"{written}: carrier {carried.carrier}")
    for sentence in carried.about:
        print(f"  {sentence}")
    moved = ", ".join(names(Target.CC)) or "no register"
    print(f"moves {moved} ({', '.join(names(Target.TPM)) or 'no PCR'})")
    for event in carried.moved:
        print(f"  PCR {event.pcr:<2} {event.event}: {event.why}")
