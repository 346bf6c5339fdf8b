"""Services that are away, say no or die half-way: bounded, resumable, and without a secret."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from mrtd.errors import SpecError
from release.github import GitHubApi
from release.secret import Secret
from tests.lab.faults import Fault, Kind
from tests.lab.signing_server import Endpoint
from tests.lab.web import Answer, How, Request
from tests.release.stage import GITHUB_TOKEN, Stage

CLOSE = {"Connection": "close"}


class Spoiler:
    """Spoils requests whose method and path fit, so often."""

    def __init__(
        self, lab: Stage, method: str, part: str, answer: Answer | None, *, times: int = 1,
        serve: bool = False,
    ) -> None:  # fmt: skip
        self.left, self.method, self.part = times, method, part
        self.answer, self.serve = answer, serve
        self.hits = 0
        self._genuine = lab.github.api.answer
        lab.github.api.answer = self

    def __call__(self, request: Request) -> Answer:
        hit = request.method == self.method and self.part in request.path and self.left > 0
        if not hit or self.answer is None:
            return self._genuine(request)
        self.left -= 1
        self.hits += 1
        if self.serve:
            self._genuine(request)
        return self.answer


RESET = Answer(how=How.RESET)
BROKEN = [
    RESET,
    Answer(503, b"busy", CLOSE),
    Answer(201, b"<html>", CLOSE),
    Answer(201, b'{"id": 7}', CLOSE, How.TRUNCATED),
]


@pytest.mark.parametrize("answer", BROKEN, ids=["reset", "503", "garbage", "cut short"])
@pytest.mark.parametrize("serve", [False, True], ids=["refused", "answer lost"])
def test_upload_is_repeated_and_never_doubled(lab: Stage, answer: Answer, serve: bool) -> None:  # noqa: FBT001
    spoiler = Spoiler(lab, "POST", "/attestations", answer, serve=serve)
    ran = lab.attest()
    assert ran.code == 0, ran.err
    assert spoiler.hits == 1
    assert len(lab.github.stored) == 1
    assert len(lab.moment.pauses) >= 1


def test_attempts_are_bounded_and_the_next_run_resumes(lab: Stage) -> None:
    lab.github.release("v1.0.0")
    spoiler = Spoiler(lab, "POST", "/attestations", Answer(502, headers=CLOSE), times=99)
    ran = lab.attest()
    assert ran.code == 3
    assert spoiler.hits == 4
    assert "nothing is published" in ran.err
    assert "run the same command again" in ran.err
    spoiler.left = 0
    certificates = len(lab.server.certificates)
    ran = lab.attest()
    assert ran.code == 0, ran.err
    assert len(lab.server.certificates) == certificates, "what was signed is used"
    assert len(lab.github.stored) == 1


def test_assets_that_fail_are_completed_by_the_next_run(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    spoiler = Spoiler(lab, "POST", "/uploads/", Answer(500, headers=CLOSE), times=99)
    ran = lab.attest()
    assert ran.code == 3
    assert "published so far: attestation 1" in ran.err
    assert release.names() == set()
    spoiler.left = 0
    assert lab.attest().code == 0
    assert len(release.names()) == 4
    assert len(lab.github.stored) == 1


def test_answer_of_an_asset_upload_that_gets_lost(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    spoiler = Spoiler(lab, "POST", "/uploads/", RESET, serve=True)
    ran = lab.attest()
    assert ran.code == 0, ran.err
    assert spoiler.hits == 1
    assert len(release.assets) == len(release.names()) == 4


def test_remains_of_a_cut_off_upload_are_replaced(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    lab.github.put(release, "mrtd.bin", b"half", state="starter")
    assert lab.attest().code == 0
    assert len(release.data("mrtd.bin")) == 48


def test_asset_of_another_content_is_not_replaced_unasked(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    lab.github.put(release, "mrtd.bin", b"somebody's")
    ran = lab.attest("--json")
    assert ran.code == 1
    assert [one["code"] for one in ran.json["error"]["refusals"]] == ["asset_differs"]
    assert release.names() == {"mrtd.bin"}
    assert lab.attest("--replace-assets").code == 0
    assert len(release.data("mrtd.bin")) == 48


def test_github_lists_late(lab: Stage) -> None:
    lab.github.listing_delay = 4
    ran = lab.attest()
    assert ran.code == 0, ran.err
    assert lab.moment.pauses[-4:] == [1, 2, 4, 8]


def test_github_never_lists(lab: Stage) -> None:
    lab.github.listing_delay = 10**6
    ran = lab.attest()
    assert ran.code == 3
    assert "does not list the attestation" in ran.err
    assert "published so far: attestation 1" in ran.err
    assert sum(lab.moment.pauses) < 300


@pytest.mark.parametrize(
    ("part", "status", "hint"),
    [
        ("/attestations", 403, "attestations: write"),
        ("/attestations", 404, "attestations: write"),
        ("/uploads/", 403, "contents: write"),
    ],
)
def test_missing_permission_is_named(lab: Stage, part: str, status: int, hint: str) -> None:
    lab.github.release("v1.0.0")
    body = b'{"message": "Resource not accessible by integration"}'
    Spoiler(lab, "POST", part, Answer(status, body, CLOSE), times=99)
    ran = lab.attest()
    assert ran.code == 3
    assert f"`{hint}`" in ran.err


def test_validation_that_fails_is_not_repeated(lab: Stage) -> None:
    body = b'{"message": "Validation Failed"}'
    spoiler = Spoiler(lab, "POST", "/attestations", Answer(422, body, CLOSE), times=99)
    ran = lab.attest()
    assert (ran.code, spoiler.hits) == (3, 1)
    assert "Validation Failed" in ran.err


@pytest.mark.parametrize("answer", [Answer(500, headers=CLOSE), Answer(200, b"[", CLOSE)])
def test_unreadable_releases_stop_before_signing(lab: Stage, answer: Answer) -> None:
    Spoiler(lab, "GET", "/releases", answer, times=99)
    assert lab.attest().code == 3
    assert lab.server.certificates == []


def test_unreadable_attestations_stop_before_signing(lab: Stage) -> None:
    """There might be a revocation among them."""
    Spoiler(lab, "GET", "/attestations/", Answer(500, headers=CLOSE), times=99)
    ran = lab.attest()
    assert ran.code == 3
    assert "revocation" in ran.err
    assert lab.server.certificates == []


@pytest.mark.parametrize("endpoint", [Endpoint.FULCIO, Endpoint.REKOR_V1, Endpoint.TSA])
def test_sigstore_away_publishes_nothing(lab: Stage, endpoint: Endpoint) -> None:
    lab.server.faults[endpoint] = Fault(Kind.STATUS, 503)
    ran = lab.attest()
    assert ran.code == 3
    assert "nothing is published" in ran.err
    assert lab.github.stored == []
    del lab.server.faults[endpoint]
    assert lab.attest().code == 0


def test_without_oidc_permission(lab: Stage) -> None:
    del lab.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    ran = lab.attest()
    assert ran.code == 2
    assert "id-token: write" in ran.err
    assert lab.github.stored == []


def test_without_github_token_nothing_is_signed(lab: Stage) -> None:
    del lab.environ["GITHUB_TOKEN"]
    ran = lab.attest()
    assert ran.code == 2
    assert "GITHUB_TOKEN" in ran.err
    assert lab.server.certificates == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_services_that_repeat_credentials(lab: Stage, method: Literal["GET", "POST"]) -> None:
    genuine = lab.github.api.answer

    def repeats(request: Request) -> Answer:
        if request.method != method:
            return genuine(request)
        return Answer(403, json.dumps(dict(request.headers)).encode(), CLOSE)

    lab.github.api.answer = repeats
    lab.server.faults[Endpoint.FULCIO] = Fault(Kind.ECHO, 500)
    ran = lab.attest("--json")
    assert ran.code == 3
    assert GITHUB_TOKEN not in ran.out + ran.err  # and the fixture looks for all the others


def test_token_goes_to_githubs_hosts_only(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    genuine = lab.github.api.answer
    asked: list[str] = []

    def elsewhere(request: Request) -> Answer:
        asked.append(request.path)
        answer = genuine(request)
        body = answer.body.replace(
            lab.github.api.origin.encode() + b"/uploads", b"http://evil.example"
        )
        headers = {k: v for k, v in answer.headers.items() if k != "Content-Length"}
        return Answer(answer.status, body, headers)

    lab.github.api.answer = elsewhere
    ran = lab.attest()
    assert ran.code == 3
    assert "is another's" in ran.err
    assert release.names() == set()


def test_token_is_not_sent_in_the_open() -> None:
    with pytest.raises(SpecError, match="no https"):
        GitHubApi("o/r", api="http://api.example", token=Secret("secret"))


def test_json_error_has_type_and_hint(lab: Stage) -> None:
    ran = lab.attest("--json", "--artifact", lab.folder / "missing.qcow2")
    error: dict[str, Any] = ran.json["error"]
    assert ran.code == 2
    assert error["type"] == "SpecError"
    assert "cannot be read" in error["message"]
