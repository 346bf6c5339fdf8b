"""The two clocks of the verifier, so that tests can set them."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Where time comes from.

    Attributes:
        wall: Unix time in seconds, for what others have dated; may jump.
        steady: seconds that only go forward, for lifetimes of our own.
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
