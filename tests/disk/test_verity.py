"""Hash trees that veritysetup makes, and whether a disk is the one that a command line means."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mrtd.disk import open_disk
from mrtd.disk.root import RootCheck, RootStatus, check_root
from mrtd.disk.verity import VerityTable, format_uuid, read_superblock
from mrtd.disk.verity_tree import TreeMismatch, VerityTree, verify_tree
from mrtd.errors import MalformedDisk
from tests.conftest import require_tool
from tests.disk.images import (
    MIB,
    MemoryDisk,
    Piece,
    VerityPair,
    gpt_image,
    made_data,
    run,
    squashfs,
    verity_pair,
)

BLOCK = 4096


def checked(pair: VerityPair, offset: int = 0) -> TreeMismatch | None:
    data, hashes = MemoryDisk(pair.data.read_bytes()), MemoryDisk(pair.hashes.read_bytes())
    table = read_superblock(hashes, offset)
    return verify_tree(VerityTree(data, hashes, table), bytes.fromhex(pair.root_hash))


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--salt=-",),
        ("--hash=sha512",),
        ("--hash=sha384", "--salt=" + "ab" * 256),
        ("--data-block-size=512", "--hash-block-size=512"),
        ("--data-block-size=1024", "--hash-block-size=4096"),
        ("--hash-block-size=512", "--hash=sha512"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 1300])
def test_a_tree_of_veritysetup_is_that_of_its_data(
    tmp_path: Path, options: tuple[str, ...], blocks: int
) -> None:
    pair = verity_pair(tmp_path, made_data(blocks * BLOCK), *options)
    assert checked(pair) is None
    data = bytearray(pair.data.read_bytes())
    data[-1] ^= 1
    pair.data.write_bytes(data)
    wrong = checked(pair)
    program = require_tool("veritysetup")
    judged = subprocess.run(
        [program, "verify", pair.data, pair.hashes, pair.root_hash],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert judged.returncode
    assert wrong is not None
    assert wrong.level == 0


@pytest.fixture
def pair(tmp_path: Path) -> VerityPair:
    return verity_pair(tmp_path, made_data(600 * BLOCK + 128 * 128 * BLOCK))


@pytest.mark.parametrize("block", [0, 127, 128, 500, 128 * 128 + 599])
def test_the_first_wrong_block_of_data_is_named(pair: VerityPair, block: int) -> None:
    data = bytearray(pair.data.read_bytes())
    data[block * BLOCK + 17] ^= 0x80
    data[-1] ^= 1
    pair.data.write_bytes(data)
    assert checked(pair) == TreeMismatch(0, block)


def test_the_first_wrong_block_of_the_tree_is_named(pair: VerityPair) -> None:
    whole = pair.hashes.read_bytes()
    table = read_superblock(MemoryDisk(whole))
    assert [count for _, count in table.levels()] == [133, 2, 1]
    for number, (start, count) in enumerate(table.levels(), 1):
        hashes = bytearray(whole)
        hashes[(start + count - 1) * BLOCK] ^= 1
        pair.hashes.write_bytes(hashes)
        assert checked(pair) == TreeMismatch(number, count - 1)


def test_another_root_hash_is_not_that_of_the_tree(pair: VerityPair) -> None:
    other = VerityPair(pair.data, pair.hashes, "00" * 32)
    assert checked(other) == TreeMismatch(3, 0)


def test_data_that_are_not_all_there_are_refused(pair: VerityPair) -> None:
    for path in (pair.data, pair.hashes):
        whole = path.read_bytes()
        path.write_bytes(whole[:-BLOCK])
        with pytest.raises(MalformedDisk, match="past the end"):
            checked(pair)
        path.write_bytes(whole)


def test_progress_is_told_up_to_the_end(pair: VerityPair) -> None:
    told: list[tuple[int, int]] = []
    data, hashes = MemoryDisk(pair.data.read_bytes()), MemoryDisk(pair.hashes.read_bytes())
    tree = VerityTree(data, hashes, read_superblock(hashes))
    digest = bytes.fromhex(pair.root_hash)
    assert verify_tree(tree, digest, progress=lambda *done: told.append(done)) is None
    assert told == sorted(told)
    assert told[-1] == (data.size, data.size)


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VerityPair]:
    """A disk as systemd-repart makes it: partition UUIDs are the halves of the root hash."""
    folder = tmp_path_factory.mktemp("rooted")
    root = squashfs(folder)
    pair = verity_pair(folder, root + bytes(-len(root) % BLOCK))
    digest = pair.root_hash
    image = gpt_image(
        folder / "disk.raw",
        Piece(pair.data.read_bytes(), "8304", "root", format_uuid(digest[:32])),
        Piece(pair.hashes.read_bytes(), "8300", "root-verity", format_uuid(digest[32:])),
    )
    run("qemu-img", "convert", "-c", "-O", "qcow2", image, folder / "disk.qcow2")
    return image, pair


def answer(image: Path, cmdline: str) -> RootCheck:
    with open_disk(image, "qcow2" if image.suffix == ".qcow2" else "raw") as disk:
        return check_root(disk, cmdline)


def dm_create(pair: VerityPair, data: str, hashes: str, extra: str = "") -> str:
    table = read_superblock(MemoryDisk(pair.hashes.read_bytes()))
    sectors = table.data_blocks * 8
    return (
        f'dm-mod.create="vroot,,,ro,0 {sectors} verity 1 {data} {hashes} 4096 4096 '
        f'{table.data_blocks} 1 sha256 {pair.root_hash} {table.salt.hex()}{extra}"'
    )


@pytest.mark.parametrize("suffix", [".raw", ".qcow2"])
def test_a_root_that_is_named_by_its_hash_is_verified(
    rooted: tuple[Path, VerityPair], suffix: str
) -> None:
    image, pair = rooted
    found = answer(image.with_suffix(suffix), f"quiet roothash={pair.root_hash} console=ttyS0")
    assert (found.status, found.key) == (RootStatus.VERIFIED, "roothash")
    assert found.data is not None
    assert found.hashes is not None
    assert found.data.content is not None
    assert found.hashes.content is not None
    assert found.data.content.kind == "squashfs"
    assert found.hashes.content.kind == "DM_verity_hash"
    assert isinstance(found.table, VerityTable)
    assert found.table.uuid == found.hashes.content.uuid


@pytest.mark.parametrize(
    "cmdline",
    [
        "roothash={hash} root=/dev/mapper/root systemd.verity=yes",
        "roothash={hash} systemd.verity_root_data=/dev/vda1 systemd.verity_root_hash=/dev/vda2",
        "roothash={hash} systemd.verity_root_data=PARTLABEL=root",
        "roothash={hash} systemd.verity-root-options=panic-on-corruption,hash-offset=0",
        "roothash={hash} roothash={hash}",
        "{create} root=/dev/dm-0",
        "{create} root=/dev/mapper/vroot",
    ],
)
def test_devices_may_be_named(rooted: tuple[Path, VerityPair], cmdline: str) -> None:
    image, pair = rooted
    create = dm_create(pair, "/dev/sda1", "PARTLABEL=root-verity", " 1 panic_on_corruption")
    found = answer(image, cmdline.format(hash=pair.root_hash, create=create))
    assert found.status is RootStatus.VERIFIED, found.reason


@pytest.mark.parametrize(
    ("cmdline", "status", "said"),
    [
        ("root=LABEL=root", "not measured", "no dm-verity root hash"),
        ("usrhash={hash}", "not measured", "protects another"),
        ("roothash={hash} root=LABEL=root", "not measured", "LABEL=root does not name"),
        ("roothash={hash} root=gpt-auto", "not measured", "gpt-auto does not name"),
        ("{create}", "not measured", "no root= names"),
        ("{create} root=/dev/vda1", "not measured", "does not name"),
        ("quiet -- roothash={hash}", "not measured", "no dm-verity root hash"),
        ("systemd.verity_root_hash={hash}", "not measured", "no dm-verity root hash"),
        ("roothash={hash} systemd.verity=0", "not checkable", "switches verity off"),
        ("roothash={hash} roothash={other}", "not checkable", "several values of roothash"),
        ("roothash={hash} {create} root=/dev/mapper/root", "not checkable", "several root hashes"),
        ("roothash=xyz", "not checkable", "no digest"),
        (
            "roothash={hash} systemd.verity_root_options=ignore-corruption",
            "not checkable", "read all the same",
        ),
        (
            "roothash={hash} systemd.verity_root_options=superblock=no",
            "not checkable", "not followed",
        ),
        ("roothash={hash} systemd.verity_root_data=254:0", "not checkable", "does not tell"),
        ("roothash={hash} systemd.verity_root_data=LABEL=x", "not found", "LABEL=x"),
        ("roothash={hash} systemd.verity_root_hash=/dev/vda1", "not checkable", "verity signature"),
        ("roothash={other}", "not found", "no partition"),
        ("roothash={other} {devices1}", "mismatch", "level 2"),
        ("roothash={hash} {devices2}", "not checkable", "past the end"),
        ("{weak} root=/dev/dm-0", "not checkable", "read all the same"),
    ],
)  # fmt: skip
def test_what_is_not_protected_is_told(
    rooted: tuple[Path, VerityPair], cmdline: str, status: str, said: str
) -> None:
    image, pair = rooted
    create = dm_create(pair, "/dev/vda1", "/dev/vda2")
    weak = dm_create(pair, "/dev/vda1", "/dev/vda2", " 1 ignore_corruption")
    text = cmdline.format(
        hash=pair.root_hash,
        other="12" * 32,
        create=create,
        weak=weak,
        devices1="systemd.verity_root_data=/dev/vda1 systemd.verity_root_hash=/dev/vda2",
        devices2="systemd.verity_root_data=/dev/vda2 systemd.verity_root_hash=/dev/vda2",
    )
    found = answer(image, text)
    assert (found.status, said in found.reason) == (status, True), found.reason


def test_a_changed_root_does_not_fit(rooted: tuple[Path, VerityPair], tmp_path: Path) -> None:
    image, pair = rooted
    changed = bytearray(image.read_bytes())
    changed[MIB + 5 * BLOCK + 9] ^= 1
    (tmp_path / "disk.raw").write_bytes(changed)
    found = answer(tmp_path / "disk.raw", f"roothash={pair.root_hash}")
    assert found.status is RootStatus.MISMATCH
    assert found.mismatch == TreeMismatch(0, 5)
    assert found.reason == "block 5 of the data does not fit"


@pytest.mark.parametrize("suffix", [".raw", ".qcow2"])
def test_several_processes_find_the_same(
    rooted: tuple[Path, VerityPair], tmp_path: Path, suffix: str
) -> None:
    image, pair = rooted
    with open_disk(image.with_suffix(suffix), suffix.removeprefix(".")) as disk:  # type: ignore[arg-type]
        found = check_root(disk, f"roothash={pair.root_hash}", workers=2)
    assert found.status is RootStatus.VERIFIED
    changed = tmp_path / "changed"
    data = bytearray(pair.data.read_bytes())
    data[100 * BLOCK] ^= 1
    changed.write_bytes(data)
    with open_disk(changed, "raw") as content, open_disk(pair.hashes, "raw") as hashes:
        tree = VerityTree(content, hashes, read_superblock(hashes))
        wrong = verify_tree(tree, bytes.fromhex(pair.root_hash), workers=2)
    assert wrong == TreeMismatch(0, 100)


def test_without_workers_the_check_goes_on(rooted: tuple[Path, VerityPair], tmp_path: Path) -> None:
    """Their files are gone, so that they cannot begin; those that are open here remain."""
    _, pair = rooted
    copy = tmp_path / "data"
    copy.write_bytes(pair.data.read_bytes())
    with open_disk(copy, "raw") as content, open_disk(pair.hashes, "raw") as hashes:
        tree = VerityTree(content, hashes, read_superblock(hashes))
        copy.unlink()
        assert verify_tree(tree, bytes.fromhex(pair.root_hash), workers=2) is None
