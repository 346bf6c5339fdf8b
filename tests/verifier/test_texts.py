"""Texts of strangers: they break no line, and raise nothing."""

from __future__ import annotations

import pytest

from mrtd.errors import PolicyError
from mrtd.verifier.settings import read_policy
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


@pytest.mark.parametrize("text", [" ", ",", " , "])
def test_a_variable_that_lists_nothing_is_no_list(text: str) -> None:
    ids = {"DD_TRUSTED_REPO_ID": "1", "DD_TRUSTED_OWNER_ID": "2"}
    with pytest.raises(PolicyError, match="DD_TRUSTED_COVERAGE"):
        read_policy("", {**ids, "DD_TRUSTED_COVERAGE": text})
