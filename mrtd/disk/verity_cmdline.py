"""dm-verity on a kernel command line: which root hash, of which devices, with which options.

Sources: systemd-veritysetup-generator(8) (``roothash=``, ``usrhash=``, ``systemd.verity_*``: its
``..._data=`` and ``..._hash=`` are block devices, not digests), veritytab(5) (options); Linux
``Documentation/admin-guide/device-mapper/dm-init.rst`` (``dm-mod.create=``) and ``verity.rst``.
Both take ``-`` and ``_`` in a key for the same, and of two equal keys the last one.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from mrtd.disk.verity import ALGORITHMS, VerityTable

Mount = Literal["root", "usr"]

_TOKEN: Final = re.compile(r'(?:"[^"]*"?|[^\s"])+')
_DIGEST: Final = re.compile(r"(?:[0-9a-fA-F]{2}){16,64}")
_NO: Final = {"0", "no", "n", "false", "f", "off"}
_KEYS: Final[dict[Mount, str]] = {"root": "roothash", "usr": "usrhash"}
_MOUNTS: Final[dict[Mount, str]] = {"root": "root", "usr": "mount.usr"}
_WEAK: Final = {"ignore_corruption": "a block that does not fit the tree is read all the same"}
_HARMLESS: Final = {
    "restart_on_corruption", "panic_on_corruption", "ignore_zero_blocks", "nofail", "auto",
    "restart_on_error", "panic_on_error", "try_verify_in_tasklet", "x_initrd.attach",
}  # fmt: skip
_ONCE: Final = "check_at_most_once"
_TARGET: Final = re.compile(r"^\s*\d+\s+\d+\s+verity\s+(.*)$", re.DOTALL)


class VerityArguments(msgspec.Struct, frozen=True):
    """What a command line says about one verity device.

    Attributes:
        key: the key that has the root hash, such as ``roothash``.
        mount: what is protected.
        root_hash: lower-case hex.
        data: the data device as it is named; None: found by the root hash.
        hashes: the hash device; None: found by the root hash.
        offset: where the superblock is on the hash device, in bytes.
        table: all of the tree, where the command line has it; None: the superblock says it.
        device: ``/dev/mapper/...`` name of what is protected.
        problem: why the arguments protect nothing, or cannot be followed; None if they do.
        notes: what is odd about them, a sentence each.
    """

    key: str
    mount: Mount
    root_hash: str
    data: str | None = None
    hashes: str | None = None
    offset: int = 0
    table: VerityTable | None = None
    device: str = ""
    problem: str | None = None
    notes: tuple[str, ...] = ()


class Unprotected(msgspec.Struct, frozen=True):
    """Why no root hash is known to protect a file system.

    Attributes:
        reason: a sentence.
        unclear: whether a root hash may protect it, and cannot be followed.
        argument: the root hash, where there is one.
    """

    reason: str
    unclear: bool = False
    argument: VerityArguments | None = None


def parameters(cmdline: str) -> tuple[tuple[str, str], ...]:
    """Keys, with ``_`` for ``-``, and values of a command line, up to the arguments of init."""
    found = []
    for token in _TOKEN.findall(cmdline):
        if token == "--":  # noqa: S105 - no password
            break
        key, _, value = token.replace('"', "").partition("=")
        found.append((key.replace("-", "_"), value))
    return tuple(found)


def verity_arguments(cmdline: str) -> tuple[VerityArguments, ...]:
    """The verity devices that a command line describes: systemd's, then the kernel's own."""
    given = parameters(cmdline)
    found = [_systemd(given, mount) for mount in _KEYS]
    mapped = [value for key, value in given if key == "dm_mod.create"]
    if mapped:
        # the kernel's parameter has one value: the last one
        found += [_mapped(device, again=len(mapped) > 1) for device in mapped[-1].split(";")]
    return tuple(argument for argument in found if argument is not None)


def protecting(cmdline: str, mount: Mount = "root") -> VerityArguments | Unprotected:
    """What protects a file system according to a command line, or why nothing does."""
    found = verity_arguments(cmdline)
    arguments = [argument for argument in found if argument.mount == mount]
    if not arguments:
        other = "; one protects another file system" if found else ""
        return Unprotected(f"no dm-verity root hash of it on the command line{other}")
    if len(arguments) > 1:
        keys = ", ".join(argument.key for argument in arguments)
        return Unprotected(f"several root hashes: {keys}", unclear=True)
    argument = arguments[0]
    if (elsewhere := _mounted_elsewhere(argument, cmdline)) is not None:
        return Unprotected(elsewhere, argument=argument)
    if argument.problem is not None:
        return Unprotected(argument.problem, unclear=True, argument=argument)
    return argument


def _mounted_elsewhere(argument: VerityArguments, cmdline: str) -> str | None:
    """Why what is mounted is not the protected device; None if it is.

    Without ``root=``, systemd mounts what ``roothash=`` protects (systemd-fstab-generator(8)).
    """
    key = _MOUNTS[argument.mount]
    device = dict(parameters(cmdline)).get(key)
    if argument.key == "dm-mod.create":
        if device in {argument.device, "/dev/dm-0"}:
            return None
    elif device in {None, argument.device}:
        return None
    return (
        f"{key}={device} does not name the protected device, {argument.device}"
        if device is not None
        else f"no {key}= names the protected device, {argument.device}"
    )


def _systemd(given: tuple[tuple[str, str], ...], mount: Mount) -> VerityArguments | None:
    key, prefix = _KEYS[mount], f"systemd.verity_{mount}_"
    digests = [value for name, value in given if name == key]
    if not digests:
        return None
    last = dict(given)
    options = [word for word in last.get(f"{prefix}options", "").split(",") if word]
    problem, notes, offset = _read_options(options)
    off = [k for k in ("systemd.verity", "rd.systemd.verity") if last.get(k, "").lower() in _NO]
    again = sorted(
        name for name in (key, f"{prefix}data", f"{prefix}hash", f"{prefix}options")
        if len({value for other, value in given if other == name}) > 1
    )  # fmt: skip
    if again:
        problem = f"several values of {', '.join(again)}"
    elif off:
        problem = f"{off[0]}= switches verity off"
    elif not _DIGEST.fullmatch(digests[-1]):
        problem = f"{key}= has no digest"
    return VerityArguments(
        key,
        mount,
        digests[-1].lower(),
        last.get(f"{prefix}data"),
        last.get(f"{prefix}hash"),
        offset,
        device=f"/dev/mapper/{mount}",
        problem=problem,
        notes=notes,
    )


def _read_options(options: list[str]) -> tuple[str | None, tuple[str, ...], int]:
    """What is wrong with a list of options, what is odd, and the superblock's offset."""
    problem, notes, offset = None, [], 0
    for option in options:
        name, _, value = option.partition("=")
        name = name.replace("-", "_")
        if name == "hash_offset" and value.isascii() and value.isdigit() and len(value) < 20:
            offset = int(value)
        elif name == _ONCE:
            notes.append("blocks are checked when they are first read, and not again")
        elif name in _WEAK:
            problem = f"option {name}: {_WEAK[name]}"
        elif name not in _HARMLESS and name != "root_hash_signature":
            problem = problem or f"option {name!r} is not followed here"
    return problem, tuple(notes), offset


def _mapped(device: str, *, again: bool) -> VerityArguments | None:
    """A device of ``dm-mod.create=``: name,uuid,minor,flags,table[,table]."""
    head = device.split(",", 4)
    targets = head[4].split(",") if len(head) > 4 else []
    found = [match[1].split() for match in map(_TARGET.match, targets) if match]
    if not found:
        return None
    words = found[0]
    key, name = "dm-mod.create", f"/dev/mapper/{head[0].strip()}"
    table, problem = _read_table(words)
    if len(targets) > 1:
        problem = "the device has several targets"
    elif again:
        problem = "several values of dm-mod.create"
    wrong, notes, _ = _read_options(words[11:])
    digest = words[8].lower() if len(words) > 8 else ""
    data, hashes = (*words[1:3], "", "")[:2]
    return VerityArguments(
        key, "root", digest, data, hashes, 0, table, name, problem or wrong, notes
    )


def _read_table(words: list[str]) -> tuple[VerityTable | None, str | None]:
    """A verity target's table; or why it is none that can be checked."""
    numbers = [words[at] for at in (0, 3, 4, 5, 6)] if len(words) > 9 else []
    if not numbers or not all(re.fullmatch(r"[0-9]{1,19}", number) for number in numbers):
        return None, "the verity table is not complete"
    version, data_block, hash_block, blocks, start = map(int, numbers)
    algorithm, digest, salt = words[7:10]
    if version != 1 or algorithm not in ALGORITHMS:
        return None, f"format {version} with {algorithm} is not checked here"
    if len(digest) != 2 * ALGORITHMS[algorithm] or not _DIGEST.fullmatch(digest):
        return None, f"the root hash is not one of {algorithm}"
    if salt != "-" and not re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,256}", salt):
        return None, "the salt is not hexadecimal"
    raw = b"" if salt == "-" else bytes.fromhex(salt)
    return VerityTable(algorithm, data_block, hash_block, blocks, start, raw), None
