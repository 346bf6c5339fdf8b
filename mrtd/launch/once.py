"""What several launches have in common, computed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_T = TypeVar("_T")


class Once:
    """Calls something once for each key, and gives later callers what came out.

    A key names what the result depends on; everything else has to be the same for all callers,
    so an instance belongs to one set of files. What is still running (`Background`) can be a
    result too.
    """

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}
        self._lock = threading.RLock()

    def __call__(self, key: Hashable, call: Callable[[], _T]) -> _T:
        """The result for a key; of the call, if it is the first one for it."""
        with self._lock:
            if key not in self._results:
                self._results[key] = call()
            result: _T = self._results[key]
        return result
