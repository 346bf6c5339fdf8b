"""GitHub's private instance through ``gh``, which is a double here: a script that tests write.

It records how it was called, and says and does what it is told. That the real gh answers like this
is not tested: it needs GitHub.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from fixtures import reference
from mrtd.errors import PolicyError
from mrtd.verifier import gh as running
from mrtd.verifier.bundle import Opened
from mrtd.verifier.identity import EXTENSIONS, check_identity
from mrtd.verifier.policy import Policy
from mrtd.verifier.private_instance import ANSWER_LIMIT, GhVerifier
from mrtd.verifier.statement import read_signed
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.lab.identity import GitHubIdentity
from tests.lab.instance import github_private_instance
from tests.lab.world import (
    NOW,
    REVOCATIONS,
    SIGNED,
    ListedGitHub,
    Times,
    claims_of,
    policy_of,
)
from tests.processes import gone, wait_for

Json = dict[str, Any]

PRIVATE: Final = "[identity]\nvisibility = 'private'\n"
IDENTITY: Final = GitHubIdentity.of_run(commit=reference.COMMIT, visibility="private")
SCRIPT: Final = """\
#!{python} -I
import json, os, sys
from pathlib import Path
here = Path({folder!r})
seen = {{
    "argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid(),
    "mode": os.stat(".").st_mode & 0o777, "stdin": os.readlink("/proc/self/fd/0"),
    "files": {{p.name: p.read_bytes().hex() for p in Path(".").iterdir() if p.is_file()}},
}}
here.joinpath("seen.tmp").write_text(json.dumps(seen))
here.joinpath("seen.tmp").rename(here / "seen.json")
{body}
"""
ANSWER: Final = 'sys.stdout.write(here.joinpath("answer.json").read_text())'
HANG: Final = """\
child = os.fork()
here.joinpath("child" if child else "grandchild").write_text("1")
import signal
signal.pause()
"""


class Gh:
    """The double.

    Attributes:
        program: its path.
        folder: where it finds its answer, and leaves what it saw.
    """

    def __init__(self, folder: Path, body: str = ANSWER) -> None:
        self.folder, self.program = folder, folder / "gh"
        self.says(body)

    def says(self, body: str) -> None:
        text = SCRIPT.format(python=sys.executable, folder=str(self.folder), body=body)
        self.program.write_text(text, encoding="utf-8")
        self.program.chmod(0o700)

    def answers(self, answer: object) -> None:
        (self.folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")

    @property
    def seen(self) -> Json:
        found: Json = json.loads((self.folder / "seen.json").read_text(encoding="utf-8"))
        return found


def mint(made: Json | None = None, identity: GitHubIdentity = IDENTITY, **options: Any) -> bytes:
    made = reference.document() if made is None else made
    payload = reference.encoded(reference.statement(made))
    return github_private_instance().mint(payload, identity, at=SIGNED, **options)


def certificate(identity: GitHubIdentity = IDENTITY, **changes: Any) -> Json:
    """What sigstore-go says of a certificate."""
    values = identity.values()
    found: Json = {name: values[number] for number, name in EXTENSIONS.items()}
    found |= {
        "certificateIssuer": "CN=Fulcio Intermediate l2,O=GitHub\\, Inc.",
        "subjectAlternativeName": identity.san,
        "githubWorkflowTrigger": identity.build_trigger,
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def result(made: Json | None = None, identity: GitHubIdentity = IDENTITY, **changes: Any) -> Json:
    """One result of gh; ``changes`` are of the verification result."""
    made = reference.document() if made is None else made
    verification: Json = {
        "mediaType": "application/vnd.dev.sigstore.verificationresult+json;version=0.1",
        "statement": reference.statement(made),
        "signature": {"certificate": certificate(identity)},
        "verifiedTimestamps": [
            {
                "type": "TimestampAuthority",
                "uri": "timestamp.githubapp.com",
                "timestamp": SIGNED.isoformat(),
            }
        ],
        "verifiedIdentity": {"issuer": {}, "subjectAlternativeName": {}},
    }
    return {"attestation": {"bundle": {}}, "verificationResult": verification | changes}


@pytest.fixture
def gh(tmp_path: Path) -> Gh:
    folder = tmp_path / "double"
    folder.mkdir()
    made = Gh(folder)
    made.answers([result()])
    return made


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Temporary folders of our own, of which nothing may be left."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield
    assert list(place.iterdir()) == []


def policy(text: str = "") -> Policy:
    return policy_of(PRIVATE + text)


def opened(gh: Gh, bundle: bytes | None = None, **policies: str) -> Opened:
    verifier = GhVerifier(policy(**policies), gh=str(gh.program))
    return verifier.open(mint() if bundle is None else bundle, now=NOW)


def reasons(found: Opened) -> set[Reason]:
    assert found.signed is None or all(c.ok for c in found.checks)
    return {c.reason for c in found.checks if c.reason is not None}


def test_a_genuine_bundle_is_what_gh_says_of_it(gh: Gh) -> None:
    found = opened(gh)
    assert found.signed is not None, found.checks
    assert found.signed.payload == reference.encoded(reference.statement(reference.document()))
    assert found.signed.signed_at == SIGNED
    assert found.signed.log_index is None
    identity = policy().identity
    assert all(c.ok for c in check_identity(found.signed.signer, identity))
    assert read_signed(found.signed, identity).values is not None


def test_gh_gets_fixed_arguments_and_little_else(gh: Gh, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GH_HOST", "GH_DEBUG", "GH_CONFIG_DIR", "HTTPS_PROXY", "LD_PRELOAD_NOT"):
        monkeypatch.setenv(name, "evil.example")
    monkeypatch.setenv("GH_TOKEN", "secret")
    bundle = mint()
    opened(gh, json.dumps(json.loads(bundle), indent=4).encode())
    seen = gh.seen
    san = "https://github.com/devopsdefender/dd/.github/workflows/release.yml@refs/heads/main"
    assert seen["argv"] == [
        "attestation", "verify", "mrtd.bin", "--bundle", "bundle.jsonl",
        "--repo", "devopsdefender/dd", "--predicate-type", reference.PREDICATE_TYPE,
        "--cert-identity", san,
        "--cert-oidc-issuer", "https://token.actions.githubusercontent.com",
        "--source-ref", "refs/heads/main", "--deny-self-hosted-runners", "--no-public-good",
        "--format", "json",
    ]  # fmt: skip
    home = seen["cwd"]
    environment = seen["env"]
    environment.pop("LC_CTYPE", None)  # Python sets it for itself
    assert environment.pop("PATH")
    assert environment == {
        "HOME": home, "TMPDIR": home, "GH_CONFIG_DIR": f"{home}/gh", "GH_HOST": "github.com",
        "GH_TOKEN": "secret", "GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1",
        "NO_COLOR": "1", "LC_ALL": "C",
    }  # fmt: skip
    assert seen["stdin"] == "/dev/null"
    assert seen["mode"] == 0o700
    assert not Path(home).exists()
    files = {name: bytes.fromhex(text) for name, text in seen["files"].items()}
    assert files["mrtd.bin"] == bytes.fromhex(reference.register("firmware"))
    assert files["bundle.jsonl"].count(b"\n") == 1
    assert json.loads(files["bundle.jsonl"]) == json.loads(bundle)


@pytest.mark.parametrize(
    ("text", "there"), [("runners = ['github-hosted', 'self-hosted']\n", False), ("", True)]
)
def test_self_hosted_runners_are_denied_unless_allowed(
    gh: Gh,
    text: str,
    there: bool,  # noqa: FBT001
) -> None:
    opened(gh, text=text)
    assert ("--deny-self-hosted-runners" in gh.seen["argv"]) is there


def test_the_commit_of_a_trusted_reusable_workflow_is_demanded(gh: Gh) -> None:
    opened(gh, text=f"signer_digest = '{'b' * 40}'\n")
    argv = gh.seen["argv"]
    assert argv[argv.index("--signer-digest") + 1] == "b" * 40


def test_a_pure_revocation_is_verified_by_what_it_revokes(gh: Gh) -> None:
    made = reference.revoking(reference.revocation("mrtd", reference.register("old")))
    gh.answers([result(made)])
    found = opened(gh, mint(made))
    assert found.signed is not None, found.checks
    assert gh.seen["files"]["mrtd.bin"] == reference.register("old")


@pytest.mark.parametrize(("kind", "value"), [("tag", "v1.2.3"), ("launch", "12" * 32)])
def test_a_pure_revocation_without_mrtd_is_verified_by_the_channels_revocations(
    gh: Gh, kind: str, value: str
) -> None:
    made = reference.revoking(reference.revocation(kind, value))
    gh.answers([result(made)])
    found = opened(gh, mint(made))
    assert found.signed is not None, found.checks
    digested = bytes.fromhex(gh.seen["files"]["mrtd.bin"])
    assert digested == b"mrtd.revocations/v1\0devopsdefender/dd\0refs/heads/main"
    assert reference.sha256(digested) == REVOCATIONS


def test_a_document_that_gh_cannot_verify_is_not_known_rather_than_refused(gh: Gh) -> None:
    """It names files only, so there is nothing of it that gh could be given."""
    made = reference.document() | {"launches": []}
    assert made["artifacts"]
    assert not made["lifecycle"]["revoked"]
    assert reasons(opened(gh, mint(made))) == {Reason.TOOL_MISSING}
    assert not (gh.folder / "seen.json").exists()


def other(path: str, new: object) -> Json:
    return reference.changed(result(), f"verificationResult.{path}", new)


CERTIFICATE: Final = "signature.certificate"
FUTURE: Final = (NOW + timedelta(minutes=6)).isoformat()
WRONG: Final[dict[str, tuple[object, Reason]]] = {
    "no result": ([], Reason.BUNDLE_INVALID),
    "two results": ([result(), result()], Reason.BUNDLE_INVALID),
    "no list": (result(), Reason.BUNDLE_INVALID),
    "null": (None, Reason.BUNDLE_INVALID),
    "another kind of answer": ([other("mediaType", "text/plain")], Reason.BUNDLE_INVALID),
    "no statement": ([other("statement", ...)], Reason.BUNDLE_INVALID),
    "another statement": (
        [other("statement.predicate.release.tag", "v9.9.9")], Reason.BUNDLE_INVALID,
    ),
    "a statement with true for 1": (
        [other("statement.predicate.release.sequence", True)], Reason.BUNDLE_INVALID,
    ),
    "no signature": ([other("signature", ...)], Reason.BUNDLE_INVALID),
    "a key in place of a certificate": (
        [other("signature", {"publicKeyId": "AA=="})], Reason.BUNDLE_INVALID,
    ),
    "the public instance": (
        [other(f"{CERTIFICATE}.certificateIssuer", "CN=sigstore-intermediate,O=sigstore.dev")],
        Reason.BUNDLE_INVALID,
    ),
    "a name that only contains the right one": (
        [other(f"{CERTIFICATE}.certificateIssuer", "CN=x\\,O=GitHub\\, Inc.,O=evil")],
        Reason.BUNDLE_INVALID,
    ),
    "nobody who issued it": (
        [other(f"{CERTIFICATE}.certificateIssuer", ...)], Reason.BUNDLE_INVALID,
    ),
    "no time": ([other("verifiedTimestamps", [])], Reason.BUNDLE_INVALID),
    "times left out": ([other("verifiedTimestamps", ...)], Reason.BUNDLE_INVALID),
    "a time without a zone": (
        [other("verifiedTimestamps.0.timestamp", "2026-11-23T11:00:00")], Reason.BUNDLE_INVALID,
    ),
    "a time in the future": (
        [other("verifiedTimestamps.0.timestamp", FUTURE)], Reason.SIGNING_TIME,
    ),
    "one of two times in the future": (
        [other("verifiedTimestamps", [{"timestamp": SIGNED.isoformat()}, {"timestamp": FUTURE}])],
        Reason.SIGNING_TIME,
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", WRONG)
def test_an_answer_that_says_anything_else_is_a_refusal(gh: Gh, flaw: str) -> None:
    answer, reason = WRONG[flaw]
    gh.answers(answer)
    found = opened(gh)
    assert found.signed is None
    assert reasons(found) == {reason}


STRANGERS: Final = {
    "identity.repository_id": IDENTITY.change(source_repository_identifier="9000001"),
    "identity.owner_id": IDENTITY.change(source_repository_owner_identifier="9000002"),
    "identity.signer": IDENTITY.change(san="https://github.com/evil/fork/x.yml@refs/heads/main"),
    "identity.build_signer": IDENTITY.change(build_signer_uri="https://github.com/evil/x.yml@main"),
    "identity.build_config": IDENTITY.change(build_config_uri="https://github.com/evil/x.yml@main"),
    "identity.runner": IDENTITY.change(runner_environment="self-hosted"),
    "identity.trigger": IDENTITY.change(build_trigger="pull_request_target"),
    "identity.ref": IDENTITY.change(source_repository_ref="refs/pull/1/merge"),
    "identity.visibility": IDENTITY.change(source_repository_visibility="public"),
    "identity.issuer": IDENTITY.change(issuer_v2="https://issuer.example"),
}


@pytest.mark.parametrize("clause", STRANGERS)
def test_what_gh_does_not_compare_is_compared_here(gh: Gh, clause: str) -> None:
    """Even if gh said yes: a stranger's certificate is refused by its own clause."""
    gh.answers([result(identity=STRANGERS[clause])])
    found = opened(gh)
    assert found.signed is not None
    checks = check_identity(found.signed.signer, policy().identity)
    assert {c.name for c in checks if not c.ok} == {clause}


@pytest.mark.parametrize("name", [*EXTENSIONS.values(), "subjectAlternativeName"])
def test_a_value_that_is_no_text_is_not_there(gh: Gh, name: str) -> None:
    gh.answers([other(f"{CERTIFICATE}.{name}", 7)])
    found = opened(gh)
    assert found.signed is not None
    assert found.signed.signer[name] == ""


def test_envelope_and_payload_are_read_strictly_before_gh_is_asked(gh: Gh) -> None:
    good = json.loads(mint())
    made = reference.statement(reference.document(), predicateType="https://slsa.dev/provenance/v1")
    provenance = github_private_instance().mint(reference.encoded(made), IDENTITY, at=SIGNED)
    twice = b'{"predicateType":1,' + reference.encoded(reference.statement({"launches": [],
        "artifacts": [], "lifecycle": {"revoked": []}, "release": {"sequence": 1},
    }))[1:]  # fmt: skip
    bad: dict[bytes, Reason] = {
        b"": Reason.BUNDLE_MALFORMED,
        b"[]": Reason.BUNDLE_INVALID,
        b'{"a":1,"a":2}': Reason.BUNDLE_MALFORMED,
        b"[" * 100_000: Reason.BUNDLE_MALFORMED,
        json.dumps({**good, "dsseEnvelope": None}).encode(): Reason.BUNDLE_INVALID,
        json.dumps(reference.changed(good, "dsseEnvelope.payload", "!")).encode():
            Reason.BUNDLE_INVALID,
        github_private_instance().mint(b"hello", IDENTITY, at=SIGNED): Reason.BUNDLE_MALFORMED,
        github_private_instance().mint(twice, IDENTITY, at=SIGNED): Reason.BUNDLE_MALFORMED,
        provenance: Reason.BUNDLE_INVALID,
    }  # fmt: skip
    for bundle, reason in bad.items():
        assert reasons(opened(gh, bundle)) == {reason}, bundle[:80]
    assert not (gh.folder / "seen.json").exists()


def test_the_payload_type_is_checked(gh: Gh) -> None:
    assert reasons(opened(gh, mint(payload_type="text/plain"))) == {Reason.PAYLOAD_TYPE}


BEHAVIOUR: Final = {
    "refuses": ("sys.stderr.write('Error: \\x1b[31mverifying'); sys.exit(1)",
                Reason.BUNDLE_INVALID),
    "is cancelled": (f"{ANSWER}; sys.exit(2)", Reason.TOOL_MISSING),
    "is not logged in": (f"{ANSWER}; sys.exit(4)", Reason.TOOL_MISSING),
    "fails in its own way": (f"{ANSWER}; sys.exit(99)", Reason.TOOL_MISSING),
    "is killed": (f"{ANSWER}; sys.stdout.flush(); os.kill(os.getpid(), 9)", Reason.TOOL_MISSING),
    "has no such command": (
        "sys.stderr.write('unknown command \"attestation\" for \"gh\"\\n'); sys.exit(1)",
        Reason.TOOL_MISSING,
    ),
    "has no such option": (
        "sys.stderr.write('unknown flag: --source-ref\\n\\nUsage: ...'); sys.exit(1)",
        Reason.TOOL_MISSING,
    ),
    "says yes and fails": (f"{ANSWER}; sys.exit(1)", Reason.BUNDLE_INVALID),
    "says nothing": ("pass", Reason.BUNDLE_INVALID),
    "says garbage": ("sys.stdout.write('no JSON')", Reason.BUNDLE_INVALID),
    "says no text": ("sys.stdout.buffer.write(b'\\xff' * 100)", Reason.BUNDLE_INVALID),
    "goes on after it": (f"{ANSWER}; sys.stdout.write('[]')", Reason.BUNDLE_INVALID),
    "says too much": (f"sys.stdout.write(' ' * {ANSWER_LIMIT + 1})", Reason.BUNDLE_INVALID),
    "complains too much": (f"{ANSWER}; sys.stderr.write(' ' * {ANSWER_LIMIT + 1})",
                           Reason.BUNDLE_INVALID),
}  # fmt: skip


@pytest.mark.parametrize("how", BEHAVIOUR)
def test_a_gh_that_errs_admits_nobody(gh: Gh, how: str) -> None:
    body, reason = BEHAVIOUR[how]
    gh.says(body)
    found = opened(gh)
    assert found.signed is None
    assert reasons(found) == {reason}
    assert all(c.observed.isprintable() for c in found.checks)
    assert gone(gh.seen["pid"])


def test_noise_on_stderr_is_no_answer(gh: Gh) -> None:
    gh.says(f"sys.stderr.write('A new release of gh is available\\n' * 5000); {ANSWER}")
    assert opened(gh).signed is not None


def test_a_gh_that_hangs_is_killed_with_all_that_it_started(
    gh: Gh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over when it and its child are there; no clock of this machine is asked."""
    gh.says(HANG.replace('"1"', "str(os.getpid())"))
    ours = (gh.folder / "child", gh.folder / "grandchild")

    def until(_: float, __: float) -> float:
        wait_for(lambda: all(path.exists() and path.read_text() for path in ours))
        return 0.0

    monkeypatch.setattr(running, "max", until, raising=False)  # the seconds that are left
    found = opened(gh)
    assert reasons(found) == {Reason.TRUST_ROOT_UNUSABLE}
    for path in ours:
        pid = int(path.read_text(encoding="ascii"))
        wait_for(lambda number=pid: gone(number))  # type: ignore[misc]


def test_without_gh_nothing_is_known(tmp_path: Path) -> None:
    found = GhVerifier(policy(), gh=str(tmp_path / "none")).open(mint(), now=NOW)
    assert reasons(found) == {Reason.TOOL_MISSING}
    assert "cli.github.com" in found.checks[0].observed


def test_a_gh_that_cannot_start_is_an_error_of_ours(gh: Gh) -> None:
    gh.program.write_bytes(b"\x7fELF")
    assert opened(gh).signed is None


def test_a_public_policy_never_asks_gh() -> None:
    with pytest.raises(PolicyError):
        GhVerifier(policy_of())


def test_the_verifier_asks_gh_for_a_private_repository(
    gh: Gh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{gh.folder}:/usr/bin:/bin")
    github, bundle = ListedGitHub(), mint()
    for subject in reference.subjects(reference.document()):
        github.add(bundle, subject["digest"]["sha256"])
    verifier = Verifier(policy(), fetch=github, clock=Times().clock)
    verdict = verifier.verify_claims(claims_of())
    assert verdict.allowed, verdict.message
    gh.answers([result(identity=STRANGERS["identity.repository_id"])])
    verdict = Verifier(policy(), fetch=github, clock=Times().clock).verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (403, Reason.IDENTITY)
    gh.program.unlink()
    verdict = Verifier(policy(), fetch=github, clock=Times().clock).verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (503, Reason.TOOL_MISSING)


def test_a_bundle_of_the_private_instance_is_refused_by_a_public_policy() -> None:
    from tests.lab.world import World

    world = World()
    world.github.add(mint(), *(s["digest"]["sha256"] for s in reference.subjects(
        reference.document())))  # fmt: skip
    verdict = world.verifier.verify_claims(claims_of())
    assert (verdict.status, verdict.reason) == (403, Reason.BUNDLE_INVALID)
