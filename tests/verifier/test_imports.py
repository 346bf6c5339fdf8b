"""What importing the verifier costs: heavy libraries are imported with the first use of each."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import mrtd.verifier

HEAVY: Final = frozenset({
    "asyncio", "certifi", "cryptography", "dcap_qvl", "jwt", "pydantic", "requests",
    "rfc3161_client", "rfc8785", "sigstore", "starlette", "tuf", "uvicorn",
})  # fmt: skip
_IDLE: Final = """\
from mrtd.verifier import Verifier, read_policy
ids = {"DD_TRUSTED_REPO_ID": "1", "DD_TRUSTED_OWNER_ID": "2"}
Verifier(read_policy("", ids)).nonces.issue()
"""


def modules_after(code: str) -> set[str]:
    """Top-level packages that a process has imported after some code."""
    report = (
        "import json, sys; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        check=True, capture_output=True, timeout=60, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "code",
    [
        "import mrtd.verifier",
        "from mrtd.verifier import *",
        _IDLE,
    ],
    ids=["the package", "all its names", "a verifier that was not asked yet"],
)
def test_importing_the_verifier_imports_nothing_heavy(code: str) -> None:
    assert modules_after(code) & HEAVY == set()


def test_every_public_name_is_there() -> None:
    for name in mrtd.verifier.__all__:
        assert getattr(mrtd.verifier, name) is not None
    assert set(mrtd.verifier.__all__) <= set(dir(mrtd.verifier))


def test_what_type_checkers_see_is_what_is_imported() -> None:
    """Names under ``TYPE_CHECKING``, those of ``__all__`` and those imported late are the same."""
    tree = ast.parse(Path(str(mrtd.verifier.__file__)).read_text(encoding="utf-8"))
    seen = {
        (str(node.module).removeprefix("mrtd."), alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    late = {(module, name) for module, names in mrtd.verifier._MODULES.items() for name in names}
    assert seen == late
    assert sorted(name for _, name in seen) == sorted(mrtd.verifier.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Verifer'"):
        _ = mrtd.verifier.Verifer  # type: ignore[attr-defined]
