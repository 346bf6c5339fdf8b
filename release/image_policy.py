"""The guest's policy as it is shipped, where its keys are not at their place in the guest."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mrtd.errors import SpecError
from release.policy_render import POLICY

_KEYS: Final = "keys"


@contextmanager
def at_hand(folder: Path) -> Iterator[Path]:
    """A rendered policy folder whose ``keyPath`` entries are read from its own ``keys``.

    Nothing else is changed: skopeo reads the rules that podman reads in the guest.

    Raises:
        SpecError: it is no rendered policy, or names a key that it does not have.
    """
    try:
        tree = json.loads((folder / POLICY).read_bytes())
        with tempfile.TemporaryDirectory(prefix="mrtd-") as name:
            copy = Path(name, "policy")
            shutil.copytree(folder, copy)
            text = json.dumps(_moved(tree, folder, copy))
            (copy / POLICY).write_text(text, encoding="utf-8")
            yield copy
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(
            "is no rendered policy", origin=str(folder), field="--guest-policy",
            hint="python -m release policy render writes one",
        ) from error  # fmt: skip


def _moved(tree: Any, folder: Path, copy: Path) -> Any:  # noqa: ANN401 - JSON
    if isinstance(tree, list):
        return [_moved(one, folder, copy) for one in tree]
    if not isinstance(tree, dict):
        return tree
    moved = {name: _moved(value, folder, copy) for name, value in tree.items()}
    if isinstance(tree.get("keyPath"), str):
        moved["keyPath"] = _key(tree["keyPath"], folder, copy)
    if isinstance(tree.get("keyPaths"), list):
        moved["keyPaths"] = [_key(str(one), folder, copy) for one in tree["keyPaths"]]
    return moved


def _key(path: str, folder: Path, copy: Path) -> str:
    name = Path(path).name
    if not (copy / _KEYS / name).is_file():
        raise SpecError(f"has no key {name}", origin=str(folder / _KEYS))
    return str(copy / _KEYS / name)
