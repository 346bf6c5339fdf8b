"""Ask Intel Trust Authority and DCAP about the quote of a cross-check, as far as one can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ci.crosscheck_appraisal import Appraised, appraised
from ci.ita_settings import KEY_VARIABLES, Region, api_key, endpoints
from mrtd.evidence.quote import Quote

if TYPE_CHECKING:
    from ci.ita_check import RoundTrip, SecondOpinion
    from ci.ita_command import Outside

Progress = Callable[[str], None]


def ask_both(
    quote: Quote | None,
    *,
    environment: Mapping[str, str],
    region: Region,
    collateral: Path | None,
    now: Callable[[], float],
    outside: Outside | None = None,
    progress: Progress = lambda _: None,
) -> Appraised:
    """What Intel Trust Authority and DCAP say of a quote.

    The quote of a cross-check answers nobody's nonce: how fresh it is, is the business of
    `ci.appraise`.

    Args:
        quote: of the launch; None without one.
        environment: settings, and the key.
        region: of that key.
        collateral: for the quote's platform, if there is some.
        now: Unix time in seconds.
        outside: how to reach Intel Trust Authority; None for the real one.
        progress: told what is being done.

    Raises:
        MalformedCollateral: it cannot be read.
        SettingsError: a setting cannot be one.
    """
    if quote is None:
        return appraised("there is no quote", "there is no quote")
    opinion: SecondOpinion | None = None
    root = None if outside is None else outside.root_ca
    if collateral is not None:
        from ci.ita_check import second_opinion  # noqa: PLC0415 - only where it is asked
        from mrtd.evidence.collateral import load_collateral  # noqa: PLC0415

        progress("verifying the quote with DCAP")
        opinion = second_opinion(quote, load_collateral(collateral), now=now(), root_ca=root)
    if not any(environment.get(name) for name in KEY_VARIABLES):
        return appraised(f"no API key: {' or '.join(KEY_VARIABLES)} is not set", opinion)
    api_key(environment)

    def trip() -> RoundTrip:
        from ci.ita_check import check_round_trip  # noqa: PLC0415
        from ci.ita_command import real  # noqa: PLC0415

        progress("asking Intel Trust Authority")
        world = outside or real()
        where = endpoints(region, environment)
        authority = world.authority(where)
        return check_round_trip(
            authority.attest(quote.raw),
            quote,
            where=where,
            keys=world.keys(where, authority),
            now=now(),
        )

    return appraised(trip, opinion)
