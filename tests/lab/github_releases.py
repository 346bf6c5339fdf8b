"""GitHub's releases and their assets, beside the attestations of ``tests/lab/github.py``.

Source: GitHub REST API 2022-11-28, "Releases" and "Release assets". Uploads go to the same server;
assets are downloaded by way of a redirect to the host of blobs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.lab.github import GitHub
from tests.lab.web import Answer, Request

_JSON = {"Content-Type": "application/json; charset=utf-8", "Connection": "close"}


@dataclass(slots=True)
class LabAsset:
    """A file of a release."""

    number: int
    name: str
    data: bytes
    state: str = "uploaded"


@dataclass(slots=True)
class LabRelease:
    """A release; drafts are listed to those who may write."""

    number: int
    tag: str
    draft: bool = False
    assets: list[LabAsset] = field(default_factory=list)

    def names(self) -> set[str]:
        return {asset.name for asset in self.assets}

    def data(self, name: str) -> bytes:
        return next(asset.data for asset in self.assets if asset.name == name)


class GitHubWithReleases(GitHub):
    """One repository with attestations, releases and assets.

    Attributes:
        releases: newest first.
        private: whether the repository is.
        listing_delay: so many lists of attestations say that there is none, after an upload.
        redirects: whether assets are downloaded from another address.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.releases: list[LabRelease] = []
        self.private = False
        self.listing_delay = 0
        self.redirects = True
        self._number = 100
        self._hidden = 0

    def release(self, tag: str, *, draft: bool = False) -> LabRelease:
        """Make a release."""
        self._number += 1
        made = LabRelease(self._number, tag, draft)
        self.releases.insert(0, made)
        return made

    def put(self, release: LabRelease, name: str, data: bytes, state: str = "uploaded") -> LabAsset:
        """Add an asset."""
        self._number += 1
        made = LabAsset(self._number, name, data, state)
        release.assets.append(made)
        return made

    def _answer_api(self, request: Request) -> Answer:
        if request.path.startswith("/pre-signed/"):
            assert "authorization" not in request.headers, "the token was sent to another host"
            return Answer(200, self._asset(request.path).data, {"Connection": "close"})
        answer = self._answer_releases(request) or super()._answer_api(request)
        return Answer(answer.status, answer.body, {**answer.headers, "Connection": "close"})

    def _answer_releases(self, request: Request) -> Answer | None:
        base, path = f"/repos/{self.repository}", request.path
        known = request.headers.get("authorization")
        if known is not None and known != f"Bearer {self.token}":
            return _json(401, {"message": "Bad credentials"})
        if path == base and request.method == "GET":
            return _json(200, {"private": self.private, "id": self.repository_id})
        if path == f"{base}/releases":
            return _json(200, [self._shown(one) for one in self.releases])
        if path.startswith(f"{base}/releases/assets/"):
            return self._of_asset(request, known)
        if path.startswith(f"/uploads{base}/releases/"):
            return self._upload_asset(request, known)
        return None

    def _upload(self, request: Request, known: str | None) -> Answer:
        answer = super()._upload(request, known)
        self._hidden = self.listing_delay
        return answer

    def _list(self, request: Request, digest: str) -> Answer:
        if self._hidden:
            self._hidden -= 1
            return _json(404, {"message": "Not Found"})
        return super()._list(request, digest)

    def _shown(self, release: LabRelease) -> dict[str, Any]:
        base = f"{self.api.origin}/uploads/repos/{self.repository}/releases"
        return {
            "id": release.number,
            "tag_name": release.tag,
            "draft": release.draft,
            "upload_url": f"{base}/{release.number}/assets{{?name,label}}",
            "assets": [
                {
                    "id": asset.number,
                    "name": asset.name,
                    "size": len(asset.data),
                    "state": asset.state,
                    "digest": f"sha256:{hashlib.sha256(asset.data).hexdigest()}",
                }
                for asset in release.assets
            ],
        }

    def _asset(self, path: str) -> LabAsset:
        number = int(path.rpartition("/")[2])
        return next(a for one in self.releases for a in one.assets if a.number == number)

    def _of_asset(self, request: Request, known: str | None) -> Answer:
        asset = self._asset(request.path)
        if request.method == "DELETE":
            if known is None:
                return _json(401, {"message": "Requires authentication"})
            for one in self.releases:
                one.assets = [each for each in one.assets if each is not asset]
            return Answer(204, headers={"Connection": "close"})
        assert request.headers["accept"] == "application/octet-stream"
        if self.redirects:
            target = f"{self.api.origin}/pre-signed/{asset.number}"
            return Answer(302, headers={"Location": target, "Connection": "close"})
        return Answer(200, asset.data, {"Connection": "close"})

    def _upload_asset(self, request: Request, known: str | None) -> Answer:
        if known is None:
            return _json(401, {"message": "Requires authentication"})
        number = int(request.path.split("/")[-2])
        release = next(one for one in self.releases if one.number == number)
        name = request.query["name"]
        if name in release.names():
            errors = [{"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}]
            return _json(422, {"message": "Validation Failed", "errors": errors})
        return _json(201, {"id": self.put(release, name, request.body).number})


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode(), _JSON)
