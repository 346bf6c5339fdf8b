"""What is wrong with a policy is said with the file or variable, the setting, and what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from mrtd.errors import PolicyError
from mrtd.verifier.settings import (
    FILE_VARIABLE,
    ignored_variables,
    missing_folders,
    policy_from_environment,
    read_policy,
)

IDS: Final = {"DD_TRUSTED_REPO_ID": "1000001", "DD_TRUSTED_OWNER_ID": "2000002"}


def problem(text: str = "", **variables: str) -> str:
    """Why a policy of a file is refused."""
    with pytest.raises(PolicyError) as caught:
        read_policy(text, IDS | variables, origin="p.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("DD_TRUSTED_MODE", "Observe",
         "'Observe' is none of enforce, observe (did you mean observe?)"),
        ("DD_TRUSTED_TCB", "UpToDate,SWHardning", "'SWHardning' is none of UpToDate, "),
        ("DD_TRUSTED_TCB", "Revoked", "accepts nothing, or Revoked, which cannot be accepted"),
        ("DD_TRUSTED_REPO", "dd", "is not of the form owner/name"),
        ("DD_TRUSTED_REPO_ID", "dd", "is no number such as 1000001"),
        ("DD_TRUSTED_API", "http://a", "'http://a' is no https URL without a slash at its end"),
        ("DD_TRUSTED_MINIMUM_SEQUENCE", "v1", "is no whole number"),
        ("DD_TRUSTED_MINIMUM_SEQUENCE", "-1", "Expected `int` >= 0"),
        ("DD_TRUSTED_MRTD_ONLY", "yes", "is neither true nor false"),
        ("DD_TRUSTED_MRTD_ONLY", "1", "an MRTD covers the firmware only: "),
        ("DD_TRUSTED_CACHE", "~/cache", "'~/cache': ~ is not expanded: write the whole path"),
        ("DD_TRUSTED_MODUS", "x", "is no setting (did you mean DD_TRUSTED_MODE?)"),
        ("DD_TRUSTED_QQQQQQQQQQQ", "x", "is no setting"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["", 'mode = "observe"\n[tcb]\nstatuses = ["UpToDate"]'])
def test_what_a_variable_says_is_blamed_on_the_variable(
    name: str, text: str, said: str, file: str
) -> None:
    assert problem(file, **{name: text}).startswith(f"environment: {name}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('mode = "Observe"', "mode: 'Observe' is none of enforce, observe"),
        ('[tcb]\nstatuses = ["UpToDate", "outofdate"]', "tcb.statuses: 'outofdate' is none of "),
        ('[td]\nrtmr3 = "00"', "td.rtmr3: not 96 hex digits: '00'"),
        ('[td]\nmodules = ["00"]', "td.modules: not 96 hex digits: '00'"),
        ("[td]\nrtmr3 = 0", "td.rtmr3: is no SHA-384 value in hex"),
        ('[release.revoked]\nmrtds = ["x"]', "release.revoked.mrtds: not 96 hex digits: 'x'"),
        ('[td.xfam]\nvalue = "0000000000000000"', "td.xfam: Object missing required field `mask`"),
        ("[cache]\nsoft_seconds = '1'", "cache.soft_seconds: Expected `int`, got `str`"),
        ("[cache]\nhard_seconds = 1", "cache.hard_seconds: is shorter than cache.soft_seconds"),
        ('[cache]\ndirectory = "~/x"', "cache.directory: '~/x': ~ is not expanded"),
        ('[cache]\ndirectory = ""', "cache.directory: is no path"),
        ("identity = 'a/b'", "identity: is no table"),
        ('[release.revoked]\ncommits = ["5f3c2a9"]',
         "release.revoked.commits: is not 40 lower-case hex digits"),
        ('td.xfam = { value = "4", mask = "0000000000000000" }',
         "td.xfam.value: is not 16 lower-case hex digits"),
        ("[td]\nxfam = 1", "td.xfam: is no table"),
        ('schema = "mrtd.policy/2"\nmore = 1', "schema: 'mrtd.policy/2' is not mrtd.policy/1"),
        ("schema = ", "is no TOML: "),
        ("[identiti]", "identiti: is no setting (did you mean identity?)"),
        ("[identity]\nrepositry = 1",
         "identity.repositry: is no setting (did you mean identity.repository?)"),
        ('[identity]\nmode = "observe"', "identity.mode: is no setting (it belongs in the top)"),
        ("repository_id = 1", "repository_id: is no setting (it belongs in [identity])"),
        ("directory = 1", "directory: is no setting (it belongs in [lookup] or [cache])"),
        ("[td.xfam]\nvalu = 1", "td.xfam.valu: is no setting (did you mean td.xfam.value?)"),
        ('"a\\nb" = 1', "'a\\nb': is no setting"),
        ("qqqqqqqqq = 1", "qqqqqqqqq: is no setting"),
    ],
)  # fmt: skip
def test_what_a_file_says_is_blamed_on_the_file_and_the_setting(text: str, said: str) -> None:
    assert problem(text).startswith(f"p.toml: {said}")


def test_a_misspelt_section_is_named_before_ids_that_are_missing() -> None:
    with pytest.raises(PolicyError, match="identiti: is no setting"):
        read_policy("[identiti]\nrepository_id = 1\nowner_id = 2")


@pytest.mark.parametrize("value", ["true", "0", "1.5", "-1", "[1]", "{}", "9999999999999999999999"])
def test_an_id_is_a_whole_number(value: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(f"[identity]\nrepository_id = {value}\nowner_id = 2")
    assert "repository_id" in str(caught.value)


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[cache]\nhard_seconds = 1")
    with pytest.raises(PolicyError) as caught:
        policy_from_environment(IDS | {FILE_VARIABLE: str(file)})
    assert str(caught.value).startswith(f"{file}: cache.hard_seconds: ")
    assert (caught.value.origin, caught.value.field) == (str(file), "cache.hard_seconds")


def test_variables_that_do_nothing_are_told_without_their_values() -> None:
    told = ignored_variables({
        "DD_EXPECTED_MRTD": "secret", "DD_EXPECTED_TCB": "secret", "DD_ITA_JWKSURL": "secret",
        "DD_MEASUREMENT_ENFORCE": "secret", "DD_ITA_API_KEY": "secret", "DD_ITA_BASE_URL": "x",
        "DD_ITA_ISSUER": "x", "DD_OWNER": "x", "DD_ITA_Q": "secret", **IDS,
    })  # fmt: skip
    assert [line.partition(" ")[0] for line in told] == [
        "DD_EXPECTED_MRTD",
        "DD_EXPECTED_TCB",
        "DD_ITA_JWKSURL",
        "DD_ITA_Q",
        "DD_MEASUREMENT_ENFORCE",
    ]
    assert "did you mean DD_ITA_JWKS_URL?" in told[2]
    assert "DD_TRUSTED_TCB" in told[1]
    assert not any("secret" in line for line in told)
    assert ignored_variables({}) == ()


def test_a_folder_of_bundles_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert missing_folders(read_policy("", IDS)) == ()
    there = read_policy("", IDS | {"DD_TRUSTED_BUNDLES": str(tmp_path)})
    assert missing_folders(there) == ()
    (line,) = missing_folders(read_policy("", IDS | {"DD_TRUSTED_BUNDLES": str(tmp_path / "x")}))
    assert line.startswith("lookup.directory: ")
