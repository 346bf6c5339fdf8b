"""systemd-boot, shim and GRUB: what is derived of them, and what is named instead of guessed."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.bzimage import build_bzimage
from mrtd.boot.chain import Chain
from mrtd.boot.device_options import BootDevice, device_option
from mrtd.boot.grub import read_prefix
from mrtd.boot.grub_cfg import GrubCommand, read_grub_cfg, split_words
from mrtd.boot.loader_entries import read_entry
from mrtd.boot.shim import mok_list, sbat_level
from mrtd.boot.systemd_boot import choose
from mrtd.eventlog import Event, EventType
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import RegisterName, Sha384, Target, Unpinned
from tests.esp import FACTS, KERNEL, MemoryFiles, labels, of, pe_image, started, uki

BOOT = pe_image((".sdmagic", b"#### LoaderInfo: systemd-boot 257.13 ####"))
TYPE_1 = b"title A\nlinux /k\ninitrd /i\ninitrd /j\noptions a=1\noptions b=2\n"
SBAT = b"sbat,1,x,x,1,x\ngrub,7,FSF,grub,2.12,x\ngrub.peimage,2,C,grub2,2.12-9,x\n"
GRUB_CFG = """\
# a comment
set timeout=0
set default="1"
menuentry 'first' {
    linux /k first
}
menuentry "second one" {
    linux /k root=/dev/vda "quoted" words ${default}
    initrd /i
}
"""


SECOND = '{\n    linux /k root=/dev/vda "quoted" words ${default}\n    initrd /i\n}'


def grub(prefix: str = "/EFI/debian", *, config: bool = False) -> bytes:
    """GRUB with a modules' header that has a prefix, and maybe a configuration."""
    objects = b""
    for kind, content in ((3, prefix.encode() + b"\0"), *(((2, b"x\0"),) if config else ())):
        objects += struct.pack("<II", kind, 8 + len(content)) + content
    header = b"mimg" + bytes(4) + struct.pack("<QQ", 24, 24 + len(objects))
    return pe_image(("mods", header + objects), (".sbat", SBAT))


def boot_grub(cfg: str, *, entry: str | None = None, target: Target = Target.TPM) -> list[Event]:
    files = {"EFI/debian/grub.cfg": cfg.encode(), "k": KERNEL, "i": b"initrd"}
    return started(grub(), files=files, entry=entry, target=target).recorder.events


def test_a_type_1_entry_gives_kernel_options_and_initrds() -> None:
    files = {"loader/loader.conf": b"default a*\n", "loader/entries/a.conf": TYPE_1,
             "loader/entries/b.conf": TYPE_1, "k": KERNEL, "i": b"one", "j": b"two!"}  # fmt: skip
    chain = started(BOOT, files=files)
    options = "initrd=\\i initrd=\\j a=1 b=2"
    assert chain.cmdline == options
    assert labels(chain, "pcr12") == [options]
    assert of(chain, "pcr9")[1].digest == Sha384.of(b"one\0two!")
    assert labels(chain, "pcr5") == ["loader.conf"]


def test_loader_conf_is_not_measured_in_a_td_by_257() -> None:
    files = {"loader/loader.conf": b"default a*\n", "loader/entries/a.conf": b"linux /k\n",
             "k": KERNEL}  # fmt: skip
    chain = started(BOOT, files=files, target=Target.CC)
    assert "loader.conf" not in labels(chain, "rtmr1")


def test_a_uki_is_found_and_an_entry_of_the_spec_wins() -> None:
    image = uki((".osrel", b"ID=a"), (".cmdline", b"from=uki"), (".linux", KERNEL))
    files = {"loader/entries/a.conf": TYPE_1, "EFI/Linux/b.efi": image, "k": KERNEL,
             "i": b"1", "j": b"2"}  # fmt: skip
    assert started(BOOT, files=files, entry="b.efi").cmdline == "from=uki"
    undecided = started(BOOT, files=files)
    assert not undecided.ended
    reasons = {str(e.digest) for e in undecided.recorder.events if isinstance(e.digest, Unpinned)}
    assert any("set boot.entry to the one that is started" in reason for reason in reasons)


ONE = {"loader/loader.conf": b"default a*\n", "loader/entries/a.conf": b"linux /k\n",
       "k": KERNEL}  # fmt: skip


def reasons_of(chain: Chain) -> str:
    """Why something is not derived."""
    return " ".join(str(e.digest) for e in chain.recorder.events if isinstance(e.digest, Unpinned))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"EFI/systemd/drivers/ext4X64.efi": b"?"}, "the drivers in /EFI/systemd/drivers"),
        ({"loader/loader.conf": b"default auto-a.conf\n", "loader/entries/auto-a.conf": TYPE_1},
         "a name that begins with 'auto-'"),
        ({"loader/loader.conf": b"default u.efi\n", "EFI/Linux/u.efi": uki((".linux", KERNEL))},
         "a UKI without .osrel"),
        ({"loader/keys/auto/PK.auth": b"?"}, "may enroll the keys"),
        ({"loader/loader.conf": b"default a*\npreferred b*\n"}, "'preferred' of loader.conf"),
    ],
)  # fmt: skip
def test_what_systemd_boot_does_besides_is_not_overlooked(
    files: dict[str, bytes], reason: str
) -> None:
    chain = started(BOOT, files={**ONE, **files})
    assert reason in reasons_of(chain)
    assert not chain.ended


def test_drivers_for_other_machines_and_aids_are_no_drivers() -> None:
    files = {**ONE, "EFI/systemd/drivers/ext4aa64.efi": b"?", "EFI/systemd/drivers/x": b"?"}
    assert started(BOOT, files=files).ended


def test_variables_and_other_partitions_may_choose_an_entry() -> None:
    facts = msgspec.structs.replace(FACTS, stored=frozenset({"LoaderEntryOneShot"}))
    assert "LoaderEntryOneShot" in reasons_of(started(BOOT, files=ONE, facts=facts))
    assert "XBOOTLDR" in reasons_of(started(BOOT, files=ONE, extended=True))
    told = started(BOOT, files=ONE, facts=facts, extended=True, entry="a.conf")
    assert told.ended


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("x*", "no entry is named 'x*'"), ("", "more than one entry"), ("c+1.conf", "counts")],
)
def test_an_entry_that_does_not_follow_is_not_guessed(wanted: str, reason: str) -> None:
    entries = tuple(
        read_entry("linux /k", name=n, source=n) for n in ("a.conf", "b.conf", "c+1.conf")
    )
    found = choose(entries, wanted)
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize("separator", ["\v", "\f", "\x1e", "\x85", "\u2028"])
def test_lines_end_where_systemd_ends_them(separator: str) -> None:
    entry = read_entry(f"linux /k\noptions a{separator}options b\r\n", name="a", source="a")
    assert entry.options == f"a{separator}options b"


def test_an_entry_that_is_not_text_is_not_derived() -> None:
    for text in ("linux /k\noptions \ufffd", "linux /k\0\noptions a"):
        assert read_entry(text, name="a", source="a").unsupported == "text that is not UTF-8"


@given(st.text(max_size=300))
def test_any_text_is_an_entry(text: str) -> None:
    entry = read_entry(text, name="a.conf", source="a.conf")
    assert isinstance(entry.options, str)


def test_grub_runs_the_default_entry() -> None:
    log = boot_grub(GRUB_CFG)
    shown = [event.description for event in log]
    assert shown == [
        "(hd0,gpt1)/EFI/debian/grub.cfg",
        "(hd0,gpt1)/EFI/debian/grub.cfg",
        "grub_cmd: set timeout=0",
        "grub_cmd: set default=1",
        "grub_cmd: menuentry first {\n    linux /k first\n}",
        f"grub_cmd: menuentry second one {SECOND}",
        "grub_cmd: setparams second one",
        "grub_cmd: linux /k root=/dev/vda quoted words 1",
        "/k",
        "kernel_cmdline: /k root=/dev/vda quoted words 1",
        "grub_cmd: initrd /i",
        "/i",
        "load options: BOOT_IMAGE=/k root=/dev/vda quoted words 1",
        "initrd",
    ]
    assert log[2].digest == Sha384.of(b"set timeout=0")
    told = "BOOT_IMAGE=/k root=/dev/vda quoted words 1".encode("utf-16-le")
    assert log[-2].digest == Sha384.of(told)  # GRUB's alone end without a NUL


def test_an_entry_may_be_named_by_title() -> None:
    assert any("first" in e.description for e in boot_grub(GRUB_CFG, entry="first")[-2:])


@pytest.mark.parametrize(
    ("cfg", "reason"),
    [
        ("insmod part_gpt\n", "line 1 has 'insmod'"),
        ("set timeout=0\n\nif true; then\nfi\n", "line 3 has ';' outside of quotes"),
        ("set root=(hd1)\n", "line 1 has '(' outside of quotes"),
        ("set x=$unknown\n", "line 1 has the variable $unknown"),
        ('set x="a\\"b"\n', "quotes or a backslash within"),
        ("search --no-floppy --fs-uuid --set=root 0000-0000\n", "may find another file system"),
        ("menuentry 'a' {\n linux /k\n", "a menuentry without an end"),
        ("menuentry 'a'\n{\n}\n", "body does not begin on its line"),
        ("set default=0\nmenuentry 'a' {\n linux /k\n}\n", "waits for a person"),
        ("set timeout=0\nmenuentry 'a' {\n linux (hd0,gpt1)/k\n}\n", "outside of quotes"),
        ("set timeout=0\nmenuentry 'a' {\n linux /missing\n}\n", "not on the same file system"),
        ("set timeout=0\nset default=5\nmenuentry 'a' {\n linux /k\n}\n", "names none of 1"),
        ("set timeout=0\nmenuentry 'a' {\n initrd /i\n}\n", "initrd without a linux"),
        ("set timeout=0\nmenuentry 'a' {\n set b=1\n}\n", "loads no kernel"),
        ("linux /k\nset timeout=0\nmenuentry 'a' {\n linux /k\n}\n", "outside of a menuentry"),
        ("set timeout=0\nmenuentry 'a' {\n linux /k\n linux /k b\n}\n", "a second linux"),
        ("set timeout=0\nmenuentry 'a' {\n linux /k b='c d'\n}\n", "a blank within a word"),
        ("set timeout=0\nmenuentry 'a' {\n linux /k quiet # why\n}\n", "a comment behind"),
        ("set a='b c'\nset d=$a\n", "not one word"),
        ("set timeout=0\nset a=''\nmenuentry 'a' {\n linux /k $a\n}\n", "not one word"),
        ("menuentry --class x 'a' {\n linux /k\n}\n", "more than a title"),
        ("menuentry 'a' parameter {\n linux /k\n}\n", "more than a title"),
        ("menuentry 'a' --users x {\n linux /k\n}\n", "more than a title"),
        ("set superusers=root\n", "'set superusers=root'"),
        ("set check_signatures=enforce\n", "'set check_signatures=enforce'"),
        ("set timeout=0\r\n", "carriage returns"),
        ("set timeout=0\nset default=00\nmenuentry 'a' {\n linux /k\n}\n", "names none of 1"),
        ("set timeout=0\nset default=9a\nmenuentry '9a' {\n linux /k\n}\n", "names none of 1"),
    ],
)  # fmt: skip
def test_what_grub_does_beyond_that_is_named_with_its_line(cfg: str, reason: str) -> None:
    log = boot_grub(cfg)
    reasons = {e.digest.reason for e in log if isinstance(e.digest, Unpinned)}
    assert len(reasons) == 1
    assert reason in reasons.pop()
    assert {e.register for e in log if isinstance(e.digest, Unpinned)} == {"pcr4", "pcr8", "pcr9"}


TWO = "menuentry '1' --id second {\n linux /k a\n}\nmenuentry 'second' {\n linux /k b\n}\n"


@pytest.mark.parametrize(("default", "booted"), [("0", "/k a"), ("1", "/k b")])
def test_a_number_is_no_title(default: str, booted: str) -> None:
    log = boot_grub(f"set timeout=0\nset default={default}\n{TWO}")
    assert log[-1].description == f"load options: BOOT_IMAGE={booted}"


def test_an_id_and_a_title_that_are_the_same_name_no_entry() -> None:
    log = boot_grub(f"set timeout=0\nset default=second\n{TWO}")
    assert any("names none of 2" in str(event.digest) for event in log)


def test_search_for_the_file_system_that_grub_is_on_is_measured() -> None:
    cfg = f"search --no-floppy --fs-uuid --set=root 1a2b-3c4d\n{GRUB_CFG}"
    assert not any(isinstance(e.digest, Unpinned) for e in boot_grub(cfg))


def test_grub_before_2_12_measures_nothing_in_a_td() -> None:
    old = pe_image(("mods", b""), (".sbat", SBAT.replace(b"2.12,", b"2.06,")))
    files = {"EFI/debian/grub.cfg": GRUB_CFG.encode(), "k": KERNEL, "i": b"initrd"}
    chain = started(old, files=files, target=Target.CC)
    assert all(isinstance(e.digest, Unpinned) for e in chain.recorder.events)


def test_grub_s_prefix_and_configuration_are_found() -> None:
    assert read_prefix(memoryview(grub("/boot/grub")), origin="x") == ("/boot/grub", False)
    assert read_prefix(memoryview(grub(config=True)), origin="x")[1]
    assert read_prefix(memoryview(build_bzimage()), origin="x") == ("", False)


@given(st.text(alphabet="set linux\n{}'\"\\$;#ab=/ ", max_size=120))
def test_any_text_is_read_up_to_what_is_not(text: str) -> None:
    commands, problem = read_grub_cfg(text)
    assert all(isinstance(command, GrubCommand) for command in commands)
    assert problem is None or 1 <= problem.line <= len(text.split("\n"))


@given(st.text(max_size=80))
def test_any_line_is_words_or_a_reason(line: str) -> None:
    assert isinstance(split_words(line), list | str)


def test_an_application_that_nobody_knows_unpins_what_it_may_extend() -> None:
    chain = started(pe_image((".text", b"?")))
    assert {e.register for e in chain.recorder.events} >= {"pcr4", "pcr9", "pcr12"}
    assert all("neither a UKI" in str(e.digest) for e in chain.recorder.events)


def test_loaders_that_start_each_other_come_to_an_end() -> None:
    looping = b"efi /EFI/BOOT/BOOTX64.EFI\n"
    chain = started(BOOT, files={"loader/entries/a.conf": looping})
    assert any("start each other" in str(e.digest) for e in chain.recorder.events)


def test_files_in_memory_are_like_fat() -> None:
    files = MemoryFiles({"EFI/Linux/a.efi": b"x"})
    assert files.exists("\\efi\\linux")
    assert [entry.name for entry in files.listdir("/EFI")] == ["Linux"]


@pytest.mark.parametrize(
    ("section", "secure_boot", "level"),
    [
        (b"", False, b"sbat,1,2021030218\n"),
        (bytes(4) + b"\x08\0\0\0\x0c\0\0\0" + b"sbat,1,2025021800\nshim,4\n\0", True,
         b"sbat,1,2025021800\nshim,4\n"),
    ],
)  # fmt: skip
def test_sbat_level(section: bytes, secure_boot: bool, level: bytes) -> None:  # noqa: FBT001
    assert sbat_level(section, secure_boot=secure_boot) == level


def test_an_older_shim_s_sbat_level_is_not_known_under_secure_boot() -> None:
    assert isinstance(sbat_level(b"", secure_boot=True), Unpinned)


def shim_log(corpus: Path) -> list[Event]:
    data = (corpus / "eventlogs" / "ovmf-shim-grub.ccel").read_bytes()
    return list(read_log(data, origin="ccel", target=Target.CC))


def test_mok_variables_of_a_real_td(corpus: Path) -> None:
    """Ubuntu's shim in a TD: MokList is its own certificate, which then verifies what it starts."""
    log = shim_log(corpus)
    digests = {e.description: e.digest for e in log if e.type == EventType.EV_IPL}
    authority = next(e for e in log if e.description.startswith("MokListRT"))
    characters = int.from_bytes(authority.data[16:24], "little")
    certificate = authority.data[32 + 2 * characters + 16 :]
    assert digests["MokList"] == Sha384.of(mok_list(certificate))
    assert digests["MokListTrusted"] == Sha384.of(b"\1")
    assert str(digests["MokListX"]).startswith("80ee2571334a57bf")
    assert all(
        event.digest == Sha384.of(event.data)
        for event in log
        if event.type == EventType.EV_EFI_VARIABLE_AUTHORITY
    )


def test_the_boot_option_of_a_real_td_s_disk(corpus: Path) -> None:
    disk = BootDevice("UEFI Misc Device", ((1, 0), (0, 0), (1, 0), (0, 0)), 1)
    option = next(e for e in shim_log(corpus) if e.description.startswith("Boot0001"))
    assert option.register == RegisterName.RTMR0
    assert option.digest == Sha384.of(device_option(disk))
