"""``mrtd evidence``: collect, pack, show and redact evidence of a boot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mrtd.evidence.bundle import Bundle

_DESCRIPTION: Final = """\
Evidence of one boot, in one file: TDX quote, event logs, registers, what QEMU
offered, and the launch spec and measurement document to compare it with.

collect  print the script that collects inside a guest (any POSIX shell,
         busybox too)
pack     make a bundle of what it wrote
show     what is in a bundle
redact   a bundle for a bug report: without platform, host, network, users and
         secrets
"""
_EPILOG: Final = """\
examples:
  mrtd evidence collect > collect.sh          then, in the guest, as root:
    sh collect.sh -r $NONCE_HEX -o boot.mrtd
                                              or over ssh:
    mrtd evidence collect | ssh guest sh -s > boot.mrtd
  mrtd evidence pack boot.mrtd --spec launch.toml --output boot.zip
  mrtd evidence pack --quote quote.bin --log ccel.bin --output boot.zip
  mrtd evidence show boot.zip
  mrtd evidence redact boot.zip --output report.zip
"""
# option, member of the bundle, what it is
_ADDED: Final = (
    ("--quote", "tdx/quote", "TDX quote, as bytes or hex digits"),
    ("--log", "log/CCEL", "event log of the TD"),
    ("--tpm-log", "log/binary_bios_measurements", "event log of a TPM"),
    ("--token", "token.jwt", "token of Intel Trust Authority"),
    ("--spec", "launch.toml", "launch spec"),
    ("--document", "measurement.json", "measurement document"),
)


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "evidence",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    collect = actions.add_parser("collect", help="print the collecting script")
    collect.set_defaults(run=_collect, json=False)

    pack = actions.add_parser("pack", help="make a bundle")
    pack.add_argument(
        "source", metavar="TAR|DIR", type=Path, nargs="?", help="what the script wrote, or unpacked"
    )
    pack.add_argument("--output", metavar="BUNDLE", type=Path, required=True, help="the bundle")
    for option, _, what in _ADDED:
        pack.add_argument(option, metavar="FILE", type=Path, help=f"add: {what}")
    pack.add_argument("--json", action="store_true", help="print what is in it as JSON")
    pack.set_defaults(run=_pack)

    show = actions.add_parser("show", help="what is in a bundle")
    show.add_argument("bundle", metavar="BUNDLE", type=Path, help="zip archive or folder")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)

    redact = actions.add_parser("redact", help="remove identifiers and secrets")
    redact.add_argument("bundle", metavar="BUNDLE", type=Path, help="zip archive or folder")
    redact.add_argument("--output", metavar="OUT", type=Path, required=True, help="the new bundle")
    redact.add_argument("--json", action="store_true", help="print what was removed as JSON")
    redact.set_defaults(run=_redact)


def _collect(_: argparse.Namespace) -> int:
    from mrtd.evidence.collector import collector_script  # noqa: PLC0415

    sys.stdout.write(collector_script().decode())
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from mrtd.evidence.bundle import bundle_of, write_bundle  # noqa: PLC0415

    files = {} if arguments.source is None else _collected(arguments.source)
    for option, name, _ in _ADDED:
        path = getattr(arguments, option.removeprefix("--").replace("-", "_"))
        if path is not None:
            _add(files, name, path, option)
    if not files:
        from mrtd.errors import MalformedBundle  # noqa: PLC0415 - only on failure

        raise MalformedBundle(
            "nothing to pack", origin="mrtd evidence pack", hint="name an archive, or --quote FILE"
        )
    bundle = bundle_of(files, origin=str(arguments.source or "options"))
    write_bundle(bundle, arguments.output)
    _print(bundle, as_json=arguments.json)
    return 0


def _collected(source: Path) -> dict[str, bytes]:
    from mrtd.evidence.bundle import bundle_from_collected, read_folder  # noqa: PLC0415
    from mrtd.evidence.manifest import MANIFEST  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    if source.is_dir():
        files = read_folder(source)
        files.pop(MANIFEST, None)
        return files
    data = read_file(source, key="TAR|DIR")
    return dict(bundle_from_collected(data, origin=str(source)).files)


def _add(files: dict[str, bytes], name: str, path: Path, option: str) -> None:
    from mrtd.errors import MalformedBundle  # noqa: PLC0415
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    data = read_file(path, key=option)
    if option == "--quote":
        data = _raw(data)
    if files.get(name, data) != data:
        raise MalformedBundle(
            f"is not the {name} that was collected", origin=str(path), field=option
        )
    files[name] = data


def _raw(quote: bytes) -> bytes:
    """The bytes of a quote that may be in hex digits."""
    try:
        return bytes.fromhex(quote.decode("ascii").strip().removeprefix("0x"))
    except ValueError:
        return quote


def _show(arguments: argparse.Namespace) -> int:
    from mrtd.evidence.bundle import read_bundle  # noqa: PLC0415

    _print(read_bundle(arguments.bundle), as_json=arguments.json)
    return 0


def _redact(arguments: argparse.Namespace) -> int:
    from mrtd.evidence.bundle import read_bundle, write_bundle  # noqa: PLC0415
    from mrtd.evidence.redact import redact  # noqa: PLC0415

    bundle, removed = redact(read_bundle(arguments.bundle))
    write_bundle(bundle, arguments.output)
    if arguments.json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode({"removed": removed, "members": list(bundle.files)}).decode())
        return 0
    for line in removed or ("nothing that was recognised",):
        print(f"removed: {line}")
    print("Rules know names and formats, not meanings: read it before you pass it on.")
    return 0


def _print(bundle: Bundle, *, as_json: bool) -> None:
    from mrtd.cli.evidence_tables import print_bundle, to_json  # noqa: PLC0415

    if as_json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(to_json(bundle)).decode())
    else:
        print_bundle(bundle)
