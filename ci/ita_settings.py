"""Where Intel Trust Authority is, and the key that it wants: from settings, never from arguments.

Sources: Intel's REST API introduction (2025-04-10) and its clients' constants: one API and one
portal per region; subscriptions, keys and the keys that sign tokens belong to their region.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from mrtd.errors import InputError
from mrtd.verifier.policy import TokenPolicy

Region = Literal["us", "eu"]

KEY_VARIABLES: Final = ("DD_ITA_API_KEY", "ITA_API_KEY")
_API: Final[Mapping[Region, str]] = {
    "us": "https://api.trustauthority.intel.com",
    "eu": "https://api.eu.trustauthority.intel.com",
}
_PORTAL: Final[Mapping[Region, str]] = {
    "us": "https://portal.trustauthority.intel.com",
    "eu": "https://portal.eu.trustauthority.intel.com",
}
_KEY: Final = re.compile(r"[!-~]{1,1024}")


class SettingsError(InputError):
    """A setting is missing, or cannot be one."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses of one region.

    Attributes:
        api: base of ``/appraisal/...``; the only address that ever gets the key.
        issuer: exact ``iss`` of its tokens.
        jwks_url: the keys that sign them.
        region: for messages: ``us``, ``eu`` or ``custom``.
    """

    api: str
    issuer: str
    jwks_url: str
    region: str

    def token_policy(self) -> TokenPolicy:
        """What a control plane of this region demands of a token."""
        return TokenPolicy(issuer=self.issuer, jwks_url=self.jwks_url)


def endpoints(region: Region = "us", environment: Mapping[str, str] | None = None) -> Endpoints:
    """A region's addresses, with the settings of devopsdefender/dd on top.

    Those are ``DD_ITA_BASE_URL``, ``DD_ITA_ISSUER`` and ``DD_ITA_JWKS_URL``; empty ones count for
    nothing, and a scheme may be left out.

    Raises:
        SettingsError: one of them is no https address.
    """
    found = environment or {}
    api = _address("DD_ITA_BASE_URL", found) or _API[region]
    jwks_url = _address("DD_ITA_JWKS_URL", found) or f"{_PORTAL[region]}/certs"
    issuer = found.get("DD_ITA_ISSUER") or _PORTAL[region]
    given = (api, jwks_url, issuer) != (_API[region], f"{_PORTAL[region]}/certs", _PORTAL[region])
    return Endpoints(api, issuer, jwks_url, "custom" if given else region)


def _address(name: str, environment: Mapping[str, str]) -> str:
    text = environment.get(name, "")
    if not text:
        return ""
    whole = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(whole)
        usable = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not whole.isascii() or " " in whole:
        # not shown: who mixes up two variables has a secret in this one
        raise SettingsError("is no https address", origin="environment", field=name)
    return whole.rstrip("/")


class ApiKey:
    """An API key. It is shown by nothing but `reveal`.

    Raises:
        SettingsError: the text is no key.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str, *, name: str = KEY_VARIABLES[0]) -> None:
        if not _KEY.fullmatch(text):
            raise SettingsError(
                "is no API key: 1 to 1024 printable characters, no spaces",
                origin="environment",
                field=name,
            )
        self._text = text

    def __repr__(self) -> str:
        return "ApiKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("an API key is not written anywhere")

    def reveal(self) -> str:
        """The key, for the header of a request."""
        return self._text

    def hide_in(self, text: str) -> str:
        """The text without the key: a service may repeat what it was sent."""
        return text.replace(self._text, "[API key]")


def api_key(environment: Mapping[str, str]) -> ApiKey:
    """The key of ``DD_ITA_API_KEY``, else of ``ITA_API_KEY``.

    Raises:
        SettingsError: there is none, or it is no key.
    """
    for name in KEY_VARIABLES:
        if environment.get(name):
            return ApiKey(environment[name].strip(), name=name)
    raise SettingsError(
        "no API key for Intel Trust Authority",
        origin="environment",
        field=" or ".join(KEY_VARIABLES),
        hint="make one in the portal of your region and set the variable; it is no option, since "
        "every user of a machine sees the arguments of programs",
    )
