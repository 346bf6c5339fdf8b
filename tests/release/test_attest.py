"""``attest`` end to end: sigstore's own signing path, GitHub's API and the verifier, offline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mrtd.reference import read_reference_values
from tests.lab.identity import MAIN, REPOSITORY, WORKFLOW
from tests.release.stage import Stage, measured, values_of


def test_dry_run_signs_and_uploads_nothing(lab: Stage) -> None:
    ran = lab.attest("--dry-run")
    assert ran.code == 0, ran.err
    assert "nothing was signed or uploaded" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    out = lab.folder / "out-v1.0.0"
    assert {path.name for path in out.iterdir()} == {
        "launch.bin", "mrtd-reference.json", "mrtd.bin"
    }  # fmt: skip
    assert read_reference_values((out / "mrtd-reference.json").read_bytes()).release.sequence == 5
    assert lab.github.stored == []
    assert lab.server.counts == {}


def test_a_release_is_signed_published_and_taken_by_the_verifier(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    image = lab.folder / "image.qcow2"
    image.write_bytes(b"an image")
    ran = lab.attest("--artifact", image)
    assert ran.code == 0, ran.err
    assert "verified  the verifier admits 1 shapes" in ran.out
    assert f"https://github.com/{REPOSITORY}/{WORKFLOW}@{MAIN}" in ran.out.replace(
        "\n          ", ""
    )
    (values,) = lab.stored()
    (launch,) = values.launches
    assert (values.release.tag, values.release.sequence) == ("v1.0.0", 5)
    assert values.release.commit == lab.environ["GITHUB_SHA"]
    registers = measured().registers
    found = {name: str(rule.value) for name, rule in launch.registers.items()}
    assert found == registers
    assert [(a.name, a.sha256) for a in values.artifacts] == [
        ("image.qcow2", hashlib.sha256(b"an image").hexdigest())
    ]
    assert release.names() == {
        "launch.bin", "mrtd-reference.json", "mrtd-reference.sigstore.json", "mrtd.bin"
    }  # fmt: skip
    assert release.data("mrtd.bin").hex() == registers["mrtd"]
    assert hashlib.sha256(release.data("launch.bin")).hexdigest() == launch.launch_digest
    assert values_of(release.data("mrtd-reference.sigstore.json")) == values


def test_a_second_run_finds_the_first_and_adds_nothing(lab: Stage) -> None:
    release = lab.github.release("v1.0.0")
    assert lab.attest().code == 0
    before = (len(lab.github.stored), release.names(), len(lab.server.certificates))
    again = lab.attest()
    assert again.code == 0, again.err
    assert (len(lab.github.stored), release.names(), len(lab.server.certificates)) == before
    assert "was there" in again.out


def test_the_next_release_keeps_the_one_before_and_retires_the_one_before_that(
    lab: Stage,
) -> None:
    for number, tag in enumerate(("v1.0.0", "v1.1.0", "v1.2.0")):
        lab.github.release(tag)
        ran = lab.attest(lab.image(number), tag=tag)
        assert ran.code == 0, ran.err
        lab.commit(2)
    newest = lab.stored()[-1]
    assert [(r.tag, r.sequence) for r in newest.lifecycle.current] == [("v1.1.0", 7)]
    assert [(r.tag, r.sequence) for r in newest.lifecycle.retired] == [("v1.0.0", 5)]


def test_json_and_outputs_of_the_step(lab: Stage) -> None:
    outputs = lab.folder / "outputs"
    ran = lab.attest("--json", GITHUB_OUTPUT=str(outputs))
    assert ran.code == 0, ran.err
    assert ran.json["values"]["release"]["tag"] == "v1.0.0"
    lines = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    assert Path(lines["bundle"]).is_file()
    assert json.loads(Path(lines["document"]).read_bytes())["schema"] == "mrtd.reference/1"
    assert lines["sequence"] == "5"
    assert [name for name, _ in ran.json["subjects"]] == ["tdx-mrtd", "tdx-launch"]
