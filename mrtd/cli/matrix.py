"""``mrtd matrix``: one launch on machines of several sizes."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mrtd.cli.sides import add_qemu, measure_options

if TYPE_CHECKING:
    from mrtd.matrix import Matrix
    from mrtd.reference import ReferenceValues
    from mrtd.shapes import Axis, Shape

_DESCRIPTION: Final = """\
Derive a launch on every shape of machine that it runs on, all of them at once:
what the shape does not change is read and hashed once. The result is one
reference-values document, and which registers each axis of the matrix touches.
"""
_EPILOG: Final = """\
examples:
  mrtd matrix launch.toml --vcpus 1,2,4,8 --memory 2G,4G,16G
                                  12 shapes; the installed QEMU is asked for the
                                  ACPI tables of each, as many at once as cores
  mrtd matrix launch.toml --vcpus 2,4 --output reference.json
                                  the document: for `mrtd rederive` and `diff`
  mrtd matrix launch.toml --vcpus 2,4 --documents measured
                                  a measurement document for each shape, for
                                  python -m release attest measured/*.json
  mrtd matrix launch.toml --vcpus 2,4 --save-acpi blobs
  mrtd matrix launch.toml --vcpus 2,4 --acpi blobs
                                  keep what QEMU says, and derive without QEMU
  mrtd matrix launch.toml --vcpus 1,2,4,8 --memory 2G,4G,16G --plan --jobs 4
                                  no figures: the job matrix of GitHub Actions,
                                  whose jobs run the same with --part 1/4 ...
                                  and whose documents mrtd merge joins
  mrtd matrix launch.toml --memory 2G,8G --set machine.cpu=host \\
      --set machine.cpu=Haswell,+avx2
                                  a further axis: one --set for each value

A document made here belongs to no release until one is named (--repository,
--tag, --commit, --sequence); only `release attest` signs. docs/matrix.md
"""
_NO_COMMIT: Final = "0" * 40
_UNRELEASED: Final = "unreleased"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "matrix",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("spec", metavar="SPEC", type=Path, help="launch spec (launch.toml)")
    shape = verb.add_argument_group("axes; the spec's own value where none is given")
    shape.add_argument("--vcpus", metavar="N,...", type=_values, help="numbers of vCPUs")
    shape.add_argument("--memory", metavar="SIZE,...", type=_values, help="such as 2G,4G,16GiB")
    shape.add_argument(
        "--set", dest="settings", metavar="KEY=VALUE", type=_setting, action="append", default=[],
        help="another key of the spec, such as machine.cpu; once for each value",
    )  # fmt: skip
    written = verb.add_argument_group("what is written")
    written.add_argument("--json", action="store_true", help="print everything as JSON")
    written.add_argument("--quiet", action="store_true", help="print which registers move only")
    written.add_argument(
        "--output", metavar="FILE", type=Path, help="the reference-values document"
    )
    written.add_argument(
        "--documents", metavar="FOLDER", type=Path,
        help="a measurement document for each shape, FOLDER/SHAPE.json",
    )  # fmt: skip
    written.add_argument(
        "--save-acpi", metavar="FOLDER", type=Path,
        help="what QEMU was asked, FOLDER/SHAPE/tables and so on",
    )  # fmt: skip
    written.add_argument(
        "--strict", action="store_true", help="exit 1 if a register is unpinned or empty"
    )
    asked = verb.add_argument_group("how ACPI tables are had")
    asked.add_argument(
        "--acpi", metavar="FOLDER", type=Path, help="blobs of an earlier --save-acpi; no QEMU"
    )
    add_qemu(asked)
    asked.add_argument(
        "--vars", metavar="FILE", type=Path,
        help="variable store to put in front of a firmware that holds the code only",
    )  # fmt: skip
    several = verb.add_argument_group("over several jobs")
    several.add_argument(
        "--plan", action="store_true", help="print the job matrix, and derive nothing"
    )
    several.add_argument("--jobs", metavar="N", type=_jobs, help="of the plan, at most; default 20")
    several.add_argument(
        "--part", metavar="I/N", type=_part, help="derive the shapes of this job of the plan only"
    )
    release = verb.add_argument_group("the release that the document names")
    release.add_argument(
        "--artifact", metavar="FILE", type=Path, action="append", default=[],
        help="a further file of the release, such as another disk: its digest, by which "
        "`mrtd rederive` finds it; repeatable (the disk that boots is in any case)",
    )  # fmt: skip
    release.add_argument("--repository", metavar="OWNER/NAME", default="unreleased/unreleased")
    release.add_argument("--channel", metavar="REF", default="refs/heads/main")
    release.add_argument("--tag", default=_UNRELEASED)
    release.add_argument("--commit", metavar="SHA", default=_NO_COMMIT)
    release.add_argument("--sequence", metavar="N", type=int, default=1)
    verb.set_defaults(run=run, target="cc")


def run(arguments: argparse.Namespace) -> int:
    """Derive, print, write; the exit code."""
    _check_parts(arguments)
    from mrtd.artifacts import artifact_of, boot_disks  # noqa: PLC0415
    from mrtd.cli.output import Progress  # noqa: PLC0415
    from mrtd.launch.spec import read_spec_file  # noqa: PLC0415
    from mrtd.matrix import derive_shapes, reference_values  # noqa: PLC0415
    from mrtd.plan import part_of  # noqa: PLC0415
    from mrtd.reference import Release  # noqa: PLC0415
    from mrtd.shapes import shapes, with_blobs  # noqa: PLC0415

    spec = read_spec_file(arguments.spec)
    folder = arguments.spec.parent
    found = shapes(spec, _axes(arguments), origin=str(arguments.spec))
    if arguments.plan:
        return _print_plan(found, arguments)
    if arguments.part is not None:
        found = part_of(found, arguments.part)
    if arguments.acpi is not None:
        found = tuple(with_blobs(shape, arguments.acpi, folder) for shape in found)
    progress = Progress(quiet=arguments.quiet)
    writes = arguments.output is not None or arguments.json
    try:
        own = boot_disks(spec, folder) if writes else ()
        given = [artifact_of(path) for path in arguments.artifact]
        artifacts = tuple({one.name: one for one in (*own, *given)}.values())
        matrix = derive_shapes(found, folder, measure_options(arguments), progress=progress)
    finally:
        progress.clear()
    values = reference_values(
        matrix,
        release=Release(
            repository=arguments.repository,
            channel=arguments.channel,
            tag=arguments.tag,
            commit=arguments.commit,
            sequence=arguments.sequence,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
        artifacts=artifacts,
    )
    _write(arguments, matrix, values)
    return _verdict(matrix, strict=arguments.strict)


def _check_parts(arguments: argparse.Namespace) -> None:
    """Options that say nothing together. Raises `SpecError`."""
    from mrtd.errors import SpecError  # noqa: PLC0415

    derived = {
        "--part": arguments.part,
        "--output": arguments.output,
        "--documents": arguments.documents,
        "--save-acpi": arguments.save_acpi,
    }
    useless = [name for name, value in derived.items() if value is not None]
    if arguments.plan and useless:
        raise SpecError("--plan derives nothing", origin="options", field=useless[0])
    if arguments.jobs is not None and not arguments.plan:
        raise SpecError("is for --plan; --part names its own", origin="options", field="--jobs")


def _print_plan(found: tuple[Shape, ...], arguments: argparse.Namespace) -> int:
    """JSON in one line: with ``--json`` as well, there is nothing else to say."""
    from mrtd.plan import DEFAULT_JOBS, encode_plan, plan  # noqa: PLC0415

    made = plan(found, arguments.jobs or DEFAULT_JOBS)
    sys.stdout.write(encode_plan(made).decode() + "\n")
    return 0


def _axes(arguments: argparse.Namespace) -> tuple[Axis, ...]:
    from mrtd.shapes import MEMORY, VCPUS, Axis  # noqa: PLC0415

    short = {VCPUS: arguments.vcpus, MEMORY: arguments.memory}
    found: dict[str, tuple[str, ...]] = {key: values for key, values in short.items() if values}
    for key, value in arguments.settings:
        found[key] = (*found.get(key, ()), value)
    return tuple(Axis(key, values) for key, values in found.items())


def _write(arguments: argparse.Namespace, matrix: Matrix, values: ReferenceValues) -> None:
    from mrtd.cli.output import make_folder, write_whole  # noqa: PLC0415
    from mrtd.document import encode  # noqa: PLC0415
    from mrtd.reference import encode_reference_values  # noqa: PLC0415

    data = encode_reference_values(values)
    if arguments.output is not None:
        write_whole(arguments.output, data)
    for one in matrix.results if arguments.documents else ():
        make_folder(arguments.documents, option="--documents")
        write_whole(arguments.documents / f"{one.shape.name}.json", encode(one.document))
    for one in matrix.results if arguments.save_acpi else ():
        place = make_folder(arguments.save_acpi / one.shape.name, option="--save-acpi")
        for name, blob in one.blobs.items():
            write_whole(place / name, blob)
    if arguments.json:
        sys.stdout.write(encode(_json(matrix, data)).decode())
    else:
        from mrtd.cli.matrix_tables import print_matrix  # noqa: PLC0415

        print_matrix(matrix, quiet=arguments.quiet)


def _json(matrix: Matrix, reference: bytes) -> dict[str, Any]:
    """Schema ``mrtd.matrix/1``: what each axis touches, and the document."""
    import msgspec  # noqa: PLC0415

    return {
        "schema": "mrtd.matrix/1",
        "touched": {str(name): list(axes) for name, axes in matrix.touched().items()},
        "shapes": [
            {
                "shape": one.shape.name,
                "settings": one.shape.settings,
                "registers": one.document.registers,
                "rules": one.document.rules,
                "notes": one.document.notes,
            }
            for one in matrix.results
        ],
        "reference": msgspec.Raw(reference),
    }


def _verdict(matrix: Matrix, *, strict: bool) -> int:
    if not strict:
        return 0
    code = 0
    for one in matrix.results:
        for name, value in one.document.registers.items():
            if value is None or value == "00" * 48:
                what = "not pinned" if value is None else "empty"
                sys.stderr.write(f"mrtd: --strict: {one.shape.name}: {name.upper()} is {what}\n")
                code = 1
    return code


def _values(text: str) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty value")
    return values


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _jobs(text: str) -> int:
    from mrtd.plan import JOB_LIMIT  # noqa: PLC0415

    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= JOB_LIMIT:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number from 1 to {JOB_LIMIT}")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    from mrtd.plan import read_part  # noqa: PLC0415

    try:
        return read_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
