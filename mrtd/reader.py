"""A bounded cursor over bytes: every read is checked and every error says where it happened."""

from __future__ import annotations

from mrtd.errors import InputError


class Reader:
    """Reads little-endian fields from ``data``, which is never copied.

    Args:
        data: the bytes to read.
        origin: the file or blob that they are, for messages.
        error: the `InputError` subclass to raise.
        base: offset of ``data`` in ``origin``, added to the offsets in messages.
    """

    __slots__ = ("_base", "_data", "_error", "_last", "_origin", "offset")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        *,
        origin: str,
        error: type[InputError],
        base: int = 0,
    ) -> None:
        self._data = memoryview(data)
        self._origin = origin
        self._error = error
        self._base = base
        self.offset = 0
        self._last = 0

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.offset

    def fail(self, message: str, field: str, *, hint: str | None = None) -> InputError:
        """An error of this reader's class about what was read last; the caller raises it."""
        return self._error(
            message, origin=self._origin, offset=self._base + self._last, field=field, hint=hint
        )

    def take(self, size: int, field: str) -> memoryview:
        """The next ``size`` bytes, as a view."""
        self._last = self.offset
        if size < 0 or size > self.remaining:
            raise self.fail(f"needs {size} bytes, {self.remaining} are left", field)
        start = self.offset
        self.offset += size
        return self._data[start : self.offset]

    def seek(self, offset: int, field: str) -> None:
        """Go to an offset from the start of the data."""
        if not 0 <= offset <= len(self._data):
            # what was read last is the pointer that leads out of the data
            raise self.fail(f"points to {offset:#x}, past the end ({len(self._data):#x})", field)
        self.offset = offset

    def uint(self, size: int, field: str) -> int:
        """An unsigned little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size, field), "little")

    def u8(self, field: str) -> int:
        """An unsigned 8-bit integer."""
        return self.uint(1, field)

    def u16(self, field: str) -> int:
        """An unsigned 16-bit integer."""
        return self.uint(2, field)

    def u32(self, field: str) -> int:
        """An unsigned 32-bit integer."""
        return self.uint(4, field)

    def u64(self, field: str) -> int:
        """An unsigned 64-bit integer."""
        return self.uint(8, field)

    def guid(self, field: str) -> bytes:
        """A GUID, as its 16 bytes in memory (see `mrtd.firmware.guids`)."""
        return bytes(self.take(16, field))

    def expect_end(self, field: str) -> None:
        """Refuse bytes that nobody read."""
        self._last = self.offset
        if self.remaining:
            raise self.fail(f"{self.remaining} bytes left over", field)
