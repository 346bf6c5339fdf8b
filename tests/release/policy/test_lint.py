"""Lint: what the real skopeo makes of a policy, and what is wrong with it."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.images.settings import read_images
from release.cli import main
from release.policy_command import _of_lint
from release.policy_lint import LintRequest, lint
from tests.conftest import debian_part
from tests.lab.guest_root import namespaces
from tests.release.policy.guest import DIGEST, Rendered, images_toml

OURS = "ghcr.io/owner/ours"
THIRD = f"docker.io/ollama/ollama@{DIGEST}"
NOW = datetime.now(UTC).date()
OUR_IMAGES = "An image of this repository, or of one below it,"
ATTACHED = '{"use-sigstore-attachments": true}'
NOTHING = f'{{"{OURS}": {{}}}}'
ACCEPT = [{"type": "insecureAcceptAnything"}]


def day(days: int) -> str:
    return (NOW + timedelta(days=days)).isoformat()


def run(*words: str) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    code = main(["policy", *words, "--json"], stdout=out, stderr=io.StringIO())
    return code, json.loads(out.getvalue())


def ids(report: dict[str, Any]) -> list[str]:
    return [f"{one['level']} {one['id']}" for one in report["findings"]]


@pytest.fixture
def whole(rendered: Rendered) -> Rendered:
    """A rendering with a repository of ours and an exception, for where it is."""
    rendered.key("one.pub")
    text = images_toml(
        folder=rendered.policy, sources={OURS: ("one.pub",)}, exceptions={THIRD: day(90)}
    )
    assert rendered.render(text) == 0
    return rendered


def test_a_rendered_policy_is_right(whole: Rendered, skopeo: Path) -> None:
    words = ("lint", str(whole.policy), "--images", str(whole.toml), "--skopeo", str(skopeo))
    code, report = run(*words)
    assert (code, ids(report)) == (0, ["info workflow_not_enforced"])
    assert report["checked"] is True
    assert [(one["name"], one["text"]) for one in report["scopes"]] == [
        ("", "Whatever no scope names is refused."),
        (THIRD, "The content with this digest, pulled by it, runs unsigned."),
        (OURS, f"{OUR_IMAGES} runs if signed for its repository by one.pub."),
    ]
    text = io.StringIO()
    assert main(["policy", *words], stdout=text) == 0
    assert max(map(len, text.getvalue().splitlines())) <= 80


Change = Callable[[dict[str, Any], Rendered], None]


def scope(name: str, requirements: object, transport: str = "docker") -> Change:
    def change(policy: dict[str, Any], _: Rendered) -> None:
        policy["transports"].setdefault(transport, {})[name] = requirements

    return change


def ours(**fields: object) -> Change:
    def change(policy: dict[str, Any], _: Rendered) -> None:
        policy["transports"]["docker"][OURS][0].update(fields)

    return change


def default(requirements: object) -> Change:
    def change(policy: dict[str, Any], _: Rendered) -> None:
        policy["default"] = requirements

    return change


def touch(name: str, text: str | None) -> Change:
    def change(_: dict[str, Any], rendered: Rendered) -> None:
        path = rendered.policy / name
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")

    return change


def registries(scopes: dict[str, bool]) -> str:
    rows = {name: {"use-sigstore-attachments": looked} for name, looked in scopes.items()}
    return json.dumps({"docker": rows})


@pytest.mark.parametrize(
    ("change", "code", "found"),
    [
        (default(ACCEPT), 1, "error default_accepts"),
        (scope("ghcr.io/owner/more", ACCEPT), 1, "error accept_without_digest"),
        (scope("ghcr.io/owner/more:tag", ACCEPT), 1, "error accept_without_digest"),
        (scope("", ACCEPT, "containers-storage"), 1, "error accept_without_digest"),
        (scope(f"ghcr.io/owner/more@{DIGEST}", ACCEPT), 1, "error exception_unknown"),
        (scope("ghcr.io/o/m@sha512:" + "ab" * 64, ACCEPT), 1, "error digest_not_sha256"),
        (scope(f"docker.io/alpine@{DIGEST}", ACCEPT), 1, "error name_not_written_out"),
        (scope(f"ollama/ollama@{DIGEST}", ACCEPT), 1, "error name_not_written_out"),
        (scope("ghcr.io/x/y", [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]), 1,
         "warning requirement_foreign"),
        (scope("ghcr.io/x/y", [{"type": "signedBy"}]), 1, "error policy_invalid"),
        (scope("ghcr.io/x/y", []), 1, "error policy_invalid"),
        (scope("ghcr.io/x/y", 7), 1, "error policy_invalid"),
        (ours(comment="hello"), 1, "error policy_invalid"),
        (ours(signedIdentity={"type": "matchExact"}), 0, "warning identity_too_exact"),
        (ours(keyPath="/nowhere/two.pub"), 1, "error key_missing"),
        (ours(keyPath="/nowhere/two.pub"), 1, "warning key_unknown"),
        (ours(keyPath="/nowhere/\0.pub"), 1, "error key_missing"),
        (touch("keys/one.pub", None), 1, "error key_missing"),
        (touch("keys/one.pub", "nonsense"), 1, "error key_invalid"),
        (touch("keys/two.pub", "nonsense"), 0, "info key_unused"),
        (touch("registries.d/mrtd.yaml", None), 1, "error attachments_missing"),
        (touch("registries.d/mrtd.yaml", '{"docker": {}}'), 1, "error attachments_missing"),
        (touch("registries.d/mrtd.yaml", "docker:\n"), 0, "warning registries_unread"),
        (touch("registries.d/mrtd.yaml", "[]"), 0, "warning registries_unread"),
        (touch("registries.d/more.yaml", registries({OURS: True})), 1, "error registries_twice"),
        # of two scopes only the more specific one counts
        (touch("registries.d/mrtd.yaml", registries({OURS: False, "ghcr.io": True})), 1,
         "error attachments_missing"),
        (touch("registries.d/mrtd.yaml", registries({"ghcr.io/owner": True})), 0,
         "info workflow_not_enforced"),
        (touch("registries.d/mrtd.yaml", f'{{"default-docker": {ATTACHED}, "docker": {NOTHING}}}'),
         0, "info workflow_not_enforced"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(
    whole: Rendered, skopeo: Path, change: Change, code: int, found: str
) -> None:
    path = whole.policy / "policy.json"
    policy = json.loads(path.read_bytes())
    change(policy, whole)
    path.write_text(json.dumps(policy), encoding="utf-8")
    words = ("lint", str(path), "--images", str(whole.toml), "--skopeo", str(skopeo))
    got, report = run(*words)
    assert found in ids(report)
    assert got == code


@pytest.mark.parametrize(
    ("days", "code", "found"),
    [
        (0, 1, "error exception_expired"),
        (-1, 1, "error exception_expired"),
        (1, 0, "warning exception_expires_soon"),
        (30, 0, "warning exception_expires_soon"),
        (1000, 0, "warning exception_long"),
    ],
)
def test_exceptions_end(whole: Rendered, skopeo: Path, days: int, code: int, found: str) -> None:
    text = whole.toml.read_text(encoding="utf-8")
    whole.toml.write_text(text.replace(day(90), day(days)), encoding="utf-8")
    words = ("lint", str(whole.policy), "--images", str(whole.toml), "--skopeo", str(skopeo))
    got, report = run(*words)
    assert (got, found in ids(report)) == (code, True)


def test_without_skopeo_it_is_not_checked(whole: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    words = ("lint", str(whole.policy), "--images", str(whole.toml))
    code, report = run(*words)
    assert (code, report["checked"], ids(report)) == (3, False, ["warning consumer_missing"])
    assert len(report["scopes"]) == 3
    (whole.policy / "policy.json").write_text("{", encoding="utf-8")
    assert run(*words)[0] == 1
    assert run("lint", str(whole.policy), "--skopeo", "/nonexistent/skopeo")[0] == 3
    assert run("lint", str(whole.folder / "nothing"))[0] == 2


def test_a_build_that_verifies_nothing_is_found_by_what_it_does(
    whole: Rendered, patched_skopeo: Path, skopeo: Path
) -> None:
    words = ("lint", str(whole.policy), "--skopeo", str(patched_skopeo))
    code, report = run(*words)
    assert code == 1
    assert "error signature_checking_off" in ids(report)
    code, report = run("probe", "--skopeo", str(patched_skopeo))
    assert (code, report["verifies"], report["key_lists"]) == (1, False, False)
    assert "sigstore" in report["checks"][0]["text"]
    code, report = run("probe", "--skopeo", str(skopeo))
    assert (code, report["verifies"], report["key_lists"]) == (0, True, True)
    assert report["signer_uri"] is False  # no release that we know reads it


PODMAN = """\
#!/bin/sh
export CONTAINERS_CONF={folder}/containers.conf
[ "$1" = --version ] && exec {root}/podman --version
exec {unshare} sh -c 'mount -t tmpfs tmpfs /dev/shm; exec "$@"' sh {root}/podman \\
    --conmon {root}/usr/bin/conmon --runtime {root}/usr/bin/crun "$@"
"""


def test_podman_itself_is_asked(tmp_path: Path) -> None:
    unshare, part = namespaces(), debian_part("podman-sid")
    if unshare is None:
        pytest.skip("no mount namespace can be made here (root, or user namespaces)")
    root = part.folder.resolve()
    helpers = f'[engine]\nhelper_binaries_dir = ["{root}/usr/lib/podman"]\n'
    (tmp_path / "containers.conf").write_text(helpers, encoding="utf-8")
    program = tmp_path / "podman"
    program.write_text(
        PODMAN.format(folder=tmp_path, root=root, unshare=" ".join(unshare)), encoding="utf-8"
    )
    program.chmod(0o755)
    code, report = run("probe", "--podman", str(program))
    assert code == 0, report
    assert (report["verifies"], report["key_lists"], report["signer_uri"]) == (True, True, False)
    (tmp_path / "containers.conf").write_text("[engine]\nnonsense = ", encoding="utf-8")
    assert run("probe", "--podman", str(program))[0] == 3


@pytest.mark.parametrize(
    ("script", "code", "verifies"),
    [
        ("exit 0", 1, False),  # accepts everything
        ("echo 'Source image rejected: x' >&2; exit 1", 1, False),  # and nothing
        ("echo 'no space left' >&2; exit 1", 3, None),
        ("kill -9 $$", 3, None),
    ],
)
def test_controls_are_negative_and_positive(
    tmp_path: Path,
    script: str,
    code: int,
    verifies: bool | None,  # noqa: FBT001
) -> None:
    program = tmp_path / "skopeo"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit 0\n{script}\n', encoding="utf-8")
    program.chmod(0o755)
    got, report = run("probe", "--skopeo", str(program))
    assert (got, report["verifies"]) == (code, verifies)
    assert report["signer_uri"] is None  # what accepts or refuses everything has read nothing


def test_a_build_that_reads_the_workflow_is_told(whole: Rendered, tmp_path: Path) -> None:
    """What a podman will say that knows the field: it rejects the image, and not the policy."""
    program = tmp_path / "skopeo"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\n'
        "reject() { echo 'Source image rejected: missing annotation' >&2; exit 1; }\n"
        "grep -q buildSignerURI policy.json && reject\n"
        "grep -q sigstoreSigned policy.json || reject\n"
        "grep -q keyPaths policy.json || ! grep -q other.pub policy.json || reject\n"
        'case "$*" in *unsigned*) reject ;; esac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    assert run("probe", "--skopeo", str(program))[1]["signer_uri"] is True
    _, report = run("lint", str(whole.policy), "--skopeo", str(program))
    assert "info workflow_enforceable" in ids(report)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(
        ["reject", "sigstoreSigned", "insecureAcceptAnything", "/k.pub", OURS, THIRD, "matchExact"]
    )
)
KEYS = st.sampled_from(
    ["default", "transports", "docker", "", OURS, THIRD, "type", "keyPath", "keyPaths", "keyData",
     "fulcio", "signedIdentity", "buildSignerURI"]
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
REQUIREMENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["sigstoreSigned", "reject", "insecureAcceptAnything", "signedBy"])},
    optional={
        "keyPath": st.text(max_size=8) | TREES,
        "keyPaths": st.lists(st.text(max_size=8)) | TREES,
        "fulcio": TREES,
        "signedIdentity": st.fixed_dictionaries({"type": LEAVES}) | TREES,
    },
)
REQUIREMENTS = st.lists(REQUIREMENT, min_size=1, max_size=2)
NAMES = st.sampled_from([OURS, THIRD, ""]) | st.text(max_size=12)
POLICIES = TREES | st.fixed_dictionaries(
    {
        "default": REQUIREMENTS,
        "transports": st.dictionaries(
            st.sampled_from(["docker", "dir", "\x1b"]),
            st.dictionaries(NAMES, REQUIREMENTS, max_size=3),
            max_size=2,
        ),
    }
)


@given(POLICIES, TREES)
def test_whatever_a_policy_is_it_is_explained_or_refused(policy: object, scopes: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "registries.d").mkdir()
        (folder / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
        (folder / "registries.d" / "x.yaml").write_text(json.dumps(scopes), encoding="utf-8")
        settings = read_images(images_toml(exceptions={THIRD: "2999-01-01"}), origin="x")
        found = lint(LintRequest(folder, None, settings, NOW))
        assert found.exit_code in {1, 3}
        assert "\x1b" not in _of_lint(found)
