"""Events, logs and what they fold to."""

from mrtd.eventlog.event import (
    Event,
    EventLog,
    EventType,
    InputName,
    Origin,
    register_of_pcr,
    type_name,
)
from mrtd.eventlog.replay import replay

__all__ = [
    "Event",
    "EventLog",
    "EventType",
    "InputName",
    "Origin",
    "register_of_pcr",
    "replay",
    "type_name",
]
