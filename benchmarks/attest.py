"""What attesting costs, stage by stage, against a Sigstore and a GitHub on this machine.

``python -m benchmarks.attest`` prints milliseconds for building the statement, signing it with the
lab's Sigstore and having the verifier judge every shape over the lab's GitHub, with 10 and with 500
shapes; and how much longer a shape takes among 500 than among 10.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from msgspec.structs import replace

from mrtd.document import to_document
from mrtd.launch.spec import read_spec_file
from mrtd.launches import Measured, launch_of
from mrtd.measure import MeasureOptions, measure
from mrtd.reference import Release, ReleaseRef, encode_statement
from mrtd.verifier.clock import Clock
from release import refusals, selfcheck, statement
from release.instance import read_instance
from release.job import Job, Trust
from release.lifecycle import State, continued
from release.oidc import read_token
from release.publish import of_identity
from release.sign import sign_statement
from tests.lab.github_releases import GitHubWithReleases
from tests.lab.identity import COMMIT, MAIN, REPOSITORY, REPOSITORY_ID
from tests.lab.signing_server import SigningServer
from tests.lab.world import policy_of
from tests.launches import Launch

T = TypeVar("T")

FEW: Final = 10
MANY: Final = 500
_ROUNDS: Final = 5
_BOUND: Final = 1.2
_STAGES: Final = ("statement", "sign", "verify")


def documents(count: int) -> list[Measured]:
    """Measurement documents of shapes that differ in memory, so in RTMR0."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = read_spec_file(Launch().write(folder))
        found = []
        for number in range(count):
            memory = f"{4096 + number} MiB"
            shape = replace(spec, machine=replace(spec.machine, memory=memory))
            made = measure(shape, folder, MeasureOptions(ask_qemu=False))
            found.append(Measured(f"q35-2cpu-{4096 + number}mib", to_document(made), "doc"))
        return found


def timed(action: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, and what came out."""
    start = time.perf_counter()
    result = action()
    return (time.perf_counter() - start) * 1000, result


class Bench:
    """One release of so many shapes."""

    def __init__(self, measured: Sequence[Measured], server: SigningServer) -> None:
        self.measured, self.server = measured, server
        self.instance = read_instance(server.trust_config(), source="lab", dated=datetime.now(UTC))
        self.policy = policy_of()
        own = ReleaseRef(tag="v1", commit=COMMIT, sequence=1)
        self.lifecycle = continued(State(), own, releases=True)
        self.release = Release(
            repository=REPOSITORY, channel=MAIN, tag="v1", commit=COMMIT, sequence=1,
            created="2026-11-23T21:00:00Z",
        )  # fmt: skip

    def build(self) -> bytes:
        """From documents to the statement, with every check in between."""
        launches = [launch_of(one) for one in self.measured]
        found = list(refusals.of_documents(self.measured))
        for launch in launches:
            found += refusals.of_registers(launch, self.policy.measurements)
        found += refusals.of_coverage(launches, {}, self.policy.measurements)
        values = statement.document(self.release, self.lifecycle, launches)
        refusals.refuse(found)
        self.values = values
        return encode_statement(values)

    def sign(self, payload: bytes) -> bytes:
        """By the lab's Sigstore."""
        token = read_token(self.server.provider.token(), source="lab")
        trust = Trust.of(self.policy, self.instance.root)
        refusals.refuse(of_identity(token.signer, trust, self.values))
        return sign_statement(payload, token=token, instance=self.instance).bundle

    def verify(self, bundle: bytes, github: GitHubWithReleases) -> None:
        """Every shape, by a verifier that knows nothing yet."""
        job = Job(environ={}, fetch=github.fetch, clock=Clock())
        trust = Trust.of(self.policy, self.instance.root)
        selfcheck.check_admitted(job, trust, self.values, bundle)

    def round(self) -> tuple[float, float, float]:
        """Milliseconds of each stage."""
        building, payload = timed(self.build)
        signing, bundle = timed(lambda: self.sign(payload))
        with GitHubWithReleases(REPOSITORY, int(REPOSITORY_ID)) as github:
            # inline: unpacking in Python what the lab packed is no stage of a release
            github.add(bundle, form="inline")
            verifying, _ = timed(lambda: self.verify(bundle, github))
        self.size = len(bundle)
        return building, signing, verifying


def main() -> int:
    """Print the figures; 1 if a shape takes too long among many."""
    per_shape: dict[int, list[float]] = {}
    with SigningServer() as server:
        for count in (FEW, MANY):
            bench = Bench(documents(count), server)
            rounds = [bench.round() for _ in range(_ROUNDS)]
            best = [min(one[stage] for one in rounds) for stage in range(len(_STAGES))]
            per_shape[count] = [sum(best) / count, *(one / count for one in best)]
            shown = ", ".join(f"{n} {t:.1f} ms" for n, t in zip(_STAGES, best, strict=True))
            each = ", ".join(f"{n} {t / count:.3f}" for n, t in zip(_STAGES, best, strict=True))
            print(f"{count} shapes: {shown}; bundle {bench.size >> 10} KiB")
            print(f"  a shape: {per_shape[count][0]:.3f} ms ({each})")
    ratios = [m / f for m, f in zip(per_shape[MANY], per_shape[FEW], strict=True)]
    print(", ".join(f"{n} {r:.2f}" for n, r in zip(("all", *_STAGES), ratios, strict=True)))
    ratio = ratios[0]
    verdict = "ok" if ratio <= _BOUND else "TOO SLOW"
    print(f"a shape among {MANY} takes {ratio:.3f} of one among {FEW}; bound {_BOUND}: {verdict}")
    return 0 if ratio <= _BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
