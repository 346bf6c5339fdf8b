"""The workload podman-bootstrap and dd-podman as a guest runs them: real podman, real registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mrtd.images.reference import ImageReference, Repository
from mrtd.images.signing import SigningKey
from mrtd.images.skopeo import Skopeo
from tests.conftest import debian_part, require_tool
from tests.lab.guest_root import GuestRoot, namespaces
from tests.lab.registry import registry
from tests.release.policy.guest import Rendered, images_toml, skopeo_key, write_layout

PASSWORD = "a password"  # noqa: S105 - of a key that is made here
STATE = "/var/lib/easyenclave"
# What dd's podman-static brings, and a configuration that lets this machine run containers: the
# registry on loopback has no TLS, and cgroups may be another's.
PREPARE = """\
set -eu
local={state}/bin/podman-linux-amd64/usr/local
mkdir -p $local/bin $local/lib/podman
cp /usr/bin/podman /usr/bin/crun $local/bin
cp /usr/bin/conmon $(find /usr/lib/podman /usr/libexec/podman -name netavark) $local/lib/podman
printf '[[registry]]\\nlocation = "{host}"\\ninsecure = true\\n' >/etc/containers/registries.conf
busybox sh /shared/bootstrap
printf '[containers]\\ncgroups = "disabled"\\n' >>{state}/data/.podman/containers.conf
export PATH={state}/bin:$PATH
set +e
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest root with its policy, and images in a registry."""

    root: GuestRoot
    host: str
    ours: ImageReference
    unsigned: ImageReference
    third: ImageReference

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.root.run(PREPARE.format(state=STATE, host=self.host) + script)


@pytest.fixture(scope="module")
def guest(skopeo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    unshare = namespaces()
    if unshare is None:
        pytest.skip("no mount namespace can be made here (root, or user namespaces)")
    folder = tmp_path_factory.mktemp("guest")
    busybox = debian_part("busybox-trixie").file("usr/bin/busybox")
    private, public = skopeo_key(skopeo, folder, PASSWORD)
    tool, key = Skopeo.find(skopeo), SigningKey(private.decode(), PASSWORD)
    with registry(require_tool("registry"), folder / "registry") as running:

        def push(path: str, text: str, sign: SigningKey | None = None) -> ImageReference:
            layout = folder / text
            digest = write_layout(layout, program=busybox.read_bytes(), text=text)
            repository = Repository(running.host, path)
            tool.push(layout, repository, text, sign=sign)
            return repository.at(digest)

        ours, unsigned = push("o/ours", "ours", key), push("o/ours", "unsigned")
        third = push("x/third", "third")
        rendered = Rendered(folder)
        rendered.key("release.pub", public)
        text = images_toml(
            folder=f"{STATE}/policy/.config/containers",
            podman=f"{STATE}/bin/podman",
            sources={str(ours.repository): ("release.pub",)},
            exceptions={str(third): "2999-01-01"},
        )
        assert rendered.render(text) == 0
        workload = (rendered.policy / "podman-bootstrap" / "workload.json").read_bytes()
        (folder / "bootstrap").write_text(json.loads(workload)["cmd"][3], encoding="utf-8")
        root = GuestRoot(unshare, debian_part("podman-sid").folder, busybox, folder)
        yield Guest(root, running.host, ours, unsigned, third)


def test_podman_pulls_what_the_policy_admits(guest: Guest) -> None:
    done = guest.run(
        f"dd-podman pull {guest.ours} || exit 10\n"
        f"dd-podman pull {guest.third} || exit 11\n"
        f"dd-podman pull {guest.unsigned}; [ $? = 1 ] || exit 12\n"
        "dd-podman images --digests --noheading\n"
    )
    assert done.returncode == 0, done.stderr
    assert "podman-bootstrap: ok, storage vfs" in done.stdout
    assert guest.ours.digest in done.stdout
    assert guest.third.digest in done.stdout
    assert guest.unsigned.digest not in done.stdout
    assert "refused: " in done.stderr
    assert "no signature exists" in done.stderr


def test_the_plain_podman_is_under_the_policy_too(guest: Guest) -> None:
    done = guest.run(
        f"export CONTAINERS_POLICY_JSON=/shared/x HOME=/shared\n"
        f"podman pull -q {guest.ours} || exit 10\n"
        f"podman pull -q {guest.unsigned} && exit 11\n"
        f"podman run --rm --network=none {guest.third.repository}:third && exit 12\n"
        f"podman load -i /shared/third && exit 13\n"
        "exit 0\n"
    )
    assert done.returncode == 0, done.stderr
    assert "is rejected by policy" in done.stderr


def test_a_container_runs(guest: Guest) -> None:
    done = guest.run(
        f"dd-podman run --network=none --name one {guest.ours} || exit 10\n"
        f"dd-podman run --network=none {guest.ours} /bin/busybox sh -c 'exit 42'; echo code $?\n"
        "dd-podman inspect --format 'digest {{.ImageDigest}}' one\n"
        f"dd-podman run --network=none {guest.unsigned} && exit 11\n"
        "exit 0\n"
    )
    if done.returncode == 10 and "--map-root-user" in guest.root.unshare:
        pytest.skip(f"containers cannot be run in a user namespace here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    assert "ours" in done.stdout
    assert "code 42" in done.stdout
    assert f"digest {guest.ours.digest}" in done.stdout


def test_what_another_boot_left_is_gone(guest: Guest) -> None:
    done = guest.run(
        f"dd-podman pull {guest.ours} || exit 10\n"
        f"echo '{{}}' >{STATE}/policy/.config/containers/registries.conf\n"
        "busybox sh /shared/bootstrap\n"
        "podman images --noheading; echo end\n"
        f"[ ! -e {STATE}/policy/.config/containers/registries.conf ]\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("/policy.json\nend\n")


def test_bootstrap_leaves_running_containers_alone(guest: Guest) -> None:
    done = guest.run(
        f"dd-podman run -d --network=none --name one {guest.ours} /bin/busybox sleep 60\n"
        "[ $? = 0 ] || exit 10\n"
        "busybox sh /shared/bootstrap; echo code $?\n"
        "dd-podman ps --format '{{.Names}} runs'\n"
        "dd-podman rm --force --time 0 one >/dev/null\n"
    )
    if done.returncode == 10 and "--map-root-user" in guest.root.unshare:
        pytest.skip(f"containers cannot be run in a user namespace here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    assert "containers are running: nothing is changed" in done.stderr
    assert "code 1\none runs\n" in done.stdout
