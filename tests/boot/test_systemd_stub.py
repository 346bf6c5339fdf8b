"""What a UKI measures, by version of its stub, target and what lies beside it.

That the rules of 252, 257 and 262 are right is shown by boots (``tests/ci``); here is what those
boots do not have: the CC protocol, overriding command lines, versions nobody knows, bad input.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fixtures.bzimage import build_bzimage, default_sections
from mrtd.boot.stub_versions import STUB_ROWS, read_loader_info, stub_row
from mrtd.boot.systemd_stub import mangled
from mrtd.boot.uki import profile_ids, read_uki
from mrtd.errors import MalformedKernel
from mrtd.registers import Sha384, Target, Unpinned
from tests.esp import FACTS, KERNEL, labels, of, pe_image, started, uki
from tests.strategies import mutated, refused

OSREL = b"ID=fixture\n"
PARTS = (
    (".osrel", OSREL),
    (".cmdline", b"console=ttyS0 \n"),
    (".uname", b"6.12.0"),
    (".sbat", b"sbat,1\n"),
    (".linux", KERNEL),
    (".initrd", b"initrd!"),
)
CMDLINE = Sha384.of("console=ttyS0\0".encode("utf-16-le"))


def test_sections_are_measured_in_the_stub_s_order_not_in_the_file_s() -> None:
    shown = [label.split(":")[0] for label in labels(started(uki(*PARTS)), "pcr11")]
    names = [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"]
    assert shown == [name for name in names for _ in range(2)]


def test_a_section_is_measured_by_name_with_nul_and_by_content() -> None:
    first, second = of(started(uki(*PARTS)), "pcr11")[:2]
    assert first.digest == Sha384.of(b".linux\0")
    assert str(first.digest).startswith("2fdc8531577607d9")  # logs of Debian's stubs
    assert second.digest == Sha384.of(KERNEL)


@pytest.mark.parametrize(
    ("version", "count"), [("252.39-1", 8), ("254.1", 12), ("257.13-1", 12), ("262.1", 12)]
)
def test_what_is_measured_depends_on_the_version(version: str, count: int) -> None:
    assert len(of(started(uki(*PARTS, version=version)), "pcr11")) == count


@pytest.mark.parametrize(
    ("version", "measures"),
    [("252.39-1", False), ("255.4", False), ("256", True), ("257.13", True)],
)
def test_stubs_measure_in_a_td_from_256_on(
    version: str,
    measures: bool,  # noqa: FBT001 - parametrised
) -> None:
    chain = started(uki(*PARTS, version=version), target=Target.CC)
    sections = [e for e in of(chain, "rtmr2") if e.description.startswith(".")]
    assert bool(sections) is measures
    # the kernel's own stub measures whatever systemd's does
    assert [e.digest for e in of(chain, "rtmr2")][-2] == CMDLINE


def test_a_kernel_that_cannot_measure_in_a_td_leaves_the_stub_s_events_only() -> None:
    silent = build_bzimage(sections=default_sections(measures=False))
    parts = tuple((n, silent if n == ".linux" else data) for n, data in PARTS)
    chain = started(uki(*parts), target=Target.CC)
    assert all(e.description.startswith(".") for e in of(chain, "rtmr2"))
    assert chain.kernel is not None
    assert not chain.kernel.cc_measurement


def test_the_command_line_is_trimmed_before_the_kernel_gets_it() -> None:
    assert of(started(uki(*PARTS)), "pcr9")[0].digest == CMDLINE


@pytest.mark.parametrize(
    ("text", "expected"), [("a\nb", "a b"), (" \ta", "a"), ("a \x7f", "a"), ("\n", ""), ("", "")]
)
def test_control_characters_become_spaces(text: str, expected: str) -> None:
    assert mangled(text) == expected


def test_load_options_win_over_the_embedded_command_line_and_are_measured() -> None:
    chain = started(uki(*PARTS), options="from=outside")
    told = Sha384.of("from=outside\0".encode("utf-16-le"))
    assert [e.digest for e in of(chain, "pcr12")] == [told]
    assert of(chain, "pcr9")[0].digest == told


def test_the_initrd_is_padded_and_followed_by_the_os_release() -> None:
    plain = Sha384.of(b"initrd!")
    assert of(started(uki(*PARTS, version="252.1")), "pcr9")[1].digest == plain
    packed = of(started(uki(*PARTS, version="257.1")), "pcr9")[1].digest
    assert packed != plain
    without = tuple(part for part in PARTS if part[0] != ".osrel")
    assert of(started(uki(*without, version="257.1")), "pcr9")[1].digest == plain


@pytest.mark.parametrize(("version", "count"), [("257.1", 1), ("258.1", 0)])
def test_the_inner_kernel_is_an_image_of_its_own_up_to_257(version: str, count: int) -> None:
    assert len(of(started(uki(*PARTS, version=version)), "pcr4")) == count


PROFILES = (
    *PARTS,
    (".profile", b"ID=main\n"),
    (".profile", b"ID=other\nTITLE=Other\n"),
    (".cmdline", b"profile=other"),
)


def test_a_profile_replaces_sections_of_the_base() -> None:
    chain = started(uki(*PROFILES), options="@1")
    assert chain.cmdline == "profile=other"
    assert labels(chain, "pcr12") == ["UKI profile 1"]
    assert labels(chain, "pcr11")[-1].startswith(".profile")


def test_the_first_profile_is_not_measured_as_a_choice() -> None:
    chain = started(uki(*PROFILES), options="@0")
    assert chain.cmdline == "console=ttyS0"
    assert not of(chain, "pcr12")


def test_a_choice_of_profile_is_not_measured_in_a_td_by_257() -> None:
    chain = started(uki(*PROFILES), options="@1", target=Target.CC)
    assert "UKI profile 1" not in labels(chain, "rtmr2")


def test_a_profile_that_is_not_there_is_refused() -> None:
    with pytest.raises(MalformedKernel, match="has 2 profiles, and none with number 2"):
        started(uki(*PROFILES), options="@2")
    assert profile_ids(memoryview(uki(*PROFILES)), origin="x") == ("main", "other")


def test_addons_and_sidecars_are_taken_in_order() -> None:
    folder = "EFI/BOOT/BOOTX64.EFI.extra.d"
    files = {
        f"{folder}/b.addon.efi": pe_image((".cmdline", b"b=1")),
        f"{folder}/a.addon.efi": pe_image((".cmdline", b" a=1 ")),
        f"{folder}/not-for-us.addon.efi": pe_image((".cmdline", b"no"), (".uname", b"5.0")),
        f"{folder}/kernel.addon.efi": pe_image((".cmdline", b"no"), (".linux", b"MZ")),
        f"{folder}/two.cred": b"2",
        f"{folder}/one.cred": b"1",
        f"{folder}/x.raw": b"extension",
        f"{folder}/x.confext.raw": b"configuration",
        "loader/addons/global.ADDON.EFI": pe_image((".cmdline", b"g=1")),
        "loader/credentials/shared.cred": b"3",
    }
    chain = started(uki(*PARTS), files=files)
    assert chain.cmdline == "console=ttyS0 g=1 a=1 b=1"
    assert labels(chain, "pcr12") == [
        "g=1 a=1 b=1", "Credentials initrd", "Global credentials initrd",
        "Configuration extension initrd",
    ]  # fmt: skip
    assert labels(chain, "pcr13") == ["System extension initrd"]
    old = started(uki(*PARTS, version="252.1"), files=files)
    assert old.cmdline == "console=ttyS0"
    assert len(of(old, "pcr13")) == 1
    assert of(old, "pcr13")[0].digest != of(chain, "pcr13")[0].digest  # both .raw files


def test_a_console_is_added_from_262_on() -> None:
    parts = tuple((n, b"quiet" if n == ".cmdline" else data) for n, data in PARTS)
    assert started(uki(*parts, version="257.1")).cmdline == "quiet"
    chain = started(uki(*parts, version="262.1"))
    assert chain.cmdline == "quiet console=uart,io,0x3f8"
    unknown = replace(FACTS, consoles=Unpinned("a screen"))
    assert isinstance(of(started(uki(*parts, version="262.1"), facts=unknown), "pcr9")[0].digest,
                      Unpinned)  # fmt: skip


def test_a_random_secret_unpins_the_initrd() -> None:
    facts = replace(FACTS, random_source="virtio-rng-pci")
    assert isinstance(of(started(uki(*PARTS, version="262.1"), facts=facts), "pcr9")[1].digest,
                      Unpinned)  # fmt: skip
    assert isinstance(of(started(uki(*PARTS, version="257.1"), facts=facts), "pcr9")[1].digest,
                      Sha384)  # fmt: skip


@pytest.mark.parametrize("version", ["251.1", "263~rc1", "9999"])
def test_versions_that_no_row_describes_are_not_guessed_at(version: str) -> None:
    chain = started(uki(*PARTS, version=version))
    digests = [event.digest for event in chain.recorder.events]
    assert all(isinstance(digest, Unpinned) for digest in digests)
    assert version in str(digests[0])
    assert not chain.ended


def test_rows_follow_each_other() -> None:
    assert [row.before for row in STUB_ROWS[:-1]] == [row.first for row in STUB_ROWS[1:]]
    assert stub_row(257) is not None
    assert all(row.source for row in STUB_ROWS)


@given(st.binary(max_size=200))
def test_any_magic_is_one_or_none(magic: bytes) -> None:
    found = read_loader_info(magic)
    assert found is None or found.version.isprintable()


@given(st.data())
def test_a_broken_uki_is_refused_or_read(data: st.DataObject) -> None:
    valid = uki((".cmdline", b"quiet"), (".linux", b"MZ"), (".profile", b"ID=a"))
    broken = memoryview(data.draw(mutated(valid)))
    refused(lambda: read_uki(broken, origin="x", profile=1))
    refused(lambda: profile_ids(broken, origin="x"))
