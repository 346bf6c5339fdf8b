"""A direct boot with a variable store that says what else to start."""

from __future__ import annotations

from msgspec.structs import replace

from mrtd.boot.recorder import Recorder
from mrtd.boot.stored_options import started_before, stored_options
from mrtd.eventlog import InputName, Origin
from mrtd.firmware.identify import Firmware
from mrtd.registers import Target, Unpinned
from mrtd.start.started import Started

ANY_PCR = (1, 2, 4, 5, 7, 8, 9, 11, 12, 13, 14)
"""What a program may extend that nobody has named."""


def with_stored_variables(started: Started, firmware: Firmware, target: Target) -> Started:
    """The boot, with what the store makes underivable.

    Raises:
        MalformedFirmware: a stored boot option breaks its format.
    """
    origin = firmware.tdvf.origin
    order, options = stored_options(firmware.variables, origin=origin)
    if order or options:
        reason = "how the firmware joins stored boot options with a direct boot's is not derived"
        started = replace(started, options=Unpinned(reason))
    if decided := started_before(firmware.variables):
        recorder = Recorder(target)
        reason = f"what the firmware makes of the stored {', '.join(decided)} is not derived"
        where = Origin(InputName.VARIABLES, origin)
        recorder.unknown(ANY_PCR, reason, "variable store", where)
        started = replace(started, events=(*recorder.log, *started.events))
    return started
