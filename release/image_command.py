"""``python -m release image``: its options, and what it prints."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from mrtd.errors import SpecError
from mrtd.images.cosign import Cosign
from mrtd.images.outcome import Identity, Key
from mrtd.images.reference import read_tag
from mrtd.images.registry_login import RegistryLogin
from mrtd.images.signing import Sigstore, read_key
from mrtd.images.skopeo import Skopeo
from release import image_publish
from release.image_build import Built, build, read_built
from release.image_lock import Locked, find_npm, lock
from release.image_policy import at_hand
from release.image_publish import Signer
from release.image_recipe import read_folder, read_lock
from release.image_sources import DEFAULT_CACHE, Sources
from release.image_verify import Trusted, Verified, verify
from release.instance import load_instance
from release.job import Job
from release.output import write_outputs
from release.publish import Trail

OUT: Final = Path("release-out") / "image"
_WIDTH: Final = 80
_ABOUT: Final = """\
An image of ours is another's, by digest, with one layer of npm packages and
files.

  names -> digests, lock.json
    python -m release image lock images/ollama-openclaw
  an OCI layout of those
    python -m release image build images/ollama-openclaw
  push, sign twice, attest the SBOM, verify three ways
    python -m release image publish --tag v1.2.3 \\
        --guest-policy guest-policy --public-key K.pub

publish is push, sign and verify in this order. Each looks first whether it is
done: after an error, run the same command again. docs/images.md explains all
of it.

The release key is in COSIGN_PRIVATE_KEY and its password in COSIGN_PASSWORD;
tokens come from the environment. None of them is ever an argument, or in a
message.
"""
_LOCK: Final = """\
Asks the base image's registry and npm what the names in image.toml stand for,
and writes lock.json beside it: commit it. Nothing is downloaded but metadata,
no script of a package is run.
"""
_BUILD: Final = """\
Takes what lock.json names and nothing else; the same recipe and lock give the
same digest anywhere (with the same zlib). No Docker engine, no root. Writes
layout/, image.json and sbom.cdx.json.
"""
_PUSH: Final = """\
Pushes what build made, byte for byte, under a tag; a tag that names another
image is refused. Also makes the tag unsigned-control: an image that is never
signed, so that verify can see that it is refused.
"""
_SIGN: Final = """\
Signs the index and the image of every platform, as this workflow (a Sigstore
bundle) and with the release key (what podman reads), and attests the SBOM.
"""
_VERIFY: Final = """\
Three ways: cosign with the workflow's identity, cosign with the release key,
and skopeo under the guest's policy, platform by platform. The base image and
the unsigned control have to be refused. exit codes: 0 all is well, 1 it is
not, 3 nobody knows.
"""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What ``push``, ``sign`` and ``publish`` did."""

    image: str
    done: tuple[str, ...]
    verified: Verified | None = None


def add(verb: argparse.ArgumentParser) -> None:
    """Add the options of ``image``."""
    raw = argparse.RawDescriptionHelpFormatter
    verb.formatter_class, verb.description = raw, _ABOUT
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, about: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=about, formatter_class=raw)
        made.add_argument("--skopeo", type=Path, metavar="PATH", help="(on the search path)")
        made.add_argument("--login", type=Path, metavar="FILE",
                          help="logins of registries, as skopeo login writes them")  # fmt: skip
        made.add_argument("--json", action="store_true", help="JSON on stdout")
        if name != "lock":
            made.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="(%(default)s)")
        return made

    one = action("lock", "write down what the names in a recipe stand for", _LOCK)
    one.add_argument("folder", type=Path, metavar="FOLDER", help="with image.toml")
    one.add_argument("--npm", type=Path, metavar="PATH", help="(on the search path)")
    one = action("build", "build an image from its lock", _BUILD)
    one.add_argument("folder", type=Path, metavar="FOLDER", help="with image.toml, lock.json")
    one.add_argument("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR",
                     help="of tarballs (%(default)s)")  # fmt: skip
    _tag(action("push", "push what was built", _PUSH))
    one = action("sign", "sign what was pushed, twice, and attest its SBOM", _SIGN)
    _trusted(one)
    _signer(one)
    one = action("verify", "is it what cosign, podman and people accept?", _VERIFY)
    _trusted(one)
    _policy(one)
    one = action("publish", "push, sign, attest, verify", _ABOUT)
    _tag(one)
    _trusted(one)
    _signer(one)
    _policy(one)


def _tag(one: argparse.ArgumentParser) -> None:
    one.add_argument("--tag", required=True, help="of the image")
    one.add_argument("--move-tag", action="store_true", help="although it names another image")


def _trusted(one: argparse.ArgumentParser) -> None:
    one.add_argument("--public-key", type=Path, required=True, metavar="PEM", help="of the release")
    one.add_argument("--identity", metavar="SAN",
                     help="of the workflow that signs; this job's by default")  # fmt: skip
    one.add_argument("--issuer", default=Identity("").issuer, help="(%(default)s)")
    one.add_argument("--trust-config", type=Path, metavar="FILE",
                     help="client trust config of another Sigstore instance")  # fmt: skip
    one.add_argument("--cosign", type=Path, metavar="PATH", help="(on the search path)")


def _signer(one: argparse.ArgumentParser) -> None:
    one.add_argument("--key", default="env:COSIGN_PRIVATE_KEY", metavar="FILE|env:NAME",
                     help="private key of the release (%(default)s)")  # fmt: skip
    one.add_argument("--identity-token", metavar="FILE",
                     help="file with an OIDC token, or env:NAME; GitHub's by default")  # fmt: skip


def _policy(one: argparse.ArgumentParser) -> None:
    one.add_argument("--guest-policy", type=Path, default=Path("guest-policy"), metavar="DIR",
                     help="that release policy render wrote (%(default)s)")  # fmt: skip


def run(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    """Run an action: exit code, text for people, report for programs."""
    runs: dict[str, Callable[[Job, argparse.Namespace], tuple[int, str, object]]] = {
        "lock": _lock,
        "build": _build,
        "push": _publish,
        "sign": _publish,
        "publish": _publish,
        "verify": _verify,
    }
    return runs[given.action](job, given)


def _lock(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    read_folder(given.folder)  # what is wrong with it is said before a program is missed
    found = lock(job, given.folder, skopeo=_skopeo(given), npm=find_npm(given.npm))
    return 0, "\n".join(_of_lock(found)) + "\n", found


def _build(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    read_lock(read_folder(given.folder))  # as above
    made = build(given.folder, given.out, Sources(job, _skopeo(given), given.cache))
    write_outputs(job.environ, {"image": made.image, "digest": made.reference.digest})
    return 0, "\n".join(_of_build(made, given.out)) + "\n", made


def _publish(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    """``push``, ``sign``, or all of it."""
    built, skopeo, trail = read_built(given.out), _skopeo(given), Trail([])
    verified: Verified | None = None
    # whatever may be missing is looked for before anything is public
    if pushes := given.action != "sign":
        tag = read_tag(given.tag)
    if signs := given.action != "push":
        cosign, trusted, signer = _cosign(given), _trust(job, given), _signs(job, given)
        sbom = image_publish.read_sbom(given.out)
    if given.action == "publish":
        with at_hand(trusted.policy):
            pass  # it can be read
    with trail.explain():
        if pushes:
            image_publish.push(
                job, built, trail, out=given.out, skopeo=skopeo, tag=tag, move=given.move_tag
            )
        if signs:
            image_publish.sign(job, built, trail, signer=signer, trusted=trusted, cosign=cosign)
            image_publish.attest(
                job, built, trail, sbom=sbom, signer=signer, trusted=trusted, cosign=cosign
            )
        if given.action == "publish":
            verified = verify(job, built, trusted, cosign=cosign, skopeo=skopeo, sbom=sbom)
    report = Published(image=built.image, done=tuple(trail.done), verified=verified)
    write_outputs(job.environ, {"image": built.image, "digest": built.reference.digest})
    code = 0 if verified is None else verified.exit_code
    return code, "\n".join(_of_published(report)) + "\n", report


def _verify(job: Job, given: argparse.Namespace) -> tuple[int, str, object]:
    built, trusted = read_built(given.out), _trust(job, given)
    sbom = image_publish.read_sbom(given.out)
    found = verify(job, built, trusted, cosign=_cosign(given), skopeo=_skopeo(given), sbom=sbom)
    return found.exit_code, "\n".join(_of_verified(found)) + "\n", found


def _skopeo(given: argparse.Namespace) -> Skopeo:
    return Skopeo.find(given.skopeo, login=_login(given))


def _cosign(given: argparse.Namespace) -> Cosign:
    return Cosign.find(given.cosign, login=_login(given))


def _login(given: argparse.Namespace) -> RegistryLogin:
    return RegistryLogin.read(given.login) if given.login else RegistryLogin()


def _trust(job: Job, given: argparse.Namespace) -> Trusted:
    workflow = job.environ.get("GITHUB_WORKFLOW_REF")
    san = given.identity or (f"https://github.com/{workflow}" if workflow else "")
    if not san:
        raise SpecError(
            "is not given, and this is no job of GitHub Actions",
            origin="--identity",
            hint="https://github.com/OWNER/REPO/.github/workflows/FILE.yml@refs/heads/BRANCH",
        )
    try:
        pem = given.public_key.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", origin=str(given.public_key)
        ) from error
    return Trusted(
        identity=Identity(san, given.issuer),
        trusted_root=load_instance(given.trust_config).root.raw,
        key=Key(pem, given.public_key.name),
        policy=getattr(given, "guest_policy", Path(os.devnull)),
    )


def _signs(job: Job, given: argparse.Namespace) -> Signer:
    return Signer(
        sigstore=Sigstore.of_client_config(load_instance(given.trust_config).config),
        key=read_key(given.key, job.environ.get("COSIGN_PASSWORD", ""), job.environ),
        token_from=given.identity_token,
    )


def _of_lock(found: Locked) -> Iterator[str]:
    base = found.lock.base
    yield from _wrap(f"base      {base.image}:{base.tag} {base.digest}")
    for platform, digest in base.platforms.items():
        yield from _wrap(f"platform  {platform} {digest}")
    yield f"packages  {len(found.lock.packages)}"
    yield from _wrap(f"{'written' if found.changed else 'unchanged':<9} {found.file}")


def _of_build(made: Built, out: Path) -> Iterator[str]:
    yield from _wrap(f"image     {made.image}")
    yield from _wrap(f"base      {made.base}")
    for platform, one in made.platforms.items():
        yield from _wrap(f"platform  {platform} {one.digest}")
        yield f"  added   {one.files} files, {one.size / 1e6:.1f} MB"
        yield from _wrap(f"  layer   {one.layer}")
        yield from _wrap(f"  archive {one.diff_id}")
    yield from _wrap(f"written   {out}")


def _of_published(report: Published) -> Iterator[str]:
    yield from _wrap(f"image     {report.image}")
    for done in report.done:
        yield from _wrap(f"published {done}")
    if report.verified is not None:
        yield from _of_verified(report.verified)


def _of_verified(found: Verified) -> Iterator[str]:
    words: dict[bool | None, str] = {True: "ok", False: "WRONG", None: "UNKNOWN"}
    for one in found.findings:
        yield from _wrap(f"{words[one.ok]:<9} {one.check}: {one.image}")
        yield from (f"        {line}" for line in textwrap.wrap(_plain(one.text), _WIDTH - 8))
    told = {0: "verified", 1: "NOT AS IT HAS TO BE: see above", 3: "not all could be checked"}
    yield told[found.exit_code]


def _wrap(text: str) -> list[str]:
    """Lines of 80 columns; a digest (71 characters) is on one by itself, after 8 blanks."""
    return textwrap.wrap(
        _plain(text).replace("@sha256:", " @sha256:"),
        _WIDTH,
        subsequent_indent=" " * 8,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
