"""What a launch brings back, and what has to be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ci.errors import LaunchFailed, printable
from ci.outcome import Outcome
from mrtd.errors import MalformedDocument, MalformedQuote
from mrtd.evidence import manifest as names
from mrtd.evidence.quote import read_quote
from mrtd.registers import Sha384

_NO_LOG: Final = "the firmware and the kernel both need a driver for the TPM"
_NO_INTERFACE: Final = "not a TD, or no tdx_guest module"  # mrtd/evidence/collect.sh says so
_SAID_LIMIT: Final = 300


class Mode(StrEnum):
    """How a machine is launched.

    ``plain``: without TDX, measuring into a software TPM. ``tdx``: as a TD.
    """

    PLAIN = "plain"
    TDX = "tdx"


@dataclass(frozen=True, slots=True)
class BootResult:
    """What a guest reported about its boot.

    Attributes:
        log: the event log in TCG2 crypto-agile format (`mrtd.eventlog.tcg2.read_log`): the TPM's,
            or the CCEL of a TD.
        pcrs: the SHA-384 bank, PCR 0 to 23; empty for a TD.
        files: everything that the guest sent, by name: ``dmi/DMI``, ``fw_cfg/etc/acpi/tables``.
        cmdline: the kernel command line that the guest saw, with what the firmware added.
        serial: the end of the console (1 MiB at most), as it came: not safe to print.
        qemu_version: such as ``7.2.22``.
        arguments: QEMU's command line; descriptors and temporary files in it are gone.
        mode: how it was launched.
        accel: what ran it, ``kvm`` or ``tcg``.
        accel_note: why ``tcg``, where KVM was tried first; empty otherwise.
    """

    log: bytes
    pcrs: Mapping[int, Sha384]
    files: Mapping[str, bytes]
    cmdline: str
    serial: str
    qemu_version: str
    arguments: tuple[str, ...]
    mode: Mode = Mode.PLAIN
    accel: str = "tcg"
    accel_note: str = ""

    @property
    def quote(self) -> bytes | None:
        """The TD's quote (`mrtd.evidence.quote.read_quote`); None without TDX."""
        return self.files.get(names.QUOTE)

    @classmethod
    def of(
        cls,
        files: Mapping[str, bytes],
        *,
        serial: bytes,
        qemu_version: str,
        arguments: tuple[str, ...],
        mode: Mode = Mode.PLAIN,
        report_data: bytes | None = None,
        accel: str = "tcg",
        accel_note: str = "",
    ) -> BootResult:
        """The result that the files of a payload make. Raises `LaunchFailed` if some are missing.

        An empty event log is refused: what measured nothing proves nothing. So is evidence for
        other report data than were asked for.
        """
        log = names.TPM_LOG if mode is Mode.PLAIN else names.CCEL
        if mode is Mode.TDX:
            _check_quote(files, report_data)
        if not files.get(log):
            what = "TPM event log" if mode is Mode.PLAIN else "CCEL event log"
            raise LaunchFailed(
                f"the guest's {what} is missing or empty{_said(files, log)}",
                code=Outcome.NO_EVENT_LOG,
                hint=_NO_LOG if mode is Mode.PLAIN else None,
            )
        pcrs = {i: f"pcr-sha384/{i}" for i in range(names.PCR_COUNT) if mode is Mode.PLAIN}
        for name in (names.CMDLINE, *pcrs.values()):
            if name not in files:
                raise LaunchFailed(f"the guest sent no {name}", code=Outcome.PAYLOAD_MALFORMED)
        echo = files.get(names.REPORT_DATA)
        if report_data is not None and echo != report_data:
            raise _differs("the guest was asked with", echo, report_data)
        return cls(
            log=files[log],
            pcrs={index: _pcr(name, files[name]) for index, name in pcrs.items()},
            files=files,
            cmdline=files[names.CMDLINE].decode("utf-8", "backslashreplace").rstrip("\n"),
            serial=serial.decode("utf-8", "backslashreplace"),
            qemu_version=qemu_version,
            arguments=arguments,
            mode=mode,
            accel=accel,
            accel_note=accel_note,
        )


def _check_quote(files: Mapping[str, bytes], report_data: bytes | None) -> None:
    quote = files.get(names.QUOTE)
    said = _said(files, names.QUOTE)
    if not quote and _NO_INTERFACE in said:
        raise LaunchFailed(
            f"the guest's kernel offers no quotes{said}", code=Outcome.NO_QUOTE_INTERFACE
        )
    if not quote:
        raise LaunchFailed(f"the guest got no quote{said}", code=Outcome.QUOTE_REFUSED)
    try:
        found = read_quote(quote, origin=names.QUOTE).report.report_data
    except MalformedQuote as error:
        raise LaunchFailed(str(error), code=Outcome.PAYLOAD_MALFORMED) from error
    if report_data is not None and found != report_data:
        raise _differs("the quote has", found, report_data)


def _differs(where: str, found: bytes | None, wanted: bytes) -> LaunchFailed:
    seen = "none" if found is None else found[:64].hex() or "empty ones"
    return LaunchFailed(
        f"report data: {where} {seen}, and {wanted.hex()} were asked for",
        code=Outcome.REPORT_DATA_DIFFERS,
    )


def _said(files: Mapping[str, bytes], name: str) -> str:
    """What the collector said about a file that it could not get, safe to print."""
    for line in files.get(names.MESSAGES, b"").splitlines():
        if line.startswith(name.encode() + b": "):
            return f": {printable(line[len(name) + 2 :])[:_SAID_LIMIT]}"
    return ""


def _pcr(name: str, text: bytes) -> Sha384:
    try:
        return Sha384.fromhex(text.decode("ascii", "replace").strip(), origin=name)
    except MalformedDocument as error:
        raise LaunchFailed(str(error), code=Outcome.PAYLOAD_MALFORMED) from error
