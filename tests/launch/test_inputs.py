"""The files of a launch: read, hashed, and refused where they cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self

import pytest

from mrtd.errors import SpecError
from mrtd.launch.background import Background
from mrtd.launch.inputs import LaunchInputs, file_size, load_inputs, read_file
from mrtd.launch.spec import read_spec
from mrtd.registers import Sha384

KEYS = {
    "firmware.path": "OVMF.fd",
    "firmware.vars": "VARS.fd",
    "acpi.tables": "tables.bin",
    "acpi.rsdp": "rsdp.bin",
    "acpi.loader": "loader.bin",
    "smbios.measured": "smbios.bin",
    "boot.kernel": "vmlinuz",
    "boot.initrd": "initrd.img",
}
REQUIRED = ("firmware.path", "boot.kernel")


def spec_text(files: dict[str, str]) -> str:
    tables: dict[str, list[str]] = {"boot": ['kind = "direct"']}
    for key, name in files.items():
        table, _, field = key.partition(".")
        tables.setdefault(table, []).append(f"{field} = '{name}'")
    lines = [
        'schema = "mrtd.launch/1"',
        '[vmm]\nkind = "qemu"\nversion = "10.1.0"',
        '[machine]\nmemory = "2 GiB"\nvcpus = 2',
        *(f"[{table}]\n" + "\n".join(fields) for table, fields in tables.items()),
    ]
    return "\n".join(lines) + "\n"


def load(folder: Path, files: dict[str, str]) -> LaunchInputs:
    return load_inputs(read_spec(spec_text(files), origin="launch.toml"), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for key, name in KEYS.items():
        (tmp_path / name).write_bytes(key.encode() * 1000)
    return tmp_path


def test_every_file_is_loaded_and_hashed(folder: Path) -> None:
    loaded = load(folder, KEYS)
    described = {f.key: (f.name, f.size, f.digest) for f in loaded.described()}
    for key, name in KEYS.items():
        content = key.encode() * 1000
        assert described[key] == (name, len(content), Sha384.of(content))
    assert len(described) == len(KEYS)
    assert loaded.initrd is not None
    assert loaded.initrd.digest == Sha384.of(b"boot.initrd" * 1000)


def test_variables_are_put_in_front_of_the_code(folder: Path) -> None:
    loaded = load(folder, KEYS)
    assert loaded.firmware == b"firmware.vars" * 1000 + b"firmware.path" * 1000
    assert loaded.firmware_name == "VARS.fd+OVMF.fd"
    assert [f.key for f in loaded.described()][:2] == ["firmware.vars", "firmware.path"]


def test_files_that_are_not_named_are_absent(folder: Path) -> None:
    loaded = load(folder, {key: KEYS[key] for key in REQUIRED})
    assert loaded.initrd is None
    assert loaded.initrd_size is None
    assert loaded.acpi_tables is None
    assert loaded.smbios is None
    assert loaded.firmware_name == "OVMF.fd"
    assert [f.key for f in loaded.described()] == list(REQUIRED)


def test_an_initrd_larger_than_a_read_is_hashed_whole(folder: Path) -> None:
    content = os.urandom(1 << 16) * 40  # 2.5 MiB
    (folder / "initrd.img").write_bytes(content)
    loaded = load(folder, KEYS)
    assert loaded.initrd is not None
    assert loaded.initrd.digest == Sha384.of(content)
    assert loaded.initrd_size == loaded.initrd.size == len(content)


def test_empty_files_are_files(folder: Path) -> None:
    (folder / "initrd.img").write_bytes(b"")
    loaded = load(folder, KEYS)
    assert loaded.initrd is not None
    assert loaded.initrd.digest == Sha384.of()
    assert loaded.initrd_size == 0


def test_absolute_paths_and_links_are_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "link").symlink_to(folder / "vmlinuz")
    loaded = load(elsewhere, {"firmware.path": str(folder / "OVMF.fd"), "boot.kernel": "link"})
    assert loaded.kernel.data == b"boot.kernel" * 1000


def missing(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def endless_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "cannot be read: No such file or directory"),
        (directory, "is no regular file"),
        (fifo, "is no regular file"),
        (dangling, "cannot be read: No such file or directory"),
        (endless_link, "cannot be read: "),
        (device, "is no regular file"),
    ],
)
def test_what_is_no_file_is_refused_by_key_and_path(
    folder: Path, key: str, spoil: Callable[[Path], None], message: str
) -> None:
    path = folder / KEYS[key]
    spoil(path)
    with pytest.raises(SpecError) as caught:
        load(folder, KEYS)
    assert str(caught.value).startswith(f"{path}: {key}: {message}")


def test_a_missing_file_s_message_says_what_paths_are_relative_to(folder: Path) -> None:
    missing(folder / "vmlinuz")
    with pytest.raises(SpecError, match=r"paths are relative to the spec's folder"):
        load(folder, KEYS)


@pytest.mark.parametrize("name", ["", ".", "vmlinuz/below", "x" * 300])
def test_a_name_of_no_file_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(folder, {**KEYS, "boot.kernel": name})
    assert caught.value.field == "boot.kernel"


def test_a_name_with_a_nul_is_refused(folder: Path) -> None:
    for read in (read_file, file_size):
        with pytest.raises(SpecError, match="cannot be read: embedded null byte"):
            read(folder / "a\0b", key="boot.kernel")


def denied(path: Path) -> bytes:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_a_file_of_more_than_1_gib_is_not_read_into_memory(folder: Path) -> None:
    with (folder / "vmlinuz").open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(SpecError, match="1073741825 bytes are more than 1 GiB"):
        load(folder, KEYS)


def test_a_file_without_permission_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", denied)  # chmod(0) would not stop root
    with pytest.raises(SpecError, match="Permission denied"):
        load(folder, KEYS)


class Growing:
    """An initrd that another program still writes to."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.grown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def readinto(self, buffer: memoryview) -> int:
        if not self.grown:
            self.grown = True
            with Path(self.file.name).open("ab", buffering=0) as writer:
                writer.write(b"more")
        return self.file.readinto(buffer)  # type: ignore[attr-defined, no-any-return]


def test_an_initrd_that_grows_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.open

    def grow(path: Path, mode: str = "r", **settings: int) -> object:
        opened = plain(path, mode, **settings)  # type: ignore[call-overload]
        return Growing(opened) if path.name == "initrd.img" and mode == "rb" else opened

    monkeypatch.setattr(Path, "open", grow)
    with pytest.raises(SpecError, match="changed from 11000 to 11004 bytes while it was read"):
        load(folder, KEYS).described()


def test_an_initrd_that_disappears_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, *_: object, **__: object) -> object:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "open", gone)
    spec = {key: KEYS[key] for key in (*REQUIRED, "boot.initrd")}
    with pytest.raises(SpecError, match="No such file or directory"):
        load(folder, spec).described()


def test_background_work_gives_its_value_or_its_error() -> None:
    def fail() -> None:
        raise SpecError("no", origin="x")

    assert Background(lambda: 42).result() == 42
    failed = Background(fail)
    for _ in range(2):
        with pytest.raises(SpecError, match="x: no"):
            failed.result()
