"""Direct boots of what is no plain kernel, and direct boots under Secure Boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrtd.boot.chain import Chain, Image
from mrtd.boot.secure_boot import policy_of
from mrtd.errors import MalformedKernel
from mrtd.eventlog import EventLog, InputName, Origin
from mrtd.firmware.sequence import exit_boot_services
from mrtd.registers import Target, Unpinned
from mrtd.start.exit_flush import exit_flushed
from mrtd.start.facts import machine_facts
from mrtd.start.started import PLAIN_HEADER, UNKNOWN_KERNEL, Started

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware
    from mrtd.launch.inputs import LaunchInputs
    from mrtd.launch.spec import LaunchSpec
    from mrtd.qemu.fw_cfg import FwCfg


def direct_boot(
    spec: LaunchSpec,
    inputs: LaunchInputs,
    firmware: Firmware,
    target: Target,
    fw_cfg: FwCfg | Unpinned,
    *,
    options: bytes,
    plain: bool,
) -> tuple[EventLog, Started | None]:
    """What verifies the image that ``-kernel`` gives, and what it measures if it is no kernel.

    Args:
        spec: the launch.
        inputs: its files.
        firmware: its firmware.
        target: who takes the measurements.
        fw_cfg: what QEMU offers the firmware, or why that is not known.
        options: the load options that the firmware gives the image, as UTF-16.
        plain: whether it is a kernel.

    Returns:
        The events before the image's own, and the rest of the boot if it is no kernel.

    Raises:
        InputError: the image is malformed, or Secure Boot refuses it.
    """
    kernel = inputs.kernel
    chain = Chain(target, machine_facts(spec, firmware, fw_cfg), policy=policy_of(firmware))
    image = Image(memoryview(kernel.data), kernel.name, None)
    if chain.load_image(image.data, kernel.name, InputName.KERNEL, required=False):
        authority = chain.recorder.log[:-1]  # the image's own event depends on its setup header
    else:
        refused = Unpinned("Secure Boot is on, and no entry of db verifies the kernel: it does not "
                           "start")  # fmt: skip
        where = Origin(InputName.VARIABLES, f"{firmware.tdvf.origin} CFV")
        chain.authority("db", refused, "entry that verifies the kernel", where)
        authority = chain.recorder.log
    if plain:
        return authority, None
    chain.recorder.events.clear()
    if inputs.initrd_size is not None:
        raise MalformedKernel(  # qemu x86_load_linux: "linux kernel too old to load a ram disk"
            "is no Linux kernel, and QEMU refuses an initrd with it", origin=kernel.name,
            field="boot.initrd", hint="leave boot.initrd out: a UKI has its own",
        )  # fmt: skip
    chain.start(image, options.decode("utf-16-le").rstrip("\0"))
    events = chain.recorder.log
    return authority, Started(
        image=None,
        before_image=(),
        options=None,
        events=(
            *events,
            *exit_boot_services(
                target, firmware.profile, flushed=exit_flushed(spec, inputs, firmware.profile)
            ),
        ),
        kernel=chain.kernel or UNKNOWN_KERNEL,
        header=PLAIN_HEADER,
        cmdline=chain.cmdline,
        has_initrd=any(event.origin.input is InputName.INITRD for event in events),
    )
