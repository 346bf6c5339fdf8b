"""The host's side of the conversation with the guest's agent (``ci/payload.py`` has the format)."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from ci.channels import Drain
from ci.payload import HELLO, PAYLOAD_LIMIT
from ci.progress import Progress, Stage

_KEPT: Final = PAYLOAD_LIMIT + 256  # and its header, and the greeting


class Agent:
    """Asks the guest's agent as soon as it is there, and takes what it sends.

    Args:
        end: our end of the port's connection.
        question: the request line, sent once.
        progress: is told about the agent and its answer.

    Attributes:
        sent: what came so far.
    """

    def __init__(self, end: socket.socket, question: bytes, progress: Progress) -> None:
        self.sent = Drain(end, keep=_KEPT, limit=_KEPT, heard=self._heard)
        self._end = end
        self._question: bytes | None = question
        self._progress = progress

    def _heard(self, _: bytes) -> None:
        greeted = self.sent.kept.startswith(HELLO)
        if greeted and self._question is not None:
            # 145 bytes into an empty buffer; a QEMU that is gone is noticed elsewhere.
            with suppress(OSError):
                self._end.send(self._question)
            self._question = None
            self._progress.reached(Stage.AGENT)
        if self.sent.total > len(HELLO):
            self._progress.reached(Stage.PAYLOAD)
