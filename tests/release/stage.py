"""A release job on a stage: a repository, a Sigstore and a GitHub of this machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.document import MeasurementDocument, encode, to_document
from mrtd.launch.spec import read_spec_file
from mrtd.measure import MeasureOptions, measure
from mrtd.reference import ReferenceValues, read_statement
from mrtd.registers import Target
from mrtd.verifier.clock import Clock
from release.cli import main
from release.job import Job
from tests.lab.github import statement_of
from tests.lab.github_oidc import run_claims
from tests.lab.github_releases import GitHubWithReleases
from tests.lab.identity import MAIN, OWNER_ID, REPOSITORY, REPOSITORY_ID, WORKFLOW
from tests.lab.signing_server import SigningServer
from tests.launches import Launch

GITHUB_TOKEN: Final = "lab-github-token-which-nobody-may-see"  # noqa: S105 - opens nothing
_OFFLINE: Final = MeasureOptions(ask_qemu=False)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Moment:
    """The time: as it is (Sigstore's clients have no other), or moved by so many seconds.

    Attributes:
        ahead: by which it is moved.
        pauses: seconds of each pause, for which nobody waits.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def steady(self) -> float:
        return 1000.0 + sum(self.pauses)

    def wall(self) -> float:
        return datetime.now(UTC).timestamp() + self.ahead


@dataclass(slots=True)
class Stage:
    """One repository, and everything around it.

    Attributes:
        folder: scratch; the checkout is in ``repo`` below it.
        claims: of the run, for its OIDC token.
        environ: variables of the job.
        moment: its time.
    """

    folder: Path
    github: GitHubWithReleases
    server: SigningServer
    claims: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    moment: Moment = field(default_factory=Moment)
    said: list[str] = field(default_factory=list)

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def commit(self, count: int = 1) -> str:
        """Make commits; the last one's name. The run is of it."""
        for _ in range(count):
            git(self.repo, "commit", "--quiet", "--allow-empty", "-m", "more")
        name = git(self.repo, "rev-parse", "HEAD")
        self.claims.update(run_claims(commit=name))
        self.environ["GITHUB_SHA"] = name
        return name

    def document(self, name: str = "doc.json", **changes: Any) -> Path:
        """A measurement document whose launch is all measured; ``changes`` are its fields."""
        path = self.folder / name
        path.write_bytes(encode(msgspec.structs.replace(measured(), **changes)))
        return path

    def image(self, number: int) -> Path:
        """A document of another image: another initrd."""
        path = self.folder / f"image-{number}.json"
        path.write_bytes(encode(measured(b"initrd %d\n" % number)))
        return path

    def job(self) -> Job:
        return Job(
            environ=self.environ,
            folder=self.repo,
            fetch=self.github.fetch,
            clock=Clock(wall=self.moment.wall, steady=self.moment.steady),
            sleep=self.moment.sleep,
            jitter=lambda: 1.0,
        )

    def run(self, *words: str | Path, **variables: str) -> Ran:
        """``python -m release``, in this process."""
        out, err = io.StringIO(), io.StringIO()
        before = dict(self.environ)
        self.environ.update(variables)
        verb, *rest = [str(word) for word in words]
        if verb in {"attest", "revoke"} and "--out" not in rest:
            rest += ["--out", str(self.folder / "out")]
        config = ["--trust-config", str(self.folder / "trust.json")]
        try:
            code = main([verb, *rest, *config], job=self.job(), stdout=out, stderr=err)
        finally:
            self.environ.clear()
            self.environ.update(before)
        self.said += [out.getvalue(), err.getvalue()]
        return Ran(code, out.getvalue(), err.getvalue())

    def attest(self, *words: str | Path, tag: str = "v1.0.0", **variables: str) -> Ran:
        """``attest`` of the first document, or of those among the words."""
        documents = [word for word in words if str(word).endswith(".json")]
        rest = [word for word in words if word not in documents]
        chosen = documents or [self.document()]
        place: list[str | Path] = ["--out", self.folder / f"out-{tag}"]
        return self.run("attest", *chosen, "--tag", tag, *place, *rest, **variables)

    def stored(self) -> list[ReferenceValues]:
        """Documents in the attestation store, oldest first."""
        return [values_of(one.bundle) for one in self.github.stored]

    def leaks(self) -> list[str]:
        """Where a secret is to be seen: what was printed, and every file that was written."""
        places = {f"output {number}": text.encode() for number, text in enumerate(self.said)}
        places |= {
            str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }
        found = [secret.encode() for secret in self.secrets() if secret]
        return [name for name, data in places.items() if any(one in data for one in found)]

    def secrets(self) -> set[str]:
        """Every value that nobody may see."""
        found = {GITHUB_TOKEN, self.server.request_token, *self.server.issued}
        return found | {part for token in self.server.issued for part in token.split(".")[1:]}


def values_of(bundle: bytes) -> ReferenceValues:
    """The document in a bundle."""
    return read_statement(json.dumps(statement_of(bundle)).encode(), origin="test")


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Set up a stage with five commits."""
    github = GitHubWithReleases(REPOSITORY, int(REPOSITORY_ID), token=GITHUB_TOKEN)
    claims: dict[str, Any] = {}
    with github, SigningServer(claims=claims) as server:
        made = Stage(folder, github, server, claims)
        made.environ.update(
            {
                **server.actions_environment(),
                "GITHUB_API_URL": github.api.origin,
                "GITHUB_TOKEN": GITHUB_TOKEN,
                "GITHUB_REPOSITORY": REPOSITORY,
                "GITHUB_REPOSITORY_ID": REPOSITORY_ID,
                "GITHUB_REPOSITORY_OWNER_ID": OWNER_ID,
                "GITHUB_WORKFLOW_REF": f"{REPOSITORY}/{WORKFLOW}@{MAIN}",
                "GITHUB_REF": MAIN,
                "GITHUB_EVENT_NAME": "push",
                "RUNNER_ENVIRONMENT": "github-hosted",
                "PATH": os.environ["PATH"],
            }
        )
        (folder / "trust.json").write_bytes(server.trust_config())
        made.repo.mkdir()
        git(made.repo, "init", "--quiet", "--initial-branch", "main")
        made.commit(5)
        yield made
    assert server.web.errors == []


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Lab", "-c", "user.email=lab@lab.example", "-c", "gc.auto=0"]
    done = subprocess.run(
        ["git", *who, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return done.stdout.decode().strip()


@cache
def measured(initrd: bytes = b"an initrd\n", target: Target = Target.CC) -> MeasurementDocument:
    """What ``mrtd measure`` says of the tests' launch."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = Launch(files={"initrd.img": initrd}).write(folder)
        options = msgspec.structs.replace(_OFFLINE, target=target)
        return to_document(measure(read_spec_file(spec), folder, options))
