"""What a skopeo or podman does with a policy, found out by asking it; its version says little.

Distributions patch them: Debian 12's refuse every Sigstore signature. So an image that is signed
right has to be accepted, and the negative controls refused: a build that checks nothing accepts
those as well. It needs no network, and no storage of images for skopeo.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mrtd.errors import SpecError, ToolFailed, ToolMissing
from mrtd.images.program import Program, TooSlow
from mrtd.printable import printable
from release.policy_dummy import REPOSITORY, new_key, public_pem, write_image

Answer = Literal["accepted", "rejected", "invalid", "failed"]
_REJECTED: Final = "Source image rejected: "
_INVALID: Final = "invalid policy in "
_SHOWN: Final = 300


class Asked(msgspec.Struct, frozen=True):
    """An answer of a program.

    Attributes:
        answer: ``accepted``; ``rejected`` by the policy; the policy is ``invalid``; or it
            ``failed`` otherwise, which says nothing.
        text: its last line.
    """

    answer: Answer
    text: str


class Check(msgspec.Struct, frozen=True):
    """A question with a known right answer.

    Attributes:
        id: stable.
        wanted: the answer of a program that verifies signatures.
        got: this program's.
        text: what it said.
    """

    id: str
    wanted: Answer
    got: Answer
    text: str


class Probe(msgspec.Struct, frozen=True):
    """What a program does.

    Attributes:
        program: its path.
        version: as it says; nothing is decided by it.
        verifies: whether it accepts what is signed right and refuses the rest; None if that
            could not be found out.
        key_lists: whether it reads ``keyPaths`` (rotation of keys).
        signer_uri: whether it reads ``buildSignerURI``, so that it could enforce a workflow; None
            also for a program that verifies nothing.
        checks: what it was asked.
    """

    program: str
    version: str
    verifies: bool | None
    key_lists: bool | None
    signer_uri: bool | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A program that applies a policy.

    Attributes:
        program: a name with ``podman`` in it is podman's, any other skopeo's.
    """

    program: Program

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, and not skopeo."""
        return "podman" in self.program.path.name

    def ask(self, policy: Mapping[str, Any] | bytes, image: Path) -> Asked:
        """Have it take an image under a policy. Raises `ToolMissing`."""
        text = policy if isinstance(policy, bytes) else json.dumps(policy).encode()
        try:
            said = self.program.run(*self._words(image), files={"policy.json": text})
        except TooSlow as error:
            return Asked("failed", error.message)
        if said.status == 0:
            return Asked("accepted", "")
        line = (said.stderr.strip().splitlines() or ["it said nothing"])[-1]
        last = printable(line)[-_SHOWN:]
        known: dict[str, Answer] = {_REJECTED: "rejected", _INVALID: "invalid"}
        for mark, answer in known.items():
            if mark in line:
                return Asked(answer, last)
        return Asked("failed", last)

    def version(self) -> str:
        """What it says of itself. Raises `ToolMissing`."""
        try:
            said = self.program.run("--version")
        except ToolFailed:
            return "of unknown version"
        text = printable(said.stdout.decode("utf-8", "replace").strip())[:100]
        return text if said.status == 0 and text else "of unknown version"

    def _words(self, image: Path) -> list[str]:
        # the process runs in a temporary folder of its own, where the policy is
        if not self.is_podman:
            return ["--policy", "policy.json", "copy", "-q", f"dir:{image}", "dir:copy"]
        return ["--root", "storage", "--runroot", "run", "--storage-driver", "vfs", "pull",
                "--quiet", "--signature-policy", "policy.json", f"dir:{image}"]  # fmt: skip


def probe(program: Program) -> Probe:
    """Find out what a program does.

    Raises:
        ToolMissing: it is not there.
    """
    consumer = Consumer(program)
    version = consumer.version()
    try:
        with tempfile.TemporaryDirectory(prefix="mrtd-") as name:
            checks = tuple(_checks(consumer, Path(name)))
    except OSError as error:
        raise SpecError(f"no temporary folder: {error.strerror}", origin="probe") from error
    except ImportError as error:
        raise ToolMissing(
            "the library cryptography is missing", hint="pip install 'mrtd[verifier]'"
        ) from error
    asked = {check.id: check for check in checks}
    verifies = _all_right(checks[:4])
    return Probe(
        program=str(program.path),
        version=version,
        verifies=verifies,
        key_lists=_reads(asked["key_list"]),
        # what accepts or refuses everything has read nothing
        signer_uri=None if verifies is False else _reads(asked["signer_uri"]),
        checks=checks,
    )


def _checks(consumer: Consumer, folder: Path) -> Iterator[Check]:
    key, other = new_key(), new_key()
    signed, unsigned = folder / "signed", folder / "unsigned"
    write_image(signed, signed_by=key)
    write_image(unsigned, signed_by=None)
    ours, foreign = folder / "ours.pub", folder / "other.pub"
    ours.write_bytes(public_pem(key))
    foreign.write_bytes(public_pem(other))

    def check(name: str, wanted: Answer, policy: Mapping[str, Any], image: Path) -> Check:
        asked = consumer.ask(policy, image)
        return Check(name, wanted, asked.answer, asked.text)

    yield check("signed", "accepted", _policy({"keyPath": str(ours)}), signed)
    yield check("unsigned", "rejected", _policy({"keyPath": str(ours)}), unsigned)
    yield check("other_key", "rejected", _policy({"keyPath": str(foreign)}), signed)
    yield check("not_named", "rejected", {"default": [{"type": "reject"}]}, signed)
    yield check("key_list", "accepted", _policy({"keyPaths": [str(foreign), str(ours)]}), signed)
    # The image has no certificate: who knows the field rejects the image, others the policy.
    fulcio = {"caData": "eA==", "oidcIssuer": "https://a", "buildSignerURI": "https://a"}
    candidate = _policy({"fulcio": fulcio, "rekorPublicKeyData": "eA=="})
    yield check("signer_uri", "rejected", candidate, signed)


def _policy(keys: Mapping[str, Any]) -> dict[str, Any]:
    identity = {"type": "exactRepository", "dockerRepository": REPOSITORY}
    signed = {"type": "sigstoreSigned", **keys, "signedIdentity": identity}
    return {"default": [{"type": "reject"}], "transports": {"dir": {"": [signed]}}}


def _all_right(checks: tuple[Check, ...]) -> bool | None:
    if any(check.got == "failed" for check in checks):
        return None
    return all(check.got == check.wanted for check in checks)


def _reads(check: Check) -> bool | None:
    return None if check.got == "failed" else check.got != "invalid"
