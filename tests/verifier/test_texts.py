"""Texts of strangers: they break no line, and raise nothing."""

from __future__ import annotations

from mrtd.verifier.verdict import Reason, check
from tests.lab.world import World


def test_a_check_is_one_line_whoever_wrote_its_text() -> None:
    made = check(
        "x", Reason.IDENTITY, ok=False, expected="a\nb", observed="\x1b[2J\u2028c", source="y"
    )
    assert (made.expected, made.observed) == ("a b", "\\x1b[2J\\u2028c")


def test_a_token_that_is_no_text_is_refused() -> None:
    token: object = b"a.b.c"
    verdict = World().verifier.verify_registration(token, binding="none")  # type: ignore[arg-type]
    assert (verdict.status, verdict.reason) == (401, Reason.TOKEN_MALFORMED)
