"""The agent behind the initrd of a direct kernel boot.

The kernel unpacks all archives of an initrd, and later files replace earlier ones (Linux
Documentation/driver-api/early-userspace/buffer-format.rst), so ours is the ``/init`` that runs.
What that moves is derived: the initrd's event, and where the VMM writes the initrd's address and
length into the kernel's setup header, that of the kernel too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ci.guest.carried import Agent, Carried, Carrier, Moved
from mrtd.eventlog import EventLog
from mrtd.launch.spec import LaunchSpec
from mrtd.measure import MeasureOptions, measure
from mrtd.registers import Sha384, Target

INITRD: Final = "initrd"
"""The name of the new initrd in the folder that is written to."""

_ALIGNMENT: Final = 4  # an archive begins at a multiple of it


def carry_initrd(spec: LaunchSpec, out: Path, agent: Agent) -> Carried:
    """Write the initrd with the agent at its end.

    Args:
        spec: a direct kernel boot; its paths are absolute.
        out: the folder to write to.
        agent: what is carried.

    Raises:
        InputError: the spec boots otherwise, or cannot be derived.
    """
    boot = spec.direct
    old = b"" if boot.initrd is None else Path(boot.initrd).read_bytes()
    (out / INITRD).write_bytes(old + bytes(-len(old) % _ALIGNMENT) + agent.archive())
    carried = replace(spec, boot=replace(boot, initrd=str((out / INITRD).absolute())))
    # The ACPI tables are the same before and after: no QEMU has to be asked for them.
    options = MeasureOptions(target=Target.TPM, ask_qemu=False)
    before, after = (measure(each, out, options).log for each in (spec, carried))
    return Carried(
        Carrier.INITRD,
        carried,
        _moved(before, after),
        ("the initrd has the agent at its end, whose /init takes the place of its own",),
    )


def _moved(before: EventLog, after: EventLog) -> tuple[Moved, ...]:
    """The events of the second log that the first does not have."""
    known = {(event.register, event.digest) for event in before}
    return tuple(
        Moved(
            int(event.register.removeprefix("pcr")),
            event.description,
            event.digest if isinstance(event.digest, Sha384) else None,
            str(event.origin),
        )
        for event in after
        if (event.register, event.digest) not in known
    )
