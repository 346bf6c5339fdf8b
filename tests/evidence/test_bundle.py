"""Evidence bundles: what is packed comes back, and nothing else is taken."""

from __future__ import annotations

import hashlib
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.schema import SCHEMAS, schema_text
from mrtd.errors import MalformedBundle
from mrtd.evidence.archive import read_archive, write_archive
from mrtd.evidence.bundle import (
    Bundle,
    bundle_from_collected,
    bundle_of,
    decode_bundle,
    encode_bundle,
    read_bundle,
    read_folder,
    write_bundle,
)
from mrtd.evidence.manifest import MANIFEST, MEMBERS, Manifest
from mrtd.registers import RegisterName, Sha384

FILES = {
    "proc/cmdline": b"console=ttyS0\n",
    "pcr-sha384/7": b"AB" * 48 + b"\n",
    "tdx/rtmr1": bytes(range(48)),
    "launch.toml": b'schema = "mrtd.launch/1"\n',
    "log/CCEL": b"\0" * 100,
}
GOOD = encode_bundle(bundle_of(FILES))


def bundle_with(**changes: Any) -> bytes:
    """A bundle whose manifest has other fields than its files deserve."""
    files = read_archive(GOOD, origin="good")
    manifest = {**msgspec.json.decode(files[MANIFEST]), **changes}
    return write_archive({**files, MANIFEST: msgspec.json.encode(manifest)})


def member(name: str, body: bytes) -> dict[str, Any]:
    return {"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boot.zip"
    write_bundle(bundle_of(FILES), path)
    found = read_bundle(path)
    assert found.files == FILES
    assert found.origin == str(path)
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary is left
    assert path.read_bytes() == GOOD


def test_the_order_of_collecting_does_not_matter() -> None:
    backwards = dict(reversed(FILES.items()))
    assert encode_bundle(bundle_of(backwards)) == GOOD
    order = list(MEMBERS)
    names = list(bundle_of(backwards).files)
    assert names == sorted(names, key=order.index)


def test_a_folder_is_a_bundle(tmp_path: Path) -> None:
    for name, body in read_archive(GOOD, origin="good").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    assert read_bundle(tmp_path).files == FILES
    (tmp_path / "tdx" / "quote").symlink_to("/etc/hostname")
    with pytest.raises(MalformedBundle, match="'tdx/quote' is no plain file"):
        read_bundle(tmp_path)


def test_zip_programs_may_pack_it_again(tmp_path: Path) -> None:
    path = tmp_path / "again.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, body in read_archive(GOOD, origin="good").items():
            target.writestr(name, body)
    assert read_bundle(path).files == FILES


def test_what_a_bundle_says() -> None:
    bundle = decode_bundle(GOOD, origin="good")
    assert bundle.cmdline == "console=ttyS0"
    assert bundle.ccel == bytes(100)
    assert bundle.spec == 'schema = "mrtd.launch/1"\n'
    assert bundle.registers == {
        RegisterName.RTMR1: Sha384(bytes(range(48))),
        RegisterName.PCR7: Sha384.fromhex("ab" * 48),
    }
    assert (bundle.quote, bundle.tpm_log, bundle.token, bundle.document) == (None,) * 4


@pytest.mark.parametrize(
    ("files", "read"),
    [
        ({"pcr-sha384/0": b"zz"}, lambda bundle: bundle.registers),
        ({"tdx/mrtd": b"zz"}, lambda bundle: bundle.registers),
        ({"proc/cmdline": b"\xff"}, lambda bundle: bundle.cmdline),
    ],
)
def test_members_that_are_not_what_they_should_be(files: dict[str, bytes], read: Any) -> None:
    bundle = bundle_of(files)
    with suppress(Exception):
        read(bundle)
    from mrtd.errors import InputError

    with pytest.raises(InputError, match="evidence bundle"):
        read(bundle)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (write_archive(FILES), "has no manifest.json"),
        (write_archive({MANIFEST: b"{"}), "manifest.json: "),
        (write_archive({MANIFEST: b"[" * 100_000}), "manifest.json: "),
        (bundle_with(schema="mrtd.evidence/2"), "Invalid enum value 'mrtd.evidence/2'"),
        (bundle_with(extra=1), "unknown field `extra`"),
        (bundle_with(members=[]), "is not in the manifest"),
        (
            bundle_with(members=[member(n, b) for n, b in [*FILES.items(), ("tdx/quote", b"")]]),
            "'tdx/quote' is missing",
        ),
        (
            bundle_with(members=[member(n, b + b"x") for n, b in FILES.items()]),
            "is not what the manifest says",
        ),
        (
            bundle_with(members=[member(n, b) for n, b in [*FILES.items()] * 2]),
            "lists a member twice",
        ),
    ],
)
def test_manifests_that_lie(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedBundle, match=reason):
        decode_bundle(data, origin="bundle")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "proc/version", "proc//cmdline", "C:\\x"])
def test_names_that_no_bundle_has(name: str) -> None:
    files = {name: b"x"}
    manifest = {"schema": "mrtd.evidence/1", "tool": {"name": "x", "version": "1"}}
    fields = {**manifest, "members": [member(name, b"x")]}
    data = write_archive({MANIFEST: msgspec.json.encode(fields), **files})
    with pytest.raises(MalformedBundle, match="is no member of a bundle"):
        decode_bundle(data, origin="bundle")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(MalformedBundle, match="more than 67108864"):
        bundle_of({"log/CCEL": bytes((64 << 20) + 1)})
    path = tmp_path / "huge"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(MalformedBundle, match="too many"):
        read_bundle(path)
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "huge")
    with pytest.raises(MalformedBundle, match="more than 128 files or 67108864 bytes"):
        read_folder(tmp_path / "folder")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MalformedBundle, match="cannot be read: No such file"):
        read_bundle(tmp_path / "none.zip")
    with pytest.raises(MalformedBundle, match="cannot be written"):
        write_bundle(bundle_of(FILES), tmp_path / "none" / "x.zip")
    with pytest.raises(MalformedBundle, match="cannot be read"):
        read_bundle(Path("with\0nul"))


def test_what_was_collected_may_be_unpacked() -> None:
    assert bundle_from_collected(FILES).files == bundle_of(FILES).files
    with pytest.raises(MalformedBundle, match="it starts with"):
        bundle_from_collected(b"")


def test_the_schema_is_published() -> None:
    assert SCHEMAS["evidence.schema.json"] is Manifest
    assert "mrtd.evidence/1" in schema_text(Manifest)


bundles = st.builds(
    lambda files, redacted: bundle_of(files, redacted=redacted),
    st.dictionaries(st.sampled_from(list(MEMBERS)), st.binary(max_size=50), max_size=8),
    st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@given(bundles)
def test_any_bundle_comes_back(bundle: Bundle) -> None:
    data = encode_bundle(bundle)
    found = decode_bundle(data, origin=bundle.origin)
    assert found == bundle
    assert encode_bundle(found) == data


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_nothing_foreign_from_a_changed_byte(offset: int, change: int) -> None:
    data = bytearray(GOOD)
    data[offset] ^= change
    with suppress(MalformedBundle):
        decode_bundle(bytes(data), origin="bundle")


@given(st.binary(max_size=300))
def test_nothing_foreign_from_any_manifest(text: bytes) -> None:
    with suppress(MalformedBundle):
        decode_bundle(write_archive({MANIFEST: text}), origin="bundle")
