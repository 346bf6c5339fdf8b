"""GRUB: the files that it reads, the commands that it runs, and the kernel that it starts.

Sources: GRUB grub-core/commands/tpm.c (files into PCR 9 by name, commands into PCR 8),
grub-core/loader/efi/linux.c (BOOT_IMAGE=, initrds through LINUX_EFI_INITRD_MEDIA),
include/grub/kernel.h (modules' header: the prefix). Logs of Debian's signed 2.12.
"""

from __future__ import annotations

import re
from typing import Final

from mrtd.boot.chain import Chain, Files, Image
from mrtd.boot.grub_cfg import GrubCommand, NotDerived, read_grub_cfg
from mrtd.boot.newc import pad4
from mrtd.boot.pe import pe_sections
from mrtd.boot.shim import verify_with_shim
from mrtd.eventlog import EventType, InputName, Origin
from mrtd.registers import Sha384, Target

_COMMANDS_PCR: Final = 8
_FILES_PCR: Final = 9
_MAX_CFG: Final = 1 << 20
_MAX_FILE: Final = 1 << 32
_MODULES: Final = "mods"
_MODULE_MAGIC: Final = b"mimg"
_PREFIX: Final = 3  # OBJ_TYPE_PREFIX
_CONFIG: Final = 2  # OBJ_TYPE_CONFIG
_FIRST_CC: Final = (2, 12)  # GRUB commit 4c76565b6: EFI_CC_MEASUREMENT_PROTOCOL
_PEIMAGE: Final = "grub.peimage"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,4}")
# Variables that change more than what is expanded: where files are, a password, signatures of files
_SPECIAL: Final = frozenset({"root", "prefix", "superusers", "check_signatures"})
_AFTER: Final = (4, 8, 9)
_NO_TD_LOG: Final = "what GRUB measures in a TD: no log of TDX hardware confirms it"


def start_grub(chain: Chain, image: Image, programs: dict[str, str]) -> None:
    """What GRUB measures, and what it starts.

    Args:
        chain: the boot.
        image: GRUB.
        programs: its ``.sbat``: component to version.

    Raises:
        InputError: GRUB or what it starts is malformed.
    """
    version = programs.get("grub", "")
    numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
    if image.files is None or len(numbers) < 2:
        chain.unknown(_AFTER, f"the rules of GRUB {version or '?'} are not known", "GRUB")
        return
    measures = chain.target is Target.TPM or numbers >= _FIRST_CC
    _Grub(chain, image, image.files, measures=measures, peimage=_PEIMAGE in programs).run()


class _Grub:
    def __init__(
        self, chain: Chain, image: Image, files: Files, *, measures: bool, peimage: bool
    ) -> None:
        self.chain = chain
        self.image = image
        self.files = files
        self.measures = measures
        self.peimage = peimage
        self.device = "hd0,gpt1"
        self.variables: dict[str, str] = {}
        self.source = ""
        self.kernel: tuple[str, bytes, str] | None = None
        self.initrds: list[tuple[str, bytes]] = []

    def run(self) -> None:
        prefix, early = read_prefix(self.image.data, origin=self.image.path)
        config = f"{prefix}/grub.cfg"
        if early:
            self.give_up("it has a configuration of its own inside, which is not derived")
        elif not prefix.startswith("/") or not self.files.exists(config):
            self.give_up(f"it finds no {config!r} on its file system")
        elif self.chain.partition is None:
            self.give_up("the number of the partition that it is on is not known")
        else:
            self.device = f"hd0,gpt{self.chain.partition}"
            self.source = config
            root = f"({self.device})"
            self.variables = {"root": self.device, "prefix": f"{root}{prefix}"}
            self.configure(config, root)

    def configure(self, config: str, root: str) -> None:
        content = self.files.read(config, _MAX_CFG)
        for _ in range(2):  # found, then read: once each (seen with Debian's 2.12)
            self.file(f"{root}{config}", content, InputName.LOADER_CONFIG)
        text = content.decode("utf-8", "replace")
        if "\ufffd" in text or "\r" in text:
            self.give_up(f"{config!r} is not UTF-8, or has carriage returns")
            return
        commands, problem = read_grub_cfg(text)
        for command in commands:
            failed = self.execute(command)
            if command.words[0] in {"linux", "initrd"}:
                failed = NotDerived(f"{command.words[0]} outside of a menuentry", command.line)
            if failed is not None:
                self.give_up_at(failed)
                return
        if problem is not None:
            self.give_up_at(problem)
            return
        entries = [command for command in commands if command.words[0] == "menuentry"]
        chosen = self.choose(entries)
        if isinstance(chosen, str):
            self.give_up(chosen)
            return
        self.start(chosen)

    def choose(self, entries: list[GrubCommand]) -> GrubCommand | str:
        told = self.chain.entry
        wanted = told or self.variables.get("default", "0")
        if told is None and not self.variables.get("timeout", "").isdigit():
            return "its menu waits for a person: no timeout is set, so say boot.entry"
        self.chain.entry = None
        # normal/menu.c, get_entry_number: what begins like a number is one, and no name
        if wanted[:1].isdigit():
            if _NUMBER.fullmatch(wanted) and int(wanted) < len(entries):
                return entries[int(wanted)]
        else:
            named = [entry for entry in entries if wanted in entry.names]
            if len(named) == 1 and ">" not in wanted:
                return named[0]
        return f"its default {wanted!r} names none of {len(entries)} menu entries"

    def start(self, entry: GrubCommand) -> None:
        title = entry.words[1] if len(entry.words) > 1 else ""
        self.command(f"setparams {title}", entry.line)
        for command in entry.body:
            failed = self.execute(command) or self.load(command)
            if failed is not None:
                self.give_up_at(failed)
                return
        if self.kernel is None:
            self.give_up(f"its menu entry {title!r} loads no kernel")
            return
        self.boot(self.kernel)

    def load(self, command: GrubCommand) -> NotDerived | None:
        """Read the files of a ``linux`` or ``initrd`` command; or what does not follow."""
        words = command.expanded(self.variables)
        files = () if isinstance(words, str) else self.read_words(words)
        missing = [path for path in files if not self.files.exists(path)]
        if missing:
            what = f"{missing[0]}, which is not on the same file system"
            return NotDerived(what, command.line)
        if words[0] == "linux":
            # builds differ: some quote such a word in the command line, others do not
            if self.kernel or any(not word or " " in word for word in words):
                what = "a second linux" if self.kernel else "linux with a blank within a word"
                return NotDerived(what, command.line)
            self.kernel = self.load_kernel(tuple(words))
        elif words[0] == "initrd":
            if self.kernel is None or self.initrds:
                return NotDerived("initrd without a linux before it", command.line)
            self.initrds = [(path, self.files.read(path, _MAX_FILE)) for path in files]
            for path, content in self.initrds:
                self.file(path, content, InputName.INITRD)
        return None

    def load_kernel(self, words: tuple[str, ...]) -> tuple[str, bytes, str]:
        path = words[1]
        content = self.files.read(path, _MAX_FILE)
        self.file(path, content, InputName.KERNEL)
        if self.chain.secure_boot:
            # verified through shim, which measures the image as well
            verify_with_shim(self.chain, memoryview(content), path)
            self.chain.measure_image(content, path, InputName.KERNEL)
        cmdline = " ".join(words[1:])
        self.measure(
            _COMMANDS_PCR, cmdline.encode(), f"kernel_cmdline: {cmdline}", InputName.CMDLINE
        )
        return path, content, cmdline

    def boot(self, kernel: tuple[str, bytes, str]) -> None:
        path, content, cmdline = kernel
        initrds = self.initrds
        if not self.peimage and not self.chain.secure_boot:
            self.chain.measure_image(content, path, InputName.KERNEL)  # through LoadImage
        digest = None
        if initrds:
            digest = Sha384.of(*(pad4(data) for _, data in initrds[:-1]), initrds[-1][1])
        self.chain.start_kernel(
            content, f"BOOT_IMAGE={cmdline}", digest, where=path, cmdline_where=self.source,
            initrd_where=", ".join(name for name, _ in initrds), terminated=False,
        )  # fmt: skip

    @staticmethod
    def read_words(words: tuple[str, ...]) -> tuple[str, ...]:
        """Files that a command reads."""
        if words[0] == "linux":
            return words[1:2]
        return words[1:] if words[0] == "initrd" else ()

    def execute(self, command: GrubCommand) -> NotDerived | None:
        """Measure a command and do what it does to variables; or what does not follow."""
        words = command.expanded(self.variables)
        if isinstance(words, str):
            return NotDerived(f"the variable {words}", command.line)
        block = f" {command.block}" if command.block else ""
        self.command(" ".join(words) + block, command.line)
        if words[0] == "set":
            name, equals, value = words[1].partition("=") if len(words) == 2 else ("", "", "")
            if not equals or name in _SPECIAL:
                return NotDerived(f"{' '.join(words)!r}", command.line)
            self.variables[name] = value
        elif words[0] == "search":
            return self.search(words, command.line)
        elif words[0] in {"linux", "initrd"} and (
            len(words) < 2 or any(not w.startswith("/") for w in self.read_words(words))
        ):
            return NotDerived(f"{words[0]} with a device in front of its path", command.line)
        return None

    def search(self, words: tuple[str, ...], line: int) -> NotDerived | None:
        """``search``, if it finds the file system that GRUB is on."""
        volume = getattr(self.files, "volume_id", "")
        by_uuid = "--fs-uuid" in words or "-u" in words
        sets_root = any(w in {"--set", "--set=root"} for w in words)
        if by_uuid and sets_root and volume and words[-1].upper() == volume:
            return None
        return NotDerived(f"{' '.join(words)!r}, which may find another file system", line)

    def command(self, text: str, line: int) -> None:
        self.measure(
            _COMMANDS_PCR, text.encode(), f"grub_cmd: {text}", InputName.LOADER_CONFIG, line
        )

    def file(self, name: str, content: bytes, source: InputName) -> None:
        self.measure(_FILES_PCR, content, name, source)

    def measure(
        self, pcr: int, content: bytes, text: str, source: InputName, line: int = 0
    ) -> None:
        if self.measures:
            where = f"{self.source} line {line}" if line else self.source
            self.chain.recorder.measure(
                pcr, EventType.EV_IPL, content, text, Origin(source, where),
                data=text.encode() + b"\0",
                unconfirmed=_NO_TD_LOG if self.chain.target is Target.CC else "",
            )  # fmt: skip

    def give_up_at(self, problem: NotDerived) -> None:
        self.give_up(f"{self.source} line {problem.line} has {problem.what}, which is not derived")

    def give_up(self, reason: str) -> None:
        self.chain.unknown(_AFTER, f"GRUB: {reason}", f"GRUB {self.source}".rstrip())


def read_prefix(image: memoryview, *, origin: str) -> tuple[str, bool]:
    """GRUB's prefix, and whether it has a configuration inside.

    Source: include/grub/kernel.h: grub_module_info64 (u32 magic, u32 padding, u64 offset, u64
    size), then objects of ``u32 type, u32 size with these 8 bytes``.

    Raises:
        MalformedKernel: not a PE image.
    """
    section = next((s for s in pe_sections(image, origin=origin) if s.name == _MODULES), None)
    content = b"" if section is None else section.content(image)
    if content[:4] != _MODULE_MAGIC:
        return "", False
    at = int.from_bytes(content[8:16], "little")
    end = min(int.from_bytes(content[16:24], "little"), len(content))
    prefix, early = "", False
    while at + 8 <= end:
        kind, size = (int.from_bytes(content[at + i : at + i + 4], "little") for i in (0, 4))
        if size < 8:
            break
        if kind == _PREFIX:
            prefix = content[at + 8 : at + size].split(b"\0", 1)[0].decode("utf-8", "replace")
        early = early or kind == _CONFIG
        at += size
    return prefix, early
