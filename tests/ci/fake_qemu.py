"""A stand-in for QEMU that speaks QMP and does what ``scenario.json`` beside it says.

Installed by a test as an executable; for what a real QEMU cannot be made to do on demand.
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


def main() -> int:
    here = Path(sys.argv[0]).parent
    scenario: dict[str, Any] = json.loads((here / "scenario.json").read_text())
    (here / "bios").write_bytes(Path(sys.argv[sys.argv.index("-bios") + 1]).read_bytes())
    sys.stderr.write(scenario.get("stderr", ""))
    sys.stderr.flush()
    if "greeting" not in scenario:
        return int(scenario["exit"])
    monitor, serial, payload = end("qmp"), end("serial"), end("payload")

    def say(message: object) -> None:
        monitor.sendall(json.dumps(message).encode() + b"\r\n")

    say(scenario["greeting"])
    for request in requests(monitor):
        answers = {"query-version": scenario.get("version"), "query-status": scenario.get("status")}
        say({"return": answers.get(request["execute"]) or {}, "id": request.get("id")})
        if request["execute"] == "cont":
            (here / "running").touch()
            serial.sendall(scenario.get("serial", "").encode())
            payload.sendall(bytes.fromhex(scenario.get("payload", "")))
            for event in scenario.get("events", []):
                say({"timestamp": {"seconds": 0, "microseconds": 0}} | event)
            if "exit" in scenario:
                return int(scenario["exit"])
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main())
