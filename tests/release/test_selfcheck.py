"""The verifier's word on what was published, and what it takes for it to be yes."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fixtures import reference
from mrtd.artifacts import artifact_of
from mrtd.coverage import root_hash
from mrtd.document import RuleEntry, encode
from mrtd.launches import Measured, launch_of, shape_of, tool
from mrtd.reference import ReferenceValues, read_reference_values
from mrtd.registers import LAUNCH_REGISTERS
from mrtd.verifier.policy import MeasurementPolicy, Policy
from mrtd.verifier.statement import _match, _misfit, match_launches
from release import statement
from release.selfcheck import claims_of, policy_for
from tests.conftest import DebianParts
from tests.lab.world import claims_of as claims_of_json
from tests.lab.world import policy_of
from tests.release.stage import Stage, measured

ROOT = Path(__file__).resolve().parents[2]
RTMR0_FREE = MeasurementPolicy(allow_unpinned_rtmr0=True)
MRTD_ONLY = MeasurementPolicy(mrtd_only=True, required_coverage=("firmware",))


def values_of(*launches: Any) -> ReferenceValues:
    return read_reference_values(reference.encoded(reference.document(*launches)))


def without_rtmr0(shape: str) -> Any:
    made = reference.launch(shape)
    made["registers"]["rtmr0"] = reference.unpinned()
    made["coverage"][1]["status"] = "unpinned"
    return made


@pytest.mark.parametrize("policy", [MeasurementPolicy(), RTMR0_FREE, MRTD_ONLY])
@pytest.mark.parametrize("shape", ["a", "b", "free", "another"])
def test_best_launch_is_the_one_that_comparing_all_finds(
    policy: MeasurementPolicy, shape: str
) -> None:
    values = values_of(
        reference.launch("a"), without_rtmr0("free"), reference.launch("b"),
        reference.launch("c", image="other"),
    )  # fmt: skip
    claims = claims_of_json(reference.launch(shape, image="image" if shape != "another" else "x"))
    best = match_launches(values, claims, policy)[0]
    every = sorted((_match(one, claims, policy) for one in values.launches), key=_misfit)
    assert best == every[0]


def test_accepted_inputs_have_to_be_accepted_by_control_planes_too(lab: Stage) -> None:
    rows = tuple(
        row if row.input != "rootfs"
        else msgspec.structs.replace(row, status="not measured", registers=(), note="ext4")
        for row in measured().coverage
    )  # fmt: skip
    path = lab.document(coverage=rows)
    assert lab.attest(path, "--json").code == 1
    ran = lab.attest(path, "--accept-unmeasured", "rootfs=writable, see #12", "--json")
    assert ran.code == 0, ran.err
    assert "rootfs_unmeasured" in ran.json["check"]["labels"]
    (relaxed,) = ran.json["check"]["relaxed"]
    assert "rootfs" not in relaxed
    assert "measurements.required_coverage" in relaxed
    (row,) = [r for r in lab.stored()[0].launches[0].coverage if r.input == "rootfs"]
    assert (row.status, row.accepted) == ("not measured", "writable, see #12")


def test_unpinned_rtmr0_is_released_where_control_planes_allow_it(lab: Stage) -> None:
    made = msgspec.structs.replace(
        measured(),
        registers=measured().registers | {"rtmr0": None},
        rules=measured().rules | {"rtmr0": RuleEntry("unpinned", "the host's ACPI tables")},
    )
    path = lab.folder / "unpinned.json"
    path.write_bytes(encode(made))
    ran = lab.attest(path, "--json", DD_TRUSTED_ALLOW_UNPINNED_RTMR0="1")
    assert ran.code == 0, ran.err
    assert "host_acpi_unmeasured" in ran.json["check"]["labels"]


def test_same_image_in_two_releases_is_verified_for_the_new_one(lab: Stage) -> None:
    for tag in ("v1.0.0", "v1.1.0"):
        lab.github.release(tag)
        ran = lab.attest(tag=tag)
        assert ran.code == 0, ran.err
        lab.commit()
    assert len(lab.github.stored) == 2


def test_several_shapes_have_files_of_their_own_where_they_differ(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    ran = lab.attest(f"one={lab.image(1)}", f"two={lab.image(2)}", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["check"]["shapes"] == ["one", "two"]
    assert {"mrtd.bin", "launch-one.bin", "launch-two.bin"} <= release.names()


def test_policy_of_the_control_planes_can_be_given(lab: Stage) -> None:
    ids = 'repository_id = "1000001"\nowner_id = "2000002"\n'
    (lab.folder / "policy.toml").write_text(f"[identity]\n{ids}triggers = ['workflow_dispatch']\n")
    assert lab.attest("--policy", lab.folder / "policy.toml").code == 1
    lab.claims["event_name"] = lab.environ["GITHUB_EVENT_NAME"] = "workflow_dispatch"
    ran = lab.attest("--policy", lab.folder / "policy.toml")
    assert ran.code == 0, ran.err


def test_release_branch_is_demanded(lab: Stage) -> None:
    workflow = lab.environ["GITHUB_WORKFLOW_REF"].replace("refs/heads/main", "refs/tags/v1")
    ran = lab.attest(GITHUB_WORKFLOW_REF=workflow, GITHUB_REF="refs/tags/v1")
    assert ran.code == 2
    assert "not on a tag" in ran.err


def test_ids_are_demanded(lab: Stage) -> None:
    ran = lab.attest(GITHUB_REPOSITORY_ID="")
    assert ran.code == 2
    assert "DD_TRUSTED_REPO_ID" in ran.err


def test_cosign_has_the_second_word(lab: Stage, debian: DebianParts) -> None:
    ran = lab.attest("--cosign", debian.cosign, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["opinion"]["outcome"] == "agrees"


def test_cosign_that_disagrees_stops_the_release(lab: Stage) -> None:
    liar = lab.folder / "cosign"
    options = "--bundle --trusted-root --certificate-identity --certificate-oidc-issuer"
    liar.write_text(
        f'#!/bin/sh\n[ "$2" = --help ] && echo "{options} --type --digest --digestAlg" && exit 0\n'
        "echo nope >&2; exit 1\n"
    )
    liar.chmod(0o755)
    ran = lab.attest("--cosign", liar, "--json")
    assert ran.code == 1
    assert [one["code"] for one in ran.json["error"]["refusals"]] == ["second_opinion"]
    assert lab.github.stored == [], "before anything is published"


def test_claims_are_those_of_the_launch() -> None:
    launch = launch_of(Measured("shape", measured(), "doc"))
    policy: Policy = policy_of()
    report = claims_of(launch, policy).report
    found = {name: str(report.registers[name]) for name in LAUNCH_REGISTERS}
    assert found == measured().registers
    assert policy_for(policy, [launch])[1] == ()


def test_components_and_names() -> None:
    launch = launch_of(Measured("shape", measured(), "doc"))
    parts, events = launch.components, measured().events
    digests = {(e.register, e.input): e.digest for e in events}
    assert str(parts.initrd) == digests["rtmr2", "initrd"]
    assert str(parts.cmdline) == digests["rtmr2", "cmdline"]
    assert str(parts.kernel_authenticode) == digests["rtmr1", "kernel"]
    acpi = b"".join(bytes.fromhex(e.digest or "") for e in events if e.input == "acpi")
    assert parts.acpi is not None
    assert parts.acpi.raw == hashlib.sha384(acpi).digest()
    assert str(parts.firmware) == measured().inputs[0].sha384
    assert parts.root_hash is None
    assert shape_of(measured().spec) == "q35-2cpu-2gib"
    assert launch.spec["schema"] == "mrtd.launch/1"
    assert tool().name == "mrtd"


HASH = "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"

SALT = "ab" * 32


@pytest.mark.parametrize(
    ("cmdline", "expected"),
    [
        (f"console=ttyS0 roothash={HASH.upper()} quiet", HASH),
        (f"usrhash={HASH}", HASH),
        (f"systemd.verity_root_hash={HASH}", None),  # a device: systemd-veritysetup-generator(8)
        (
            f'dm-mod.create="dm,,0,ro,0 8 verity 1 254:0 254:1 4096 4096 1 1 sha256 {HASH} {SALT}"',
            HASH,
        ),
        ("roothash=1234", None),
        (f"notroothash={HASH}", None),
        (f"roothash={'a' * 130}", None),
        ("root=/dev/sda1", None),
    ],
)
def test_root_hash_of_a_command_line(cmdline: str, expected: str | None) -> None:
    assert root_hash(cmdline) == expected


def test_artifacts_are_read_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    found = artifact_of(path)
    assert (found.name, found.size) == ("image.qcow2", 64 << 20)


def test_statement_that_nobody_could_download_is_refused() -> None:
    noise = b"".join(hashlib.sha512(b"%d" % n).digest() for n in range(3 << 13))
    assert [one.code for one in statement.of_size(noise)] == ["too_large"]
    assert list(statement.of_size(bytes(3 << 19))) == []
    assert statement.size_warning(bytes(3 << 19))
    assert statement.size_warning(b"small") == ()


def test_private_instance_is_not_signed_for(lab: Stage) -> None:
    ran = lab.attest(DD_TRUSTED_VISIBILITY="private")
    assert ran.code == 2
    assert "actions/attest" in ran.err


def test_every_code_is_explained() -> None:
    code = re.compile(r'(?:Refusal\(|refusals=\(\()\s*"([a-z_]+)"')
    sources = [path.read_text() for path in (ROOT / "release").glob("*.py")]
    found = {one for text in sources for one in code.findall(text)}
    assert len(found) > 15
    page = (ROOT / "docs" / "release.md").read_text()
    assert [one for one in sorted(found) if f"`{one}`" not in page] == []


def test_job_shows_no_secret(lab: Stage) -> None:
    job = lab.job()
    shown = repr(job) + repr(job.token) + str(job.token)
    assert not [secret for secret in lab.secrets() if secret in shown]


@pytest.mark.parametrize("verb", ["attest", "revoke", "status", "recheck"])
def test_help_of_the_installed_command(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "release", verb, "--help"],
        capture_output=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"--policy" in done.stdout
    assert done.stderr == b""
