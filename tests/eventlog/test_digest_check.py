"""Bodies and digests: what is proven, what is wrong, and what is a mere claim."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mrtd.eventlog import Event, EventType, InputName, Origin
from mrtd.eventlog.digest_check import DigestStatus, check_digest
from mrtd.eventlog.tcg2 import read_log
from mrtd.registers import RegisterName, Sha384, Target, Unpinned
from tests.eventlog.test_bodies import variable

MATCHES, DIFFERS, NOT_DERIVABLE = DigestStatus


def made(kind: int, body: bytes, measured: bytes) -> Event:
    origin = Origin(InputName.LOG, "test")
    return Event(RegisterName.RTMR0, kind, Sha384.of(measured), None, origin, body)


# matches, not derivable; counted with an own script over the bodies of each file
@pytest.mark.parametrize(
    ("name", "matching", "underivable"),
    [
        ("gce-cos-113", 31, 13),
        ("gce-cos-113-dupe-separator", 31, 13),
        ("ovmf-direct-2gib", 12, 9),
        ("ovmf-shim-grub", 19, 19),
    ],
)
def test_every_derivable_digest_of_real_logs_is_that_of_its_body(
    corpus: Path, name: str, matching: int, underivable: int
) -> None:
    data = (corpus / "eventlogs" / f"{name}.ccel").read_bytes()
    log = read_log(data, origin=name, target=Target.CC)
    found = Counter(check_digest(event).status for event in log)
    assert found == {MATCHES: matching, NOT_DERIVABLE: underivable}


def test_a_changed_body_of_a_real_log_is_found(corpus: Path) -> None:
    data = (corpus / "eventlogs" / "gce-cos-113.ccel").read_bytes()
    for event in read_log(data, origin="ccel", target=Target.CC):
        if check_digest(event).status is MATCHES:
            changed = event.data[:-2] + b"?" + event.data[-1:]
            assert check_digest(replace(event, data=changed)).status is DIFFERS, event.description


BOOT = variable("BootOrder", b"\0\0")


@pytest.mark.parametrize(
    ("kind", "body", "measured", "rule"),
    [
        (EventType.EV_SEPARATOR, bytes(4), bytes(4), "the body"),
        (EventType.EV_SEPARATOR, b"failed", b"\1\0\0\0",
         "00000001: the firmware reports an error"),
        (EventType.EV_EFI_VARIABLE_BOOT, BOOT, b"\0\0", "the variable's data"),
        (EventType.EV_EFI_VARIABLE_BOOT, BOOT, BOOT, "the body"),
        (EventType.EV_EFI_VARIABLE_BOOT2, BOOT, BOOT, "the body"),
        (EventType.EV_IPL, b"grub_cmd: ls\0", b"ls", "the command"),
        (EventType.EV_IPL, b"kernel_cmdline: ro\0", b"ro\0", "the command with its NUL"),
        (EventType.EV_IPL, b"text\0", b"text", "the text without its NUL"),
        (EventType.EV_IPL, ".linux\0".encode("utf-16-le"), b".linux\0", "the section's name"),
        (EventType.EV_EVENT_TAG, struct.pack("<II", 1, 1) + b"x", b"x", "the tag's data"),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"td_hob".ljust(16, b"\0") + b"\1\0\0\0x", b"x",
         "the descriptor's data"),
    ],
)  # fmt: skip
def test_what_is_measured_of_a_body(
    kind: EventType, body: bytes, measured: bytes, rule: str
) -> None:
    found = check_digest(made(kind, body, measured))
    assert (found.status, found.rule) == (MATCHES, rule)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (EventType.EV_SEPARATOR, bytes(4), DIFFERS),
        (EventType.EV_EFI_ACTION, b"text", DIFFERS),
        (EventType.EV_EFI_VARIABLE_BOOT, b"broken", DIFFERS),
        (EventType.EV_IPL, b"grub_cmd: ls\0", DIFFERS),
        (EventType.EV_IPL, b"/boot/vmlinuz\0", NOT_DERIVABLE),
        (EventType.EV_EVENT_TAG, b"Linux initrd\0", NOT_DERIVABLE),
        (EventType.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", NOT_DERIVABLE),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"", NOT_DERIVABLE),
        (EventType.EV_NO_ACTION, b"", NOT_DERIVABLE),
        (0x12345678, b"", NOT_DERIVABLE),
    ],
)
def test_another_digest(kind: int, body: bytes, status: DigestStatus) -> None:
    assert check_digest(made(kind, body, b"something else")).status is status


def test_a_derived_event_without_digest() -> None:
    event = replace(made(EventType.EV_SEPARATOR, b"", b""), digest=Unpinned("unknown"))
    assert check_digest(event).rule == "no digest: unknown"


@given(st.sampled_from(EventType), st.binary(max_size=100))
def test_any_body_can_be_checked(kind: EventType, body: bytes) -> None:
    assert check_digest(made(kind, body, b"x")).rule
