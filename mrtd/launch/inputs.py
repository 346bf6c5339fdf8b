"""The files of a launch: opened, read once, and hashed beside each other."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mrtd.errors import SpecError
from mrtd.launch.background import Background
from mrtd.launch.spec import LaunchSpec
from mrtd.registers import Sha384

_READ_SIZE: Final = 1 << 20
# Anything larger is no firmware, kernel or ACPI blob, and would be read into memory whole.
_MAX_WHOLE: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that goes into a launch.

    Attributes:
        key: the spec's key for it, such as ``boot.kernel``.
        name: its path as the spec says it.
        size: bytes.
        digest: SHA-384 of its bytes.
    """

    key: str
    name: str
    size: int
    digest: Sha384


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file that is kept in memory; its digest may still be computed.

    Attributes:
        key: the spec's key for it.
        name: its path as the spec says it.
        data: its bytes.
    """

    key: str
    name: str
    data: bytes
    _digest: Background[Sha384]

    @property
    def described(self) -> InputFile:
        """What a measurement document says of it."""
        return InputFile(self.key, self.name, len(self.data), self._digest.result())


@dataclass(frozen=True, slots=True)
class LaunchInputs:
    """All files of a launch; absent ones are None.

    Attributes:
        firmware: the image for ``-bios``: ``firmware.vars`` and ``firmware.path`` joined.
        firmware_files: the files that it was joined from.
        kernel: the kernel.
        acpi_tables: ``acpi.tables``.
        acpi_rsdp: ``acpi.rsdp``.
        acpi_loader: ``acpi.loader``.
        smbios: ``smbios.measured``.
    """

    firmware: bytes
    firmware_files: tuple[LoadedFile, ...]
    kernel: LoadedFile
    acpi_tables: LoadedFile | None
    acpi_rsdp: LoadedFile | None
    acpi_loader: LoadedFile | None
    smbios: LoadedFile | None
    initrd_size: int | None
    _initrd: Background[InputFile] | None

    @property
    def initrd(self) -> InputFile | None:
        """The initrd, which is hashed and not kept."""
        return None if self._initrd is None else self._initrd.result()

    @property
    def firmware_name(self) -> str:
        """The firmware's name, for messages and origins."""
        return "+".join(file.name for file in self.firmware_files)

    def described(self) -> tuple[InputFile, ...]:
        """Every file with its digest, in the order of the spec."""
        loaded = (
            *self.firmware_files,
            self.acpi_tables,
            self.acpi_rsdp,
            self.acpi_loader,
            self.smbios,
            self.kernel,
        )
        files = [file.described for file in loaded if file is not None]
        return (*files, *([self.initrd] if self.initrd else []))


def load_inputs(spec: LaunchSpec, folder: Path) -> LaunchInputs:
    """Open and read the files of a spec.

    Args:
        spec: the launch.
        folder: what its paths are relative to.

    Raises:
        SpecError: a file is missing, no regular file, or cannot be read.
    """
    size, initrd = None, None
    if spec.boot.initrd is not None:
        initrd_name = spec.boot.initrd
        size = file_size(folder / initrd_name, key="boot.initrd")
        initrd = Background(lambda: _hash_file(folder, "boot.initrd", initrd_name))
    kernel = _load(folder, "boot.kernel", spec.boot.kernel)
    parts = [_load(folder, "firmware.path", spec.firmware.path)]
    if spec.firmware.vars is not None:
        parts.insert(0, _load(folder, "firmware.vars", spec.firmware.vars))
    return LaunchInputs(
        firmware=parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts),
        firmware_files=tuple(parts),
        kernel=kernel,
        acpi_tables=_load_optional(folder, "acpi.tables", spec.acpi.tables),
        acpi_rsdp=_load_optional(folder, "acpi.rsdp", spec.acpi.rsdp),
        acpi_loader=_load_optional(folder, "acpi.loader", spec.acpi.loader),
        smbios=_load_optional(folder, "smbios.measured", spec.smbios.measured),
        initrd_size=size,
        _initrd=initrd,
    )


def read_file(path: Path, *, key: str) -> bytes:
    """The bytes of a regular file of at most 1 GiB. Raises `SpecError`."""
    try:
        size = _regular_size(path, key)
        if size > _MAX_WHOLE:
            raise SpecError(f"{size} bytes are more than 1 GiB", origin=str(path), field=key)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, key, error) from error


def _load(folder: Path, key: str, name: str) -> LoadedFile:
    data = read_file(folder / name, key=key)
    return LoadedFile(key, name, data, Background(lambda: Sha384.of(data)))


def _load_optional(folder: Path, key: str, name: str | None) -> LoadedFile | None:
    return None if name is None else _load(folder, key, name)


def file_size(path: Path, *, key: str) -> int:
    """Size of a regular file, bytes. Raises `SpecError`."""
    try:
        return _regular_size(path, key)
    except (OSError, ValueError) as error:
        raise _unreadable(path, key, error) from error


def _regular_size(path: Path, key: str) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise SpecError("is no regular file", origin=str(path), field=key)
    return status.st_size


def _hash_file(folder: Path, key: str, name: str) -> InputFile:
    """Hash a file in pieces: an initrd can be larger than memory is worth."""
    path = folder / name
    state, size = hashlib.sha384(), 0
    buffer = memoryview(bytearray(_READ_SIZE))
    try:
        with path.open("rb", buffering=0) as file:
            expected = os.fstat(file.fileno()).st_size
            while count := file.readinto(buffer):
                state.update(buffer[:count])
                size += count
    except OSError as error:
        raise _unreadable(path, key, error) from error
    if size != expected:
        raise SpecError(f"changed from {expected} to {size} bytes while it was read",
                        origin=str(path), field=key)  # fmt: skip
    return InputFile(key, name, size, Sha384(state.digest()))


def _unreadable(path: Path, key: str, error: Exception) -> SpecError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SpecError(
        f"cannot be read: {reason}",
        origin=str(path),
        field=key,
        hint="paths are relative to the spec's folder",
    )
