"""The measuring guest's archive: the same bytes every time, and one that cpio understands."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from ci.guest import initramfs
from ci.guest.initramfs import DEFAULT_INIT, build_initramfs, main, read_busybox
from mrtd.errors import SpecError, ToolMissing
from mrtd.evidence.collector import collector_script
from tests.conftest import require_tool

# An ELF64 header with no program headers: static as far as anyone can tell.
BUSYBOX = b"\x7fELF\x02".ljust(64, b"\0") + b"program"
INIT = b"#!/bin/busybox sh\n"


def test_the_bytes_are_these() -> None:
    archive = build_initramfs(busybox=BUSYBOX, init=INIT)
    # ino, mode 0755, uid, gid, nlink, mtime, size, four device numbers, namesize, check
    first = b"070701" + b"00000001000041ed000000000000000000000002" + b"0" * 48
    assert archive.startswith(first + b"00000004" + b"0" * 8 + b"bin\0")
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(archive) % 512 == 0


def test_order_and_origin_of_the_modules_do_not_matter() -> None:
    one = build_initramfs(busybox=BUSYBOX, init=INIT, modules={"a.ko": b"1", "b.ko": b"22"})
    packed = {"b.ko": b"22", "a.ko.xz": lzma.compress(b"1")}
    assert build_initramfs(busybox=BUSYBOX, init=INIT, modules=packed) == one


def test_cpio_lists_the_members(tmp_path: Path) -> None:
    cpio = require_tool("cpio")
    archive = build_initramfs(busybox=BUSYBOX, init=INIT, modules={"x.ko": b"module"})
    command = [str(cpio), "--extract", "--make-directories", "--quiet", "--no-absolute-filenames"]
    subprocess.run(command, input=archive, cwd=tmp_path, check=True)
    files = {
        str(path.relative_to(tmp_path)): (path.stat().st_mode & 0o7777, path.read_bytes())
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert files == {
        "init": (0o755, INIT),
        "bin/busybox": (0o755, BUSYBOX),
        "collect.sh": (0o755, collector_script()),
        "modules/x.ko": (0o644, b"module"),
    }


@pytest.mark.parametrize(
    "name", ["x.txt", "../x.ko", "a/x.ko", ".ko", "x.ko.gz", "", "x\0.ko", ".x.ko.xz"]
)
def test_unusable_module_names(name: str) -> None:
    with pytest.raises(SpecError, match=r"not a file name like NAME\.ko"):
        build_initramfs(busybox=BUSYBOX, init=INIT, modules={name: b""})


def test_unusable_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="not an xz file"):
        build_initramfs(busybox=BUSYBOX, init=INIT, modules={"x.ko.xz": b"not an xz file at all"})
    with pytest.raises(SpecError, match="comes twice"):
        build_initramfs(
            busybox=BUSYBOX, init=INIT, modules={"x.ko": b"1", "x.ko.xz": lzma.compress(b"1")}
        )
    packed = lzma.compress(bytes(1 << 16))
    with pytest.raises(SpecError, match="cut off"):
        build_initramfs(busybox=BUSYBOX, init=INIT, modules={"x.ko.xz": packed[:-20]})
    monkeypatch.setattr(initramfs, "_MODULE_LIMIT", 1 << 10)
    with pytest.raises(SpecError, match="unpacks to over 1024 bytes"):
        build_initramfs(busybox=BUSYBOX, init=INIT, modules={"x.ko.xz": packed})


def test_busybox_has_to_be_static() -> None:
    with pytest.raises(SpecError, match="not a 64-bit ELF program"):
        build_initramfs(busybox=b"#!/bin/sh\n", init=INIT)
    interpreter = bytearray(BUSYBOX + (3).to_bytes(56, "little"))
    interpreter[0x20:0x28] = len(BUSYBOX).to_bytes(8, "little")
    interpreter[0x36:0x38] = (56).to_bytes(2, "little")
    interpreter[0x38:0x3A] = (1).to_bytes(2, "little")
    with pytest.raises(SpecError, match="needs a dynamic loader"):
        build_initramfs(busybox=bytes(interpreter), init=INIT)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "busybox").write_bytes(BUSYBOX)
    (tmp_path / "x.ko").write_bytes(b"module")
    out = tmp_path / "out"
    options = ["--busybox", str(tmp_path / "busybox"), "--module", str(tmp_path / "x.ko")]
    assert main([str(out), *options]) == 0
    assert out.read_bytes() == build_initramfs(
        busybox=BUSYBOX, init=DEFAULT_INIT.read_bytes(), modules={"x.ko": b"module"}
    )
    with pytest.raises(SystemExit) as end:
        main([str(out), "--busybox", str(tmp_path / "none")])
    assert end.value.code == 3
    assert "install busybox-static" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([str(out), *options, "--init", str(tmp_path / "none")])
    assert end.value.code == 2


def test_no_busybox(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="install busybox-static"):
        read_busybox(tmp_path / "busybox")


def test_the_script_is_a_shell_script() -> None:
    shell = shutil.which("busybox") or shutil.which("sh")
    assert shell is not None
    command = [shell, "sh", "-n"] if shell.endswith("busybox") else [shell, "-n"]
    subprocess.run([*command, str(DEFAULT_INIT)], check=True)
