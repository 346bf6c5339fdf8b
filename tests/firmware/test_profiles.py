"""The table of firmware profiles: complete, disjoint, and what it says of each release."""

from __future__ import annotations

import itertools
import re

import pytest

from mrtd.errors import UnknownProfile
from mrtd.firmware.profiles import PROFILES, FirmwareProfile, InitrdArgument, Step, profile_named

CONFIG_A = [p for p in PROFILES if not p.inteltdx]
CONFIG_B = [p for p in PROFILES if p.inteltdx]
RELEASES = ("202211", "202302", "202411", "202502", "202505", "202508", "202605", "202608")


def named(name: str) -> FirmwareProfile:
    return profile_named(name, origin="test")


def test_names_are_unique() -> None:
    assert len({p.name for p in PROFILES}) == len(PROFILES)


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_has_a_profile_of_both_builds(release: str) -> None:
    assert named(f"edk2-{release}") in CONFIG_A
    assert named(f"edk2-{release}-inteltdx") in CONFIG_B


def test_the_inteltdx_build_of_202608_has_its_own_profile() -> None:
    assert named("edk2-202608-inteltdx").first == 202608


@pytest.mark.parametrize("table", [CONFIG_A, CONFIG_B], ids=["OvmfPkgX64", "IntelTdxX64"])
def test_release_ranges_are_ordered_and_disjoint(table: list[FirmwareProfile]) -> None:
    for profile in table:
        assert profile.first <= profile.last
    for before, after in itertools.pairwise(table):
        assert before.last < after.first


@pytest.mark.parametrize("table", [CONFIG_A, CONFIG_B], ids=["OvmfPkgX64", "IntelTdxX64"])
def test_every_stable_release_from_202211_to_202608_has_one_profile(
    table: list[FirmwareProfile],
) -> None:
    stable = [year * 100 + month for year in range(2022, 2027) for month in (2, 5, 8, 11)]
    for release in stable:
        if 202211 <= release <= 202608:
            assert sum(p.first <= release <= p.last for p in table) == 1, release


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_a_profile_is_named_for_the_first_release_it_describes(profile: FirmwareProfile) -> None:
    match = re.fullmatch(r"edk2-(\d{6})(-inteltdx)?", profile.name)
    assert match is not None
    assert profile.first <= int(match[1]) <= profile.last
    assert profile.source


def test_only_the_oldest_ovmf_build_extends_nothing_in_a_td() -> None:
    # facts 3.7: 202211: only IntelTdxX64 measures
    assert [p.name for p in PROFILES if not p.cc] == ["edk2-202211"]


def test_inteltdx_builds_have_no_tpm_drivers() -> None:
    assert [p for p in CONFIG_B if p.tpm] == []
    assert [p for p in CONFIG_A if not p.tpm] == []


@pytest.mark.parametrize(
    "profile", [p for p in PROFILES if p.first >= 202302], ids=lambda p: p.name
)
def test_rules_change_with_the_releases_that_changed_them(profile: FirmwareProfile) -> None:
    # facts 3.7
    steps = [row.step for row in profile.cc]
    assert (Step.SEPARATOR_RTMR0 in steps) is (profile.first < 202411)
    assert (Step.SEPARATOR_RTMR1 in steps) is (profile.first >= 202411)
    assert (Step.FW_CFG in steps) is (profile.first >= 202505)
    assert (Step.SMBIOS in steps) is (profile.first >= 202505)
    assert profile.named_blobs is (profile.first >= 202502)
    prefix = profile.initrd_argument is InitrdArgument.PREFIX
    assert prefix is (profile.first >= 202508)


@pytest.mark.parametrize(
    ("name", "apps"),
    [
        ("edk2-202302", ["UiApp"]),
        ("edk2-202502", ["UiApp"]),
        ("edk2-202505", ["BootManagerMenuApp", "EFI Firmware Setup"]),
        ("edk2-202605", ["BootManagerMenuApp", "EFI Firmware Setup"]),
        ("edk2-202605-inteltdx", []),
        ("edk2-202608-inteltdx", ["BootManagerMenuApp"]),
    ],
)
def test_boot_options_of_each_release(name: str, apps: list[str]) -> None:
    assert [app.description for app in named(name).boot_apps] == apps  # facts 3.5


def test_rows_without_a_real_log_say_so() -> None:
    for profile in PROFILES:
        for row in profile.cc:
            new = profile.first >= 202505 and row.step in {
                Step.FW_CFG, Step.SMBIOS, Step.BOOT_VARIABLES,
            }  # fmt: skip
            assert bool(row.unconfirmed) is (new or profile.inteltdx)


def test_rows_that_real_logs_show_are_confirmed() -> None:
    # facts 3.2: 13- and 14-event forms replay real quotes
    for name in ("edk2-202302", "edk2-202411", "edk2-202502"):
        assert not any(row.unconfirmed for row in named(name).cc)


def test_an_unknown_name_is_refused_with_all_known_ones() -> None:
    with pytest.raises(UnknownProfile, match="'edk2-209901' is no firmware profile") as caught:
        named("edk2-209901")
    assert all(profile.name in str(caught.value) for profile in PROFILES)
