"""Facts asked of the real QEMU: its version and the blobs that it would offer a launch's firmware."""
