"""Speed of the fleet's page, beside a bare Jinja2 loop over the same rows in the same run.

``python -m benchmarks.fleet`` renders a page of 1,000 agents, and a table with the same texts by a
template that is nothing but a loop; then it fetches the page over loopback and takes the time to
the first byte. Nothing here is a test: a busy machine is no bug.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from jinja2 import Environment

from mrtd.service.fleet_pages import FleetPages
from mrtd.service.fleet_rows import agent_row
from tests.lab.agents import MadeFleet, serving, verdict
from tests.service.fleet import Fleet as Lab

_AGENTS: Final = 1000
_ROUNDS: Final = 15
_RUNS: Final = (("green", "green too"), ("green", "exception"), ("unsigned", "away"))
_LOOP: Final = """\
<table>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
"""


def fleet_of(count: int) -> MadeFleet:
    """A fleet whose agents have answered."""
    made = MadeFleet()
    for number in range(count):
        runs = _RUNS[number % len(_RUNS)]
        made.add(f"vm-{number:04}", *runs, admitted=verdict(sequence=number + 1))
    made.look()
    return made


def seconds(work: Callable[[], object]) -> float:
    """The median of some rounds; the first one is left out."""
    found = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def first_byte(base: str) -> float:
    """From the request to the first byte of its answer, on a connection that is there."""
    parts = urlsplit(base)
    address = (parts.hostname or "", parts.port or 0)
    with socket.create_connection(address, timeout=60) as line:
        started = time.perf_counter()
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line.recv(1)
        taken = time.perf_counter() - started
        while line.recv(1 << 16):
            pass
    return taken


def main() -> int:
    """Measure, and print."""
    made = fleet_of(_AGENTS)
    lab = Lab(kind="reference", fleet=made.fleet)
    pages = FleetPages(lab.service, made.fleet)
    now = made.clock.wall()
    agents = [agent_row(agent, now) for agent in made.fleet.agents()]
    rows = [[str(cell) for cell in _texts(row)] for row in agents]
    bare = Environment(autoescape=True).from_string(_LOOP)
    page, loop = seconds(pages.render_agents), seconds(lambda: bare.render(rows=rows))
    size = len(pages.render_agents())
    with serving(lab.app) as base:
        taken = seconds(lambda: first_byte(base))
    lab.service.close(60)
    print(f"page of {_AGENTS} agents: {page * 1000:.1f} ms, {size / 1024:.0f} KiB")
    print(f"bare loop over their {len(rows[0])} texts: {loop * 1000:.1f} ms")
    print(f"ratio: {page / loop:.2f} (bound: 5)")
    print(f"first byte over loopback: {taken * 1000:.1f} ms")
    return 0 if page < 5 * loop else 1


def _texts(row: object) -> list[object]:
    """All texts of a row, those of its badges too."""
    found: list[object] = []
    for value in msgspec.structs.astuple(row):  # type: ignore[arg-type]
        found += _texts(value) if isinstance(value, msgspec.Struct) else [value]
    return found


if __name__ == "__main__":
    sys.exit(main())
