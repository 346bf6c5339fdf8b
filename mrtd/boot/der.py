"""As much DER (X.690) as certificates and signatures need."""

from __future__ import annotations

from typing import Final

from mrtd.errors import InputError, MalformedKernel
from mrtd.reader import Reader

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
OBJECT: Final = 0x06
CONTEXT_0: Final = 0xA0
_LONG: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4


class Der:
    """Reads DER elements one after the other.

    Args:
        data: the elements.
        origin: what they are of, for messages.
    """

    def __init__(self, data: bytes | memoryview, origin: str) -> None:
        self._data = memoryview(data)
        self._reader = Reader(self._data, origin=origin, error=MalformedKernel)
        self._origin = origin

    @property
    def more(self) -> bool:
        """Whether there is another element."""
        return self._reader.remaining > 0

    @property
    def tag(self) -> int:
        """The tag of the next element; 0 if there is none."""
        return self._data[self._reader.offset] if self.more else 0

    def element(self, wanted: int | None = None) -> tuple[bytes, bytes]:
        """The next element: all its bytes, and its content. Raises `MalformedKernel`."""
        start = self._reader.offset
        tag = self._reader.u8("tag")
        if wanted is not None and tag != wanted:
            raise self._reader.fail(f"{tag:#x} where {wanted:#x} is needed", "tag")
        length = self._reader.u8("length")
        if length >= _LONG:
            size = length - _LONG
            if not 1 <= size <= _MAX_LENGTH_BYTES:
                raise self._reader.fail(f"{size} bytes", "length")
            length = int.from_bytes(self._reader.take(size, "length"), "big")
        content = bytes(self._reader.take(length, "content"))
        return bytes(self._data[start : self._reader.offset]), content

    def inside(self, wanted: int) -> Der:
        """The elements within the next one. Raises `MalformedKernel`."""
        return Der(self.element(wanted)[1], self._origin)


def is_der(data: bytes) -> bool:
    """Whether data is exactly one DER sequence."""
    try:
        reader = Der(data, "DER")
        reader.element(SEQUENCE)
    except InputError:
        return False
    return not reader.more
