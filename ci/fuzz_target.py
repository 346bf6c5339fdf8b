"""What is fuzzed: a parser, and inputs that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """A parser, and inputs that it accepts."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
