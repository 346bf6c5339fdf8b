"""Signals of a firmware binary, and the profile that they fit: one, several or none."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.tdvf import build_tdvf, default_sections
from fixtures.varstore import GLOBAL, Variable
from fixtures.volumes import Module
from mrtd.errors import MalformedFirmware, UnknownProfile
from mrtd.firmware.identify import Firmware, examine, identify
from mrtd.firmware.profiles import PROFILES, FirmwareProfile, InitrdArgument, Step, profile_named
from mrtd.firmware.signals import Signals, contradictions, guess_profile, read_signals
from mrtd.firmware.volumes import unpack_firmware
from tests.conftest import DebianParts


def like_trixie(**changes: Any) -> Signals:
    """Signals of Debian's OVMF.fd 2025.02, with changes."""
    signals: dict[str, Any] = {
        "modules": frozenset({"TdTcg2Dxe"}),
        "td_measurement": True,
        "inteltdx": False,
        "secure_boot": False,
        "smbios": False,
        "menu_app": False,
        "fw_cfg_events": False,
        "acpi_events": True,
        "named_blobs": True,
        "initrd_argument": InitrdArgument.SUFFIX,
        "version": "2025.02-8+deb13u1",
        "release": 202502,
    }
    return Signals(**(signals | changes))


def signals_of(profile: FirmwareProfile, **changes: Any) -> Signals:
    """What an image of the profile's first release shows, with changes."""
    steps = {row.step for row in profile.cc}
    signals: dict[str, Any] = {
        "td_measurement": bool(profile.cc),
        "inteltdx": profile.inteltdx,
        "smbios": Step.SMBIOS in steps,
        "fw_cfg_events": Step.FW_CFG in steps,
        "acpi_events": Step.ACPI in steps,
        "named_blobs": profile.named_blobs,
        "initrd_argument": profile.initrd_argument,
        "version": str(profile.first),
        "release": profile.first,
    }
    return like_trixie(**(signals | changes))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_every_profile_can_be_guessed_with_a_version(profile: FirmwareProfile) -> None:
    assert guess_profile(signals_of(profile), origin="OVMF.fd") is profile


def test_a_build_without_version_string_fits_several_and_all_are_listed() -> None:
    found = signals_of(profile_named("edk2-202302", origin=""), version="", release=None)
    with pytest.raises(UnknownProfile, match="fits several profiles: ") as caught:
        guess_profile(found, origin="OVMF.fd")
    assert "edk2-202302, edk2-202411" in str(caught.value)
    assert "edk2-202502" not in str(caught.value)
    assert "set firmware.profile" in str(caught.value)


def test_a_build_without_version_string_that_fits_one_profile_is_that_profile() -> None:
    found = like_trixie(version="", release=None)
    assert guess_profile(found, origin="OVMF.fd").name == "edk2-202502"


def test_a_build_that_fits_none_names_what_speaks_against_the_nearest() -> None:
    with pytest.raises(UnknownProfile, match="fits no known profile") as caught:
        guess_profile(like_trixie(release=203002, version="2030.02"), origin="OVMF.fd")
    assert "nearest: edk2-202502: version: 2030.02 is not in 202502..202502" in str(caught.value)


def test_contradictions_name_both_sides() -> None:
    found = contradictions(
        profile_named("edk2-202605-inteltdx", origin=""), like_trixie(initrd_argument=None)
    )
    assert found == (
        "IntelTdxX64 build: no in the image, yes in the profile",
        "SmbiosMeasurementDxe: no in the image, yes in the profile",
        "fw_cfg event text: no in the image, yes in the profile",
        "initrd= argument: none in the image, prefix in the profile",
        "version: 2025.02-8+deb13u1 is not in 202605..202605",
    )


def test_a_fitting_profile_has_no_contradictions() -> None:
    assert contradictions(profile_named("edk2-202502", origin=""), like_trixie()) == ()


def modules_like_trixie(*, version: str = "2025.02-8+deb13u1") -> list[Module]:
    """Modules with the signals of Debian's OVMF.fd 2025.02."""
    return [
        Module("PeiCore"),
        Module("DxeCore"),
        Module("TdxDxe"),
        Module("TdTcg2Dxe", b"ACPI DATA\0"),
        Module("QemuKernelLoaderFsDxe", b"etc/boot/\0"),
        Module("BdsDxe", b"%a%a\0 initrd=initrd\0" + b"\0\0"),
        Module("SmbiosPlatformDxe", b"\0\0" + f"{version}\0".encode("utf-16-le")),
    ]


def read(modules: list[Module]) -> Signals:
    image = memoryview(build_tdvf(modules=modules))
    return read_signals(unpack_firmware(image, origin="OVMF.fd"))


def test_signals_of_a_synthetic_image() -> None:
    found = read(modules_like_trixie())
    assert found == like_trixie(modules=found.modules)
    assert found.modules >= {"PeiCore", "DxeCore", "TdTcg2Dxe"}


def test_an_empty_image_shows_nothing() -> None:
    found = read([])
    assert not found.td_measurement
    assert not found.inteltdx
    assert found.initrd_argument is None
    assert (found.version, found.release) == ("", None)


def test_an_image_without_pei_phase_is_an_inteltdx_build() -> None:
    assert read([Module("TdxDxe"), Module("DxeCore")]).inteltdx
    assert not read([Module("TdxDxe"), Module("PeiCore")]).inteltdx
    assert not read([Module("DxeCore")]).inteltdx


def test_each_newer_signal_is_read() -> None:
    found = read(
        [
            Module("SmbiosMeasurementDxe", b"QEMU FW CFG\0"),
            Module("BootManagerMenuApp"),
            Module("SecureBootConfigDxe"),
            Module("BdsDxe", b"initrd=initrd \0"),
        ]
    )
    assert found.smbios
    assert found.fw_cfg_events
    assert found.menu_app
    assert found.secure_boot
    assert found.initrd_argument is InitrdArgument.PREFIX


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("2025.02-8+deb13u1", 202502),
        ("edk2-stable202411", 202411),
        ("202408", 202408),
        ("2026.08+ds-2", 202608),
    ],
)
def test_version_strings_give_the_release(text: str, release: int) -> None:
    found = read(modules_like_trixie(version=text))
    assert (found.version, found.release) == (text, release)


@pytest.mark.parametrize(
    "text", ["2025.13-1", "1920.02", "20", "2019.02", "built 2025", "x2025.02"]
)
def test_other_texts_with_a_year_are_no_version(text: str) -> None:
    assert read(modules_like_trixie(version=text)).version == ""


def test_the_version_that_occurs_most_often_counts() -> None:
    modules = modules_like_trixie()
    other = Module("Other", b"\0\0" + "2024.11\0".encode("utf-16-le"))
    again = Module("Again", b"\0\0" + "2025.02-8+deb13u1\0".encode("utf-16-le"))
    assert read([other, *modules, again]).version == "2025.02-8+deb13u1"


def test_endless_years_are_not_all_looked_at() -> None:
    many = Module("Many", "20\1".encode("utf-16-le") * 200_000)
    assert read([*modules_like_trixie(), many]).release == 202502


def find(image: bytes, **settings: Any) -> Firmware:
    return identify(memoryview(image), origin="OVMF.fd", **settings)


def test_an_image_is_identified_by_its_signals() -> None:
    found = find(build_tdvf(modules=modules_like_trixie(), variables=[Variable(GLOBAL, "A", b"1")]))
    assert found.profile.name == "edk2-202502"
    assert found.guessed
    assert not found.secure_boot
    assert [v.name for v in found.variables] == ["A"]
    assert found.volumes is not None
    assert found.contradictions == ()


def test_a_named_profile_is_kept_and_contradictions_are_told() -> None:
    found = find(build_tdvf(modules=modules_like_trixie()), profile="edk2-202411")
    assert found.profile.name == "edk2-202411"
    assert not found.guessed
    assert "etc/boot/ files: yes in the image, no in the profile" in found.contradictions


def test_an_image_need_not_be_unpacked_if_all_is_said() -> None:
    image = build_tdvf(modules=modules_like_trixie())
    found = find(image, profile="edk2-202502", secure_boot=True)
    assert found.signals is None
    assert found.volumes is None
    assert found.secure_boot
    assert not found.guessed


def test_an_image_unpacked_elsewhere_is_used() -> None:
    image = build_tdvf(modules=modules_like_trixie())
    examined = examine(memoryview(image), origin="OVMF.fd")
    found = find(image, profile="edk2-202502", secure_boot=True, examined=lambda: examined)
    assert found.signals is not None
    assert found.secure_boot


def test_secure_boot_can_be_said_against_the_image() -> None:
    image = build_tdvf(modules=[*modules_like_trixie(), Module("SecureBootConfigDxe")])
    assert find(image).secure_boot
    assert not find(image, secure_boot=False).secure_boot


def test_an_image_without_pei_core_has_no_measured_volumes() -> None:
    image = build_tdvf(modules=[Module("DxeCore")])
    assert find(image, profile="edk2-202502").volumes is None


def test_an_unknown_profile_name_is_refused_before_unpacking() -> None:
    with pytest.raises(UnknownProfile, match="is no firmware profile"):
        find(build_tdvf(), profile="edk2-000000")


def test_an_image_of_strange_modules_fits_no_profile() -> None:
    with pytest.raises(UnknownProfile, match="fits no known profile; nearest: edk2-"):
        find(build_tdvf(modules=[Module("Strange")]))


@pytest.mark.parametrize(
    ("part", "profile", "secure_boot"),
    [
        ("ovmf_2022_11", "edk2-202211", True),
        ("ovmf_2025_02", "edk2-202502", False),
        ("ovmf_2026_08", "edk2-202608", False),
        ("inteltdx_2026_08", "edk2-202608-inteltdx", True),
    ],
)
def test_debian_firmware_is_recognised(
    debian: DebianParts,
    part: str,
    profile: str,
    secure_boot: bool,  # noqa: FBT001 - parametrised
) -> None:
    found = find(getattr(debian, part).read_bytes())
    assert found.profile.name == profile
    assert found.secure_boot is secure_boot
    assert found.signals is not None
    # facts 1.2: which drivers the images hold
    assert found.signals.td_measurement is (part != "ovmf_2022_11")
    assert found.signals.smbios is ("2026_08" in part)
    assert found.signals.menu_app is ("2026_08" in part)
    assert (found.volumes is None) is (part == "inteltdx_2026_08")


def test_debian_s_code_without_variables_is_refused_with_the_remedy(debian: DebianParts) -> None:
    code = (debian.ovmf_folders["trixie"] / "OVMF_CODE_4M.fd").read_bytes()
    with pytest.raises(MalformedFirmware, match=r"put its VARS file in front of it"):
        find(code)


def test_debian_s_variables_in_front_of_its_code_are_its_whole_image(debian: DebianParts) -> None:
    folder = debian.ovmf_folders["trixie"]
    parts = [(folder / f"OVMF_{name}_4M.fd").read_bytes() for name in ("VARS", "CODE")]
    assert b"".join(parts) == debian.ovmf_2025_02.read_bytes()
    assert find(b"".join(parts)).profile.name == "edk2-202502"


def test_debian_s_variables_are_no_firmware(debian: DebianParts) -> None:
    variables = (debian.ovmf_folders["trixie"] / "OVMF_VARS_4M.fd").read_bytes()
    with pytest.raises(MalformedFirmware, match=r"no TDX metadata.*not a VARS file"):
        find(variables)


def test_debian_s_older_4m_code_has_no_metadata(debian: DebianParts) -> None:
    folder = debian.ovmf_folders["bookworm"]
    with pytest.raises(MalformedFirmware, match="no TDX metadata"):  # facts 1.2
        find((folder / "OVMF_CODE_4M.fd").read_bytes())


def test_default_sections_are_those_of_debian_s_image(debian: DebianParts) -> None:
    image = debian.ovmf_2025_02.read_bytes()
    found = find(image).tdvf.sections
    expected = default_sections(0x84000, len(image) - 0x84000)
    assert [(s.gpa, s.memory_size, s.raw_size) for s in found] == [
        (s.address, s.memory_size, s.raw_size) for s in expected
    ]
