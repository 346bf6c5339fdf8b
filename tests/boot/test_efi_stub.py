"""Load options and initrd as the Linux EFI stub measures them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.boot.efi_stub import load_options, stub_events
from mrtd.eventlog.event import EventType
from mrtd.firmware.profiles import InitrdArgument
from mrtd.registers import Sha384, Target

SUFFIX, PREFIX = InitrdArgument.SUFFIX, InitrdArgument.PREFIX


@pytest.mark.parametrize(
    ("cmdline", "initrd", "argument", "options"),
    [  # facts 4.3
        ("console=ttyS0", True, SUFFIX, "console=ttyS0 initrd=initrd\0"),
        ("console=ttyS0", True, PREFIX, "initrd=initrd console=ttyS0\0"),
        ("console=ttyS0", False, SUFFIX, "console=ttyS0\0"),
        ("console=ttyS0", False, PREFIX, "console=ttyS0\0"),
        ("", True, SUFFIX, " initrd=initrd\0"),
        ("", True, PREFIX, "initrd=initrd \0"),
        ("", False, SUFFIX, ""),
        ("", False, PREFIX, ""),
        ("a  b ", True, SUFFIX, "a  b  initrd=initrd\0"),
    ],
)
def test_options_of_each_firmware(
    cmdline: str,
    initrd: bool,  # noqa: FBT001 - parametrised
    argument: InitrdArgument,
    options: str,
) -> None:
    found = load_options(cmdline, initrd=initrd, argument=argument)
    assert found == options.encode("utf-16-le")


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_every_byte_becomes_one_character(cmdline: str) -> None:
    options = load_options(cmdline, initrd=False, argument=SUFFIX)
    raw = cmdline.encode()
    assert len(options) == 2 * (len(raw) + 1)
    assert options[::2] == raw + b"\0"
    assert not any(options[1::2])


def test_load_options_come_before_the_initrd() -> None:
    options = load_options("quiet", initrd=True, argument=SUFFIX)
    initrd = Sha384.of(b"initrd")
    events = stub_events(options, initrd, target=Target.CC, initrd_where="initrd.img")
    assert [e.digest for e in events] == [Sha384.of(options), initrd]
    assert {e.register for e in events} == {"rtmr2"}
    assert {e.type for e in events} == {EventType.EV_EVENT_TAG}
    assert events[0].description == "load options: quiet initrd=initrd"
    assert events[1].origin.where == "initrd.img"


def test_events_are_tagged_as_linux_does() -> None:
    events = stub_events(b"x\0\0\0", Sha384.of(b""), target=Target.CC, initrd_where="")
    assert events[0].data == (
        b"\xed\x22\x3b\x8f" + (26).to_bytes(4, "little") + b"LOADED_IMAGE::LoadOptions\0"
    )
    assert events[1].data == b"\xec\x22\x3b\x8f" + (13).to_bytes(4, "little") + b"Linux initrd\0"


def test_without_options_and_initrd_nothing_is_measured() -> None:
    assert stub_events(b"", None, target=Target.CC, initrd_where="") == ()


def test_without_initrd_there_is_no_initrd_event() -> None:
    (event,) = stub_events(b"x\0\0\0", None, target=Target.TPM, initrd_where="")
    assert event.register == "pcr9"
