"""The bill of materials of an image, from its lock: CycloneDX 1.6, always the same bytes.

Source: cyclonedx.org, JSON reference 1.6; package URLs: github.com/package-url, npm and oci types.
"""

from __future__ import annotations

import hashlib
import uuid
from base64 import b64decode
from typing import Any, Final
from urllib.parse import quote

from mrtd.images.reference import Repository
from release.image_recipe import Lock, Recipe, encode_lock
from release.npm import Package
from release.oci import encode

PREDICATE_TYPE: Final = "https://cyclonedx.org/bom"
"""cosign's, for ``--type cyclonedx``."""


def bill_of_materials(recipe: Recipe, lock: Lock) -> bytes:
    """CycloneDX JSON: the base image by digest, and every package."""
    name = hashlib.sha256(encode_lock(lock)).hexdigest()
    packages = {(one.name, one.version): one for one in lock.packages}
    return encode(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'sha256:{name}')}",
            "version": 1,
            "metadata": {
                "timestamp": lock.created,
                "component": {
                    "type": "container",
                    "bom-ref": recipe.repository,
                    "name": recipe.repository,
                    "description": recipe.description,
                },
            },
            "components": [_base(lock), *(_component(packages[key]) for key in sorted(packages))],
        }
    )


def _base(lock: Lock) -> dict[str, Any]:
    repository = Repository.read(lock.base.image)
    last = repository.path.rpartition("/")[2]
    url = (
        f"pkg:oci/{last}@{quote(lock.base.digest)}?repository_url={quote(str(repository), safe='')}"
    )
    return {
        "type": "container",
        "bom-ref": url,
        "name": lock.base.image,
        "version": lock.base.digest,
        "purl": url,
        "hashes": [{"alg": "SHA-256", "content": lock.base.digest.removeprefix("sha256:")}],
    }


def _component(package: Package) -> dict[str, Any]:
    scope, slash, name = package.name.rpartition("/")
    url = f"pkg:npm/{quote(scope, safe='')}{slash}{quote(name)}@{quote(package.version, safe='')}"
    digest = b64decode(package.integrity.removeprefix("sha512-")).hex()
    licenses = {"licenses": [{"license": {"name": package.license}}]} if package.license else {}
    return {
        "type": "library",
        "bom-ref": url,
        "name": package.name,
        "version": package.version,
        "purl": url,
        "hashes": [{"alg": "SHA-512", "content": digest}],
        "externalReferences": [{"type": "distribution", "url": package.resolved}],
        **licenses,
    }
