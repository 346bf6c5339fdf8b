"""npm packages: which a platform gets, and that a tarball is what was locked."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import images
from release.npm import MalformedPackage, Package, read_package_lock, tarball_url, unpack
from release.oci_layer import Entry

REGISTRY = "https://registry.example"
PLATFORMS = ("linux/amd64", "linux/arm64")
INTEGRITY = "sha512-" + "A" * 86 + "=="


def entry(**changes: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "integrity": INTEGRITY, **changes}


def read(packages: dict[str, Any], version: int = 3) -> tuple[Package, ...]:
    tree = {"lockfileVersion": version, "packages": packages}
    return read_package_lock(tree, registry=REGISTRY, platforms=PLATFORMS, origin="test")


def package_of(tarball: bytes) -> Package:
    return Package(
        path="node_modules/a", name="a", version="1.0.0", resolved=f"{REGISTRY}/a.tgz",
        integrity=images.integrity(tarball), platforms=PLATFORMS,
    )  # fmt: skip


def test_package_lock() -> None:
    found = read(
        {
            "": {"name": "image"},
            "node_modules/b": entry(license="MIT"),
            "node_modules/b/node_modules/@s/c": entry(resolved="https://other.example/c.tgz"),
            "node_modules/a": entry(cpu=["x64"], os=["linux"], libc=["glibc"], optional=True),
            "node_modules/musl": entry(libc=["musl"], optional=True),
            "node_modules/mac": entry(os=["darwin"]),
            "node_modules/not": entry(os=["!linux"]),
            "node_modules/not-arm": entry(cpu=["!arm64"]),
            "node_modules/dev": entry(dev=True),
            "node_modules/b/node_modules/inside": entry(inBundle=True),
        }
    )
    assert [(one.path, one.platforms) for one in found] == [
        ("node_modules/a", ("linux/amd64",)),
        ("node_modules/b", PLATFORMS),
        ("node_modules/b/node_modules/@s/c", PLATFORMS),
        ("node_modules/not-arm", ("linux/amd64",)),
    ]
    assert [one.resolved for one in found[1:3]] == [
        "https://registry.example/b/-/b-1.0.0.tgz",
        "https://other.example/c.tgz",
    ]
    assert found[2].name == "@s/c"
    assert tarball_url(REGISTRY, "@s/c", "2.0.0") == "https://registry.example/@s/c/-/c-2.0.0.tgz"


@pytest.mark.parametrize(
    "packages",
    [
        {"node_modules/../../etc": entry()},
        {"/etc": entry()},
        {"node_modules/a": entry(integrity="sha1-abc")},
        {"node_modules/a": {"version": "1.0.0"}},
        {"node_modules/a": entry(version="../1")},
        {"node_modules/a": entry(resolved="git+ssh://git@example/a")},
        {"node_modules/a": entry(resolved="file:../a")},
        {"node_modules/a": entry(name="--x y")},
    ],
)
def test_packages_that_are_not_locked_by_digest(packages: dict[str, Any]) -> None:
    with pytest.raises(MalformedPackage):
        read(packages)


def test_other_lock_files() -> None:
    others: list[object] = [None, [], {}, {"lockfileVersion": 3}]
    for tree in (*others, {"lockfileVersion": 2, "packages": {}}):
        with pytest.raises(MalformedPackage, match=r"package-lock\.json"):
            read_package_lock(tree, registry=REGISTRY, platforms=PLATFORMS, origin="test")


def test_unpack() -> None:
    tarball = images.npm_tarball({"name": "a"}, {"bin/a": b"#!", "lib/b.js": b"1"})
    assert unpack(package_of(tarball), tarball) == {
        "package.json": Entry(b'{"name": "a"}'),
        "bin/a": Entry(b"#!", executable=True),
        "lib/b.js": Entry(b"1"),
    }


def test_another_tarball() -> None:
    one, other = (images.npm_tarball({"name": name}, {}) for name in "ab")
    with pytest.raises(MalformedPackage, match="is not the tarball that was locked"):
        unpack(package_of(one), other)


@pytest.mark.parametrize("name", ["package/../../etc/passwd", "/etc/passwd", "package"])
def test_names_that_lead_elsewhere(name: str) -> None:
    tarball = tar([(name, {})])
    with pytest.raises(MalformedPackage):
        unpack(package_of(tarball), tarball)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices(kind: bytes) -> None:
    tarball = tar([("package/x", {"type": kind, "linkname": "/etc/passwd"})])
    with pytest.raises(MalformedPackage, match="no regular file"):
        unpack(package_of(tarball), tarball)


def test_a_sparse_file_has_no_exabyte_of_zeros() -> None:
    headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 60)}
    tarball = tar([("package/x", {"pax_headers": headers})])
    with pytest.raises(MalformedPackage, match="no regular file"):
        unpack(package_of(tarball), tarball)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_package_or_an_error_of_ours(data: bytes) -> None:
    for tarball in (data, gzip.compress(data)):
        try:
            unpack(package_of(tarball), tarball)
        except MalformedPackage:
            continue


@given(st.integers(0, 400), st.integers(1, 255))
def test_broken_tarballs(position: int, flip: int) -> None:
    whole = bytearray(images.npm_tarball({"name": "a"}, {"b": b"c" * 200}))
    whole[position % len(whole)] ^= flip
    tarball = bytes(whole)
    try:
        unpack(package_of(tarball), tarball)
    except MalformedPackage:
        return


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.npm._CONTENTS", 10_000)
    tarball = images.npm_tarball({"name": "a"}, {"zeros": bytes(100_000)})
    with pytest.raises(MalformedPackage, match="more than 10000 bytes"):
        unpack(package_of(tarball), tarball)


def test_written_packages_are_checked() -> None:
    good = package_of(b"")
    good.check(origin="test")
    with pytest.raises(MalformedPackage):
        msgspec.structs.replace(good, path="node_modules/../x").check(origin="test")


def tar(members: list[tuple[str, dict[str, Any]]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, changes in members:
            member = tarfile.TarInfo(name)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member)
    return out.getvalue()
