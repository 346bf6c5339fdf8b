"""Registries that are slow, broken or lying: nobody is told that something is signed, or that it
is not, who could not find out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mrtd.errors import TransportError
from mrtd.images.cosign import Cosign
from mrtd.images.outcome import NotChecked, NotSigned, Refused, SignatureOutcome, Signed
from mrtd.images.program import Program
from mrtd.images.reference import ImageReference
from mrtd.images.signing import sign_key, sign_keyless
from mrtd.images.skopeo import Admitted, PolicyOutcome, Rejected, Skopeo, Unknown
from tests.images.lab import IDENTITY, ImageLab
from tests.lab.faults import Fault, Kind
from tests.lab.registry_proxy import RegistryProxy, blobs, everything, manifests

PLATFORM = "linux/amd64"


@pytest.fixture
def proxy(lab: ImageLab) -> Iterator[RegistryProxy]:
    with RegistryProxy(lab.registry) as running:
        yield running
    assert running.web.errors == []


@pytest.fixture
def image(lab: ImageLab, proxy: RegistryProxy) -> ImageReference:
    """An image that is signed in both ways, as seen through the proxy."""
    pushed = lab.push()
    seen = lab.repository(host=proxy.host).at(pushed.digest)
    sign_key(lab.cosign, seen, lab.programs.ours[0])
    sign_keyless(lab.cosign, seen, lab.oidc, lab.sigstore)
    return seen


def both(lab: ImageLab, image: ImageReference, seconds: float = 60) -> list[SignatureOutcome]:
    cosign = Cosign(Program(lab.programs.cosign, seconds))
    keyless = cosign.verify_keyless(image, IDENTITY, trusted_root=lab.root)
    return [keyless, cosign.verify_key(image, lab.programs.ours[1])]


def admitted(lab: ImageLab, image: ImageReference, seconds: float = 60) -> PolicyOutcome:
    skopeo = Skopeo(Program(lab.programs.skopeo, seconds))
    return skopeo.admits(image, lab.policy(None, image.repository), platform=PLATFORM)


def test_without_a_fault(lab: ImageLab, image: ImageReference) -> None:
    assert [type(one) for one in both(lab, image)] == [Signed, Signed]
    assert isinstance(admitted(lab, image), Admitted)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.STATUS, 503),
        Fault(Kind.GARBAGE),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_registry_that_fails(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference, fault: Fault
) -> None:
    proxy.faults.append((everything, fault))
    for outcome in both(lab, image):
        assert isinstance(outcome, NotChecked), outcome
    assert isinstance(admitted(lab, image), Unknown)
    with pytest.raises(TransportError):
        lab.skopeo.manifest(image)


@pytest.mark.parametrize("kind", [Kind.DRIPPING_HEAD, Kind.DRIPPING_BODY])
def test_registry_that_drips(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference, kind: Kind
) -> None:
    proxy.faults.append((manifests(), Fault(kind)))
    for outcome in both(lab, image, seconds=1):
        assert isinstance(outcome, NotChecked), outcome
        assert "in time" in outcome.why
    assert isinstance(admitted(lab, image, seconds=1), Unknown)


@pytest.mark.parametrize("kind", [Kind.TRUNCATED, Kind.GARBAGE])
def test_blobs_that_do_not_come(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference, kind: Kind
) -> None:
    proxy.faults.append((blobs(), Fault(kind)))
    for outcome in both(lab, image):
        assert isinstance(outcome, NotChecked), outcome
    assert isinstance(admitted(lab, image), Unknown), admitted(lab, image)


def test_registry_that_sends_another_manifest(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference
) -> None:
    evil = lab.push("evil", text=b"evil")
    _, other = lab.registry.manifest(f"{lab.namespace}/evil", evil.digest)
    proxy.lies.append((manifests(image.digest), other))
    with pytest.raises(TransportError, match="does not match"):
        lab.skopeo.manifest(image)
    assert not isinstance(admitted(lab, image), Admitted)


def test_registry_that_sends_anothers_signatures(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference
) -> None:
    """The other image's are genuine, and of the other image."""
    evil = lab.repository(host=proxy.host).at(lab.push(tag="evil", text=b"evil").digest)
    repository = f"{lab.namespace}/ours"
    for suffix in ("", ".sig"):
        _, signatures = lab.registry.manifest(repository, f"sha256-{image.hex}{suffix}")
        kind = f"application/vnd.oci.image.{'manifest' if suffix else 'index'}.v1+json"
        lab.registry.put_manifest(repository, f"sha256-{evil.hex}{suffix}", kind, signatures)
    keyless, key = both(lab, evil)
    assert isinstance(keyless, Refused)
    assert isinstance(key, Refused)
    assert isinstance(admitted(lab, evil), Rejected)


def test_registry_that_hides_signatures(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference
) -> None:
    proxy.faults.append((manifests(f"sha256-{image.hex}"), Fault(Kind.STATUS, 404)))
    assert [type(one) for one in both(lab, image)] == [NotSigned, NotSigned]
    assert isinstance(admitted(lab, image), Rejected)


def test_registry_of_empty_answers(
    lab: ImageLab, proxy: RegistryProxy, image: ImageReference
) -> None:
    """To cosign, a manifest that names nothing is one of no signatures."""
    proxy.faults.append((everything, Fault(Kind.EMPTY_OBJECT)))
    assert [type(one) for one in both(lab, image)] == [NotChecked, NotSigned]
    assert isinstance(admitted(lab, image), Unknown)
