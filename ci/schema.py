"""The published JSON Schemas: ``python -m ci.schema`` writes them, ``--check`` finds drift."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from mrtd.document import MeasurementDocument
from mrtd.evidence.manifest import Manifest
from mrtd.images.settings import ImageSettings
from mrtd.launch.spec import LaunchSpec
from mrtd.reference import ReferenceValues, ResultDocument
from mrtd.registers import Sha384
from mrtd.verifier.policy import Policy

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "schema"
SCHEMAS: Final[dict[str, type]] = {
    "evidence.schema.json": Manifest,
    "images.schema.json": ImageSettings,
    "launch.schema.json": LaunchSpec,
    "measurement.schema.json": MeasurementDocument,
    "policy.schema.json": Policy,
    "reference.schema.json": ReferenceValues,
    "result.schema.json": ResultDocument,
}
_SHA384: Final = {
    "description": "A SHA-384 value, lower-case hex.",
    "pattern": "^[0-9a-f]{96}$",
    "type": "string",
}
_PATH: Final = {"description": "A path; ~ is not expanded.", "pattern": "^[^~]", "type": "string"}


def schema_text(document: type) -> str:
    """The JSON Schema of a document class, as it is published."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(document, schema_hook=_schema_of),
    }
    text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    # What Python's "$" needs to mean the end, many readers of schemas do not know (RE2)
    return text.replace(r"$(?!\\n)", "$")


def _schema_of(kind: type) -> dict[str, Any]:
    """The schema of a class that msgspec does not know."""
    if kind is Sha384:
        return _SHA384
    if kind is Path:
        return _PATH
    raise NotImplementedError(kind)


def main(argv: list[str] | None = None) -> int:
    """Write the schemas, or check that the published ones are current."""
    parser = argparse.ArgumentParser(prog="python -m ci.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    arguments = parser.parse_args(argv)
    stale: list[str] = []
    for name, document in SCHEMAS.items():
        path, text = FOLDER / name, schema_text(document)
        if arguments.check:
            current = path.read_text(encoding="utf-8") if path.exists() else ""
            stale += [] if current == text else [name]
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run python -m ci.schema", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
