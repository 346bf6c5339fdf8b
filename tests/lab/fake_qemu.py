"""A stand-in for QEMU that speaks QMP and does what ``scenario.json`` beside it says.

Installed by a test as an executable; for what a real QEMU cannot be made to do on demand, and for
the guest that only a TDX host can have. Commands, answers and events are those of `COMMANDS` and
`EVENTS`; tests/ci/test_fake_qemu.py compares them, and a whole conversation, with the real one.

Keys of a scenario, all optional:
    stderr: what it says when it starts.
    exit: ends with this status: at once if "refuses", otherwise after the events.
    refuses: ends before it says anything on its monitor.
    greeting, answers: instead of `GREETING`, and of single answers of `COMMANDS`.
    serial: what the guest says on its console; payload: what its agent sends, in hex.
    asks: the agent greets first, and writes the question it got to the file "question".
    floods: "serial", "payload" or "qmp": sends there for as long as anybody reads.
    raw: bytes on the monitor, in hex, before the events.
    hangs_up: closes the monitor after the events, and stays.
    events: events of the machine, in order.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION: dict[str, Any] = {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": "fake"}
GREETING: dict[str, Any] = {"QMP": {"version": VERSION, "capabilities": ["oob"]}}
COMMANDS: dict[str, Any] = {
    "qmp_capabilities": {},
    "query-version": VERSION,
    "query-status": {"running": False, "status": "paused"},
    "cont": {},
}
EVENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "SHUTDOWN": (
        {"guest": True, "reason": "guest-shutdown"},
        {"guest": True, "reason": "guest-reset"},
        {"guest": True, "reason": "guest-panic"},
        {"guest": False, "reason": "host-signal"},
    ),
    "STOP": ({},),
    "RESUME": ({},),
    "GUEST_PANICKED": (
        {"action": "pause"},
        {
            "action": "pause",
            "info": {"type": "tdx", "error-code": 1, "message": "TDX fatal error"},
        },
    ),
}
NOT_READY = "Expecting capabilities negotiation with 'qmp_capabilities'"


def end(name: str) -> socket.socket:
    """The inherited end of the back end of that name."""
    found = re.search(rf"id={name},fd=(\d+)", " ".join(sys.argv))
    if found is None:
        raise SystemExit(f"no back end {name}")
    return socket.socket(fileno=int(found[1]))


def requests(monitor: socket.socket) -> Iterator[dict[str, Any]]:
    """JSON objects with nothing between them: QMP asks for no separator."""
    decoder = json.JSONDecoder()
    text = ""
    while received := monitor.recv(4096):
        text += received.decode()
        while text := text.lstrip():
            try:
                request, length = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            text = text[length:]
            yield request


class Monitor:
    """The QMP server: negotiation, commands, errors."""

    def __init__(self, stream: socket.socket, answers: dict[str, Any]) -> None:
        self.stream = stream
        self.received: list[str] = []
        self._answers = COMMANDS | answers
        self._ready = False

    def say(self, message: object) -> None:
        self.stream.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, event: dict[str, Any]) -> None:
        self.say({"timestamp": {"seconds": 0, "microseconds": 0}} | event)

    def answer(self, request: dict[str, Any]) -> str:
        """Answer a request; the name of the command that was carried out, or nothing."""
        name = str(request["execute"])
        self.received.append(name)
        known = name in self._answers
        if (name == "qmp_capabilities") is self._ready or not known:
            text = f"The command {name} has not been found"
            self._say({"error": {"class": "CommandNotFound", "desc": text}}, request)
            return ""
        self._ready = True
        self._say({"return": self._answers[name]}, request)
        return name

    def _say(self, message: dict[str, Any], request: dict[str, Any]) -> None:
        if not self._ready:
            message["error"]["desc"] = NOT_READY
        self.say(message | ({"id": request["id"]} if "id" in request else {}))


def flood(stream: socket.socket, chunk: bytes) -> None:
    """Send for as long as anybody reads."""
    while True:
        stream.sendall(chunk)


def talk(payload: socket.socket, scenario: dict[str, Any], here: Path) -> None:
    """What the guest's agent does."""
    if scenario.get("asks"):
        payload.sendall(b"mrtd.agent/1\n")
        question = b""
        while not question.endswith(b"\n"):
            question += payload.recv(4096)
        (here / "question").write_bytes(question)
    payload.sendall(bytes.fromhex(scenario.get("payload", "")))


def run_guest(monitor: Monitor, scenario: dict[str, Any], here: Path) -> None:
    """What happens once the guest is allowed to run."""
    streams = {"serial": end("serial"), "payload": end("payload"), "qmp": monitor.stream}
    (here / "commands").write_text("\n".join(monitor.received), encoding="ascii")
    (here / "running").touch()
    streams["serial"].sendall(scenario.get("serial", "").encode())
    talk(streams["payload"], scenario, here)
    if "floods" in scenario:
        flood(streams[scenario["floods"]], b"x" * (1 << 16))
    monitor.stream.sendall(bytes.fromhex(scenario.get("raw", "")))
    for event in scenario.get("events", []):
        monitor.event(event)
    if scenario.get("hangs_up"):
        monitor.stream.shutdown(socket.SHUT_RDWR)


def main() -> int:
    here = Path(sys.argv[0]).parent
    scenario: dict[str, Any] = json.loads((here / "scenario.json").read_text(encoding="utf-8"))
    (here / "bios").write_bytes(Path(sys.argv[sys.argv.index("-bios") + 1]).read_bytes())
    sys.stderr.write(scenario.get("stderr", ""))
    sys.stderr.flush()
    if scenario.get("refuses"):
        return int(scenario["exit"])
    monitor = Monitor(end("qmp"), scenario.get("answers", {}))
    monitor.say(scenario.get("greeting", GREETING))
    for request in requests(monitor.stream):
        if monitor.answer(request) == "cont":
            run_guest(monitor, scenario, here)
            if "exit" in scenario:
                return int(scenario["exit"])
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main())
