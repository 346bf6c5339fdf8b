"""Fixtures of the harness's tests."""

from __future__ import annotations

from tests.boots import boots, initrd

__all__ = ["boots", "initrd"]
