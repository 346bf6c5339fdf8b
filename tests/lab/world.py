"""A small world for the verifier: one release channel, one GitHub, one clock.

The GitHub here is a `Fetch` that answers from memory, for tests of what is decided; tests of how
GitHub is asked use the server of ``tests/lab/github.py``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from fixtures import reference
from mrtd.errors import TransportError
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.evidence.tcb import TcbStatus
from mrtd.evidence.td_report import TdReport
from mrtd.registers import ZERO, Sha384
from mrtd.verifier.claims import TdClaims
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Response
from mrtd.verifier.policy import Policy
from mrtd.verifier.settings import read_policy
from mrtd.verifier.trust_root import TrustRoot, read_trust_root
from mrtd.verifier.verifier import Verifier
from tests.lab.flaws import Flaw
from tests.lab.identity import OWNER_ID, REPOSITORY, REPOSITORY_ID, GitHubIdentity
from tests.lab.instance import Instance, default_instance
from tests.lab.trusted_root import Windows

Json = dict[str, Any]

NOW: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
SIGNED: Final = NOW - timedelta(hours=1)
RELEASE: Final = GitHubIdentity.of_run(commit=reference.COMMIT)


def launch_digest_of(launch: Json | None = None) -> str:
    """What a launch is looked up by."""
    values = (launch or reference.launch())["registers"]
    return reference.launch_digest(*(values[name]["value"] for name in ("mrtd", "rtmr1", "rtmr2")))


LAUNCH: Final = launch_digest_of()
"""What the launch of `reference.document` is looked up by."""
REVOCATIONS: Final = reference.revocations_digest(REPOSITORY, "refs/heads/main")
"""What the channel's revocations are looked up by."""
ONCE_EACH: Final = Counter({LAUNCH: 1, REVOCATIONS: 1})
"""What a verifier asks that knows nothing: about the launch, and about revocations."""


class Times:
    """Clocks that tests set.

    Attributes:
        wall: Unix time, seconds.
        steady: seconds that only go forward.
    """

    def __init__(self, now: datetime = NOW) -> None:
        self.wall = now.timestamp()
        self.steady = 1000.0

    def pass_by(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += seconds
        self.steady += seconds

    @property
    def clock(self) -> Clock:
        """Both, as the verifier reads them."""
        return Clock(wall=lambda: self.wall, steady=lambda: self.steady)


def digest_asked(url: str) -> str:
    """The digest that a request is about."""
    return urlsplit(url).path.rpartition("sha256:")[2].rpartition("%3A")[2]


class ListedGitHub:
    """GitHub's attestation list, from memory.

    Attributes:
        listed: bundles by subject digest.
        down: whether no request gets an answer.
        down_for: digests about which no request gets an answer.
        asked: digests, in the order in which they were asked for.
    """

    def __init__(self) -> None:
        self.listed: defaultdict[str, list[bytes]] = defaultdict(list)
        self.down = False
        self.down_for: set[str] = set()
        self.asked: list[str] = []

    def add(self, bundle: bytes, *digests: str) -> None:
        """List a bundle under digests."""
        for digest in digests:
            self.listed[digest].append(bundle)

    @property
    def about(self) -> Counter[str]:
        """How often each digest was asked about."""
        return Counter(self.asked)

    def __call__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],  # noqa: ARG002 - the interface
        limit: int,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> Response:
        """`Fetch`: an answer as of 2022-11-28 with inline bundles."""
        digest = digest_asked(url)
        self.asked.append(digest)
        if self.down or digest in self.down_for:
            raise TransportError("api.github.com gave no usable answer: ConnectTimeout")
        found = [
            {"bundle": json.loads(bundle), "repository_id": int(REPOSITORY_ID)}
            for bundle in self.listed[digest]
        ]
        body = json.dumps({"attestations": found}).encode()
        return Response(200, {"content-type": "application/json"}, body)


class World:
    """One verifier, and what it looks at.

    Args:
        policy: TOML on top of the ids of the lab's repository.
        windows: when the keys of the lab's Sigstore are in use.
    """

    def __init__(self, policy: str = "", *, windows: Windows | None = None) -> None:
        self.times = Times()
        self.github = ListedGitHub()
        self.instance = default_instance()
        self.policy = policy_of(policy)
        self.root = root_of(self.instance, windows)
        self.verifier = self.another()

    def another(self, **changes: Any) -> Verifier:
        """A verifier like this world's, as after a restart."""
        arguments: Json = {
            "fetch": self.github,
            "clock": self.times.clock,
            "trust_root": self.root,
        }
        return Verifier(self.policy, **arguments | changes)

    def mint(
        self,
        made: Json | bytes,
        identity: GitHubIdentity = RELEASE,
        *,
        at: datetime = SIGNED,
        **options: Any,
    ) -> bytes:
        """A bundle over a document's statement (or any payload)."""
        payload = made if isinstance(made, bytes) else reference.encoded(reference.statement(made))
        return self.instance.mint(payload, identity, at=at, **options)

    def publish(
        self, made: Json, identity: GitHubIdentity = RELEASE, *, flaw: Flaw | None = None,
        **options: Any,
    ) -> bytes:  # fmt: skip
        """Sign a document and list it at GitHub under all its subjects."""
        bundle = self.mint(made, identity, flaw=flaw, **options)
        digests = [subject["digest"]["sha256"] for subject in reference.subjects(made)]
        self.github.add(bundle, *digests)
        return bundle


def policy_of(text: str = "") -> Policy:
    """A policy for the lab's repository; ``text`` is more TOML."""
    ids = {"DD_TRUSTED_REPO_ID": REPOSITORY_ID, "DD_TRUSTED_OWNER_ID": OWNER_ID}
    return read_policy(text, ids)


def root_of(instance: Instance, windows: Windows | None = None) -> TrustRoot:
    """The lab's root of trust."""
    raw = instance.trusted_root_json(windows)
    return read_trust_root(raw, source="lab", dated=NOW - timedelta(days=1))


def claims_of(launch: Json | None = None, **changes: Any) -> TdClaims:
    """Claims of a TD that runs a launch of a document; ``changes`` are fields of `TdReport`."""
    registers = (launch or reference.launch())["registers"]

    def value(name: str) -> Sha384:
        text = registers[name]["value"]
        return Sha384.fromhex(text or reference.register(f"{name} of some host"))

    report: Json = {
        "version": "1.0",
        "tee_tcb_svn": bytes(16),
        "mr_seam": Sha384.of(b"TDX module"),
        "mr_signer_seam": ZERO,
        "seam_attributes": bytes(8),
        "td_attributes": TdAttributes(1 << 28),
        "xfam": Xfam(0x61AE7),
        "mr_td": value("mrtd"),
        "mr_config_id": ZERO,
        "mr_owner": ZERO,
        "mr_owner_config": ZERO,
        "rtmrs": (value("rtmr0"), value("rtmr1"), value("rtmr2"), ZERO),
        "report_data": bytes(64),
    }
    return TdClaims(report=TdReport(**report | changes), tcb_status=TcbStatus.UP_TO_DATE)
