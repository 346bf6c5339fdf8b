"""Running cosign and skopeo: fixed arguments, no environment, no terminal, a time limit.

Their environment has nothing of ours but what is given by name: ``SIGSTORE_ROOT_FILE``,
``TUF_MIRROR``, ``COSIGN_REPOSITORY``, ``CONTAINERS_POLICY_JSON`` or a file in HOME would change
whom they trust, and ``ACTIONS_ID_TOKEN_REQUEST_TOKEN`` is none of the business of a verifier.
What they can do is asked of their ``--help``: Debian's cosign does not know its own version.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mrtd.errors import ToolFailed, ToolMissing
from mrtd.process import running

_OUTPUT_LIMIT: Final = 8 << 20
_HELP_SECONDS: Final = 30
_WORD: Final = re.compile(r"--[A-Za-z][A-Za-z-]*")
_LOGGED: Final = re.compile(r'time="[^"]*" level=[a-z]+ msg="(.*)"')
_SHOWN: Final = 400
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
_NO_FILES: Final[Mapping[str, bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Said:
    """What a program answered.

    Attributes:
        status: its exit status; negative: the signal that ended it.
    """

    status: int
    stdout: bytes
    stderr: str

    @property
    def short(self) -> str:
        """One printable line; cosign says every error twice, and warns of its own options."""
        text = f"{self.stdout[:_SHOWN].decode('utf-8', 'replace')}\n{self.stderr}"
        lines = [_plain(line.strip()) for line in text.splitlines() if line.strip()]
        noise = ("error during command execution:", "Flag --", "WARNING: Skipping tlog")
        kept = [line for line in lines if not line.startswith(noise)]
        shown = "".join(c if c.isprintable() else "?" for c in "; ".join(kept or lines))
        return shown[:_SHOWN] or "nothing"


def _plain(line: str) -> str:
    """A line of skopeo's log without time and level."""
    found = _LOGGED.fullmatch(line)
    return found[1].replace('\\"', '"') if found else line


class TooSlow(ToolFailed):
    """A program gave no answer in time."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is there.

    Attributes:
        path: of it.
        seconds: for one run.
    """

    path: Path
    seconds: float = 120

    @classmethod
    def find(cls, name: str, explicit: Path | None = None, *, seconds: float = 120) -> Program:
        """The program given, or the one of a name on the search path. Raises `ToolMissing`."""
        found = shutil.which(str(explicit) if explicit is not None else name)
        if found is None:
            raise ToolMissing(
                f"{explicit or name} is not installed", hint=f"apt-get install {name}"
            )
        return cls(Path(found).resolve(), seconds)

    def run(
        self,
        *arguments: str,
        files: Mapping[str, bytes] = _NO_FILES,
        environment: Mapping[str, str] = _EMPTY,
        pass_fds: tuple[int, ...] = (),
        seconds: float | None = None,
    ) -> Said:
        """Run it to its end.

        Args:
            arguments: a value that might begin with a dash is given as ``--option=value``.
            files: in its folder, which is gone afterwards.
            environment: variables besides ``PATH``, ``LC_ALL``, ``TMPDIR``.
            pass_fds: descriptors that it inherits.
            seconds: other than usual.

        Raises:
            TooSlow: it did not end in time; it has been killed.
            ToolFailed: it said more than anybody wants to read.
            ToolMissing: it cannot be started.
        """
        limit = self.seconds if seconds is None else seconds
        argv = [str(self.path), *arguments]
        with running(argv, files=files, environment=environment, pass_fds=pass_fds) as process:
            if not process.wait(limit):
                raise TooSlow(f"gave no answer in time ({limit:.3g} s)", origin=self.path.name)
            status = process.kill()
            stdout = process.whole_output("stdout", _OUTPUT_LIMIT)
            return Said(status, stdout, process.output("stderr"))

    def lacks(self, command: str, *options: str) -> tuple[str, ...]:
        """Those of the options that the program's help on a command does not name.

        Raises:
            TooSlow, ToolFailed, ToolMissing: it could not be asked.
        """
        state = self.path.stat()
        known = _options(self, command, (state.st_mtime_ns, state.st_size))
        return tuple(option for option in options if option not in known)


@lru_cache(maxsize=64)
def _options(program: Program, command: str, _version: tuple[int, int]) -> frozenset[str]:
    """All options in a command's help, which goes to stdout or stderr, by the program's mood."""
    seconds = min(program.seconds, _HELP_SECONDS)
    try:
        said = program.run(*command.split(), "--help", seconds=seconds)
    except TooSlow as error:
        raise TooSlow("did not answer --help in time", origin=program.path.name) from error
    if said.status != 0:
        raise ToolFailed(f"{command} --help: {said.short}", origin=program.path.name)
    return frozenset(_WORD.findall(said.stdout.decode("utf-8", "replace") + said.stderr))
