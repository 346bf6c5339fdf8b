"""``python -m ci ita``: a quote's round trip through Intel Trust Authority."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrtd.errors import InputError, MrtdError

if TYPE_CHECKING:
    from ci.ita import TrustAuthority
    from ci.ita_check import RoundTrip
    from ci.ita_settings import Endpoints
    from ci.ita_wire import Nonce
    from mrtd.evidence.tcb import TcbStatus
    from mrtd.verifier.jwks import KeySource

_DESCRIPTION: Final = """\
Have a TDX quote appraised by Intel Trust Authority, check the token like a
control plane does, and compare it with the quote, field by field.

The API key is read from DD_ITA_API_KEY or ITA_API_KEY; no option takes it.
"""
_EPILOG: Final = """\
examples:
  get a nonce; prints the report data that the TD has to ask for
    python -m ci ita --new-nonce nonce.json --data key.der
  have the quote appraised, and keep the token
    python -m ci ita quote.bin --nonce-file nonce.json --out token.jwt
  with DCAP as a second opinion
    python -m ci ita quote.bin --collateral collateral.json
"""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser], summary: str) -> None:
    """Add the verb, with its line in the list of verbs."""
    verb = verbs.add_parser(
        "ita",
        help=summary,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("quote", metavar="QUOTE", type=Path, nargs="?", help="TDX quote, v4 or v5")
    what.add_argument("--new-nonce", metavar="F", type=Path, help="get a nonce and write it here")
    verb.add_argument("--nonce-file", metavar="F", type=Path, help="nonce of the quote")
    verb.add_argument("--data", metavar="FILE", type=Path, help="what else the quote binds")
    verb.add_argument("--api", choices=("v2", "v1"), default="v2", help="version (default: v2)")
    verb.add_argument("--region", choices=("us", "eu"), default="us", help="(default: us)")
    verb.add_argument("--policy-id", metavar="UUID", action="append", default=[], help="up to 10")
    verb.add_argument("--policy-must-match", action="store_true", help="else it is an error")
    verb.add_argument("--algorithm", choices=("PS384", "RS256"), help="of the token's signature")
    verb.add_argument("--request-id", metavar="TEXT", help="for Intel's support")
    verb.add_argument(
        "--tcb", metavar="LIST", default="UpToDate", help="accepted statuses (default: UpToDate)"
    )
    verb.add_argument("--collateral", metavar="FILE|DIR", type=Path, help="have DCAP verify it too")
    verb.add_argument("--out", metavar="TOKEN", type=Path, help="write the token, if all is well")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Outside:
    """What the verb has from outside; tests give their own.

    Attributes:
        environment: settings and the key.
        authority: makes the client.
        keys: makes the source of the token's keys.
        root_ca: in DER, what DCAP trusts instead of Intel's root.
    """

    environment: Mapping[str, str]
    authority: Callable[[Endpoints], TrustAuthority]
    keys: Callable[[Endpoints, TrustAuthority], KeySource]
    root_ca: bytes | None = None


def real() -> Outside:
    """The environment, HTTPS and the system's clock."""
    from ci.ita import TrustAuthority  # noqa: PLC0415
    from ci.ita_settings import api_key  # noqa: PLC0415
    from mrtd.verifier.fetch import HttpFetch  # noqa: PLC0415
    from mrtd.verifier.jwks import KeySource  # noqa: PLC0415

    environment = os.environ
    return Outside(
        environment,
        lambda where: TrustAuthority(where, api_key(environment)),
        lambda where, authority: KeySource(where.token_policy(), HttpFetch(), authority.clock),
    )


def run(arguments: argparse.Namespace, outside: Outside | None = None) -> int:
    """Ask, check and print; the exit code."""
    from ci.ita_settings import endpoints  # noqa: PLC0415

    outside = outside or real()
    where = endpoints(arguments.region, outside.environment)
    if arguments.quote is not None and not arguments.quote.is_file():
        raise InputError("is no file", origin="command line", field=str(arguments.quote))
    authority = outside.authority(where)
    data = b"" if arguments.data is None else _read(arguments.data, "--data")
    if arguments.new_nonce is not None:
        return _new_nonce(authority, arguments, data)
    return _appraise(authority, outside, arguments, data)


def _new_nonce(authority: TrustAuthority, arguments: argparse.Namespace, data: bytes) -> int:
    from mrtd.document import encode  # noqa: PLC0415
    from mrtd.verifier.binding import report_data  # noqa: PLC0415

    nonce = authority.nonce()
    _write(arguments.new_nonce, encode(nonce.as_json()))
    wanted = report_data(data, nonce.decoded).hex()
    if arguments.json:
        sys.stdout.write(encode({"nonce": nonce.as_json(), "report_data": wanted}).decode())
    else:
        print(wanted)
    return 0


def _appraise(
    authority: TrustAuthority, outside: Outside, arguments: argparse.Namespace, data: bytes
) -> int:
    from ci.ita_check import check_round_trip, require_binding, second_opinion  # noqa: PLC0415
    from ci.ita_wire import Options  # noqa: PLC0415
    from mrtd.evidence.quote import read_quote  # noqa: PLC0415

    # everything that can be wrong here is found before anything is sent
    options = Options(
        policy_ids=tuple(arguments.policy_id),
        policy_must_match=arguments.policy_must_match,
        algorithm=arguments.algorithm,
        request_id=arguments.request_id,
    )
    accepted = _statuses(arguments.tcb)
    quote = read_quote(_read(arguments.quote, "QUOTE"), origin=str(arguments.quote))
    nonce = _nonce(arguments.nonce_file)
    require_binding(quote, nonce=nonce, data=data)
    now = authority.clock.wall
    dcap = None
    if arguments.collateral is not None:
        from mrtd.evidence.collateral import load_collateral  # noqa: PLC0415

        dcap = second_opinion(
            quote,
            load_collateral(arguments.collateral),
            now=now(),
            accepted=accepted,
            root_ca=outside.root_ca,
        )
    token = authority.attest(quote.raw, api=arguments.api, nonce=nonce, data=data, options=options)
    trip = check_round_trip(
        token,
        quote,
        where=authority.where,
        keys=outside.keys(authority.where, authority),
        now=now(),
        nonce=nonce,
        data=data,
        accepted=accepted,
        dcap=dcap,
    )
    _print(trip, as_json=arguments.json)
    try:
        trip.require()
    except MrtdError as error:  # the outcome is printed, and one JSON document is enough
        sys.stderr.write(f"ci: error: {error}\n")
        return error.exit_code
    if arguments.out is not None:
        _write(arguments.out, token.encode())
    return 0


def _statuses(text: str) -> frozenset[TcbStatus]:
    from mrtd.evidence.tcb import DcapPolicy, TcbStatus  # noqa: PLC0415

    try:
        found = frozenset(TcbStatus(name.strip()) for name in text.split(","))
    except ValueError:
        names = ", ".join(TcbStatus)
        raise InputError(f"not a list of {names}", origin="command line", field="--tcb") from None
    return DcapPolicy(accepted_statuses=found).accepted_statuses  # which refuses Revoked


def _nonce(path: Path | None) -> Nonce | None:
    from ci.ita_wire import read_nonce  # noqa: PLC0415

    return None if path is None else read_nonce(_read(path, "--nonce-file"), origin=str(path))


def _read(path: Path, option: str) -> bytes:
    from mrtd.launch.inputs import read_file  # noqa: PLC0415

    return read_file(path, key=option)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for its owner's eyes: a token is as good as the evidence."""
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
            temporary = Path(stream.name)
            stream.write(data)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        text = f"cannot be written: {error.strerror}"
        raise InputError(text, origin=str(path), field="--out") from error


def _print(trip: RoundTrip, *, as_json: bool) -> None:
    from ci.ita_check import to_json  # noqa: PLC0415

    if as_json:
        from mrtd.document import encode  # noqa: PLC0415

        sys.stdout.write(encode(to_json(trip)).decode())
        return
    for line in lines(trip):
        print(line)


def lines(trip: RoundTrip) -> list[str]:
    """The outcome for a person, both opinions side by side."""
    from mrtd.printable import printable  # noqa: PLC0415

    claims = trip.checked.claims
    bad = [c for c in trip.checked.checks if not c.ok]
    found = [f"{c.outcome:12} {c.name}: {c.observed}, expected {c.expected}" for c in bad]
    if not bad:
        found.append(f"{'passed':12} token: all {len(trip.checked.checks)} checks")
    found += [
        f"{'DIFFERS':12} {one.field}: token {one.token}, quote {one.quote}"
        for one in trip.differences
    ]
    if claims is not None and not trip.differences:
        found.append(f"{'MATCH':12} TD report: every field of the token is the quote's")
    found += [f"{'refused':12} {text}" for text in trip.refusals]
    ita = "no genuine token" if claims is None else str(claims.tcb_status)
    found.append(f"{f'Intel Trust Authority ({trip.region})':34} TCB {ita}")
    found.append(f"{'DCAP':34} {_dcap_text(trip)}")
    return [printable(line) for line in found]


def _dcap_text(trip: RoundTrip) -> str:
    if trip.dcap is None:
        return "not asked (--collateral)"
    status = "unknown" if trip.dcap.status is None else str(trip.dcap.status)
    return f"TCB {status}" + (f": {trip.dcap.problem}" if trip.dcap.problem else "")
