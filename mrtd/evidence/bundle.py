"""The evidence bundle: what is known of one boot, in one file.

A zip archive, or a folder with the same files: ``manifest.json`` and members with the names of
`mrtd.evidence.manifest.MEMBERS`. A reader refuses what is not listed, listed and missing, or not
what its digest says; so a bundle that can be read is whole. It proves nothing by itself: what is
true of it is what the quote's signature covers.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from mrtd import __version__
from mrtd.errors import MalformedBundle
from mrtd.evidence import manifest as names
from mrtd.evidence.archive import FILES_LIMIT, SIZE_LIMIT, read_archive, write_archive
from mrtd.evidence.collected import read_collected
from mrtd.evidence.manifest import MANIFEST, MEMBERS, SCHEMA, Manifest, Member, Packer
from mrtd.registers import SHA384_SIZE, RegisterName, Sha384

_OVERHEAD: Final = 1 << 20  # headers and manifest
_PACKER: Final = Packer("mrtd", __version__)


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence of one boot.

    Attributes:
        files: members by name, in the order of `MEMBERS`; without the manifest.
        tool: what wrote it.
        redacted: what was removed from it, one line each; empty if it is as it was collected.
        origin: the file it came from, for messages.
    """

    files: dict[str, bytes]
    tool: Packer = _PACKER
    redacted: tuple[str, ...] = ()
    origin: str = "evidence bundle"

    @property
    def quote(self) -> bytes | None:
        """The TDX quote (`mrtd.evidence.quote.read_quote`)."""
        return self.files.get(names.QUOTE)

    @property
    def ccel(self) -> bytes | None:
        """The TD's event log (`mrtd.eventlog.tcg2.read_log`)."""
        return self.files.get(names.CCEL)

    @property
    def tpm_log(self) -> bytes | None:
        """The TPM's event log."""
        return self.files.get(names.TPM_LOG)

    @property
    def registers(self) -> dict[RegisterName, Sha384]:
        """PCRs of the SHA-384 bank, and MRTD and RTMRs as the kernel shows them; not signed.

        Raises:
            MalformedBundle: a member is no SHA-384 value.
        """
        found: dict[RegisterName, Sha384] = {}
        for register in RegisterName:
            name = f"tdx/{register}"
            if register.startswith("pcr"):
                name = f"pcr-sha384/{register.removeprefix('pcr')}"
            if name in self.files:
                found[register] = self._digest(name)
        return found

    @property
    def token(self) -> bytes | None:
        """The token of Intel Trust Authority."""
        return self.files.get(names.TOKEN)

    @property
    def spec(self) -> str | None:
        """The launch spec (`mrtd.launch.spec.read_spec`). Raises `MalformedBundle`."""
        return self._text(names.SPEC)

    @property
    def document(self) -> bytes | None:
        """The measurement document (`mrtd.document.read_document`)."""
        return self.files.get(names.DOCUMENT)

    @property
    def cmdline(self) -> str | None:
        """The kernel command line that the guest saw. Raises `MalformedBundle`."""
        text = self._text(names.CMDLINE)
        return None if text is None else text.rstrip("\n")

    def _text(self, name: str) -> str | None:
        data = self.files.get(name)
        try:
            return None if data is None else data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedBundle("is not UTF-8", origin=self.origin, field=name) from error

    def _digest(self, name: str) -> Sha384:
        data = self.files[name]
        if name.startswith("tdx/") and len(data) == SHA384_SIZE:
            return Sha384(data)
        text = data.decode("ascii", "replace").strip()
        return Sha384.fromhex(text, origin=f"{self.origin}: {name}")


def bundle_of(
    files: Mapping[str, bytes], *, origin: str = "evidence bundle", redacted: tuple[str, ...] = ()
) -> Bundle:
    """A bundle of members by name.

    Raises:
        MalformedBundle: a name that no bundle has, or more than 64 MiB.
    """
    for name in files:
        if name not in MEMBERS:
            raise MalformedBundle(f"{name!r} is no member of a bundle", origin=origin)
    if (total := sum(map(len, files.values()))) > SIZE_LIMIT:
        raise MalformedBundle(f"{total} bytes, more than {SIZE_LIMIT}", origin=origin)
    ordered = {name: bytes(files[name]) for name in MEMBERS if name in files}
    return Bundle(files=ordered, redacted=redacted, origin=origin)


def bundle_from_collected(
    collected: bytes | Mapping[str, bytes], *, origin: str = "collected files"
) -> Bundle:
    """A bundle of what the collector sent, as it came or unpacked. Raises `MalformedBundle`."""
    if isinstance(collected, bytes):
        collected = read_collected(collected, origin=origin)
    return bundle_of(collected, origin=origin)


def decode_bundle(data: bytes, *, origin: str) -> Bundle:
    """Read a bundle from a zip archive. Raises `MalformedBundle`."""
    if len(data) > SIZE_LIMIT + _OVERHEAD:
        raise MalformedBundle(f"{len(data)} bytes, more than {SIZE_LIMIT}", origin=origin)
    return _checked(read_archive(data, origin=origin), origin)


def encode_bundle(bundle: Bundle) -> bytes:
    """The bundle as a zip archive; the same bundle always gives the same bytes."""
    members = tuple(
        Member(name, len(body), hashlib.sha256(body).hexdigest())
        for name, body in bundle.files.items()
    )
    manifest = Manifest(schema=SCHEMA, tool=bundle.tool, members=members, redacted=bundle.redacted)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    return write_archive({MANIFEST: text, **bundle.files})


def read_bundle(path: Path) -> Bundle:
    """Read a bundle from a zip archive or a folder.

    Raises:
        MalformedBundle: it cannot be read, or is not what its manifest says.
    """
    origin = str(path)
    try:
        if path.is_dir():
            return _checked(dict(_folder(path)), origin)
        size = path.stat().st_size
        if not path.is_file() or size > SIZE_LIMIT + _OVERHEAD:
            raise MalformedBundle(f"no file, or {size} bytes are too many", origin=origin)
        return decode_bundle(path.read_bytes(), origin=origin)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MalformedBundle(f"cannot be read: {reason}", origin=origin) from error


def read_folder(path: Path) -> dict[str, bytes]:
    """The files below a folder, by relative name; no links. Raises `MalformedBundle`."""
    try:
        return dict(_folder(path))
    except OSError as error:
        raise MalformedBundle(f"cannot be read: {error.strerror}", origin=str(path)) from error


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle under a temporary name, and rename it. Raises `MalformedBundle`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.write_bytes(encode_bundle(bundle))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MalformedBundle(
            f"cannot be written: {error.strerror}", origin=str(path), field="--output"
        ) from error


def _folder(root: Path) -> Iterator[tuple[str, bytes]]:
    total = count = 0
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders.sort()
        for name in [*folders, *sorted(files)]:
            path = Path(folder, name)
            status = path.lstat()
            relative = path.relative_to(root).as_posix()
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise MalformedBundle(f"{relative!r} is no plain file", origin=str(root))
            count, total = count + 1, total + status.st_size
            if count > FILES_LIMIT or total > SIZE_LIMIT:
                raise MalformedBundle(
                    f"more than {FILES_LIMIT} files or {SIZE_LIMIT} bytes", origin=str(root)
                )
            yield relative, path.read_bytes()


def _raise(error: OSError) -> None:
    raise error


def _checked(files: dict[str, bytes], origin: str) -> Bundle:
    """The bundle that files and their manifest make."""
    if MANIFEST not in files:
        raise MalformedBundle(
            f"has no {MANIFEST}", origin=origin, hint="mrtd evidence pack makes bundles of files"
        )
    try:
        manifest = msgspec.json.decode(files.pop(MANIFEST), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBundle(str(error), origin=origin, field=MANIFEST) from error
    listed = {member.name: member for member in manifest.members}
    if len(listed) != len(manifest.members):
        raise MalformedBundle("lists a member twice", origin=origin, field=MANIFEST)
    for name in sorted(listed.keys() ^ files.keys()):
        problem = "is missing" if name in listed else "is not in the manifest"
        raise MalformedBundle(f"{name!r} {problem}", origin=origin)
    for name, body in files.items():
        member = listed[name]
        if (len(body), hashlib.sha256(body).hexdigest()) != (member.size, member.sha256):
            raise MalformedBundle(
                f"{name!r} is not what the manifest says", origin=origin, field="sha256"
            )
    found = bundle_of(files, origin=origin, redacted=manifest.redacted)
    return msgspec.structs.replace(found, tool=manifest.tool)
