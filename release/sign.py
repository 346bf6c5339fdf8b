"""Signing a statement, keyless: sigstore's own signing path, and what it leaves to its caller.

sigstore asks Fulcio and Rekor without a time limit and once, goes on without a timestamp that it
was told to get, and does not verify what it was given. Here every service has its attempts, a
timestamp that is missing ends the job before the log has an entry, and what comes out is verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mrtd.errors import (
    MalformedStatement,
    ServiceRefused,
    TokenError,
    TrustRootError,
    VerificationError,
)
from mrtd.verifier.bundle import SigstoreVerifier
from mrtd.verifier.identity import Signer
from release.attempts import Attempts, Patience
from release.instance import SigstoreInstance
from release.oidc import OidcToken

if TYPE_CHECKING:
    from sigstore.dsse import Statement
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.oidc import IdentityToken

_REFUSES_TOKENS: Final = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """A signed statement.

    Attributes:
        bundle: Sigstore bundle, JSON; verified.
        signer: what its certificate says.
        log_index: in the transparency log.
        signed_at: as the log or the timestamp authority say.
    """

    bundle: bytes
    signer: Signer
    log_index: int
    signed_at: datetime


def sign_statement(
    payload: bytes,
    *,
    token: OidcToken,
    instance: SigstoreInstance,
    patience: Patience | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SignedRelease:
    """Sign an in-toto statement; its bytes are the payload, as they are.

    Args:
        payload: as `mrtd.reference.encode_statement` makes it.
        token: whose identity signs.
        instance: who certifies, logs and stamps.
        patience: with them; all share its total time.
        now: the time, for token and result.

    Raises:
        MalformedStatement: sigstore takes no such payload.
        TokenError: the token has expired, or Fulcio refuses it.
        ServiceRefused: a service refuses.
        TransportError: a service is away, or its answer cannot be used.
        VerificationError: the services' answers do not verify with the instance's keys.
        TrustRootError: sigstore cannot use the instance.
    """
    token.check_time(now())
    attempts = Attempts(patience or Patience(), (token.secret,))
    services = _Services(instance, attempts)
    bundle = services.sign(_statement(payload), _identity(token), token)
    data = bundle.to_json().encode()
    opened = SigstoreVerifier(instance.root).open(data, now=now())
    signed = opened.signed
    if signed is None or signed.payload != payload or signed.log_index is None:
        why = "; ".join(f"{c.name}: {c.observed}" for c in opened.checks if not c.ok)
        raise VerificationError(
            f"what was signed does not verify: {why or 'another payload'}",
            hint=f"are keys and addresses of {instance.source} those of one Sigstore instance?",
        )
    return SignedRelease(data, signed.signer, signed.log_index, signed.signed_at)


class _Services:
    """Fulcio, Rekor and the timestamp authorities, each asked within its bounds."""

    def __init__(self, instance: SigstoreInstance, attempts: Attempts) -> None:
        from sigstore.sign import SigningContext  # noqa: PLC0415 - heavy

        config = _config(instance)
        self._attempts = attempts
        try:
            signing = config.signing_config
            fulcio, log = signing.get_fulcio(), _Log(signing.get_tlogs()[0], attempts)
            stamps: list[Any] = [_Stamps(client, attempts) for client in signing.get_tsas()]
            root = config.trusted_root
        except Exception as error:
            raise _unusable(instance, error) from error
        # .netrc would take the place of the token: requests does that to every request without auth
        fulcio.session.auth = lambda request: request
        self._fulcio, self._log = _name("Fulcio", fulcio.url), _name("Rekor", log.url)
        submitter: Any = log  # quacks like sigstore's own
        self._context = SigningContext(
            fulcio=fulcio, rekor=submitter, trusted_root=root, tsa_clients=stamps
        )

    def sign(self, statement: Statement, identity: IdentityToken, token: OidcToken) -> Bundle:
        """The bundle. A new signature for every entry that is sent to the log: if the log took the
        one before and only its answer was lost, it would refuse the same again.
        """
        from sigstore.errors import VerificationError as Unverified  # noqa: PLC0415 - heavy
        from sigstore.oidc import ExpiredIdentity  # noqa: PLC0415 - heavy
        from sigstore.sign import Signer as Certified  # noqa: PLC0415 - heavy

        def certify() -> Certified:
            try:
                return Certified(identity, self._context)
            except ExpiredIdentity:
                raise TokenError("expired before it was used", origin=token.source) from None
            except Unverified as error:
                raise VerificationError(f"{self._fulcio}: {error}") from None

        try:
            signer = self._attempts.run(self._fulcio, certify)
        except ServiceRefused as error:
            if error.status in _REFUSES_TOKENS:
                raise TokenError(f"refused by {error.message}", origin=token.source) from None
            raise
        return self._attempts.repeat(self._log, lambda: signer.sign_dsse(statement))


class _Log:
    """A log that is asked within bounds; how entries are made of envelopes is sigstore's."""

    def __init__(self, client: Any, attempts: Attempts) -> None:  # noqa: ANN401 - v1's or v2's
        self._client, self._attempts = client, attempts

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the client has
        return getattr(self._client, name)

    def create_entry(self, request: Any) -> Any:  # noqa: ANN401 - opaque
        """The entry, or the exception of one attempt."""
        return self._attempts.bounded(lambda: self._client.create_entry(request))


class _Stamps:
    """A timestamp authority with several attempts, whose failure sigstore does not pass over."""

    def __init__(self, client: Any, attempts: Attempts) -> None:  # noqa: ANN401 - sigstore's
        self._client, self._attempts = client, attempts
        self.url = client.url

    def request_timestamp(self, signature: bytes) -> Any:  # noqa: ANN401 - opaque
        """The timestamp. Raises `TransportError`, which is none of those that sigstore catches."""
        name = _name("timestamp authority", self.url)
        return self._attempts.run(name, lambda: self._client.request_timestamp(signature))


def _name(service: str, url: str) -> str:
    return f"{service} ({urlsplit(url).hostname})"


def _config(instance: SigstoreInstance) -> ClientTrustConfig:
    from sigstore.models import ClientTrustConfig  # noqa: PLC0415 - heavy

    try:
        config = ClientTrustConfig.from_json(instance.config)
    except Exception as error:
        raise _unusable(instance, error) from error
    config.force_tlog_version = instance.rekor_version
    return config


def _unusable(instance: SigstoreInstance, error: Exception) -> TrustRootError:
    return TrustRootError(
        f"sigstore cannot use it: {type(error).__name__}: {error}"[:300], origin=instance.source
    )


def _statement(payload: bytes) -> Statement:
    from sigstore.dsse import Statement  # noqa: PLC0415 - heavy
    from sigstore.errors import Error  # noqa: PLC0415 - heavy

    try:
        return Statement(payload)
    except Error as error:
        raise MalformedStatement(str(error)[:300], origin="statement") from error


def _identity(token: OidcToken) -> IdentityToken:
    from sigstore.oidc import IdentityError, IdentityToken  # noqa: PLC0415 - heavy

    try:
        return IdentityToken(token.secret.reveal())
    except IdentityError as error:
        text = token.secret.redact(str(error))
    raise TokenError(f"sigstore does not take it: {text}", origin=token.source)
