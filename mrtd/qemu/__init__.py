"""Facts asked of the real QEMU: its version, and what it would offer a launch's firmware."""
