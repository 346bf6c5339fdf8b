"""The log never waits, and never quotes."""

from __future__ import annotations

import io
import json
import logging
import threading

from mrtd.service.logs import LibraryRecords, Log


class Stuck(io.BytesIO):
    """A stream that nobody reads until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, data: object) -> int:
        assert self.free.wait(60)
        return super().write(data)  # type: ignore[arg-type]


class Broken(io.BytesIO):
    """A stream whose reader has gone."""

    def write(self, _: object) -> int:
        raise BrokenPipeError


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    stream = Stuck()
    log = Log(stream)
    for number in range(10_100):
        log.write("request", status=number)
    assert 90 <= log.dropped <= 100
    stream.free.set()
    log.close(60)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 10_100 - log.dropped
    assert [line["status"] for line in lines] == [*range(len(lines))]


def test_a_log_whose_reader_has_gone_is_counted() -> None:
    log = Log(Broken())
    log.write("request")
    log.close(60)
    assert log.dropped == 1


def test_what_libraries_say_is_not_repeated() -> None:
    stream = io.BytesIO()
    log = Log(stream)
    logger = logging.Logger("library")  # noqa: LOG001 - not to be found by others
    logger.addHandler(LibraryRecords(log))
    logger.info("nothing")
    logger.warning("token %s", "secret-token")
    try:
        raise ValueError("secret-token")  # noqa: TRY301 - as a library would
    except ValueError:
        logger.exception("secret-token")
    log.close(60)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["event"]) for line in found] == [
        ("warning", "library library"),
        ("error", "library library"),
    ]
    assert found[1]["detail"].endswith(": ValueError")
    assert b"secret" not in stream.getvalue()
