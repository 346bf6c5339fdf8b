"""Whether a message fits the schema that a real QEMU gives of itself (``query-qmp-schema``).

Source: QEMU qapi/introspect.json.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_JSON: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "number": (int, float),
    "int": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


class RealQmp:
    """A real QEMU without a machine, stopped, to be talked to over QMP."""

    def __init__(self, qemu: Path, *arguments: str) -> None:
        ours, theirs = socket.socketpair()
        self._stream = ours
        with theirs:
            monitor = f"socket,id=qmp,fd={theirs.fileno()}"
            self._process = subprocess.Popen(
                [
                    *(str(qemu), "-nodefaults", "-machine", "none", "-accel", "qtest"),
                    *("-display", "none", "-S", "-chardev", monitor),
                    *("-mon", "chardev=qmp,mode=control", *arguments),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._lines = ours.makefile("rb")

    def close(self) -> None:
        self._lines.close()
        self._stream.close()
        self._process.kill()
        self._process.wait()

    def message(self) -> dict[str, Any]:
        """The next message."""
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """The answer to a command; events are passed over."""
        request: dict[str, object] = {"execute": command, "id": 1}
        if arguments:
            request["arguments"] = arguments
        self._stream.sendall(json.dumps(request).encode())
        while "event" in (answer := self.message()):
            pass
        return answer


class Schema:
    """A QEMU's schema: its entities by name."""

    def __init__(self, entities: Sequence[Mapping[str, Any]]) -> None:
        self._entities = {entity["name"]: entity for entity in entities}

    def check_answer(self, command: str, answer: object) -> None:
        """A command exists, needs no arguments, and answers like this."""
        entity = self._get(command, "command")
        members = self._entities[entity["arg-type"]]["members"]
        assert all("default" in member for member in members), f"{command} needs arguments"
        self._check(answer, entity["ret-type"], command)

    def check_event(self, event: str, data: object) -> None:
        """An event exists, and its data look like this."""
        self._check(data, self._get(event, "event")["arg-type"], event)

    def _get(self, name: str, kind: str) -> Mapping[str, Any]:
        entity = self._entities.get(name)
        assert entity is not None, f"QEMU has no {kind} {name}"
        assert entity["meta-type"] == kind
        return entity

    def _check(self, value: object, name: str, where: str) -> None:
        entity = self._entities[name]
        match entity["meta-type"]:
            case "builtin":
                kind = entity["json-type"]
                assert kind == "value" or isinstance(value, _JSON[kind]), f"{where}: {value!r}"
            case "enum":
                assert value in entity["values"], f"{where}: {value!r}"
            case "array":
                assert isinstance(value, list), f"{where}: {value!r}"
                for item in value:
                    self._check(item, entity["element-type"], where)
            case "object":
                self._check_object(value, entity, where)
            case other:
                raise AssertionError(f"{where}: {other} is not known here")

    def _check_object(self, value: object, entity: Mapping[str, Any], where: str) -> None:
        assert isinstance(value, dict), f"{where}: {value!r}"
        members = {member["name"]: member for member in entity["members"]}
        for variant in entity.get("variants", ()):
            if variant["case"] == value.get(entity["tag"]):
                more = self._entities[variant["type"]]["members"]
                members |= {member["name"]: member for member in more}
        assert set(value) <= set(members), f"{where}: {sorted(set(value) - set(members))}"
        for name, member in members.items():
            if name in value:
                self._check(value[name], member["type"], f"{where}.{name}")
            else:
                assert "default" in member, f"{where}: {name} is missing"
