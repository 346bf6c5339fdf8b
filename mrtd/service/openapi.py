"""The OpenAPI 3.1 document, from the classes that read requests and write answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mrtd import __version__
from mrtd.service.answers import ErrorBody
from mrtd.service.fleet_pages import STATIC
from mrtd.service.readiness import ReadyBody
from mrtd.service.reference_cp import Admitted
from mrtd.service.requests import RegisterRequest, VerifyRequest
from mrtd.service.sidecar import NonceBody
from mrtd.verifier.verdict import Verdict

Json = dict[str, Any]

_TYPES: Final = (
    Admitted,
    ErrorBody,
    NonceBody,
    ReadyBody,
    RegisterRequest,
    Verdict,
    VerifyRequest,
)
_REFUSED: Final = {
    "400": "the request is not what it should be",
    "408": "the body did not arrive in time",
    "413": "the body is too large",
    "415": "the body is no application/json",
    "500": "an error of the service",
}
_VERDICTS: Final = {
    "401": "the evidence does not show who is asking",
    "403": "not admitted",
    "503": "could not be checked now; Retry-After says when to try again",
}


def description(*, reference: bool) -> Json:
    """The document of a sidecar, or of the reference control plane."""
    _, components = msgspec.json.schema_components(
        _TYPES, ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"mrtd {'reference control plane' if reference else 'sidecar'}",
            "version": __version__,
            "description": "Admits TDX VMs whose measurements the release workflow attested. "
            "200 means admitted, and nothing else does.",
        },
        "paths": {**(_control_plane() if reference else _sidecar()), **_common()},
        "components": {"schemas": dict(sorted(components.items()))},
    }


def _sidecar() -> Json:
    verdicts = {code: _json(text, "Verdict", "ErrorBody") for code, text in _VERDICTS.items()}
    return {
        "/v1/nonce": {
            "post": {
                "operationId": "nonce",
                "summary": "A nonce for one registration",
                "responses": {"200": _json("a nonce", "NonceBody"), **_errors()},
            }
        },
        "/v1/verify": {
            "post": {
                "operationId": "verify",
                "summary": "The verdict about a VM",
                "requestBody": _body("VerifyRequest"),
                "responses": {"200": _json("admitted", "Verdict"), **verdicts, **_errors()},
            }
        },
    }


def _control_plane() -> Json:
    refused = {code: _json(text, "ErrorBody") for code, text in _VERDICTS.items()}
    return {
        "/register/nonce": {
            "get": {
                "operationId": "registerNonce",
                "summary": "A nonce for one registration",
                "responses": {"200": _json("a nonce", "NonceBody"), **_errors()},
            }
        },
        "/register": {
            "post": {
                "operationId": "register",
                "summary": "Admit a VM",
                "requestBody": _body("RegisterRequest"),
                "responses": {"200": _json("admitted", "Admitted"), **refused, **_errors()},
            }
        },
        **_pages(),
    }


def _pages() -> Json:
    html = {"text/html": {"schema": {"type": "string"}}}
    page = {"200": {"description": "a page for people", "content": html}}
    missing = {"404": {"description": "a page that says so", "content": html}}
    named = {"name": "agent_id", "in": "path", "required": True, "schema": {"type": "string"}}
    one = _get("agent", "What an agent runs, and what was proved of it", {**page, **missing})
    one["get"]["parameters"] = [named]
    paths = {"/": _get("fleet", "All agents", page), "/agent/{agent_id}": one}
    for name, kind in STATIC.items():
        content = {"description": name, "content": {kind.partition(";")[0]: {}}}
        paths[f"/static/{name}"] = _get(name.replace(".", "-"), name, {"200": content})
    return paths


def _common() -> Json:
    ready = {code: _json("what was looked at", "ReadyBody") for code in ("200", "503")}
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/healthz": _get("health", "Whether the process lives", {"200": _plain("it does")}),
        "/readyz": _get("ready", "Whether VMs can be decided about now", ready),
        "/metrics": _get(
            "metrics",
            "Metrics of Prometheus",
            {"200": {"description": "text format 0.0.4", "content": text}},
        ),
        "/openapi.json": _get("openapi", "This document", {"200": _plain("this document")}),
    }


def _get(name: str, summary: str, responses: Json) -> Json:
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


def _errors() -> Json:
    errors = {code: _json(text, "ErrorBody") for code, text in _REFUSED.items()}
    return {**errors, "503": _json(_VERDICTS["503"], "ErrorBody")}


def _json(text: str, *kinds: str) -> Json:
    references = [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]
    schema: Json = references[0] if len(references) == 1 else {"oneOf": references}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _plain(text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}


def _body(kind: str) -> Json:
    schema = {"$ref": f"#/components/schemas/{kind}"}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
