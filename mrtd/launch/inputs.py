"""The files of a launch: opened, read once, and hashed beside each other."""

from __future__ import annotations

import hashlib
import stat
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from mrtd.errors import SpecError
from mrtd.launch.background import Background
from mrtd.launch.spec import DirectBoot, LaunchSpec
from mrtd.registers import Sha384

if TYPE_CHECKING:
    from mrtd.disk import OpenDisk

_READ_SIZE: Final = 1 << 20
# Anything larger is no firmware, kernel or ACPI blob, and would be read into memory whole.
_MAX_WHOLE: Final = 1 << 30
_HINT: Final = (
    "paths are relative to the spec's folder; those of a domain or command line, to the current one"
)


class InputFile(msgspec.Struct, frozen=True):
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


class LoadedFile(msgspec.Struct, frozen=True):
    """A file that is kept in memory: the spec's key for it, its path, its bytes."""

    key: str
    name: str
    data: bytes

    def described(self) -> InputFile:
        """What a measurement document says of it."""
        return InputFile(self.key, self.name, len(self.data), Sha384.of(self.data))


class DiskImage(msgspec.Struct, frozen=True):
    """A disk of the launch: what devices call it, where its image is, and in which format."""

    name: str
    path: Path
    format: Literal["raw", "qcow2"]


class LaunchInputs(msgspec.Struct, frozen=True):
    """All files of a launch; absent ones are None.

    Attributes:
        firmware: the image for ``-bios``: ``firmware.vars`` and ``firmware.path`` joined.
        firmware_name: what it is called, for messages and origins.
        variables: ``firmware.variables``.
        loaded_kernel: the kernel of a direct boot.
        acpi_tables: ``acpi.tables``.
        acpi_rsdp: ``acpi.rsdp``.
        acpi_loader: ``acpi.loader``.
        smbios: ``smbios.measured``.
        initrd_size: size of the initrd, bytes.
    """

    firmware: bytes
    firmware_name: str
    variables: LoadedFile | None
    loaded_kernel: LoadedFile | None
    acpi_tables: LoadedFile | None
    acpi_rsdp: LoadedFile | None
    acpi_loader: LoadedFile | None
    smbios: LoadedFile | None
    initrd_size: int | None
    _disks: tuple[DiskImage, ...]
    _initrd: Background[InputFile] | None
    _described: Background[tuple[InputFile, ...]]

    @property
    def kernel(self) -> LoadedFile:
        """The kernel. Raises `SpecError` for a launch that has none of its own."""
        if self.loaded_kernel is None:
            raise SpecError("no kernel is given", origin="launch spec", field="boot.kernel")
        return self.loaded_kernel

    def open_disk(self, name: str) -> AbstractContextManager[OpenDisk]:
        """Open a disk. Raises `InputError` for one that is not there or cannot be read."""
        from mrtd.disk import open_disk  # noqa: PLC0415 - only launches with a disk need it

        for disk in self._disks:
            if disk.name == name:
                return open_disk(disk.path, disk.format)
        raise SpecError(f"none is called {name!r}", origin="launch spec", field="disks")

    @property
    def initrd(self) -> InputFile | None:
        """The initrd, which is hashed and not kept; waits until it is."""
        return None if self._initrd is None else self._initrd.result()

    def described(self) -> tuple[InputFile, ...]:
        """Every file with its digest, in the order of the spec; waits for the digests."""
        initrd = self.initrd
        return (*self._described.result(), *([initrd] if initrd else []))


def load_inputs(spec: LaunchSpec, folder: Path) -> LaunchInputs:
    """Open and read the files of a spec.

    Args:
        spec: the launch.
        folder: what its paths are relative to.

    Raises:
        SpecError: a file is missing, no regular file, or cannot be read.
    """
    size, initrd = None, None
    direct = spec.boot if isinstance(spec.boot, DirectBoot) else None
    if direct is not None and direct.initrd is not None:
        initrd_name = direct.initrd
        expected = size = file_size(folder / initrd_name, key="boot.initrd")
        initrd = Background(lambda: _hash_file(folder, "boot.initrd", initrd_name, expected))

    def load(key: str, name: str) -> LoadedFile:
        return LoadedFile(key, name, read_file(folder / name, key=key, hint=_HINT))

    def load_optional(key: str, name: str | None) -> LoadedFile | None:
        return None if name is None else load(key, name)

    firmware = [load("firmware.path", spec.firmware.path)]
    if spec.firmware.vars is not None:
        firmware.insert(0, load("firmware.vars", spec.firmware.vars))
    variables = load_optional("firmware.variables", spec.firmware.variables)
    kernel = load_optional("boot.kernel", direct.kernel if direct else None)
    tables = load_optional("acpi.tables", spec.acpi.tables)
    rsdp = load_optional("acpi.rsdp", spec.acpi.rsdp)
    loader = load_optional("acpi.loader", spec.acpi.loader)
    smbios = load_optional("smbios.measured", spec.smbios.measured)
    files = [
        file
        for file in (*firmware, variables, tables, rsdp, loader, smbios, kernel)
        if file is not None
    ]
    return LaunchInputs(
        firmware=firmware[0].data if len(firmware) == 1 else b"".join(f.data for f in firmware),
        firmware_name="+".join(file.name for file in firmware),
        variables=variables,
        loaded_kernel=kernel,
        acpi_tables=tables,
        acpi_rsdp=rsdp,
        acpi_loader=loader,
        smbios=smbios,
        initrd_size=size,
        _disks=tuple(DiskImage(d.name, folder / d.path, d.format) for d in spec.disks),
        _initrd=initrd,
        _described=Background(lambda: tuple(file.described() for file in files)),
    )


def with_blobs(shared: LaunchInputs, spec: LaunchSpec, folder: Path) -> LaunchInputs:
    """The same files with the ACPI and SMBIOS blobs of another spec, which alone are read.

    Raises:
        SpecError: a blob is missing, no regular file, or cannot be read.
    """
    names = {
        "acpi.tables": spec.acpi.tables,
        "acpi.rsdp": spec.acpi.rsdp,
        "acpi.loader": spec.acpi.loader,
        "smbios.measured": spec.smbios.measured,
    }
    blobs = {
        key: LoadedFile(key, name, read_file(folder / name, key=key, hint=_HINT))
        for key, name in names.items()
        if name is not None
    }

    def described() -> tuple[InputFile, ...]:
        own = (*names, "boot.initrd")
        others = [file for file in shared.described() if file.key not in own]
        before = [file for file in others if file.key.startswith("firmware.")]
        mine = [blob.described() for blob in blobs.values()]
        return (*before, *mine, *others[len(before) :])

    return msgspec.structs.replace(
        shared,
        acpi_tables=blobs.get("acpi.tables"),
        acpi_rsdp=blobs.get("acpi.rsdp"),
        acpi_loader=blobs.get("acpi.loader"),
        smbios=blobs.get("smbios.measured"),
        _described=Background(described),
    )


def read_file(path: Path, *, key: str, hint: str | None = None) -> bytes:
    """The bytes of a regular file of at most 1 GiB. Raises `SpecError`, with a hint."""
    try:
        size = _regular_size(path, key)
        if size > _MAX_WHOLE:
            raise SpecError(f"{size} bytes are more than 1 GiB", origin=str(path), field=key)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, key, error, hint) from error


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


def _hash_file(folder: Path, key: str, name: str, expected: int) -> InputFile:
    """Hash a file in pieces: an initrd can be larger than memory is worth."""
    path = folder / name
    state, size = hashlib.sha384(), 0
    buffer = memoryview(bytearray(_READ_SIZE))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                state.update(buffer[:count])
                size += count
    except OSError as error:
        raise _unreadable(path, key, error) from error
    if size != expected:
        raise SpecError(f"changed from {expected} to {size} bytes while it was read",
                        origin=str(path), field=key)  # fmt: skip
    return InputFile(key, name, size, Sha384(state.digest()))


def _unreadable(path: Path, key: str, error: Exception, hint: str | None = _HINT) -> SpecError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SpecError(
        f"cannot be read: {reason}",
        origin=str(path),
        field=key,
        hint=hint,
    )
