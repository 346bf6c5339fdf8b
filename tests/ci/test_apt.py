"""Packages are found through the system's own sources, whatever form those have."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from ci.apt import Archive, PackagesUnavailable, Suites, find_archive, run, unpack

DEB822 = """\
# a comment
Types: deb
URIs: http://deb.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/example.gpg

Types: deb
URIs: http://deb.example/debian-security
Suites: bookworm-security
Components: main
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


def test_deb822_source(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/debian.sources", DEB822)
    found = find_archive("bookworm", etc_apt=tmp_path)
    keyring = "/usr/share/keyrings/example.gpg"
    assert found == Archive("http://deb.example/debian", keyring, "main")


def test_embedded_key_keeps_its_lines(tmp_path: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n"
    text = "Types: deb\nURIs: http://a.example/\nSuites: noble\nComponents: main\n" + key
    write(tmp_path, "sources.list.d/ubuntu.sources", text)
    signed_by = find_archive("noble", etc_apt=tmp_path).signed_by
    assert signed_by == "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME"


@pytest.mark.parametrize(
    ("line", "signed_by"),
    [
        ("deb http://a.example/debian bookworm main contrib # why", ""),
        ("deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main", "/k.gpg"),
    ],
)
def test_one_line_source(tmp_path: Path, line: str, signed_by: str) -> None:
    write(tmp_path, "sources.list", f"deb-src http://b.example/ bookworm main\n{line}\n")
    found = find_archive("bookworm", etc_apt=tmp_path)
    assert found == Archive("http://a.example/debian", signed_by, "main")


@pytest.mark.parametrize(
    "text",
    [
        "",
        DEB822.replace("Types: deb", "Enabled: no\nTypes: deb"),
        DEB822.replace("Types: deb", "Types: deb-src"),
        DEB822.replace("Suites: bookworm bookworm-updates", "Suites: bookworm-updates"),
    ],
)
def test_no_source_is_an_error_that_names_the_suite(tmp_path: Path, text: str) -> None:
    write(tmp_path, "sources.list.d/debian.sources", text)
    with pytest.raises(PackagesUnavailable, match="'bookworm'"):
        find_archive("bookworm", etc_apt=tmp_path)


def test_no_mirror_is_an_error_that_says_what_apt_said(tmp_path: Path) -> None:
    suites = Suites(tmp_path, Archive("file:/nowhere", "", "main"), ["bookworm"])
    with pytest.raises(PackagesUnavailable, match="exited with 100: E: "):
        suites.update()


def test_commands_fail_as_unavailable(tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="not installed"):
        run([str(tmp_path / "missing")], seconds=5)
    with pytest.raises(PackagesUnavailable, match="more than 0 s"):
        run(["sleep", "5"], seconds=0)


def build_deb(folder: Path, name: str, files: dict[str, str]) -> Path:
    root = folder / name
    for path, text in files.items():
        write(root, path, text)
    control = f"Package: {name}\nVersion: 1:2.3~4-5\nArchitecture: all\n"
    control += "Maintainer: A <a@a.example>\nDescription: x\n"
    write(root, "DEBIAN/control", control)
    deb = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", str(root), str(deb)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return deb


def test_unpacking_records_what_it_was(tmp_path: Path) -> None:
    deb = build_deb(tmp_path, "firmware", {"usr/share/x/OVMF.fd": "image"})
    package = unpack(deb, tmp_path / "out", suite="trixie")
    assert (tmp_path / "out/usr/share/x/OVMF.fd").read_text(encoding="utf-8") == "image"
    assert (package.name, package.version, package.suite) == ("firmware", "1:2.3~4-5", "trixie")
    assert package.sha256 == hashlib.sha256(deb.read_bytes()).hexdigest()
    deb.write_bytes(deb.read_bytes()[:-40])
    with pytest.raises(PackagesUnavailable, match="dpkg-deb exited with"):
        unpack(deb, tmp_path / "cut", suite="trixie")
