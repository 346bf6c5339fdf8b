"""A private Sigstore: everything that makes bundles verifiable, with keys of its own.

lab = default_instance()
bundle = lab.mint(statement, GitHubIdentity.release(), at=datetime(2026, 6, 1, tzinfo=UTC))
flawed = lab.mint(statement, GitHubIdentity.release(), at=..., flaw=Flaw.NO_SCT)
root = lab.trusted_root_json()
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache, cached_property

from tests.lab.ctlog import CertificateLog
from tests.lab.envelope import IN_TOTO
from tests.lab.flaws import Flaw, Log, applies
from tests.lab.fulcio import Fulcio, distinguished_name
from tests.lab.identity import ISSUER, GitHubIdentity
from tests.lab.minting import Minting
from tests.lab.rekor import RekorLog, RekorV1, RekorV2
from tests.lab.timestamp import TimestampAuthority
from tests.lab.trusted_root import (
    CLIENT_TRUST_CONFIG,
    SIGNING_CONFIG,
    TRUSTED_ROOT,
    Json,
    Windows,
    authority_json,
    log_json,
    services,
)


class Instance:
    """One Sigstore instance. Of the same seed, it has the same keys (certificates' serials differ).

    Args:
        organization: O of all its names.
        ca_names: CN of its root CA and of the intermediate.
        public: whether it has logs; GitHub's private instance has none, only timestamps.

    Attributes:
        ct_log, fulcio, rekor_v1, rekor_v2, timestamp_authority: its services.
    """

    def __init__(
        self,
        seed: str = "lab",
        *,
        organization: str = "sigstore.example",
        ca_names: tuple[str, str] = ("sigstore", "sigstore-intermediate"),
        public: bool = True,
    ) -> None:
        self.seed, self.organization, self.ca_names, self.public = (
            seed,
            organization,
            ca_names,
            public,
        )
        root, intermediate = (distinguished_name(organization, name) for name in ca_names)
        self.fulcio = Fulcio(seed, root, intermediate)
        self.ct_log = CertificateLog(seed) if public else None
        self.domain = "sigstore.example"
        self.rekor_v1 = RekorV1(seed, self.domain)
        self.rekor_v2 = RekorV2(seed, self.domain)
        self.timestamp_authority = TimestampAuthority(seed, organization)

    @cached_property
    def foreign(self) -> Instance:
        """Another instance: the same names, other keys."""
        return Instance(
            f"not {self.seed}",
            organization=self.organization,
            ca_names=self.ca_names,
            public=self.public,
        )

    def rekor(self, log: Log) -> RekorLog:
        """The log of a kind."""
        return self.rekor_v1 if log is Log.REKOR_V1 else self.rekor_v2

    def mint(
        self,
        payload: bytes,
        identity: GitHubIdentity,
        *,
        at: datetime,
        log: str | None = None,
        payload_type: str = IN_TOTO,
        flaw: Flaw | None = None,
        timestamped: bool | None = None,
    ) -> bytes:
        """A bundle: JSON like GitHub's.

        Args:
            payload: the statement.
            at: when it was signed: the certificate's start, and the time of all witnesses.
            log: a `Log`; not given, Rekor v1, or none if the instance has no logs.
            flaw: what is wrong with it, if anything.
            timestamped: with an RFC 3161 timestamp or without; not given, where v1's log is none.

        Raises:
            ValueError: a bundle with this log cannot have this flaw; ``at`` has no time zone.
        """
        if at.tzinfo is None:
            raise ValueError("without a time zone, the time depends on the machine")
        kind = Log(log or (Log.REKOR_V1 if self.public else Log.NONE))
        if timestamped is None:
            timestamped = kind is not Log.REKOR_V1
        if flaw and not applies(flaw, kind, timestamped=timestamped):
            raise ValueError(f"a bundle with log {kind} cannot have the flaw: {flaw}")
        minting = Minting(lab=self, identity=identity, at=at, log=kind, flaw=flaw)
        return minting.bundle(payload_type, payload, timestamped=timestamped)

    def trusted_root(self, windows: Windows | None = None) -> Json:
        """Whom to trust, and when."""
        windows = windows or Windows()
        authorities = {
            "certificateAuthorities": ("fulcio", self.fulcio.chain, windows.certificate_authority),
            "timestampAuthorities": (
                "timestamp",
                self.timestamp_authority.chain,
                windows.timestamp_authority,
            ),
        }
        tlogs = [(self.rekor_v1, windows.rekor_v1), (self.rekor_v2, windows.rekor_v2)]
        ctlogs = [(self.ct_log, windows.ct_log)]
        return {
            "mediaType": TRUSTED_ROOT,
            "tlogs": [
                log_json(log.base_url, log.key.public_key(), log.log_id, window)
                for log, window in tlogs
                if self.public and window
            ],
            "ctlogs": [
                log_json(f"https://ctfe.{self.domain}/2022", log.public_key, log.log_id, window)
                for log, window in ctlogs
                if log and window
            ],
            **{
                member: [authority_json(f"https://{host}.{self.domain}", chain, window)]
                if window
                else []
                for member, (host, chain, window) in authorities.items()
            },
        }

    def trusted_root_json(self, windows: Windows | None = None) -> bytes:
        """trusted_root.json."""
        return json.dumps(self.trusted_root(windows), indent=2).encode()

    def signing_config(
        self,
        *,
        fulcio: str = "https://fulcio.sigstore.example",
        oidc: str = ISSUER,
        rekor_v1: str | None = "https://rekor.sigstore.example",
        rekor_v2: str | None = None,
        tsa: str = "https://timestamp.sigstore.example/api/v1/timestamp",
    ) -> Json:
        """Whom to ask for signatures: signing_config.v0.2.json."""
        return {
            "mediaType": SIGNING_CONFIG,
            "caUrls": services((fulcio, 1)),
            "oidcUrls": services((oidc, 1)),
            "rekorTlogUrls": services((rekor_v1, 1), (rekor_v2, 2)),
            "tsaUrls": services((tsa, 1)),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }

    def client_trust_config_json(
        self, windows: Windows | None = None, *, signing_config: Json | None = None
    ) -> bytes:
        """Trusted root and signing config in one, for sigstore's `ClientTrustConfig.from_json`."""
        config = {
            "mediaType": CLIENT_TRUST_CONFIG,
            "trustedRoot": self.trusted_root(windows),
            "signingConfig": signing_config or self.signing_config(),
        }
        return json.dumps(config, indent=2).encode()


@cache
def default_instance() -> Instance:
    """The public instance that tests share."""
    return Instance()


@cache
def github_private_instance() -> Instance:
    """Like GitHub's own instance for private repositories: no logs, hence no SCT, only timestamps.

    Names as in published bundles of that instance.
    """
    names = ("Internal Services Root", "Fulcio Intermediate l2")
    return Instance("github", organization="GitHub, Inc.", ca_names=names, public=False)
