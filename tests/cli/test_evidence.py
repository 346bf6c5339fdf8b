"""``mrtd evidence``: from the script to a bundle that can be passed on."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from fixtures.quotes import build_quote
from mrtd.cli.main import main
from mrtd.evidence.bundle import bundle_of, encode_bundle, read_bundle
from mrtd.evidence.collector import collector_script

CMDLINE = b"console=ttyS0 password=hunter2222\n"


def payload(files: dict[str, bytes], *, framed: bool = True) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    data = stream.getvalue()
    return b"mrtd.payload/1 %d\n" % len(data) * framed + data


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "boot.zip"
    files = {"proc/cmdline": CMDLINE, "tdx/quote": build_quote(), "pcr-sha384/0": b"00" * 48}
    files["collector/messages"] = b"log/CCEL: there is no \x1b[31m\n"
    path.write_bytes(encode_bundle(bundle_of(files)))
    return path


def test_collect_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "collect"]) == 0
    assert capsys.readouterr().out.encode() == collector_script()


@pytest.mark.parametrize("framed", [True, False])
def test_pack_what_was_collected(tmp_path: Path, framed: bool) -> None:  # noqa: FBT001
    source, spec, quote = (tmp_path / name for name in ("boot.mrtd", "spec", "quote"))
    source.write_bytes(payload({"proc/cmdline": CMDLINE}, framed=framed))
    spec.write_text("# a spec\n", encoding="utf-8")
    quote.write_text(build_quote().hex() + "\n", encoding="ascii")
    out = tmp_path / "out.zip"
    options = ["--spec", str(spec), "--quote", str(quote), "--output", str(out)]
    assert main(["evidence", "pack", str(source), *options]) == 0
    assert read_bundle(out).files == {
        "tdx/quote": build_quote(),
        "proc/cmdline": CMDLINE,
        "launch.toml": b"# a spec\n",
    }


def test_pack_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "proc").mkdir(parents=True)
    (folder / "proc" / "cmdline").write_bytes(CMDLINE)
    out = tmp_path / "out.zip"
    assert main(["evidence", "pack", str(folder), "--output", str(out)]) == 0
    assert read_bundle(out).files == {"proc/cmdline": CMDLINE}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing to pack"),
        (["none"], "cannot be read"),
        (["--quote", "none"], "cannot be read"),
        (["text"], "not a tar archive"),
        (["other.tar"], "'etc/passwd' is no member of a bundle"),
        (["boot.tar", "--token", "text"], "is not the token.jwt that was collected"),
    ],
)
def test_what_cannot_be_packed(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_bytes(b"text" * 200)
    Path("other.tar").write_bytes(payload({"etc/passwd": b"x"}))
    Path("boot.tar").write_bytes(payload({"token.jwt": b"x"}))
    assert main(["evidence", "pack", *arguments, "--output", "out.zip"]) == 2
    assert reason in capsys.readouterr().err
    assert not Path("out.zip").exists()


def test_show(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "TDX quote" in out
    assert f"mrtd   {'11' * 48}" in out
    assert "1 PCRs of the SHA-384 bank" in out
    assert "\\x1b[31m" in out
    assert "\x1b" not in out
    assert main(["evidence", "show", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["registers"]["in the quote (not verified here)"]["mrtd"] == "11" * 48
    assert [member["name"] for member in found["members"]] == list(read_bundle(bundle).files)


def test_redact(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zip"
    assert main(["evidence", "redact", str(bundle), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "removed: proc/cmdline: secret (1)" in said
    assert "hunter2222" not in said
    assert b"hunter2222" not in out.read_bytes()
    assert main(["evidence", "redact", str(out), "--output", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []


def test_errors_are_json_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence", "show", str(tmp_path / "none"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "MalformedBundle"
    with pytest.raises(SystemExit) as end:
        main(["evidence"])
    assert end.value.code == 2
