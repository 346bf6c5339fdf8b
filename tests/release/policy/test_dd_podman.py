"""The launcher, with a podman that says what the test wants: what it asks, and what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_tool
from tests.release.policy.guest import DIGEST, SIGNER, Rendered, images_toml

OURS = f"ghcr.io/owner/ours@{DIGEST}"
THIRD = f"docker.io/ollama/ollama@{DIGEST}"
TYPE = "https://sigstore.dev/cosign/sign/v1"
ISSUER = "https://token.actions.githubusercontent.com"
KIND = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
# Notes its arguments and environment; what it does is in files beside it.
FAKE = """\
#!/bin/sh
here=${0%/*}
name=${0##*/}
{ echo "$name"; for word in "$@"; do printf '%s\\n' "$word"; done; echo ---; } >>"$here/asked"
env >"$here/environment"
verb=$1
[ ! -e "$here/$name.$verb.out" ] || cat "$here/$name.$verb.out"
[ ! -e "$here/$name.$verb.err" ] || cat "$here/$name.$verb.err" >&2
[ ! -e "$here/$name.$verb.code" ] || exit "$(cat "$here/$name.$verb.code")"
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A rendered guest with fake programs."""

    rendered: Rendered
    shell: tuple[str, ...]

    @property
    def bin(self) -> Path:
        return self.rendered.folder / "bin"

    def program(self, name: str) -> None:
        self.bin.mkdir(exist_ok=True)
        (self.bin / name).write_text(FAKE, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def says(self, name: str, verb: str, *, out: str = "", err: str = "", code: int = 0) -> None:
        for suffix, text in (("out", out), ("err", err), ("code", str(code))):
            (self.bin / f"{name}.{verb}.{suffix}").write_text(text, encoding="utf-8")

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, str(self.rendered.launcher), *words],
            capture_output=True, check=False, encoding="utf-8", timeout=120,
            env=environment or {}, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def asked(self) -> list[list[str]]:
        path = self.bin / "asked"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [one.splitlines() for one in text.split("---\n") if one]

    @property
    def environment(self) -> set[str]:
        text = (self.bin / "environment").read_text(encoding="utf-8")
        return {line.partition("=")[0] for line in text.splitlines()} - {"PWD", "_", "SHLVL"}


@pytest.fixture(params=["busybox", "dash"])
def guest(request: pytest.FixtureRequest, rendered: Rendered) -> Guest:
    program = str(require_tool(request.param))
    rendered.key("one.pub")
    (rendered.folder / "trusted_root.json").write_text(
        f'{{"mediaType": "{KIND}"}}', encoding="utf-8"
    )
    text = images_toml(
        folder=rendered.policy,
        podman=rendered.folder / "bin" / "podman",
        sources={"ghcr.io/owner/ours": ("one.pub",)},
        exceptions={THIRD: "2999-01-01"},
        guest="trusted_root = true",
    )
    assert rendered.render(text) == 0
    made = Guest(rendered, (program, "sh") if request.param == "busybox" else (program,))
    made.program("podman")
    made.says("podman", "create", out="c0ffee\n")
    made.says("podman", "inspect", out=f"{DIGEST}\n")
    return made


def test_pull_look_start(guest: Guest) -> None:
    done = guest.run(
        "run", "-d", "--name", "x", "-e", "A=b c", "--publish=80:80", OURS, "serve", "-d", "--x y"
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert guest.asked == [
        ["podman", "pull", "--quiet",
         f"--signature-policy={guest.rendered.policy}/policy.json", OURS],
        ["podman", "create", "--pull=never", "--name", "x", "-e", "A=b c", "--publish=80:80", OURS,
         "serve", "-d", "--x y"],
        ["podman", "inspect", "--type=container", "--format={{.ImageDigest}}", "c0ffee"],
        ["podman", "start", "c0ffee"],
    ]  # fmt: skip
    assert "signed by a key of the policy" in done.stderr
    assert "key only: the workflow is not checked here: neither cosign nor sigstore" in done.stderr


def test_the_environment_has_no_say(guest: Guest) -> None:
    hostile = {
        "CONTAINERS_POLICY_JSON": "/tmp/mine.json",  # noqa: S108 - a text
        "CONTAINERS_REGISTRIES_CONF": "/x", "HOME": "/x", "PATH": "/x", "TUF_ROOT": "/x",
        "XDG_CONFIG_HOME": "/x", "LD_PRELOAD": "", "IFS": "/", "ENV": "/x", "tmp": "/x",
        "image": "x", "kind": "signed", "folder": "/x",
    }  # fmt: skip
    done = guest.run("run", OURS, environment=hostile)
    assert done.returncode == 0, done.stderr
    assert guest.environment == {"HOME", "LC_ALL", "PATH", "TMPDIR"}
    assert guest.asked[-1] == ["podman", "start", "--attach", "c0ffee"]


def test_an_exception_is_called_one(guest: Guest) -> None:
    done = guest.run("pull", THIRD)
    assert done.returncode == 0
    assert "exception, unsigned: until 2999-01-01, an owner: needed" in done.stderr
    assert "signed by" not in done.stderr
    assert [words[1] for words in guest.asked] == ["pull"]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (f"ghcr.io/owner/ours/below@{DIGEST}", 1),
        (f"ghcr.io/owner/our?@{DIGEST}", 2),
        (f"ghcr.io/owner/*@{DIGEST}", 2),
        ("docker.io/ollama/ollama@sha256:" + "cd" * 32, 1),
        ("ghcr.io/owner/ours:latest", 2),
        ("ghcr.io/owner/ours", 2),
        (f"ghcr.io/owner/ours:latest@{DIGEST}", 1),
        ("ghcr.io/owner/ours@sha512:" + "ab" * 64, 2),
        ("ghcr.io/owner/ours@sha256:" + "AB" * 32, 2),
        ("ghcr.io/owner/ours@sha256:ab", 2),
        (f"ghcr.io/owner/ours@{DIGEST}\n", 2),
        (f"ghcr.io/owner/ours\n@{DIGEST}", 2),
        (f"ghcr.io/owner/ours@{DIGEST} x", 2),
        (f"{OURS}@{DIGEST}", 2),
        (f"../{OURS}", 1),
        ("$(reboot)@" + DIGEST, 2),
        ("", 2),
    ],
)
def test_another_image_is_not_even_pulled(guest: Guest, image: str, code: int) -> None:
    for verb in ("pull", "run"):
        assert guest.run(verb, image).returncode == code
    assert guest.asked == []


@pytest.mark.parametrize(
    "option",
    [
        "--signature-policy=/x",
        "--privileged",
        "--rootfs",
        "--pull=always",
        "--runtime=/x",
        "-v/x:/y",
        "--security-opt=x",
        "--",
        "-it",
    ],
)
def test_options_that_are_not_passed_on(guest: Guest, option: str) -> None:
    done = guest.run("run", option, OURS)
    assert done.returncode == 2
    assert "is no option of dd-podman run" in done.stderr
    assert guest.asked == []


@pytest.mark.parametrize(
    "words", [(), ("build", "."), ("run",), ("run", "-e"), ("pull",), ("load",)]
)
def test_usage(guest: Guest, words: tuple[str, ...]) -> None:
    done = guest.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: dd-podman run" in done.stderr
    assert guest.asked == []


def test_help(guest: Guest) -> None:
    done = guest.run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: dd-podman run")


def test_podman_refuses(guest: Guest) -> None:
    said = "Error: x: Source image rejected: A signature was required, but no signature exists"
    guest.says("podman", "pull", err=f"Trying\n{said}\x1b[2J\n", code=125)
    done = guest.run("run", OURS)
    assert done.returncode == 1
    assert "refused: " in done.stderr
    assert "no signature exists[2J" in done.stderr  # without what a terminal would act on
    assert len(guest.asked) == 1


def test_podman_cannot_tell(guest: Guest) -> None:
    guest.says("podman", "pull", err="Error: pinging container registry: i/o timeout\n", code=125)
    done = guest.run("run", OURS)
    assert done.returncode == 3
    assert "could not be checked: " in done.stderr
    (guest.rendered.policy / "policy.json").unlink()
    assert guest.run("run", OURS).returncode == 3


def test_a_container_of_another_digest_does_not_start(guest: Guest) -> None:
    for out, code in (("sha256:" + "cd" * 32, 0), ("", 0), ("", 125)):
        guest.says("podman", "inspect", out=out, code=code)
        (guest.bin / "asked").unlink(missing_ok=True)
        done = guest.run("run", "-d", OURS)
        assert done.returncode == 1
        assert [words[1] for words in guest.asked] == ["pull", "create", "inspect", "rm"]


def test_the_containers_exit_code_is_passed_on(guest: Guest) -> None:
    guest.says("podman", "start", out="hello\n", code=42)
    done = guest.run("run", OURS)
    assert (done.returncode, done.stdout) == (42, "hello\n")


def test_other_verbs_are_podmans(guest: Guest) -> None:
    guest.says("podman", "ps", out="nothing\n")
    assert guest.run("ps", "--all").stdout == "nothing\n"
    assert guest.asked == [["podman", "ps", "--all"]]


def cosign_json(kind: str = TYPE, digest: str = DIGEST) -> str:
    critical = {
        "identity": {"docker-reference": OURS},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    return "\n" + json.dumps([{"critical": critical, "optional": None}], separators=(",", ":"))


def test_cosign_checks_the_workflow(guest: Guest) -> None:
    guest.program("cosign")
    guest.says("cosign", "verify", out=cosign_json())
    done = guest.run("pull", OURS)
    assert done.returncode == 0
    assert f"workflow verified by cosign: {SIGNER}" in done.stderr
    assert guest.asked[0] == [
        "cosign", "verify", f"--trusted-root={guest.rendered.policy}/trusted_root.json",
        f"--certificate-identity={SIGNER}", f"--certificate-oidc-issuer={ISSUER}", OURS,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("out", "err", "status", "code"),
    [
        (cosign_json("https://cyclonedx.org/bom"), "", 0, 1),  # an SBOM is no release
        (cosign_json(digest="sha256:" + "cd" * 32), "", 0, 1),
        ("", "", 0, 1),
        ("", "Error: no signatures found\n", 10, 1),
        ("", "Error: no matching attestations: x\n", 1, 1),
        ("", "Error: Get https://ghcr.io/v2/: dial tcp: i/o timeout\n", 1, 3),
        ("", "panic: runtime error\n", 2, 3),
    ],
)
def test_cosigns_no_and_its_silence(
    guest: Guest, out: str, err: str, status: int, code: int
) -> None:
    guest.program("cosign")
    guest.says("cosign", "verify", out=out, err=err, code=status)
    assert guest.run("run", OURS).returncode == code
    assert [words[0] for words in guest.asked] == ["cosign"]


def test_a_bundle_in_the_guest_is_verified_offline(guest: Guest) -> None:
    bundles = guest.rendered.policy / "bundles"
    bundles.mkdir()
    bundle = bundles / f"{DIGEST.replace(':', '-')}.json"
    bundle.write_text("{}", encoding="utf-8")
    guest.program("cosign")
    assert guest.run("pull", OURS).returncode == 0
    assert guest.asked[0][:3] == ["cosign", "verify-blob-attestation", f"--bundle={bundle}"]
    assert {f"--type={TYPE}", f"--digest={DIGEST[7:]}"} < {*guest.asked[0]}
    guest.says("cosign", "verify-blob-attestation", err="Error: no\n", code=1)
    assert guest.run("pull", OURS).returncode == 1

    guest.program("sigstore-go-verification")
    name, first = "sigstore-go-verification", "-trustedrootJSONpath"
    (guest.bin / "asked").unlink()
    for kind, code in ((TYPE, 0), ("https://cyclonedx.org/bom", 1)):
        guest.says(name, first, out=json.dumps({"statement": {"predicateType": kind}}, indent=1))
        assert guest.run("pull", OURS).returncode == code
    assert guest.asked[0][:2] == [name, first]
    assert guest.asked[0][-1] == str(bundle)
    guest.says(name, first, err="no\n", code=1)
    assert guest.run("pull", OURS).returncode == 1


def test_without_a_trusted_root_it_is_the_key_alone(guest: Guest) -> None:
    guest.program("cosign")
    (guest.rendered.policy / "trusted_root.json").unlink()
    done = guest.run("pull", OURS)
    assert done.returncode == 0
    assert "key only: the workflow is not checked here" in done.stderr
    assert [words[0] for words in guest.asked] == ["podman"]


def test_hostile_texts_stay_texts(guest: Guest) -> None:
    rendered = guest.rendered
    text = rendered.toml.read_text(encoding="utf-8")
    hostile = text.replace('"needed"', '"it\'s $(reboot) `x` \\\\ @folder@ END-OF-FILE"').replace(
        "workflow = ", 'ref = "refs/heads/it\'s;$(x)*"\nworkflow = '
    )
    assert rendered.render(hostile) == 0
    done = guest.run("pull", THIRD)
    assert "an owner: it's $(reboot) `x` \\ @folder@ END-OF-FILE" in done.stderr
    guest.program("cosign")
    guest.says("cosign", "verify", out=cosign_json())
    assert guest.run("pull", OURS).returncode == 0
    identity = next(word for word in guest.asked[-2] if "identity=" in word)
    assert identity.endswith("@refs/heads/it's;$(x)*")
    script = json.loads((rendered.policy / "podman-bootstrap" / "workload.json").read_bytes())
    checked = subprocess.run(
        [*guest.shell, "-n", "-c", script["cmd"][3]], capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, b"")
