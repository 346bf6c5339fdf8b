"""Our reading of firmware against virt-firmware's (GPL-2.0: run as a program, not imported)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.tdvf import build_tdvf
from fixtures.varstore import GLOBAL, SECURITY_DATABASE, Variable
from fixtures.volumes import Module
from mrtd.firmware.tdvf import SectionType, read_tdvf
from mrtd.firmware.variables import read_variables
from mrtd.firmware.volumes import unpack_firmware
from tests.conftest import DebianParts, unavailable

pytestmark = pytest.mark.oracle

IMAGES = ("ovmf_2022_11", "ovmf_2025_02", "ovmf_2026_08", "inteltdx_2026_08")
SECTION = re.compile(
    r"mbase=0x(?P<gpa>[0-9a-f]+) msize=0x(?P<memory>[0-9a-f]+) type=(?P<type>[^(\n]+?)(?: \(\w+\))?"
    r"(?: fbase=0x(?P<offset>[0-9a-f]+) fsize=0x(?P<raw>[0-9a-f]+))?(?: flags=0x(?P<flags>\w+))?\n"
)
TYPES = {
    "BFV": SectionType.BFV,
    "CFV": SectionType.CFV,
    "MEM": SectionType.TEMP_MEM,
    "TD Hob": SectionType.TD_HOB,
}


def dump(path: Path) -> str:
    program = shutil.which("virt-fw-dump", path=str(Path(sys.executable).parent))
    if program is None:
        unavailable("virt-fw-dump is not installed (dependency group oracle)")
    done = subprocess.run(
        [program, "-i", str(path)], capture_output=True, check=True, encoding="utf-8", timeout=120
    )
    return done.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_sections_of_real_images(debian: DebianParts, name: str) -> None:
    path: Path = getattr(debian, name)
    metadata = dump(path).split("guid:TdxMetadataOffset", 1)[1].split("guid:", 1)[0]
    theirs = [
        (
            TYPES[found["type"]],
            *(int(found[field] or "0", 16) for field in ("offset", "raw", "gpa", "memory")),
            int(found["flags"] or "0", 16),
        )
        for found in SECTION.finditer(metadata)
    ]
    ours = [
        (s.type, s.data_offset, s.raw_size, s.gpa, s.memory_size, s.attributes)
        for s in read_tdvf(memoryview(path.read_bytes()), origin=name).sections
    ]
    assert ours == theirs


def variables_dumped(text: str) -> list[tuple[str, int]]:
    found = re.findall(r"variable=\S+ nsize=\S+ dsize=(\S+) attr=\S+ name=(\S+) \(ok\)", text)
    return sorted((name, int(size, 16)) for size, name in found)


@pytest.mark.parametrize("name", IMAGES)
def test_variables_of_real_images(debian: DebianParts, name: str) -> None:
    path: Path = getattr(debian, name)
    image = memoryview(path.read_bytes())
    (cfv,) = read_tdvf(image, origin=name).of_type(SectionType.CFV)
    ours = read_variables(cfv.content(image), origin=name)
    assert sorted((v.name, len(v.data)) for v in ours) == variables_dumped(dump(path))
    assert bool(ours) is (name == "inteltdx_2026_08")  # the others have blank stores


@pytest.mark.parametrize("name", ["VARS_4M.ms", "VARS_4M.snakeoil"])
def test_variables_of_real_stores(debian: DebianParts, name: str) -> None:
    path = debian.ovmf_folders["trixie"] / f"OVMF_{name}.fd"
    ours = read_variables(memoryview(path.read_bytes()), origin=name)
    assert sorted((v.name, len(v.data)) for v in ours) == variables_dumped(dump(path))
    assert {"PK", "KEK", "db"} <= {v.name for v in ours}


@pytest.mark.parametrize("name", IMAGES)
def test_modules_of_real_images(debian: DebianParts, name: str) -> None:
    path: Path = getattr(debian, name)
    theirs = sorted(re.findall(r"type=ui \[ name=(.*?) \]", dump(path)))
    contents = unpack_firmware(memoryview(path.read_bytes()), origin=name)
    assert sorted(module.name for module in contents.modules if module.name) == theirs
    assert len(theirs) > 50


@pytest.mark.parametrize("compressed", [True, False])
def test_built_images_are_what_they_should_be(tmp_path: Path, *, compressed: bool) -> None:
    siglist = bytes.fromhex("26 16 c4 c1 4c 50 92 40 ac a9 41 f9 36 93 43 28".replace(" ", ""))
    siglist += (28 + 48).to_bytes(4, "little") + bytes(4) + (48).to_bytes(4, "little") + bytes(48)
    variables = [Variable(GLOBAL, "PK", siglist), Variable(SECURITY_DATABASE, "db", siglist * 2)]
    path = tmp_path / "OVMF.fd"
    modules = [Module("TdTcg2Dxe", b"x"), Module("UiApp")]
    path.write_bytes(build_tdvf(modules=modules, variables=variables, compressed=compressed))
    text = dump(path)
    assert re.findall(r"type=ui \[ name=(.*?) \]", text) == ["TdTcg2Dxe", "UiApp"]
    assert variables_dumped(text) == [("PK", len(siglist)), ("db", 2 * len(siglist))]
