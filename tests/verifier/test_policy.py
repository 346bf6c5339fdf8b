"""The policy: strict unless it says otherwise by name, and refused where it cannot be meant."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrtd.errors import PolicyError
from mrtd.evidence.tcb import TcbStatus
from mrtd.registers import Sha384
from mrtd.verifier.policy import (
    BitsPolicy,
    CachePolicy,
    IdentityPolicy,
    LookupPolicy,
    MeasurementPolicy,
    Policy,
    ReleasePolicy,
    Revoked,
    TcbPolicy,
    TdPolicy,
    TokenPolicy,
    TrustRootPolicy,
    encode_value,
)
from mrtd.verifier.settings import (
    FILE_VARIABLE,
    VARIABLES,
    policy_from_environment,
    read_policy,
    read_policy_file,
)

IDS: Final = {"DD_TRUSTED_REPO_ID": "1000001", "DD_TRUSTED_OWNER_ID": "2000002"}
HEX: Final = "ab" * 48


def read(text: str = "", **variables: str) -> Policy:
    """A policy with the two ids."""
    return read_policy(text, IDS | variables)


def problem(text: str = "", **variables: str) -> str:
    """Why a policy is refused."""
    with pytest.raises(PolicyError) as caught:
        read(text, **variables)
    return str(caught.value)


def test_defaults_are_the_strict_ones() -> None:
    # a specification: whoever changes a default here changes who is admitted everywhere
    assert read() == Policy(
        schema="mrtd.policy/1",
        mode="enforce",
        identity=IdentityPolicy(
            repository="devopsdefender/dd",
            repository_id="1000001",
            owner_id="2000002",
            workflow=".github/workflows/release.yml",
            ref="refs/heads/main",
            triggers=("push",),
            runners=("github-hosted",),
            visibility="public",
            issuer="https://token.actions.githubusercontent.com",
            server="https://github.com",
            signer_workflow=None,
            signer_digest=None,
        ),
        token=TokenPolicy(
            issuer="https://portal.trustauthority.intel.com",
            jwks_url="https://portal.trustauthority.intel.com/certs",
            algorithms=("PS384", "RS256"),
            leeway_seconds=60,
            maximum_age_seconds=600,
            jwks_lifetime_seconds=3600,
            jwks_hard_lifetime_seconds=86400,
            jwks_refresh_seconds=60,
        ),
        td=TdPolicy(
            td_attributes=BitsPolicy(value="0000000010000000", mask="00000000300000ff"),
            xfam=BitsPolicy(value="0000000000000000", mask="0000000000000000"),
            modules=(),
            rtmr3=None,
            mr_config_id=None,
            mr_owner=None,
            mr_owner_config=None,
        ),
        tcb=TcbPolicy(statuses=(TcbStatus.UP_TO_DATE,), rejected_advisories=(), minimum_date=None),
        measurements=MeasurementPolicy(
            allow_unpinned_rtmr0=False,
            mrtd_only=False,
            required_coverage=("firmware", "kernel", "cmdline", "initrd", "rootfs"),
            required_confirmations=(),
        ),
        release=ReleasePolicy(
            minimum_sequence=0,
            maximum_age_seconds=None,
            revoked=Revoked(mrtds=(), launches=(), tags=(), commits=(), runs=()),
        ),
        lookup=LookupPolicy(
            github="required",
            api="https://api.github.com",
            by_mrtd=True,
            directory=None,
            blob_hosts=(".blob.core.windows.net", ".githubusercontent.com"),
            maximum_attestations=100,
            timeout_seconds=10,
            total_seconds=30,
            requests_per_hour=2400,
            reserve_percent=50,
        ),
        cache=CachePolicy(
            soft_seconds=600,
            hard_seconds=86400,
            negative_seconds=60,
            entries=4096,
            directory=None,
        ),
        trust_root=TrustRootPolicy(file=None, maximum_age_days=180, gh_seconds=30),
    )


def test_all_four_registers_are_required_unless_asked_for_by_name() -> None:
    assert read().measurements.required == ("mrtd", "rtmr0", "rtmr1", "rtmr2")
    assert read("[measurements]\nallow_unpinned_rtmr0 = true").measurements.required == (
        "mrtd",
        "rtmr1",
        "rtmr2",
    )
    alone = '[measurements]\nmrtd_only = true\nrequired_coverage = ["firmware"]'
    assert read(alone).measurements.required == ("mrtd",)


def test_the_signer_is_the_workflow_itself_unless_another_is_named() -> None:
    own = "https://github.com/devopsdefender/dd/.github/workflows/release.yml@refs/heads/main"
    identity = read().identity
    assert (identity.signer, identity.build_config) == (own, own)
    other = "https://github.com/o/builder/.github/workflows/attest.yml@" + "0" * 40
    named = read(DD_TRUSTED_SIGNER_WORKFLOW=other).identity
    assert (named.signer, named.build_config) == (other, own)


def test_variables_go_over_the_file() -> None:
    text = '[identity]\nrepository = "a/b"\nref = "refs/heads/next"'
    identity = read(text, DD_TRUSTED_REPO="c/d").identity
    assert (identity.repository, identity.ref) == ("c/d", "refs/heads/next")


def test_an_empty_variable_is_not_set() -> None:
    assert read('[identity]\nrepository = "a/b"', DD_TRUSTED_REPO="").identity.repository == "a/b"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DD_TRUSTED_TRIGGERS", "push, workflow_dispatch", ("push", "workflow_dispatch")),
        ("DD_TRUSTED_TCB", "UpToDate,SWHardeningNeeded", ("UpToDate", "SWHardeningNeeded")),
        ("DD_TRUSTED_ALLOW_UNPINNED_RTMR0", "1", True),
        ("DD_TRUSTED_ALLOW_UNPINNED_RTMR0", "false", False),
        ("DD_TRUSTED_MINIMUM_SEQUENCE", "412", 412),
        ("DD_TRUSTED_CACHE", "/var/lib/mrtd", Path("/var/lib/mrtd")),
        ("DD_TRUSTED_MODE", "observe", "observe"),
        ("DD_ITA_ISSUER", "Some Name", "Some Name"),
    ],
)
def test_a_variable_is_read_as_what_it_sets(name: str, text: str, value: object) -> None:
    section, field, _ = VARIABLES[name]
    policy = read(**{name: text})
    assert getattr(getattr(policy, section) if section else policy, field) == value


def test_every_variable_names_a_setting() -> None:
    hints = get_type_hints(Policy)
    for section, field, _ in VARIABLES.values():
        owner = hints[section] if section else Policy
        assert field in owner.__struct_fields__


@pytest.mark.parametrize("name", ["DD_TRUSTED_REPOS", "DD_TRUSTED_", "DD_TRUSTED_POLICY_FILE"])
def test_an_unknown_variable_is_refused(name: str) -> None:
    assert name in problem(**{name: "x"})
    assert name in problem(**{name: ""})


def test_other_variables_are_nobodys_business() -> None:
    assert read(DD_ITA_API_KEY="x", DD_OWNER="y", PATH="/bin") == read()


@pytest.mark.parametrize(
    "text",
    [
        "unknown = 1",
        "[identity]\nrepo = 'a/b'",
        "[measurements]\nallow_unpinned_rtmr1 = true",
        "[release.revoked]\ndigests = []",
        "[binding]\nmode = 'none'",
        "[td.xfam]\nvalue = '0000000000000000'",
        "schema = 'mrtd.policy/2'",
        "mode = 'off'",
        "[identity]\nvisibility = 'internal'",
        "[token]\nalgorithms = ['HS256']",
        "[token]\nalgorithms = ['none']",
        "[lookup]\ngithub = 'sometimes'",
        "[tcb]\nstatuses = ['uptodate']",
        "[measurements]\nmrtd_only = 1",
        "[measurements]\nrequired_confirmations = ['hearsay']",
        "[identity]\nowner_id = 2\n[identity.more]\na = 1",
        "identity = 'devopsdefender/dd'",
        "not toml",
        "a = 1\na = 2",
    ],
)
def test_what_is_no_setting_is_refused(text: str) -> None:
    problem(text)


@pytest.mark.parametrize("ids", [{}, {"DD_TRUSTED_REPO_ID": "1"}, {"DD_TRUSTED_OWNER_ID": "1"}])
def test_without_the_ids_the_command_is_named_that_finds_them(ids: dict[str, str]) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy("", {"DD_TRUSTED_REPO": "some/where"} | ids)
    assert caught.value.hint is not None
    assert "gh api repos/some/where --jq '.id, .owner.id'" in caught.value.hint
    assert "DD_TRUSTED_REPO_ID" in caught.value.hint
    missing = {"DD_TRUSTED_REPO_ID": "repository_id", "DD_TRUSTED_OWNER_ID": "owner_id"}
    for name, field in missing.items():
        assert (field in caught.value.message) is (name not in ids)


def test_in_a_file_ids_are_texts_or_numbers() -> None:
    identity = read_policy("[identity]\nrepository_id = 1000001\nowner_id = 2000002").identity
    assert (identity.repository_id, identity.owner_id) == ("1000001", "2000002")


@pytest.mark.parametrize("number", ["0", "-1", "01", "1e3", "1\n", "devopsdefender", "9" * 20])
def test_ids_are_numbers(number: str) -> None:
    problem(DD_TRUSTED_REPO_ID=number)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[identity]\nserver = "http://github.com"', "identity.server"),
        ('[identity]\nserver = "https://github.com/"', "identity.server"),
        ('[identity]\nserver = "github.com"', "identity.server"),
        ('[identity]\nissuer = "http://token.actions.githubusercontent.com"', "identity.issuer"),
        ('[token]\njwks_url = "http://portal.trustauthority.intel.com/certs"', "token.jwks_url"),
        ('[token]\njwks_url = "file:///etc/keys"', "token.jwks_url"),
        ('[lookup]\napi = "http://api.github.com"', "lookup.api"),
        ('[lookup]\napi = "https://"', "lookup.api"),
        ('[identity]\nsigner_workflow = "http://github.com/o/r/.github/workflows/x.yml@main"',
         "identity.signer_workflow"),
        ('[identity]\nsigner_workflow = "o/r/.github/workflows/x.yml@main"',
         "identity.signer_workflow"),
        ('[identity]\nsigner_workflow = "https://github.com/o/r/.github/workflows/x.yml"',
         "identity.signer_workflow"),
        ('[identity]\nsigner_workflow = ""', "identity.signer_workflow"),
        ('[identity]\nrepository = "dd"', "identity.repository"),
        ('[identity]\nrepository = "a/b/c"', "identity.repository"),
        ('[identity]\nrepository = "a/.."', "identity.repository"),
        ('[identity]\nrepository = "https://github.com/a/b"', "identity.repository"),
        ('[identity]\nworkflow = "release.yml"', "identity.workflow"),
        ('[identity]\nref = "main"', "identity.ref"),
        ("[identity]\ntriggers = []", "identity.triggers"),
        ('[identity]\ntriggers = ["push", ""]', "identity.triggers"),
        ("[identity]\nrunners = []", "identity.runners"),
        ('[identity]\nrunners = [""]', "identity.runners"),
        ("[token]\nalgorithms = []", "token.algorithms"),
        ("[tcb]\nstatuses = []", "tcb.statuses"),
        ('[tcb]\nstatuses = ["UpToDate", "Revoked"]', "tcb.statuses"),
        ("[tcb]\nminimum_date = 2026-01-01T00:00:00", "tcb.minimum_date"),
        ("[lookup]\nblob_hosts = []", "lookup.blob_hosts"),
        ('[lookup]\nblob_hosts = [""]', "lookup.blob_hosts"),
        ("[cache]\nsoft_seconds = 600\nhard_seconds = 599", "cache.hard_seconds"),
        ("[token]\njwks_hard_lifetime_seconds = 3599", "token.jwks_hard_lifetime_seconds"),
        ("[measurements]\nmrtd_only = true", "measurements.mrtd_only"),
        ('[measurements]\nmrtd_only = true\nrequired_coverage = ["firmware", "kernel"]',
         "measurements.mrtd_only"),
        ('[td.td_attributes]\nvalue = "0000000010000000"\nmask = "00000000000000ff"',
         "td.td_attributes"),
        ('[td.xfam]\nvalue = "0000000000000004"\nmask = "0000000000000003"', "td.xfam"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_and_named(text: str, field: str) -> None:
    assert f": {field}: " in problem(text)


@pytest.mark.parametrize(
    "text",
    [
        "[token]\nleeway_seconds = 121",
        "[token]\nleeway_seconds = -1",
        "[token]\nmaximum_age_seconds = 315360001",
        "[token]\nmaximum_age_seconds = 600.5",
        '[token]\nmaximum_age_seconds = "10 min"',
        "[cache]\nnegative_seconds = -1",
        "[cache]\nentries = 0",
        "[lookup]\ntimeout_seconds = 0",
        "[lookup]\ntotal_seconds = 301",
        "[lookup]\nmaximum_attestations = 301",
        "[lookup]\nreserve_percent = 91",
        "[lookup]\nrequests_per_hour = 0",
        "[release]\nminimum_sequence = -1",
        "[release]\nmaximum_age_seconds = -1",
        "[trust_root]\nmaximum_age_days = 0",
        "[trust_root]\ngh_seconds = 301",
    ],
)
def test_durations_and_counts_are_bounded(text: str) -> None:
    problem(text)


@pytest.mark.parametrize(
    "text",
    [
        f'[td]\nrtmr3 = "{HEX[:-2]}"',
        "[td]\nmodules = [1]",
        '[td]\nmodules = ["x"]',
        "[td]\nmr_owner = 7",
        f'[release.revoked]\nlaunches = ["{HEX}"]',
        '[release.revoked]\ncommits = ["5f3c2a9"]',
        '[release.revoked]\nruns = ["30000003"]',
        '[release.revoked]\nruns = ["http://github.com/o/r/actions/runs/1"]',
        '[release.revoked]\nruns = ["https://github.com/o/r/actions/runs/1/"]',
        '[release.revoked]\nruns = ["https://github.com/o/r/actions/runs/1\\n"]',
        '[release.revoked]\nruns = ["https://github.com/o/r/actions/runs/1/attempts/"]',
        '[tcb]\nrejected_advisories = ["SA-00837"]',
        '[tcb]\nrejected_advisories = ["intel-sa-00837"]',
        '[tcb]\nrejected_advisories = ["INTEL-SA-0837"]',
        '[tcb]\nrejected_advisories = ["INTEL-SA-00837\\n"]',
        '[measurements]\nrequired_coverage = ["firmware", "kernal"]',
        '[identity]\nrunners = ["github_hosted"]',
        "[lookup]\ndirectory = 7",
        '[lookup]\ndirectory = ""',
        '[cache]\ndirectory = "a\\u0000b"',
        '[trust_root]\nfile = ""',
    ],
)
def test_digests_and_paths_are_whole(text: str) -> None:
    problem(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DD_TRUSTED_MRTD_ONLY", "yes"),
        ("DD_TRUSTED_ALLOW_UNPINNED_RTMR0", "True"),
        ("DD_TRUSTED_MINIMUM_SEQUENCE", "v1.4"),
        ("DD_TRUSTED_TRIGGERS", ","),
        ("DD_TRUSTED_MODE", "warn"),
    ],
)
def test_a_variable_that_cannot_be_read_is_refused(name: str, text: str) -> None:
    problem(**{name: text})


def test_a_file_comes_from_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('mode = "observe"\n[identity]\nrepository_id = "1"\nowner_id = "2"\n')
    variables = {FILE_VARIABLE: str(file), "DD_TRUSTED_OWNER_ID": "3"}
    policy = policy_from_environment(variables)
    assert (policy.mode, policy.identity.repository_id, policy.identity.owner_id) == (
        "observe",
        "1",
        "3",
    )
    assert policy_from_environment(IDS) == policy_from_environment({**IDS, FILE_VARIABLE: ""})


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * ((1 << 20) + 1))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe4\n")
    for path in (tmp_path / "missing.toml", tmp_path, large, latin, Path("a\0b")):
        with pytest.raises(PolicyError):
            read_policy_file(path)


def leaves(kind: Any, value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all settings of a section."""
    for name in kind.__struct_fields__:
        inner = getattr(value, name)
        if isinstance(inner, msgspec.Struct):
            yield from leaves(type(inner), inner, (*path, name))
        else:
            yield (*path, name)


def other(kind: Any, value: Any) -> Any:
    """Another value of a type."""
    options = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) in {types.UnionType, Union}:
        return other(options[0], value)
    if get_origin(kind) is Literal:
        return next(one for one in options if one != value)
    if get_origin(kind) is tuple:
        return (*value, other(options[0], None))
    if kind is int:
        return (value or 0) + 1
    samples = {
        bool: not value,
        str: f"{value}x",
        Path: Path("/somewhere"),
        Sha384: Sha384.of(b"other"),
        TcbStatus: TcbStatus.OUT_OF_DATE,
        datetime: datetime(2026, 1, 1, tzinfo=UTC),
    }
    return samples[kind]


def replaced(value: Any, path: tuple[str, ...]) -> Any:
    """A section with one setting changed."""
    name, *rest = path
    hints = get_type_hints(type(value))
    inner = getattr(value, name)
    new = replaced(inner, tuple(rest)) if rest else other(hints[name], inner)
    return msgspec.structs.replace(value, **{name: new})


EVERY: Final = [path for path in leaves(Policy, read()) if path != ("schema",)]
# where the plain recipe makes what is refused
SPECIAL: Final[dict[tuple[str, ...], object]] = {
    ("identity", "repository_id"): "1000003",
    ("identity", "owner_id"): "2000003",
    ("identity", "signer_digest"): "5" * 40,
    ("release", "revoked", "launches"): ("a" * 64,),
    ("release", "revoked", "commits"): ("a" * 40,),
    ("release", "revoked", "runs"): ("https://github.com/o/r/actions/runs/1/attempts/1",),
    ("tcb", "rejected_advisories"): ("INTEL-SA-00837",),
    ("token", "algorithms"): ("PS384",),
    ("identity", "issuer"): "https://example.com",
    ("identity", "signer_workflow"): "https://github.com/o/r/.github/workflows/x.yml@refs/heads/m",
    ("identity", "server"): "https://example.com",
    ("token", "jwks_url"): "https://example.com/certs",
    ("lookup", "api"): "https://example.com",
    ("td", "td_attributes", "value"): "0000000000000000",
    ("td", "td_attributes", "mask"): "0000000010000000",
    ("td", "xfam", "mask"): "0000000000000001",
}


def changed(path: tuple[str, ...]) -> Policy:
    policy = read()
    if path == ("td", "xfam", "value"):
        bits = BitsPolicy(value="0000000000000001", mask="0000000000000001")
        return msgspec.structs.replace(policy, td=msgspec.structs.replace(policy.td, xfam=bits))
    if path == ("measurements", "mrtd_only"):
        alone = MeasurementPolicy(mrtd_only=True, required_coverage=("firmware",))
        return msgspec.structs.replace(policy, measurements=alone)
    if path not in SPECIAL:
        made: Policy = replaced(policy, path)
        return made
    value: Any = SPECIAL[path]
    for depth in range(len(path) - 1, -1, -1):
        owner: Any = policy
        for name in path[:depth]:
            owner = getattr(owner, name)
        value = msgspec.structs.replace(owner, **{path[depth]: value})
    assert isinstance(value, Policy)
    return value


def test_the_digest_is_stable() -> None:
    assert read().digest == read_policy("", dict(reversed(IDS.items()))).digest
    text = "[cache]\nsoft_seconds = 600\n[lookup]\ngithub = 'required'"
    assert read(text).digest == read().digest
    assert len(bytes.fromhex(read().digest)) == 32


@pytest.mark.parametrize("path", EVERY, ids=".".join)
def test_the_digest_knows_every_setting(path: tuple[str, ...]) -> None:
    policy = changed(path)
    assert policy != read()
    assert policy.digest != read().digest


def test_no_two_settings_have_the_same_digest() -> None:
    digests = [changed(path).digest for path in EVERY]
    assert len({*digests, read().digest}) == len(EVERY) + 1


@pytest.mark.parametrize("path", EVERY, ids=".".join)
def test_a_policy_that_is_written_is_read_as_the_same(path: tuple[str, ...]) -> None:
    policy = changed(path)
    tree = msgspec.to_builtins(policy, enc_hook=encode_value, builtin_types=(datetime,))
    text = "".join(f"{name} = {toml_of(value)}\n" for name, value in tree.items())
    assert read_policy(text) == policy


SECTIONS: Final = {
    name: kind.__struct_fields__
    for name, kind in get_type_hints(Policy).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}
SCALARS: Final = st.one_of(
    st.booleans(),
    st.integers(-5, 1 << 40),
    st.sampled_from([HEX, "", "https://a", "http://a", "push", "a/b", "refs/x", "Revoked", "\0"]),
    st.text(max_size=20),
    st.floats(),
    st.datetimes(),
)
VALUES: Final = st.one_of(SCALARS, st.lists(SCALARS, max_size=3),
                          st.dictionaries(st.text(max_size=5), SCALARS, max_size=2))  # fmt: skip


@st.composite
def settings_of_some_kind(draw: st.DrawFn) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for section in draw(st.lists(st.sampled_from([*SECTIONS, "mode", "schema", "x"]), max_size=3)):
        fields = st.sampled_from(SECTIONS.get(section, ("x",)))
        tree[section] = draw(st.one_of(st.dictionaries(fields, VALUES, max_size=3), VALUES))
    return tree


def toml_of(value: Any) -> str:
    """TOML of a value, inline; keys quoted, None left out."""
    if isinstance(value, dict):
        rows = [f"{toml_of(k)} = {toml_of(v)}" for k, v in value.items() if v is not None]
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_of(v) for v in value) + "]"
    if isinstance(value, str):
        body = "".join(f"\\U{ord(c):08x}" for c in value if not "\ud800" <= c <= "\udfff")
        return f'"{body}"'
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower()


@given(settings_of_some_kind())
def test_any_settings_make_a_policy_or_a_policy_error(tree: dict[str, Any]) -> None:
    text = "".join(f"{name} = {toml_of(value)}\n" for name, value in tree.items())
    try:
        policy = read(text)
    except PolicyError:
        return
    assert len(policy.digest) == 64


@given(st.text(max_size=200), st.dictionaries(st.sampled_from([*VARIABLES]), st.text(max_size=30)))
def test_any_text_and_variables_make_a_policy_or_a_policy_error(
    text: str, variables: dict[str, str]
) -> None:
    try:
        read(text, **variables)
    except PolicyError:
        return
