"""The fake QEMU against the real one: a fake that drifts would prove nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.tdx import UnixSocket, Vsock, tdx_arguments
from tests.conftest import DebianParts
from tests.lab import fake_qemu
from tests.lab.bench import GOOD, Bench
from tests.lab.fake_qemu import COMMANDS, EVENTS, GREETING, Monitor
from tests.lab.qmp_schema import RealQmp, Schema

pytestmark = pytest.mark.qemu

NONSENSE = "query-nonsense"


@pytest.fixture
def real(debian: DebianParts) -> Iterator[RealQmp]:
    qmp = RealQmp(debian.qemu_11)
    yield qmp
    qmp.close()


@pytest.fixture(scope="module")
def schema(debian: DebianParts) -> Schema:
    qmp = RealQmp(debian.qemu_11)
    try:
        qmp.message()
        qmp.ask("qmp_capabilities")
        return Schema(qmp.ask("query-qmp-schema")["return"])
    finally:
        qmp.close()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_those_of_the_real_one(schema: Schema, command: str) -> None:
    schema.check_answer(command, COMMANDS[command])


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_events_are_those_of_the_real_one(schema: Schema, event: str) -> None:
    for data in EVENTS[event]:
        schema.check_event(event, data)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("SHUTDOWN", {"guest": True}),
        ("SHUTDOWN", {"guest": True, "reason": "tired"}),
        ("SHUTDOWN", {"guest": "yes", "reason": "guest-reset"}),
        ("SHUTDOWN", {"guest": True, "reason": "guest-reset", "more": 1}),
        ("SHUTDOWN", []),
        ("LAUGHTER", {}),
        ("GUEST_PANICKED", {"action": "pause", "info": {"type": "tdx", "message": "?"}}),
    ],
)
def test_the_comparison_can_fail(schema: Schema, event: str, data: object) -> None:
    with pytest.raises(AssertionError):
        schema.check_event(event, data)


def test_the_session_needs_no_other_command(bench: Bench) -> None:
    bench.boot(GOOD)
    used = (bench.bin / "commands").read_text(encoding="ascii").split()
    assert used == ["qmp_capabilities", "query-version", "cont"]
    assert set(used) <= set(COMMANDS)


def shape(message: dict[str, Any]) -> object:
    """What two QEMUs of different versions say alike."""
    if "error" in message:
        return {"error": message["error"]["class"], "id": message.get("id")}
    return sorted(message)


def fake_answers(*commands: str) -> list[object]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = Monitor(theirs, {})

        def serve() -> None:
            monitor.say(GREETING)
            for request in fake_qemu.requests(theirs):
                monitor.answer(request)

        server = threading.Thread(target=serve)
        server.start()
        with ours.makefile("rb") as lines:
            said = [sorted(json.loads(lines.readline())["QMP"])]
            found: list[object] = list(said)
            for command in commands:
                ours.sendall(json.dumps({"execute": command, "id": 1}).encode())
                found.append(shape(json.loads(lines.readline())))
        ours.shutdown(socket.SHUT_RDWR)
        server.join()
    return found


def test_both_hold_the_same_conversation(real: RealQmp) -> None:
    talk = ("query-version", "qmp_capabilities", "qmp_capabilities", NONSENSE, "query-status")
    theirs: list[object] = [sorted(real.message()["QMP"])]
    theirs += [shape(real.ask(command)) for command in talk]
    assert fake_answers(*talk) == theirs


@pytest.mark.parametrize("service", [Vsock(), Vsock(3, 99), UnixSocket(Path("/run/a, b"))])
def test_the_real_one_takes_our_tdx_guest(real: RealQmp, service: Vsock | UnixSocket) -> None:
    """As far as it goes without TDX: the object is made, and has what it was given."""
    _, guest, *_ = tdx_arguments(1 << 30, service)
    real.message()
    real.ask("qmp_capabilities")
    assert real.ask("object-add", **json.loads(guest))["return"] == {}
    answer = real.ask("qom-get", path="/objects/tdx0", property="quote-generation-socket")
    assert answer["return"] == service.address()
