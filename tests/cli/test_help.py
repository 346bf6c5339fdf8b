"""The help of every command line fits a terminal of 80 columns."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ci.__main__ import VERBS as CI_VERBS
from ci.__main__ import parser as ci_parser
from mrtd.cli.main import VERBS
from mrtd.cli.main import parser as mrtd_parser
from release.options import parser as release_parser


def everything() -> Iterator[tuple[str, Callable[[], argparse.ArgumentParser]]]:
    yield "mrtd", mrtd_parser
    yield "ci", ci_parser
    yield "release", release_parser
    for verb in VERBS:
        yield f"mrtd {verb}", partial(mrtd_parser, verb)
    for verb in CI_VERBS:
        yield f"ci {verb}", partial(ci_parser, verb)


def helps(top: argparse.ArgumentParser) -> Iterator[str]:
    """The help of a parser and of all verbs below it."""
    yield top.format_help()
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                yield from helps(below)


@pytest.mark.parametrize(("name", "parser"), list(everything()))
def test_help_fits_80_columns(
    name: str, parser: Callable[[], argparse.ArgumentParser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line for text in helps(parser()) for line in text.splitlines()]
    assert lines
    assert [line for line in lines if len(line) > 80] == [], name
