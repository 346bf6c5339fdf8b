"""Builds the initramfs of the measuring guest: a static busybox and two shell scripts.

The initrd of a launch is measured, so the archive is reproducible: the same inputs give the same
bytes, anywhere. No host tool takes part, and nothing of the host (times, owners, inode numbers,
order of a directory) enters it.

Format: "newc" cpio, Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import argparse
import lzma
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mrtd.errors import MrtdError, SpecError, ToolMissing
from mrtd.evidence.collector import collector_script

DEFAULT_BUSYBOX: Final = Path("/bin/busybox")
DEFAULT_INIT: Final = Path(__file__).with_name("init.sh")

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"
# A kernel module is a few hundred kB; the bound keeps a wrong .xz file from filling the memory.
_MODULE_LIMIT: Final = 64 << 20

# System V ABI, program header types: the segment that names a dynamic loader.
_PT_INTERP: Final = 3

_EMPTY: Final[Mapping[str, bytes]] = {}


def build_initramfs(*, busybox: bytes, init: bytes, modules: Mapping[str, bytes] = _EMPTY) -> bytes:
    """The initramfs: ``/init``, ``/collect.sh``, ``/bin/busybox`` and ``/modules/*.ko``.

    Args:
        busybox: a statically linked busybox for the guest.
        init: what the kernel starts as PID 1; a script for ``/bin/busybox sh``.
        modules: kernel modules by file name without directories, such as ``qemu_fw_cfg.ko``;
            ``init.sh`` loads them in the order of their names. A ``.ko.xz`` is unpacked, because
            busybox's insmod cannot.

    Returns:
        An uncompressed newc archive, a multiple of 512 bytes long.

    Raises:
        SpecError: busybox is not a static ELF program, or a module has an unusable name or body.
    """
    archive = b"".join(_members(agent_files(busybox=busybox, init=init, modules=modules)))
    return archive + bytes(-len(archive) % 512)


def agent_files(
    *, busybox: bytes, init: bytes, modules: Mapping[str, bytes] = _EMPTY
) -> dict[str, tuple[int, bytes]]:
    """The agent's files, with their modes, by their path below the folder that they are put into.

    Arguments and errors are those of `build_initramfs`.
    """
    _check_busybox(busybox)
    files = {
        "init": (0o755, init),
        "bin/busybox": (0o755, busybox),
        "collect.sh": (0o755, collector_script()),
    }
    for name, body in modules.items():
        path = f"modules/{_module_name(name)}"
        if path in files:
            raise SpecError("comes twice", origin=f"module {name!r}")
        files[path] = (0o644, _module_body(name, body))
    return files


def _members(files: Mapping[str, tuple[int, bytes]]) -> Iterator[bytes]:
    """Every member in the order of its name, which puts a directory before what is in it."""
    folders = {name.rpartition("/")[0] for name in files} - {""}
    entries = {name: (stat.S_IFREG | mode, body) for name, (mode, body) in files.items()}
    entries |= dict.fromkeys(folders, (stat.S_IFDIR | 0o755, b""))
    for inode, name in enumerate(sorted(entries), start=1):
        mode, body = entries[name]
        yield _member(name, inode=inode, mode=mode, links=2 if name in folders else 1, body=body)
    yield _member(_TRAILER, inode=0, mode=0, links=1, body=b"")


def _member(name: str, *, inode: int, mode: int, links: int, body: bytes) -> bytes:
    """One member: 13 fields of 8 hex digits after the magic; name and body padded to 4 bytes."""
    path = name.encode() + b"\0"
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
    # namesize, check (zero for newc)
    fields = (inode, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(path), 0)
    head = _MAGIC + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)


def _check_busybox(busybox: bytes) -> None:
    """Refuse a program that a guest without libraries cannot start (ELF64 program headers)."""
    if busybox[:5] != b"\x7fELF\x02":
        raise SpecError("not a 64-bit ELF program", origin="busybox", offset=0)
    start = int.from_bytes(busybox[0x20:0x28], "little")
    size = int.from_bytes(busybox[0x36:0x38], "little")
    count = int.from_bytes(busybox[0x38:0x3A], "little")
    for index in range(count):
        offset = start + index * size
        if int.from_bytes(busybox[offset : offset + 4], "little") == _PT_INTERP:
            raise SpecError(
                "needs a dynamic loader, which the guest does not have",
                origin="busybox",
                offset=offset,
                hint="install busybox-static",
            )


def _module_name(name: str) -> str:
    stem = name.removesuffix(".xz")
    if not stem.endswith(".ko") or "/" in stem or "\0" in stem or stem.startswith("."):
        raise SpecError("not a file name like NAME.ko or NAME.ko.xz", origin=f"module {name!r}")
    return stem


def _module_body(name: str, body: bytes) -> bytes:
    if not name.endswith(".xz"):
        return body
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        module = unpacker.decompress(body, max_length=_MODULE_LIMIT)
    except lzma.LZMAError as error:
        raise SpecError(f"not an xz file: {error}", origin=f"module {name}") from error
    if not unpacker.eof:
        raise SpecError(
            f"cut off, or unpacks to over {_MODULE_LIMIT} bytes", origin=f"module {name}"
        )
    return module


def read_busybox(path: Path = DEFAULT_BUSYBOX) -> bytes:
    """The busybox at ``path``. Raises `ToolMissing`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ToolMissing(
            f"busybox cannot be read: {error}", hint="install busybox-static, or name another"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """``python -m ci.guest.initramfs OUT``: write the archive. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="ci.guest.initramfs", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--busybox", type=Path, default=DEFAULT_BUSYBOX)
    parser.add_argument("--init", type=Path, default=DEFAULT_INIT)
    parser.add_argument("--module", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    try:
        archive = build_initramfs(
            busybox=read_busybox(options.busybox),
            init=options.init.read_bytes(),
            modules={path.name: path.read_bytes() for path in options.module},
        )
        options.out.write_bytes(archive)
    except MrtdError as error:
        parser.exit(error.exit_code, f"ci.guest.initramfs: {error}\n")
    except OSError as error:
        parser.exit(2, f"ci.guest.initramfs: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
