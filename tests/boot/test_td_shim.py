"""td-shim: kernel and command line in MRTD and RTMR1; `mrtd.boot.td_shim`, `derive_payload`."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.bzimage import build_bzimage
from fixtures.td_shim import (
    PARAMETERS_AT,
    PARAMETERS_SIZE,
    PAYLOAD_AT,
    PAYLOAD_SIZE,
    build_td_shim,
)
from mrtd.coverage import CoverageStatus
from mrtd.derive import Derivation
from mrtd.document import encode, read_document, to_document
from mrtd.errors import MrtdError, SpecError
from mrtd.eventlog import replay
from mrtd.firmware.tdvf import read_tdvf
from mrtd.launch.spec import read_spec
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import Exact, RegisterName, Sha384, Target, Unpinned

CMDLINE = "console=hvc0 root=/dev/vda"
SPEC = """\
schema = "mrtd.launch/1"
[vmm]
kind = "cloud-hypervisor"
version = "30.0"
[machine]
memory = "2 GiB"
vcpus = 2
[firmware]
path = "shim.bin"
[boot]
kind = "payload"
payload = "kernel"
cmdline = "{cmdline}"
"""
# 64-bit, little-endian, executable, x86-64, nothing in it (System V gABI, chapter 4)
ELF = b"\x7fELF\2\1\1" + bytes(9)
ELF += struct.pack("<HHIQQQIHHHHHH", 2, 0x3E, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)


def derived(
    folder: Path, image: bytes, *, kernel: bytes | None = None, spec: str = SPEC,
    cmdline: str = CMDLINE, target: Target = Target.CC,
) -> Derivation:  # fmt: skip
    (folder / "shim.bin").write_bytes(image)
    (folder / "kernel").write_bytes(build_bzimage() if kernel is None else kernel)
    parsed = read_spec(spec.format(cmdline=cmdline), origin="x")
    return measure(parsed, folder, MeasureOptions(target=target))


def pages(start: int, memory: bytes | None, size: int) -> Iterator[bytes]:
    """The records of a section (td-shim spec, "TD Measurement"), page by page."""
    for gpa in range(start, start + size, 4096):
        yield b"MEM.PAGE.ADD".ljust(16, b"\0") + gpa.to_bytes(8, "little") + bytes(104)
        for chunk in range(gpa, gpa + 4096, 256) if memory is not None else ():
            yield b"MR.EXTEND".ljust(16, b"\0") + chunk.to_bytes(8, "little") + bytes(104)
            assert memory is not None
            yield memory[chunk - start : chunk - start + 256]


@pytest.mark.parametrize("extended", [True, False])
def test_mrtd_covers_what_is_flagged(tmp_path: Path, *, extended: bool) -> None:
    kernel = build_bzimage()
    image = build_td_shim(extended=extended)
    found = dict(derived(tmp_path, image, kernel=kernel).registers.rules)
    state = hashlib.sha384()
    for section in read_tdvf(memoryview(image), origin="x").sections:
        memory = image[section.data_offset :][: section.raw_size] if section.extended else None
        if section.gpa == PAYLOAD_AT and extended:
            memory = kernel.ljust(PAYLOAD_SIZE, b"\0")
        elif section.gpa == PARAMETERS_AT and extended:
            memory = CMDLINE.encode().ljust(PARAMETERS_SIZE, b"\0")
        if not section.augmented:  # permanent memory is added at run time
            for record in pages(section.gpa, memory, section.memory_size):
                state.update(record)
    assert found[RegisterName.MRTD] == Exact(Sha384(state.digest()))


def test_kernel_and_command_line_move_mrtd_only_where_flagged(tmp_path: Path) -> None:
    def mrtd(*, extended: bool, **changed: str | bytes) -> object:
        image = build_td_shim(extended=extended)
        return derived(tmp_path, image, **changed).registers.rules[0][1]  # type: ignore[arg-type]

    other = build_bzimage() + b"\0\1"
    plain = mrtd(extended=False)
    assert plain == mrtd(extended=False, kernel=other) == mrtd(extended=False, cmdline="x")
    flagged = {str(mrtd(extended=True)), str(mrtd(extended=True, kernel=other)),
               str(mrtd(extended=True, cmdline="x"))}  # fmt: skip
    assert len({*flagged, str(plain)}) == 4


def test_the_shim_measures_at_run_time(tmp_path: Path) -> None:
    kernel = build_bzimage()
    found = derived(tmp_path, build_td_shim(), kernel=kernel)
    shown = [(e.register, int(e.type), e.description) for e in found.log]
    assert shown == [
        (RegisterName.RTMR0, 0xA, "td_hob"),
        (RegisterName.RTMR0, 4, "separator"),
        (RegisterName.RTMR1, 4, "separator"),
        (RegisterName.RTMR1, 0x8000000A, "td_payload: kernel and zeros"),
        (RegisterName.RTMR1, 0xA, "td_payload_info: command line and zeros"),
    ]
    # td-shim-tools td-payload-reference-calculator: content and zeros to the section's size
    payload = hashlib.sha384(kernel + bytes(PAYLOAD_SIZE - len(kernel)))
    info = hashlib.sha384(CMDLINE.encode() + bytes(PARAMETERS_SIZE - len(CMDLINE)))
    value = bytes(48)
    for digest in (hashlib.sha384(bytes(4)), payload, info):
        value = hashlib.sha384(value + digest.digest()).digest()
    rules = dict(found.registers.rules)
    rtmr1 = rules[RegisterName.RTMR1]
    assert isinstance(rtmr1, Exact)
    assert str(rtmr1.value) == value.hex()
    assert isinstance(rules[RegisterName.RTMR0], Unpinned), "its VMM's TD HOB is not modelled"
    assert dict(replay(found.log))[RegisterName.RTMR1] == rtmr1
    bodies = [event.data for event in found.log[3:]]
    assert bodies[0] == b"\x0btd_payload\0" + PAYLOAD_AT.to_bytes(8, "little") + (
        PAYLOAD_SIZE.to_bytes(8, "little")
    )
    assert hashlib.sha384(bodies[1][20:]).digest() == info.digest()  # facts 6


def test_without_a_hob_rtmr0_is_known(tmp_path: Path) -> None:
    found = derived(tmp_path, build_td_shim(hob=False))
    assert all(isinstance(rule, Exact) for _, rule in found.registers.rules)


def test_coverage_and_notes(tmp_path: Path) -> None:
    found = derived(tmp_path, build_td_shim(extended=True))
    lines = {line.input: line for line in found.coverage}
    for name in ("kernel", "cmdline"):
        assert lines[name].registers == (RegisterName.MRTD, RegisterName.RTMR1)
        assert lines[name].status is CoverageStatus.MEASURED
    assert lines["rootfs"].status is CoverageStatus.NOT_MEASURED
    codes = [note.code for note in found.notes]
    assert "mrtd_is_firmware" not in codes
    assert "rtmr2_not_extended" not in codes, "it is said of UEFI boots"
    assert {"vmm_not_modelled", "unconfirmed_events", "rtmr0_unpinned"} <= set(codes)
    plain = derived(tmp_path, build_td_shim())
    assert "mrtd_is_firmware" in [note.code for note in plain.notes]
    document = to_document(found)
    assert read_document(encode(document), origin="x") == document


def test_an_elf_kernel(tmp_path: Path) -> None:
    found = derived(tmp_path, build_td_shim(extended=True), kernel=ELF)
    assert not found.kernel.efi_stub


@pytest.mark.parametrize(
    ("image", "changed", "match"),
    [
        (build_td_shim(payload=False, parameters=False), {}, "BFV"),
        (build_td_shim(payload_raw=16), {}, "content of its own"),
        (build_td_shim(parameters=False), {}, "PAYLOAD_PARAM"),
        (build_td_shim(payload_size=0x1000), {}, "do not fit"),
        (build_td_shim(), {"cmdline": "x" * 4097}, "do not fit"),
        (build_td_shim(), {"kernel": b"neither"}, "neither a bzImage nor an ELF"),
        (build_td_shim(), {"kernel": b"\x7fELF"}, "ELF"),
        (build_td_shim(), {"spec": SPEC.replace("cloud-hypervisor", "qemu")}, "QEMU refuses"),
        (build_td_shim(), {"spec": SPEC.replace("cloud-hypervisor", "gce")}, "refuses"),
        (build_td_shim(), {"spec": SPEC.replace("[boot]", 'vars = "kernel"\n[boot]')}, "variable"),
        (build_td_shim(), {"target": Target.TPM}, "TPM"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, image: bytes, changed: dict[str, str | bytes], match: str
) -> None:
    with pytest.raises(MrtdError, match=match):
        derived(tmp_path, image, **changed)  # type: ignore[arg-type]


def test_a_cmdline_is_not_needed(tmp_path: Path) -> None:
    found = derived(tmp_path, build_td_shim(parameters=False), cmdline="")
    assert [e.description for e in found.log][-1].startswith("td_payload:")
    with pytest.raises(SpecError):
        derived(tmp_path, build_td_shim(parameters=False), cmdline="x")
