"""Rendering: the same bytes each time, whole or not at all, and nothing that has expired."""

from __future__ import annotations

import base64
import io
import json
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mrtd.errors import ImagesError
from release.cli import main
from release.policy_keys import check_key
from tests.conftest import require_tool
from tests.release.policy.guest import DIGEST, SIGNER, Rendered, images_toml

OURS = "ghcr.io/owner/ours"
THIRD = f"docker.io/ollama/ollama@{DIGEST}"
LATER = (datetime.now(UTC).date() + timedelta(days=90)).isoformat()
TODAY = datetime.now(UTC).date().isoformat()


@pytest.fixture
def whole(rendered: Rendered) -> Rendered:
    """A rendering with a repository of ours and an exception."""
    rendered.key("one.pub")
    assert (
        rendered.render(images_toml(sources={OURS: ("one.pub",)}, exceptions={THIRD: LATER})) == 0
    )
    return rendered


def problem(*words: str) -> tuple[int, dict[str, object]]:
    out = io.StringIO()
    code = main(["policy", *words, "--json"], stdout=out, stderr=io.StringIO())
    found: dict[str, object] = json.loads(out.getvalue())
    return code, found


def test_what_no_scope_names_is_refused(whole: Rendered) -> None:
    policy = json.loads((whole.policy / "policy.json").read_bytes())
    assert policy == {
        "default": [{"type": "reject"}],
        "transports": {
            "docker": {
                THIRD: [{"type": "insecureAcceptAnything"}],
                OURS: [
                    {
                        "type": "sigstoreSigned",
                        "keyPath": "/var/lib/guest/.config/containers/keys/one.pub",
                        "signedIdentity": {"type": "matchRepository"},
                    }
                ],
            }
        },
    }
    registries = json.loads((whole.policy / "registries.d" / "mrtd.yaml").read_bytes())
    assert registries == {"docker": {OURS: {"use-sigstore-attachments": True}}}


def test_keys_follow_one_another(rendered: Rendered) -> None:
    rendered.key("old.pub")
    rendered.key("new.pub")
    assert rendered.render(images_toml(sources={OURS: ("old.pub", "new.pub")})) == 0
    policy = json.loads((rendered.policy / "policy.json").read_bytes())
    names = [Path(p).name for p in policy["transports"]["docker"][OURS][0]["keyPaths"]]
    assert names == ["old.pub", "new.pub"]
    assert sorted(p.name for p in (rendered.policy / "keys").iterdir()) == ["new.pub", "old.pub"]


def test_rendering_again_changes_nothing(whole: Rendered) -> None:
    before = {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in whole.policy.rglob("*") if p.is_file()
    }
    assert whole.render(whole.toml.read_text(encoding="utf-8")) == 0
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before}
    assert [p.name for p in whole.policy.parent.iterdir()] == ["containers"]
    assert stat.S_IMODE(whole.launcher.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("kind", "name"),
    [("differs", "policy.json"), ("missing", "keys/one.pub"), ("mode", "dd-podman"),
     ("unexpected", "registries.d/more.yaml"), ("differs", "registries.d/mrtd.yaml")],
)  # fmt: skip
def test_a_difference_is_named(whole: Rendered, kind: str, name: str) -> None:
    path = whole.policy / name
    if kind == "missing":
        path.unlink()
    elif kind == "mode":
        path.chmod(0o644)
    elif name == "policy.json":
        path.unlink()
        path.symlink_to("/dev/null")
    else:
        path.write_text("{}", encoding="utf-8")
    words = ("render", "--images", str(whole.toml), "--out", str(whole.policy))
    code, report = problem(*words, "--check")
    assert (code, report["drift"]) == (1, [{"kind": kind, "name": name}])
    assert problem(*words)[0] == 0
    assert problem(*words, "--check")[0] == 0


def test_a_folder_of_somebody_else_stays(whole: Rendered, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "policy.json").write_text("mine", encoding="utf-8")
    code, report = problem("render", "--images", str(whole.toml), "--out", str(other))
    assert code == 2
    assert "is no rendered policy" in str(report)
    assert [p.name for p in other.iterdir()] == ["policy.json"]
    assert problem("render", "--images", str(whole.toml), "--out", str(whole.toml))[0] == 2


def test_what_cannot_be_finished_leaves_the_old_one(
    whole: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = (whole.policy / "policy.json").read_bytes()
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    assert whole.render(images_toml()) == 2
    assert (whole.policy / "policy.json").read_bytes() == old
    assert [p.name for p in whole.policy.parent.iterdir()] == ["containers"]


def test_an_expired_exception_is_not_rendered(whole: Rendered) -> None:
    old = (whole.policy / "policy.json").read_bytes()
    whole.toml.write_text(images_toml(exceptions={THIRD: TODAY}), encoding="utf-8")
    words = ("render", "--images", str(whole.toml), "--out", str(whole.policy))
    code, report = problem(*words)
    error = report["error"]
    assert isinstance(error, dict)
    assert (code, [one["code"] for one in error["refusals"]]) == (1, ["exception_expired"])
    assert "an owner: needed" in error["message"]
    assert (whole.policy / "policy.json").read_bytes() == old
    assert problem(*words, "--check")[0] == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no public key of ECDSA P-256"),
        (b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "is a private key"),
        (b"-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n-----END PUBLIC KEY-----\n", "is no public key"),
        (b"-----BEGIN PUBLIC KEY-----\n=\n-----END PUBLIC KEY-----\n", "is no public key"),
    ],
)
def test_a_key_is_a_public_key(data: bytes, said: str) -> None:
    with pytest.raises(ImagesError, match=said) as caught:
        check_key(data, origin="k.pub")
    assert "c2VjcmV0" not in str(caught.value)


def test_a_point_beside_the_curve_is_no_key(rendered: Rendered) -> None:
    rendered.key("one.pub")
    lines = (rendered.folder / "keys" / "one.pub").read_bytes().splitlines()
    key = bytearray(base64.b64decode(b"".join(lines[1:-1])))
    key[-1] ^= 1
    text = base64.encodebytes(bytes(key)).replace(b"\n", b"")
    pem = b"\n".join([lines[0], text[:64], text[64:], lines[-1], b""])
    with pytest.raises(ImagesError, match="is no public key"):
        check_key(pem, origin="k.pub")


def test_a_missing_key_is_named(rendered: Rendered) -> None:
    assert rendered.render(images_toml(sources={OURS: ("none.pub",)})) == 2
    assert not rendered.policy.exists()


def test_the_workload_brings_all_files(whole: Rendered, tmp_path: Path) -> None:
    workload = json.loads((whole.policy / "podman-bootstrap" / "workload.json").read_bytes())
    assert workload["app_name"] == "podman-bootstrap"
    assert workload["cmd"][:3] == ["/bin/busybox", "sh", "-c"]
    script = workload["cmd"][3]
    assert "insecureAcceptAnything" in script  # the exception by digest, and nothing else:
    assert script.count("insecureAcceptAnything") == 1
    assert SIGNER in script
    path = tmp_path / "bootstrap.sh"
    path.write_text(script, encoding="utf-8")
    for name in (path, whole.launcher):
        command = [str(require_tool("shellcheck")), "--shell=sh", str(name)]
        checked = subprocess.run(command, capture_output=True, check=False, timeout=120)
        assert checked.stdout.decode() == ""


def test_trusted_root_comes_along(rendered: Rendered) -> None:
    text = images_toml(guest="trusted_root = true")
    assert rendered.render(text) == 2
    for wrong in ("[]", "{", '{"mediaType": "text/plain"}'):
        (rendered.folder / "trusted_root.json").write_text(wrong, encoding="utf-8")
        assert rendered.render(text) == 2
    kind = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
    (rendered.folder / "trusted_root.json").write_text(
        f'{{"mediaType": "{kind}"}}', encoding="utf-8"
    )
    assert rendered.render(text) == 0
    assert kind in (rendered.policy / "trusted_root.json").read_text(encoding="utf-8")


def test_the_policy_of_an_image_is_not_written_at_boot(rendered: Rendered) -> None:
    assert rendered.render(images_toml(folder="/etc/containers")) == 0
    workload = json.loads((rendered.policy / "podman-bootstrap" / "workload.json").read_bytes())
    assert 'put "$folder' not in workload["cmd"][3]
    assert '[ -s "$folder/policy.json" ]' in workload["cmd"][3]


def test_the_projects_own_file_renders(rendered: Rendered) -> None:
    own = Path(__file__).resolve().parents[3] / "images" / "images.toml"
    out = rendered.folder / "out"
    assert problem("render", "--images", str(own), "--out", str(out))[0] == 0
    assert (out / "policy.json").exists()


CERTIFICATE = "Y2VydGlmaWNhdGU="
LOG = {"rawBytes": "a2V5", "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
NEW_LOG = {"rawBytes": "bmV3", "keyDetails": "PKIX_ED25519"}
# What knows the field rejects the image, and not the policy.
KNOWS = """\
#!/bin/sh
grep -q buildSignerURI policy.json 2>/dev/null || exec {skopeo} "$@"
echo 'Source image rejected: missing annotation' >&2
exit 1
"""


def enforcing(rendered: Rendered, **changes: object) -> str:
    """Settings with which podman is to enforce the workflow, and their trusted root."""
    root = {
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": CERTIFICATE}]}}],
        "tlogs": [{"publicKey": LOG}, {"publicKey": NEW_LOG}],
        **changes,
    }
    (rendered.folder / "trusted_root.json").write_text(json.dumps(root), encoding="utf-8")
    rendered.key("one.pub")
    guest = "trusted_root = true\nenforce_workflow = true"
    return images_toml(sources={OURS: ("one.pub",)}, guest=guest)


def test_podman_enforces_the_workflow_where_it_can(rendered: Rendered, skopeo: Path) -> None:
    text = enforcing(rendered)
    assert rendered.render(text, "--skopeo", str(skopeo)) == 1  # no release reads it
    assert not rendered.policy.exists()
    program = rendered.folder / "skopeo"
    program.write_text(KNOWS.format(skopeo=skopeo), encoding="utf-8")
    program.chmod(0o755)
    assert rendered.render(text, "--skopeo", str(program)) == 0
    path = rendered.policy / "policy.json"
    policy = json.loads(path.read_bytes())
    key, workflow = policy["transports"]["docker"][OURS]
    assert key["keyPath"].endswith("one.pub")
    assert workflow["fulcio"]["buildSignerURI"] == SIGNER
    authority = base64.b64decode(workflow["fulcio"]["caData"]).decode()
    assert authority == f"-----BEGIN CERTIFICATE-----\n{CERTIFICATE}\n-----END CERTIFICATE-----\n"
    assert b"a2V5" in base64.b64decode(workflow["rekorPublicKeyData"])
    # Of a policy that has the field that is known instead, skopeo finds nothing else unknown.
    words = ("lint", str(path), "--skopeo", str(skopeo))
    report = problem(*words)[1]
    assert "Unknown key" in str(report["findings"])
    assert "buildSignerURI" in str(report["findings"])
    path.write_text(path.read_text("utf-8").replace("buildSignerURI", "subjectEmail"), "utf-8")
    assert "policy_invalid" not in str(problem(*words)[1])


@pytest.mark.parametrize(
    "changes",
    [{"tlogs": []}, {"tlogs": 7}, {"tlogs": [{"publicKey": NEW_LOG}]},
     {"certificateAuthorities": []}, {"certificateAuthorities": [{}]}],
)  # fmt: skip
def test_a_trusted_root_without_keys_enforces_nothing(
    rendered: Rendered, changes: dict[str, object]
) -> None:
    assert rendered.render(enforcing(rendered, **changes)) == 2


def test_enforcing_takes_a_trusted_root(rendered: Rendered) -> None:
    assert rendered.render(images_toml(guest="enforce_workflow = true")) == 2
