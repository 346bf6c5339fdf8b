"""Speed of the verifier, as ratios of two measurements of the same run.

``python -m benchmarks.verifier`` prints: an admission that is kept, beside a look into a dict; a
first decision with the bundle at hand against sigstore alone on the same bundle; importing the
verifier against importing requests. Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier as Sigstore
from sigstore.verify.policy import Identity

from fixtures import reference
from mrtd.verifier.bundle import LateSigstore
from tests.lab.world import NOW, RELEASE, World, claims_of

_HIT_BOUND: Final = 5.0  # microseconds
_FIRST_BOUND: Final = 1.3
_IMPORT_BOUND: Final = 1.2
_BATCH: Final = 1000
_BATCHES: Final = 200
_FIRSTS: Final = 300
_IMPORTS: Final = 20
_OFF: Final = '[lookup]\ngithub = "off"\n'
_WAYS: Final = (
    "import mrtd.verifier",
    "from mrtd.verifier import Verifier, read_policy",
)


def median_call(action: Callable[[], object]) -> float:
    """Microseconds of one call: the median of many batches."""
    times = []
    for _ in range(_BATCHES):
        start = time.perf_counter()
        for _ in range(_BATCH):
            action()
        times.append((time.perf_counter() - start) / _BATCH)
    return statistics.median(times) * 1e6


def seconds(action: Callable[[], object]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def bench_hit() -> None:
    """`verify_claims` where the answer is kept."""
    world = World()
    world.publish(reference.document())
    claims = claims_of()
    world.verifier.verify_claims(claims)
    known = {claims.key: None}
    key = claims.key
    hit = median_call(lambda: world.verifier.verify_claims(claims))
    floor = median_call(lambda: known.get(key))
    making = median_call(lambda: claims.key)
    verdict = "within" if hit <= _HIT_BOUND else "OVER"
    print(
        f"verify_claims, kept: {hit:.2f} us ({making:.2f} us of it for the key; a look into a dict "
        f"takes {floor:.2f} us), {verdict} the bound of {_HIT_BOUND} us"
    )


def bench_first() -> None:
    """The first decision about a launch whose bundle is at hand, against sigstore alone.

    Alternately, so that both see the same machine. Neither has to make sigstore's verifier, which
    a process does once.
    """
    world = World(_OFF)
    bundle = world.mint(reference.document())
    opener = LateSigstore(world.root)
    opener.open(bundle, now=NOW)
    with tempfile.NamedTemporaryFile() as file:
        file.write(world.root.raw)
        file.flush()
        sigstore = Sigstore(trusted_root=TrustedRoot.from_file(file.name))
    claims, identity = claims_of(), Identity(identity=RELEASE.san, issuer=RELEASE.issuer)
    ours, bare, opened = [], [], []
    for _ in range(_FIRSTS):
        decide = partial(world.another(opener=opener).verify_claims, claims, bundles=(bundle,))
        ours.append(seconds(decide))
        bare.append(seconds(lambda: sigstore.verify_dsse(Bundle.from_json(bundle), identity)))
        opened.append(seconds(lambda: opener.open(bundle, now=NOW)))
    for name, pick in (("best", min), ("median", statistics.median)):
        floor = pick(bare)
        ratio = pick(ours) / floor
        verdict = "within" if ratio <= _FIRST_BOUND else "OVER"
        print(
            f"first decision, bundle at hand, {name}: {pick(ours) * 1000:.2f} ms (opening it "
            f"{pick(opened) * 1000:.2f} ms), sigstore alone {floor * 1000:.2f} ms, "
            f"ratio {ratio:.2f}, {verdict} the bound of {_FIRST_BOUND}"
        )


def bench_import() -> None:
    """Processes that import, beside processes that import nothing."""
    codes = ("pass", "import requests", *_WAYS)
    times: dict[str, list[float]] = {code: [] for code in codes}
    for _ in range(_IMPORTS):
        for code in codes:
            command = [sys.executable, "-c", code]
            times[code].append(seconds(lambda: subprocess.run(command, check=True)))  # noqa: B023
    best = {code: min(found) for code, found in times.items()}
    for code in _WAYS:
        ratio = best[code] / best["import requests"]
        verdict = "within" if ratio <= _IMPORT_BOUND else "OVER"
        print(
            f"{code}: {best[code] * 1000:.0f} ms, import requests "
            f"{best['import requests'] * 1000:.0f} ms, nothing {best['pass'] * 1000:.0f} ms, "
            f"ratio {ratio:.2f}, {verdict} the bound of {_IMPORT_BOUND}"
        )


def main() -> int:
    """Run all of it; the exit code."""
    bench_hit()
    bench_first()
    bench_import()
    return 0


if __name__ == "__main__":
    sys.exit(main())
