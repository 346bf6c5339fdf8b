"""QEMU's option syntax: `mrtd.launch.options`."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import SpecError
from mrtd.launch.options import escape, option_pairs, split_command_line, split_option
from tests.strategies import refused

words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@given(words)
def test_what_a_shell_would_take_is_taken(given_words: list[str]) -> None:
    # a word of its own line is another command, which only quoting tells
    text = shlex.join(["qemu", *given_words])
    assert split_command_line(text.encode(), origin="x") == ("qemu", *given_words)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
                min_size=2))  # fmt: skip
def test_what_proc_shows_is_taken(given_words: list[str]) -> None:
    data = "".join(f"{word}\0" for word in given_words).encode()
    assert split_command_line(data, origin="x") == tuple(given_words)


def test_quotes_and_continued_lines() -> None:
    text = b'qemu -a "x y\\"z\\k" \'q $x;|\' \\\n  -b c\\ d,e""f "a\\\nb" \\\r\n \'\'\n'
    assert split_command_line(text, origin="x") == (
        *("qemu", "-a", 'x y"z\\k', "q $x;|"),
        *("-b", "c d,ef", "ab", ""),
    )


@pytest.mark.parametrize(
    "text",
    [
        b"a $HOME", b'a "$x"', b"a `x`", b"a;b", b"a|b", b"a &", b"a > b", b"a (b)", b"a\nb",
        b'a "b', b"a 'b", b"a \\", b"\xff", b"a" * ((1 << 20) + 1), b"a " * 10_001,
    ],
)  # fmt: skip
def test_what_only_a_shell_could_tell_is_refused(text: bytes) -> None:
    with pytest.raises(SpecError):
        split_command_line(text, origin="x")


@given(st.binary(max_size=80))
def test_any_bytes_are_words_or_a_spec_error(data: bytes) -> None:
    refused(lambda: split_command_line(data, origin="x"))


def test_options() -> None:
    pairs = split_option("node,nodeid=0,path=a,,b,flag,,=x", implied="type")
    assert pairs == (("type", "node"), ("nodeid", "0"), ("path", "a,b"), ("flag,", "x"))
    assert split_option("4G", implied="size") == (("size", "4G"),)
    assert split_option("a", implied="") == (("a", "on"),)
    text = '{"driver": "d", "on": true, "off": false, "n": 3, "list": [1]}'
    assert option_pairs(text, implied="driver", field="x") == (
        ("driver", "d"), ("on", "on"), ("off", "off"), ("n", "3"), ("list", "[1]"),
    )  # fmt: skip


names = st.text(st.characters(categories=["L"]), min_size=1)
values = st.text(st.characters(exclude_characters="\0"))


@given(st.lists(st.tuples(names, values), min_size=1))
def test_an_escaped_value_comes_back(pairs: list[tuple[str, str]]) -> None:
    text = ",".join(f"{name}={escape(value)}" for name, value in pairs)
    assert split_option(text) == tuple(pairs)


@pytest.mark.parametrize("text", ["{", "{}x", '{"a": 1', "{" * 100_000])
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="JSON"):
        option_pairs(text, implied="driver", field="-device")
