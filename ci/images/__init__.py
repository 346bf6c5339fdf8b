"""Whole disk images for tests and examples, from Debian packages: unprivileged and reproducible."""
