"""Fixtures of the audit's tests."""

from __future__ import annotations

from tests.disk_images import images

__all__ = ["images"]
