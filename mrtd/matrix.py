"""Many shapes of one launch, derived together: what does not change is read and hashed once.

shapes --derive_shapes--> Matrix: a measurement document for each, and what an axis touches
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mrtd.document import MeasurementDocument, to_document
from mrtd.errors import MrtdError, SpecError
from mrtd.firmware.profiles import Step
from mrtd.launch.inputs import LaunchInputs, with_blobs
from mrtd.launch.once import Once
from mrtd.launch.spec import DirectBoot, LaunchSpec, PayloadBoot
from mrtd.launches import Measured, launch_of, tool
from mrtd.measure import (
    DEFAULT_OPTIONS,
    MeasureOptions,
    Progress,
    ask_qemu,
    measure,
    read_launch,
    with_options,
)
from mrtd.process import sigterm_unwinds
from mrtd.reference import Artifact, Lifecycle, ReferenceValues, Release
from mrtd.registers import LAUNCH_REGISTERS, RegisterName, Target, Unpinned
from mrtd.shapes import SMBIOS_BLOB, Shape

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware
    from mrtd.qemu.fw_cfg import FwCfg

# Names of fw_cfg to names in a folder of blobs (`mrtd.shapes.with_blobs`)
_SAVED: Final = {
    "etc/acpi/tables": "tables",
    "etc/acpi/rsdp": "rsdp",
    "etc/table-loader": "loader",
}


class ShapeResult(msgspec.Struct, frozen=True):
    """What one shape measures.

    Attributes:
        shape: the shape.
        document: its measurement document.
        blobs: what QEMU was asked for it, by name in a folder of blobs; empty if it was not.
    """

    shape: Shape
    document: MeasurementDocument
    blobs: dict[str, bytes]


class Matrix(msgspec.Struct, frozen=True):
    """What all shapes measure, in their order."""

    results: tuple[ShapeResult, ...]

    def values(self, register: RegisterName) -> tuple[str | None, ...]:
        """The different values of a register; None stands for unpinned."""
        return tuple(dict.fromkeys(one.document.registers[register] for one in self.results))

    def touched(self) -> dict[RegisterName, tuple[str, ...]]:
        """For each register the axes that move it: their keys.

        An axis moves a register if two shapes that differ in this axis only have different values
        of it. Where a value is not pinned, nothing is known.
        """
        return {name: tuple(self._movers(name)) for name in LAUNCH_REGISTERS}

    def _movers(self, register: RegisterName) -> Iterator[str]:
        for axis in self.results[0].shape.settings if self.results else ():
            groups: dict[tuple[str, ...], set[str]] = {}
            for one in self.results:
                value = one.document.registers[register]
                rest = tuple(v for key, v in one.shape.settings.items() if key != axis)
                if value is not None:
                    groups.setdefault(rest, set()).add(value)
            if any(len(found) > 1 for found in groups.values()):
                yield axis


def derive_shapes(
    shapes: tuple[Shape, ...],
    folder: Path,
    options: MeasureOptions = DEFAULT_OPTIONS,
    *,
    progress: Progress = lambda _: None,
    workers: int | None = None,
) -> Matrix:
    """Derive shapes that have firmware, kernel, initrd and command line in common.

    Args:
        shapes: at least one.
        folder: what their paths are relative to.
        options: how to measure; the target is a TD.
        progress: told what is being done, in a few words.
        workers: how many QEMUs run at once; as many as there are cores by default.

    Raises:
        MrtdError: as `mrtd.measure.measure`; the message names the shape.
    """
    if not shapes or options.target is not Target.CC:
        raise SpecError("needs shapes of a TD", origin="shapes")
    shapes = tuple(
        msgspec.structs.replace(shape, spec=with_options(shape.spec, options)) for shape in shapes
    )
    derived = _deriver(shapes[0].spec, folder, options, progress)
    total = len(shapes)
    if all(shape.spec.acpi.tables is not None for shape in shapes):
        workers = 1  # nothing to wait for: threads would only take turns
    results: list[ShapeResult] = []
    with sigterm_unwinds(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        futures = [pool.submit(derived, shape) for shape in shapes]
        try:
            for number, future in enumerate(futures, 1):
                results.append(_named(future, shapes[number - 1]))
                progress(f"{number} of {total} shapes")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return Matrix(tuple(results))


def reference_values(
    matrix: Matrix, release: Release, *, artifacts: tuple[Artifact, ...] = ()
) -> ReferenceValues:
    """All shapes in one document, whose release is the only one that is known.

    Args:
        matrix: what was derived.
        release: what it is released as.
        artifacts: files of the release, such as the disk that boots.

    Raises:
        MalformedDocument: a measurement document contradicts itself.
    """
    nothing = Lifecycle(current=(), next=(), retired=(), revoked=())
    launches = (
        launch_of(Measured(one.shape.name, one.document, one.shape.name)) for one in matrix.results
    )
    return ReferenceValues(
        schema="mrtd.reference/1",
        tool=tool(),
        release=release,
        lifecycle=nothing,
        launches=tuple(launches),
        artifacts=artifacts,
    )


def _deriver(
    spec: LaunchSpec, folder: Path, options: MeasureOptions, progress: Progress
) -> Callable[[Shape], ShapeResult]:
    """What derives one shape after the other; direct boots share their files."""
    if isinstance(spec.boot, PayloadBoot):  # td-shim: no ACPI, and no QEMU that is asked
        return lambda shape: ShapeResult(
            shape, to_document(measure(shape.spec, folder, options)), {}
        )
    if isinstance(spec.boot, DirectBoot):
        _, inputs, firmware = read_launch(spec, folder, options, progress=progress)
        return _Bench(inputs, firmware, folder, options).result

    def alone(shape: Shape) -> ShapeResult:
        _, inputs, firmware = read_launch(shape.spec, folder, options, progress=lambda _: None)
        return _Bench(inputs, firmware, folder, options).result(shape)

    return alone


class _Bench:
    """What the shapes share."""

    def __init__(
        self, inputs: LaunchInputs, firmware: Firmware, folder: Path, options: MeasureOptions
    ) -> None:
        from mrtd.derive import derive  # noqa: PLC0415 - imported while the files were read

        self._derive = derive
        self._inputs, self._firmware, self._folder = inputs, firmware, folder
        self._options = options
        self._once = Once()

    def result(self, shape: Shape) -> ShapeResult:
        spec = shape.spec
        inputs = with_blobs(self._inputs, spec, self._folder)
        fw_cfg = ask_qemu(spec, self._firmware, self._options, once=self._once)
        derivation = self._derive(
            spec, inputs, self._firmware, target=Target.CC, fw_cfg=fw_cfg, once=self._once
        )
        blobs = {} if isinstance(fw_cfg, Unpinned) else self._blobs(shape, inputs, fw_cfg)
        return ShapeResult(shape, to_document(derivation), blobs)

    def _blobs(self, shape: Shape, inputs: LaunchInputs, fw_cfg: FwCfg) -> dict[str, bytes]:
        """What the firmware would be given, as files that `mrtd.shapes.with_blobs` finds."""
        from mrtd.qemu.blobs import smbios_table  # noqa: PLC0415 - imported by derive

        blobs = {name: bytes(fw_cfg.files[file]) for file, name in _SAVED.items()}
        if any(row.step is Step.SMBIOS for row in self._firmware.profile.cc):
            table = smbios_table(shape.spec, inputs, self._firmware, fw_cfg).content
            if not isinstance(table, Unpinned):
                blobs[SMBIOS_BLOB] = table
        return blobs


def _named(future: Future[ShapeResult], shape: Shape) -> ShapeResult:
    """The result; an error says which shape it is about."""
    try:
        return future.result()
    except MrtdError as error:
        error.message = f"shape {shape.name}: {error.message}"
        raise
