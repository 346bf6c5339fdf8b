"""Work that runs beside the main thread: hashing and unpacking release the interpreter lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Background(Generic[_T]):
    """A call that has started; `result` waits for it.

    ``concurrent.futures`` would do the same and costs as much to import as the rest of this
    package.
    """

    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self._value: _T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error

    def result(self) -> _T:
        """The call's value; its exception, if it raised one."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value
