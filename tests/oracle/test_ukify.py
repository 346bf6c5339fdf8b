"""Our unified kernel images against systemd's ukify: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ci.images.inputs import debian_inputs
from ci.images.pe import Section
from ci.images.uki import OS_RELEASE, build_addon, build_uki
from tests.conftest import debian_part, unavailable

pytestmark = pytest.mark.oracle

CMDLINE = "console=ttyS0 root=LABEL=root"


def ukify(*arguments: str | Path) -> None:
    try:
        import pefile  # noqa: F401 - ukify needs it
    except ImportError:
        unavailable("pefile is not installed (dependency group oracle)")
    program = debian_part("ukify-trixie").file("usr/bin/ukify")
    command = [sys.executable, program, "build", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("stub", ["257", "262"])
def test_a_uki(stub: str, tmp_path: Path) -> None:
    inputs = debian_inputs(lambda names: {name: debian_part(name) for name in names})
    kernel = inputs.kernels["6.12"]
    files = {
        "--linux": kernel.image,
        "--initrd": kernel.initrd,
        "--os-release": OS_RELEASE,
        "--stub": inputs.stubs[stub],
    }
    arguments: list[str | Path] = ["--cmdline", CMDLINE, "--uname", kernel.version]
    for option, content in files.items():
        path = tmp_path / option.strip("-")
        path.write_bytes(content)
        arguments += [option, f"@{path}" if option == "--os-release" else path]
    ukify(*arguments, "--output", tmp_path / "uki.efi")
    ours = build_uki(inputs.stubs[stub], kernel, cmdline=CMDLINE)
    assert ours == (tmp_path / "uki.efi").read_bytes()


def test_an_addon(tmp_path: Path) -> None:
    inputs = debian_inputs(lambda names: {name: debian_part(name) for name in names})
    stub = tmp_path / "stub"
    stub.write_bytes(inputs.addon_stubs["257"])
    ukify("--stub", stub, "--cmdline", "a=1", "--output", tmp_path / "one.addon.efi")
    ours = build_addon(inputs.addon_stubs["257"], [Section(".cmdline", b"a=1")])
    assert ours == (tmp_path / "one.addon.efi").read_bytes()
