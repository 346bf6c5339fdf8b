"""GUIDs as text and as bytes in memory."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from mrtd.firmware.guids import guid, guid_text


@given(st.uuids())
def test_guids_are_mixed_endian(value: uuid.UUID) -> None:
    assert guid(str(value)) == value.bytes_le
    assert guid_text(value.bytes_le) == str(value)
