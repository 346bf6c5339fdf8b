"""Under which digests the attestations of a measured launch are looked up.

GitHub's attestation store is asked by SHA-256. Both digests are over **raw bytes**: a digest over
the hex text of a register is another one, and finds nothing.
"""

from __future__ import annotations

import hashlib
from typing import Final

from mrtd.errors import MalformedStatement
from mrtd.registers import Sha384

LAUNCH_PREFIX: Final = b"mrtd.launch/v1\0"
"""What keeps a launch digest from being the digest of anything else."""
REVOCATIONS_PREFIX: Final = b"mrtd.revocations/v1\0"


def mrtd_digest(mrtd: Sha384) -> str:
    """SHA-256 over the 48 raw bytes of MRTD, lower-case hex.

    Raises:
        MalformedStatement: MRTD is zero.
    """
    return hashlib.sha256(_measured("mrtd", mrtd)).hexdigest()


def launch_bytes(mrtd: Sha384, rtmr1: Sha384, rtmr2: Sha384) -> bytes:
    r"""What a launch digest is over: ``b"mrtd.launch/v1\0"``, then 3 x 48 raw bytes.

    RTMR0 is not in it: it has the ACPI tables in it, which one release may have many of.

    Raises:
        MalformedStatement: a register is zero, so nothing was measured into it.
    """
    named = (("mrtd", mrtd), ("rtmr1", rtmr1), ("rtmr2", rtmr2))
    return LAUNCH_PREFIX + b"".join(_measured(name, value) for name, value in named)


def launch_digest(mrtd: Sha384, rtmr1: Sha384, rtmr2: Sha384) -> str:
    """SHA-256 over `launch_bytes`, lower-case hex. Raises `MalformedStatement`."""
    return hashlib.sha256(launch_bytes(mrtd, rtmr1, rtmr2)).hexdigest()


def revocations_bytes(repository: str, channel: str) -> bytes:
    """What a revocations digest is over: the prefix, ``owner/name``, NUL, and the git ref."""
    return REVOCATIONS_PREFIX + repository.encode() + b"\0" + channel.encode()


def revocations_digest(repository: str, channel: str) -> str:
    """SHA-256 over `revocations_bytes`, lower-case hex.

    Under it stands each document that revokes something for the first time. That list stays short,
    so a verifier can read all of it whatever it is asked about: a revoked MRTD or tag is found by
    who only ever asks for launches.
    """
    return hashlib.sha256(revocations_bytes(repository, channel)).hexdigest()


def _measured(name: str, value: Sha384) -> bytes:
    if value.is_zero:
        raise MalformedStatement(
            "is zero: nothing was measured into it, so it names no launch",
            origin="launch digest",
            field=name,
            hint="boot firmware and a kernel that extend it",
        )
    return value.raw
