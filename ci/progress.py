"""How far a launch has come, as it comes there."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Stages in their order. Later ones imply earlier ones, also those that nobody saw."""

    PREPARE = "prepare"  # files, back ends, software TPM
    QEMU = "qemu"  # the process was started
    MONITOR = "monitor"  # it answers on QMP; the guest is allowed to run
    FIRMWARE = "firmware"  # the first byte on the console
    KERNEL = "kernel"  # the EFI stub or the kernel spoke on the console
    AGENT = "agent"  # the guest's agent greeted and was asked
    PAYLOAD = "payload"  # the first byte of its answer
    SHUTDOWN = "shutdown"  # QEMU reported the guest's orderly end, and ended
    DONE = "done"  # everything that the guest sent was usable


Listener = Callable[[Stage, str], None]
"""Is told each stage once, with a detail for people (printable, may be empty). Must not raise."""

_ORDER: Final = {stage: index for index, stage in enumerate(Stage)}
# Linux drivers/firmware/efi/libstub prefixes its lines; init/version-timestamp.c has the banner.
_KERNEL: Final = re.compile(rb"EFI stub: |Linux version ")


class Progress:
    """Keeps the stage of one launch and tells a listener when it changes.

    Attributes:
        stage: the furthest stage so far.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.stage = Stage.PREPARE
        self._listener = listener
        self._tell(Stage.PREPARE, "")

    def reached(self, stage: Stage, detail: str = "") -> None:
        """The launch has come to a stage; going back is no news."""
        if _ORDER[stage] > _ORDER[self.stage]:
            self.stage = stage
            self._tell(stage, detail)

    def before(self, stage: Stage) -> bool:
        """Whether a stage has not been reached yet."""
        return _ORDER[self.stage] < _ORDER[stage]

    def note(self, detail: str) -> None:
        """Something worth knowing about the current stage."""
        self._tell(self.stage, detail)

    def console(self, recent: bytes) -> None:
        """What the console said last tells stages."""
        self.reached(Stage.FIRMWARE)
        if self.before(Stage.KERNEL) and _KERNEL.search(recent):
            self.reached(Stage.KERNEL)

    def _tell(self, stage: Stage, detail: str) -> None:
        if self._listener is not None:
            self._listener(stage, detail)
