"""The little of QMP that a dump needs: QEMU's version and properties of its objects.

Source: QEMU docs/interop/qmp-spec. One JSON object a line: a greeting, then answers and events.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from mrtd.qemu.channel import LineChannel
from mrtd.qemu.process import Process


class Qmp:
    """A synchronous QMP client.

    Args:
        stream: a connected socket, QEMU's monitor at its other end.
        process: that QEMU.
        deadline: `time.monotonic` value after which everything fails.

    Attributes:
        version: what QEMU says it is, such as ``7.2.22``.

    The constructor and every method raise `ToolFailed` on any other answer than the expected one.
    """

    def __init__(self, stream: socket.socket, process: Process, *, deadline: float) -> None:
        self._channel = LineChannel(stream, process, deadline=deadline, name="QMP")
        greeting = self._message()
        try:
            version = greeting["QMP"]["version"]["qemu"]
            self.version = ".".join(str(int(version[part])) for part in ("major", "minor", "micro"))
        except (KeyError, TypeError, ValueError) as error:
            raise self._channel.fail(f"greeting {str(greeting)[:80]!r}") from error
        self._execute("qmp_capabilities")

    def cpu_properties(self, *names: str) -> tuple[object, ...]:
        """Properties of the first virtual CPU as realised."""
        cpus = self._execute("query-cpus-fast")
        try:
            path = cpus[0]["qom-path"]
        except (IndexError, KeyError, TypeError) as error:
            raise self._channel.fail("query-cpus-fast names no CPU") from error
        return tuple(self._execute("qom-get", path=path, property=name) for name in names)

    def _execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401
        request: dict[str, object] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._channel.send(json.dumps(request).encode())
        while "event" in (answer := self._message()):
            pass
        if "return" not in answer:
            raise self._channel.fail(f"{command} answered {str(answer)[:200]}")
        return answer["return"]

    def _message(self) -> dict[str, Any]:
        line = self._channel.receive()
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._channel.fail(f"not JSON: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise self._channel.fail(f"no JSON object: {line[:80]!r}")
        return message
