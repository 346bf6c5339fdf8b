"""Work that runs beside the main thread: hashing and unpacking release the interpreter lock."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Background(Generic[_T]):
    """A call that has started; `result` waits for it.

    ``threading.Thread.start`` waits until the new thread runs, which takes milliseconds once both
    cores are hashing, and ``concurrent.futures`` takes as long to import as all of this package:
    so this is the low-level interface. Like a daemon thread, a call that nobody waits for ends with
    the process.
    """

    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self._value: _T
        self._error: BaseException | None = None
        self._running = _thread.allocate_lock()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._running.release()

    def result(self) -> _T:
        """The call's value; its exception, if it raised one."""
        with self._running:
            pass
        if self._error is not None:
            raise self._error
        return self._value
