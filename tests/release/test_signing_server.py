"""The lab's Sigstore over HTTP: it refuses what the real one refuses."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import timedelta
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from rfc3161_client import TimestampRequestBuilder, decode_timestamp_response
from rfc3161_client.base import HashAlgorithm

from tests.lab.faults import Fault, Kind
from tests.lab.github_oidc import OidcProvider, altered, fulcio_identity, run_claims, utc_now
from tests.lab.identity import GitHubIdentity, extension_oid
from tests.lab.signing_server import Endpoint, SigningServer
from tests.release.signing import Pauses, sign


def csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def certify(server: SigningServer, token: str, *, scheme: str = "Bearer") -> requests.Response:
    key = ec.generate_private_key(ec.SECP256R1())
    return requests.post(
        f"{server.origin}{Endpoint.FULCIO}",
        json={"certificateSigningRequest": b64encode(csr(key)).decode()},
        headers={"Authorization": f"{scheme} {token}"},
        timeout=30,
    )


def leaf_of(answer: requests.Response) -> x509.Certificate:
    chain = answer.json()["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    assert len(chain) == 3
    return x509.load_pem_x509_certificate(chain[0].encode())


def test_claims_become_extensions(server: SigningServer) -> None:
    claims = {**run_claims(), "environment": "release"}
    leaf = leaf_of(certify(server, server.provider.token(claims)))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [GitHubIdentity.release().san]
    found = {extension.oid for extension in leaf.extensions}
    assert {extension_oid(number) for number in (*range(1, 7), *range(8, 25))} <= found
    same = fulcio_identity(run_claims()).change(token_subject=None)
    assert same == GitHubIdentity.release()


@pytest.mark.parametrize(
    "options",
    [
        {"lasts": timedelta(seconds=-1)},
        {"audience": "https://github.com/devopsdefender"},
        {"claims": {"iss": "https://token.actions.githubusercontent.com/other"}},
        {"claims": {"sub": None}},
    ],
)
def test_token_that_fulcio_refuses(server: SigningServer, options: dict[str, Any]) -> None:
    answer = certify(server, server.provider.token(**options))
    assert answer.status_code == 401
    assert server.certificates == []


def test_token_that_is_not_the_providers(server: SigningServer) -> None:
    assert certify(server, altered(server.provider.token())).status_code == 401
    assert certify(server, "nonsense").status_code == 401
    assert certify(server, server.provider.token(), scheme="Basic").status_code == 401


def test_expired_by_the_servers_clock() -> None:
    token = OidcProvider(utc_now).token()
    with SigningServer(now=lambda: utc_now() + timedelta(minutes=6)) as server:
        assert certify(server, token).status_code == 401


def test_oidc_endpoint_wants_its_secret(server: SigningServer) -> None:
    url = server.actions_environment()["ACTIONS_ID_TOKEN_REQUEST_URL"]
    assert requests.get(url, timeout=30).status_code == 401
    header = {"Authorization": f"bearer {server.request_token}"}
    other = requests.get(url, headers=header, timeout=30).json()["value"]
    assert certify(server, other).status_code == 401  # no audience was asked for
    mine = requests.get(f"{url}&audience=sigstore", headers=header, timeout=30).json()["value"]
    assert certify(server, mine).status_code == 200


def test_log_knows_its_entries(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    sign(server, payload, pauses)
    request = server.web.requests[-1]
    assert request.path == Endpoint.REKOR_V1
    url = f"{server.origin}{Endpoint.REKOR_V1}"
    again = requests.post(url, data=request.body, timeout=30)
    assert again.status_code == 409
    assert again.headers["Location"].startswith("/api/v1/log/entries/")

    changed = json.loads(request.body)
    envelope = json.loads(changed["spec"]["proposedContent"]["envelope"])
    envelope["payload"] = b64encode(b"other").decode()
    changed["spec"]["proposedContent"]["envelope"] = json.dumps(envelope)
    refused = requests.post(url, json=changed, timeout=30)
    assert (refused.status_code, server.done[Endpoint.REKOR_V1]) == (400, 1)


def test_tree_grows(server: SigningServer, payload: bytes, pauses: Pauses) -> None:
    first, second = (sign(server, payload, pauses, rekor=2) for _ in range(2))
    proofs = [
        json.loads(signed.bundle)["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        for signed in (first, second)
    ]
    assert second.log_index > first.log_index
    assert int(proofs[1]["treeSize"]) > int(proofs[0]["treeSize"])
    assert proofs[0]["rootHash"] != proofs[1]["rootHash"]


@pytest.mark.parametrize("endpoint", [Endpoint.REKOR_V1, Endpoint.REKOR_V2, Endpoint.TSA])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff"])
def test_nonsense_is_refused(server: SigningServer, endpoint: Endpoint, body: bytes) -> None:
    header = {"Content-Type": "application/timestamp-query"}
    answer = requests.post(f"{server.origin}{endpoint}", data=body, headers=header, timeout=30)
    assert answer.status_code == 400


def test_timestamp_repeats_the_nonce(server: SigningServer) -> None:
    asked = (
        TimestampRequestBuilder()
        .hash_algorithm(HashAlgorithm.SHA256)
        .data(b"signature")
        .nonce(nonce=True)
        .build()
    )
    header = {"Content-Type": "application/timestamp-query"}
    answer = requests.post(
        f"{server.origin}{Endpoint.TSA}", data=asked.as_bytes(), headers=header, timeout=30
    )
    stamp = decode_timestamp_response(answer.content)
    assert stamp.tst_info.nonce == asked.nonce
    assert stamp.tst_info.message_imprint.message == asked.message_imprint.message


def test_other_paths_and_methods(server: SigningServer) -> None:
    assert requests.get(f"{server.origin}/api/v1/log", timeout=30).status_code == 404
    assert requests.get(f"{server.origin}{Endpoint.FULCIO}", timeout=30).status_code == 405
    assert server.counts == {}


def test_fault_of_some_requests(server: SigningServer) -> None:
    server.faults[Endpoint.FULCIO] = Fault(Kind.STATUS, 503, after=1, times=2)
    token = server.provider.token()
    statuses = [certify(server, token).status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert (server.counts[Endpoint.FULCIO], server.done[Endpoint.FULCIO]) == (4, 2)
