"""Whether the root file system of a launch is the one that its command line names by hash.

A root hash on a *measured* command line covers a root file system only if the device that it
protects is the one that is mounted, and the disk has the data that the hash is of. Both are checked
here; that the command line is measured is the business of whoever asks.

Source: systemd-veritysetup-generator(8) (partitions whose UUIDs are the halves of the root hash).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from mrtd.disk.image import Disk
from mrtd.disk.verity import ALGORITHMS, VerityTable, check_table, format_uuid, read_superblock
from mrtd.disk.verity_cmdline import Mount, Unprotected, VerityArguments, protecting
from mrtd.disk.verity_tree import Progress, TreeMismatch, VerityTree, verify_tree
from mrtd.disk.volumes import Volume, list_volumes, named
from mrtd.errors import MalformedDisk


class RootStatus(StrEnum):
    """What is known of a root file system."""

    VERIFIED = "verified"
    """The command line's root hash is that of the data that are mounted."""
    MISMATCH = "mismatch"
    """The data, or the hash tree, are not those that the root hash is of: it will not boot."""
    NOT_FOUND = "not found"
    """The disk has no such partition."""
    NOT_CHECKABLE = "not checkable"
    """The reason says what is in the way."""
    NOT_MEASURED = "not measured"
    """No root hash on the command line protects what is mounted."""


class RootCheck(msgspec.Struct, frozen=True):
    """The answer about one file system.

    Attributes:
        status: the answer.
        reason: a sentence.
        key: the command line's key that has the hash; empty without one.
        root_hash: lower-case hex; empty without one.
        data: the partition with the data, where it was found.
        hashes: the partition with the hash tree, where it was found.
        table: the hash tree, where it was found.
        mismatch: the first block that is wrong.
        notes: what is odd, a sentence each.
    """

    status: RootStatus
    reason: str
    key: str = ""
    root_hash: str = ""
    data: Volume | None = None
    hashes: Volume | None = None
    table: VerityTable | None = None
    mismatch: TreeMismatch | None = None
    notes: tuple[str, ...] = ()


def check_root(
    disk: Disk,
    cmdline: str,
    *,
    mount: Mount = "root",
    workers: int | None = None,
    progress: Progress | None = None,
) -> RootCheck:
    """Check the file system at ``/`` (or ``/usr``) of a disk against a command line.

    Args:
        disk: the disk that it is on.
        cmdline: the kernel's command line, as it is measured.
        mount: which file system.
        workers: processes that hash; by default one for each core.
        progress: told how far the check of the data is.
    """
    argument = protecting(cmdline, mount)
    if isinstance(argument, Unprotected):
        status = RootStatus.NOT_CHECKABLE if argument.unclear else RootStatus.NOT_MEASURED
        known = RootCheck(status, "") if argument.argument is None else _known(argument.argument)
        return _answer(known, status, argument.reason)
    known = _known(argument)
    try:
        return _check(disk, argument, known, workers, progress)
    except MalformedDisk as error:
        return _answer(known, RootStatus.NOT_CHECKABLE, error.message)


def _known(argument: VerityArguments) -> RootCheck:
    return RootCheck(
        RootStatus.NOT_CHECKABLE, "", argument.key, argument.root_hash, notes=argument.notes
    )


def _answer(known: RootCheck, status: RootStatus, reason: str) -> RootCheck:
    return msgspec.structs.replace(known, status=status, reason=reason)


def _check(
    disk: Disk,
    argument: VerityArguments,
    known: RootCheck,
    workers: int | None,
    progress: Progress | None,
) -> RootCheck:
    volumes = list_volumes(disk)
    digest = argument.root_hash
    # systemd-veritysetup-generator(8): the first and the last 128 bits of the hash
    data = _one(argument.data or f"PARTUUID={format_uuid(digest[:32])}", volumes)
    if isinstance(data, tuple):
        return _answer(known, *data)
    hashes = _one(argument.hashes or f"PARTUUID={format_uuid(digest[-32:])}", volumes)
    if isinstance(hashes, tuple):
        return _answer(msgspec.structs.replace(known, data=data), *hashes)
    tree = hashes.slice(disk)
    table = argument.table or read_superblock(tree, argument.offset)
    check_table(table, origin=disk.origin)
    known = msgspec.structs.replace(known, data=data, hashes=hashes, table=table)
    if len(digest) != 2 * ALGORITHMS[table.algorithm]:
        return _answer(
            known, RootStatus.MISMATCH, f"the root hash is not a digest of {table.algorithm}"
        )
    whole = VerityTree(data.slice(disk), tree, table)
    wrong = verify_tree(whole, bytes.fromhex(digest), workers=workers, progress=progress)
    if wrong is None:
        return _answer(known, RootStatus.VERIFIED, f"{data} is what {argument.key} says")
    known = msgspec.structs.replace(known, mismatch=wrong)
    where = f"level {wrong.level} of the hash tree" if wrong.level else "the data"
    return _answer(known, RootStatus.MISMATCH, f"block {wrong.block} of {where} does not fit")


def _one(device: str, volumes: tuple[Volume, ...]) -> Volume | tuple[RootStatus, str]:
    found = named(device, volumes)
    if found is None:
        return RootStatus.NOT_CHECKABLE, f"{device} does not tell which partition it is"
    if not found:
        return RootStatus.NOT_FOUND, f"no partition is {device}"
    if len(found) > 1:
        return RootStatus.NOT_CHECKABLE, f"{len(found)} partitions are {device}"
    return found[0]
