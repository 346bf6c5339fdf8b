"""``mrtd verify``: tokens, quotes, bundles and documents of the lab, asked of as a person would."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partialmethod
from pathlib import Path
from typing import Any, Final

import pytest
import urllib3  # noqa: F401 - opens a socket when it is imported, to see whether there is IPv6

from fixtures import dcap, reference
from fixtures.quotes import Td
from mrtd.cli import options
from mrtd.cli.main import main
from mrtd.cli.verify_document import ask_about_registers
from mrtd.document import read_document
from mrtd.evidence.bundle import bundle_of, encode_bundle
from mrtd.verifier.verdict import Reason
from mrtd.verifier.verifier import Verifier
from tests.lab.identity import OWNER_ID, REPOSITORY_ID, GitHubIdentity
from tests.lab.instance import default_instance
from tests.lab.trust_authority import Recipe, TrustAuthority
from tests.lab.world import NOW, RELEASE, ListedGitHub, World, claims_of
from tests.launches import Launch

Json = dict[str, Any]

POLICY: Final = """\
[identity]
repository_id = '{repository}'
owner_id = '{owner}'
[trust_root]
file = '{root}'
"""
RELEASE_URL: Final = (
    "https://github.com/devopsdefender/dd/.github/workflows/release.yml@refs/heads/main"
)
REPORT_DATA: Final = "64" * 64


def raw(name: str) -> bytes:
    """A register of the lab's launch."""
    return bytes.fromhex(reference.launch()["registers"][name]["value"])


def td(**changes: Any) -> Td:
    """A TD that runs the lab's launch."""
    rtmrs = (raw("rtmr0"), raw("rtmr1"), raw("rtmr2"), bytes(48))
    return Td(**({"mr_td": raw("mrtd"), "rtmrs": rtmrs} | changes))


class Desk:
    """Files, and a command line on them.

    Attributes:
        github: what it lists.
        folder: for files.
        now: the time that is asked about.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys, self.github, self.now = folder, capsys, ListedGitHub(), NOW
        self.authority = TrustAuthority()
        self.root = self.write("root.json", default_instance().trusted_root_json())
        day_before = (NOW - timedelta(days=1)).timestamp()
        os.utime(self.root, (day_before, day_before))
        self.write_policy()

    def write(self, name: str, data: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def write_policy(self, more: str = "") -> None:
        text = POLICY.format(repository=REPOSITORY_ID, owner=OWNER_ID, root=self.root)
        self.policy = self.write("policy.toml", text + more)

    def token(self, *, at: datetime | None = None, **changes: Any) -> Path:
        recipe = Recipe(now=int((at or self.now).timestamp()))
        return self.write("token.jwt", self.authority.token(td(**changes).report10(), recipe))

    def jwks(self) -> Path:
        return self.write("certs.json", self.authority.jwks())

    def bundle(self, made: Json | None = None, identity: GitHubIdentity = RELEASE) -> Path:
        payload = reference.encoded(reference.statement(made or reference.document()))
        minted = default_instance().mint(payload, identity, at=self.now - timedelta(hours=1))
        return self.write("release.sigstore.json", minted)

    def publish(self, made: Json | None = None) -> None:
        made = made or reference.document()
        for subject in reference.subjects(made):
            self.github.add(self.bundle(made).read_bytes(), subject["digest"]["sha256"])

    def run(self, *words: str | Path) -> tuple[int, str]:
        given = ["--policy", str(self.policy), "--now", self.now.isoformat()]
        code = main(["verify", *map(str, words), *given])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def verdict(self, *words: str | Path) -> tuple[int, Json]:
        code, out = self.run(*words, "--json")
        (found,) = json.loads(out)["results"]
        return code, found


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    for name in [n for n in os.environ if n.startswith(("DD_", "GITHUB_TOKEN"))]:
        monkeypatch.delenv(name)
    made = Desk(tmp_path, capsys)
    monkeypatch.setattr(options, "fetch_of", lambda _: made.github)
    return made


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A machine on which opening a socket, or asking for an address, ends the test."""
    tried: list[str] = []

    def refuse(name: str) -> Callable[..., None]:
        def raising(*_: object, **__: object) -> None:
            tried.append(name)
            raise AssertionError(name)

        return raising

    for name in ("socket", "create_connection", "getaddrinfo", "socketpair", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse(name))
    yield tried
    assert tried == []


OFFLINE: Final = ("--offline", "--binding", "none")


def test_a_token_of_an_attested_launch_is_admitted(desk: Desk) -> None:
    desk.publish()
    code, out = desk.run(desk.token(), "--jwks", desk.jwks(), "--report-data", REPORT_DATA)
    assert code == 0, out
    assert "token.jwt: token of Intel Trust Authority" in out
    assert "ADMITTED (200)" in out
    assert "admitted: release v1.4.0" in out
    assert f"trust root  {desk.root}, of 2026-11-22, 1 days old" in out.replace("\n", "")
    assert "binding_none" not in out
    lines = [line for line in out.splitlines() if str(desk.folder) not in line]
    assert RELEASE_URL in lines  # whole, to be copied
    assert max(len(line) for line in lines if line != RELEASE_URL) <= 80


def test_a_launch_that_nobody_attested_is_refused(desk: Desk) -> None:
    code, out = desk.run(desk.token(), "--jwks", desk.jwks(), "--binding", "none")
    assert code == 1
    assert "REFUSED (403, not_attested)" in out
    assert "FAILED" in out
    assert "expected an attestation of these measurements" in " ".join(out.split())
    assert "found none found" in " ".join(out.split())


def test_failed_checks_show_whole_values(desk: Desk) -> None:
    desk.publish(reference.document(reference.launch(image="another")))
    code, found = desk.verdict(desk.token(), "--jwks", desk.jwks(), "--binding", "none")
    assert code == 1
    assert found["verdict"]["reason"] == Reason.REGISTERS_DIFFER
    checks = {c["name"]: c for c in found["verdict"]["checks"]}
    assert checks["attested.rtmr1"]["observed"] == raw("rtmr1").hex()
    assert checks["attested.rtmr1"]["expected"] == reference.register("rtmr1 of another")
    _, out = desk.run(desk.token(), "--jwks", desk.jwks(), "--binding", "none")
    assert raw("rtmr1").hex() in "".join(out.split())


@pytest.mark.parametrize(
    ("changes", "at", "code", "reason"),
    [
        ({"attributes": 1 << 28 | 1}, 0, 1, Reason.TD_DEBUG),
        ({}, -3600, 1, Reason.TOKEN_EXPIRED),
        ({}, 3600, 1, Reason.TOKEN_NOT_YET_VALID),
        ({"report_data": bytes(64)}, 0, 1, Reason.BINDING_MISMATCH),
    ],
)
def test_what_is_wrong_with_a_token_is_a_refusal(
    desk: Desk, changes: Json, at: int, code: int, reason: Reason
) -> None:
    desk.publish()
    token = desk.token(at=NOW + timedelta(seconds=at), **changes)
    found = desk.verdict(token, "--jwks", desk.jwks(), "--report-data", REPORT_DATA)
    assert (found[0], found[1]["verdict"]["reason"]) == (code, reason)


def test_a_github_that_is_down_is_not_known(desk: Desk) -> None:
    desk.github.down = True
    code, out = desk.run(desk.token(), "--jwks", desk.jwks(), "--binding", "none")
    assert code == 3
    assert "COULD NOT BE CHECKED (503, lookup_unavailable)" in out


def test_keys_are_fetched_from_the_policys_address_otherwise(desk: Desk) -> None:
    """The lab's GitHub is asked for them here, whose answer is no JWK set."""
    code, found = desk.verdict(desk.token(), "--binding", "none")
    assert (code, found["verdict"]["reason"]) == (3, Reason.TOKEN_KEYS_UNAVAILABLE)
    (failed,) = (c for c in found["verdict"]["checks"] if c["name"] == "token_key")
    assert (
        ": the keys' address answered 404" in failed["observed"] or "keys: " in failed["observed"]
    )


@pytest.mark.usefixtures("no_sockets")
def test_offline_no_socket_is_opened_and_ages_are_printed(desk: Desk) -> None:
    keys = desk.jwks()
    os.utime(keys, ((NOW - timedelta(days=3)).timestamp(),) * 2)
    words = (desk.token(), *OFFLINE, "--jwks", keys, "--bundle", desk.bundle())
    code, out = desk.run(*words)
    assert code == 0, out
    assert "labels: binding_none, github_not_asked" in out
    flat = out.replace("\n", "")
    assert "1 days old" in flat.partition("trust root")[2]
    assert "3 days old" in flat.partition("token keys")[2]
    assert desk.github.asked == []


@pytest.mark.usefixtures("no_sockets")
def test_offline_without_keys_or_bundle_nothing_is_known(desk: Desk) -> None:
    code, found = desk.verdict(desk.token(), *OFFLINE)
    assert (code, found["verdict"]["reason"]) == (3, Reason.TOKEN_KEYS_UNAVAILABLE)
    (failed,) = (c for c in found["verdict"]["checks"] if c["name"] == "token_key")
    assert "give the keys with --jwks FILE" in failed["observed"]
    code, found = desk.verdict(desk.token(), *OFFLINE, "--jwks", desk.jwks())
    assert (code, found["verdict"]["reason"]) == (1, Reason.NOT_ATTESTED)


@pytest.mark.usefixtures("no_sockets")
def test_offline_a_strangers_bundle_is_refused(desk: Desk) -> None:
    stranger = desk.bundle(identity=GitHubIdentity.foreign_caller())
    words = (desk.token(), *OFFLINE, "--jwks", desk.jwks(), "--bundle", stranger)
    code, found = desk.verdict(*words)
    assert (code, found["verdict"]["reason"]) == (1, Reason.IDENTITY)


def test_online_only_what_github_lists_counts(desk: Desk) -> None:
    words = (desk.token(), "--binding", "none", "--jwks", desk.jwks(), "--bundle", desk.bundle())
    code, found = desk.verdict(*words)
    assert (code, found["verdict"]["reason"]) == (1, Reason.NOT_ATTESTED)


def test_offline_a_private_repository_cannot_be_checked(desk: Desk) -> None:
    desk.policy.write_text(
        desk.policy.read_text(encoding="utf-8").replace(
            "[identity]", "[identity]\nvisibility = 'private'"
        ),
        encoding="utf-8",
    )
    code, out = desk.run(desk.token(), *OFFLINE)
    assert code == 3
    assert "gh, which asks GitHub" in out


# Quotes


@pytest.fixture
def platform(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> dcap.World:
    """A platform whose root of trust is the fixtures', at its time."""
    desk.now = dcap.NOW
    trusted = partialmethod(Verifier.verify_quote, root_ca=dcap.authority().root.der)
    monkeypatch.setattr(Verifier, "verify_quote", trusted)
    return dcap.World(td=td())


def quote_and_collateral(desk: Desk, world: dcap.World) -> tuple[bytes, Path]:
    quote, collateral = world.build()
    return quote, desk.write("collateral.json", json.dumps(collateral))


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("form", ["binary", "hex", "zip", "folder"])
def test_a_quote_is_verified_with_its_collateral(
    desk: Desk, platform: dcap.World, form: str
) -> None:
    quote, collateral = quote_and_collateral(desk, platform)
    given = desk.write("quote", quote.hex() + "\n" if form == "hex" else quote)
    if form in {"zip", "folder"}:
        given = desk.write("boot.zip", encode_bundle(bundle_of({"tdx/quote": quote})))
    if form == "folder":
        import zipfile

        zipfile.ZipFile(given).extractall(desk.folder / "boot")
        given = desk.folder / "boot"
    words = (given, *OFFLINE, "--collateral", collateral, "--bundle", desk.bundle())
    code, out = desk.run(*words)
    assert code == 0, out
    kind = {
        "binary": "TDX quote", "hex": "TDX quote, in hex",
        "zip": "evidence bundle: its quote", "folder": "evidence bundle: its quote",
    }[form]  # fmt: skip
    assert f"{given.name}: {kind}" in out.replace("\n", "")
    said = " ".join(out.partition("collateral  ")[2].split())
    assert "of 2026-06-14, 1 days old, expires 2026-07-05" in said


def test_expired_collateral_is_an_alarm_and_nothing_is_known(
    desk: Desk, platform: dcap.World
) -> None:
    world = dcap.World(td=platform.td, expires=dcap.NOW - timedelta(hours=1))
    quote, collateral = quote_and_collateral(desk, world)
    code, out = desk.run(desk.write("quote", quote), *OFFLINE, "--collateral", collateral)
    assert code == 3
    assert "collateral_unavailable" in out
    assert "ALARM       expired" in out


def test_without_collateral_a_quote_is_wrong_usage(desk: Desk, platform: dcap.World) -> None:
    quote, _ = quote_and_collateral(desk, platform)
    code, out = desk.run(desk.write("quote", quote), *OFFLINE)
    assert code == 2
    assert "--collateral" in out


def test_the_token_of_a_bundle_goes_before_its_quote(desk: Desk) -> None:
    desk.publish()
    files = {"token.jwt": desk.token().read_bytes() + b"\n", "tdx/quote": b"unread"}
    given = desk.write("boot.zip", encode_bundle(bundle_of(files)))
    code, found = desk.verdict(given, "--jwks", desk.jwks(), "--binding", "none")
    assert (code, found["kind"]) == (0, "evidence bundle: its token")


# Measurement documents


def document(desk: Desk, **registers: str | None) -> Path:
    """A measurement document with the registers of the lab's launch."""
    spec = Launch().write(desk.folder)
    assert main(["measure", str(spec), "--json"]) == 0
    made = json.loads(desk.capsys.readouterr().out)
    known = {name: raw(name).hex() for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2")}
    made["registers"] = known | registers
    return desk.write("measurement.json", json.dumps(made))


def test_a_document_is_attested_and_no_vm_is_admitted(desk: Desk) -> None:
    desk.publish()
    code, out = desk.run(document(desk))
    assert code == 0, out
    assert "measurement.json: measurement document" in out
    assert "ATTESTED (200)" in out
    assert "ADMITTED" not in out
    assert "labels: no_td_verified" in out
    assert "(no TD was verified)" in " ".join(out.split())


def test_of_a_document_only_the_attestation_is_checked(desk: Desk) -> None:
    """Also where the signed document expects what no TD was asked for."""
    bits = {"value": "0000000050000000", "mask": "0000000050000000"}
    expectations = {"td_attributes": bits, "xfam": bits}
    desk.publish(reference.document(reference.launch(expectations=expectations)))
    code, found = desk.verdict(document(desk))
    assert (code, found["answer"], found["td_verified"]) == (0, "attested", False)
    checks = {c["name"]: c for c in found["verdict"]["checks"]}
    for name in ("td_debug", "tcb_status", "seam_signer", "attested.xfam", "rtmr3"):
        assert checks[name]["outcome"] == "not checked"
        assert checks[name]["observed"] == "no TD was verified"
    assert checks["rtmr1_measured"]["outcome"] == "passed"
    assert checks["attested.rtmr1"]["outcome"] == "passed"


@pytest.mark.parametrize(
    ("registers", "reason"),
    [
        ({"rtmr1": "00" * 48}, Reason.REGISTER_NOT_MEASURED),
        ({"rtmr0": None}, Reason.REGISTER_UNPINNED),
        ({"rtmr2": reference.register("another")}, Reason.REGISTERS_DIFFER),
        ({"mrtd": reference.register("another")}, Reason.NOT_ATTESTED),
    ],
)
def test_other_registers_are_not_attested(
    desk: Desk, registers: dict[str, str | None], reason: Reason
) -> None:
    desk.publish()
    code, found = desk.verdict(document(desk, **registers))
    assert (code, found["answer"], found["verdict"]["reason"]) == (1, "refused", reason)
    assert "no_td_verified" in found["verdict"]["labels"]


def test_what_is_revoked_is_not_attested(desk: Desk) -> None:
    made = reference.document()
    desk.publish(made)
    launch = reference.launch_digest(*(raw(name).hex() for name in ("mrtd", "rtmr1", "rtmr2")))
    revoking = reference.revoking(
        reference.revocation("launch", launch, 413),
    )
    revoking["release"] |= {"sequence": 413, "tag": "v1.4.1"}
    desk.publish(revoking)
    code, found = desk.verdict(document(desk))
    assert (code, found["verdict"]["reason"]) == (1, Reason.REVOKED)


def _nothing(_: World) -> None:
    """Nobody attested it."""


def _published(world: World) -> None:
    world.publish(reference.document())


def _revoked(world: World) -> None:
    world.publish(reference.document())
    revoking = reference.revoking(
        reference.revocation("tag", "v1.4.0", 413), launches=(reference.launch(),)
    )
    revoking["release"] |= {"sequence": 413, "tag": "v1.4.1"}
    world.publish(revoking)


def _newer(world: World) -> None:
    world.publish(reference.document())
    newer = reference.document(reference.launch(image="newer"))
    newer["release"] |= {"sequence": 413, "tag": "v1.4.1"}
    newer["lifecycle"] |= {"current": []}
    world.verifier.learn(world.mint(newer))


def _of_the_future(world: World) -> None:
    world.publish(reference.document())
    world.publish(reference.document(), at=NOW + timedelta(days=1))


def _strangers(world: World) -> None:
    world.publish(reference.document(), GitHubIdentity.foreign_caller())


def _down(world: World) -> None:
    world.github.down = True


def _unreadable(world: World) -> None:
    world.publish(reference.document())
    payload = reference.encoded(reference.statement(reference.document(schema="mrtd.reference/9")))
    bundle = world.mint(payload)
    for subject in reference.subjects(reference.document()):
        world.github.add(bundle, subject["digest"]["sha256"])


def _not_covered(world: World) -> None:
    rows = [r for r in reference.coverage() if r["input"] != "rootfs"]
    world.publish(reference.document(reference.launch(coverage=rows)))


SITUATIONS: Final = [
    _nothing, _published, _revoked, _newer, _of_the_future, _strangers, _down, _unreadable,
    _not_covered,
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_registers_get_the_answer_that_a_td_would_get(
    desk: Desk, situation: Callable[[World], None]
) -> None:
    """Both ways to ask are one way to judge."""
    made = read_document(document(desk).read_bytes(), origin="test")
    world = World()
    situation(world)
    of_td = world.verifier.verify_claims(claims_of(), now=NOW)
    world = World()
    situation(world)
    asked = ask_about_registers(world.verifier, made, (), NOW, origin="test")
    assert (asked.allowed, asked.reason) == (of_td.allowed, of_td.reason)
    assert asked.allowed is (situation is _published)


def test_observe_mode_attests_nothing(desk: Desk) -> None:
    text = desk.policy.read_text(encoding="utf-8")
    desk.policy.write_text(f"mode = 'observe'\n{text}", encoding="utf-8")
    code, found = desk.verdict(document(desk))
    assert (code, found["verdict"]["reason"]) == (1, Reason.NOT_ATTESTED)


def test_a_document_of_a_tpm_is_bad_input(desk: Desk) -> None:
    path = document(desk)
    path.write_text(
        path.read_text(encoding="utf-8").replace('"target": "cc"', '"target": "tpm"'),
        encoding="utf-8",
    )
    code, out = desk.run(path)
    assert code == 2
    assert "registers of a TPM" in out


@pytest.mark.usefixtures("no_sockets")
def test_a_document_on_standard_input_offline(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(document(desk).read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    code, found = desk.verdict("-", "--offline", "--bundle", desk.bundle())
    assert (code, found["input"], found["answer"]) == (0, "-", "attested")
    assert found["verdict"]["labels"] == ["github_not_asked", "no_td_verified"]


# The command line


def test_several_inputs_and_the_worst_of_their_verdicts(desk: Desk) -> None:
    desk.publish()
    good = document(desk)
    bad = desk.write("other.json", good.read_text(encoding="utf-8").replace(
        raw("rtmr1").hex(), reference.register("another")))  # fmt: skip
    code, out = desk.run(good, bad)
    assert code == 1
    assert out.index("ATTESTED") < out.index("REFUSED")
    desk.github.down = True
    assert desk.run(good)[0] == 3


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "is none of these"),
        (b"{}", "is none of these"),
        (b"\x00" * 100, "is none of these"),
        (b"PK\x03\x04" + bytes(100), "boot"),
        (b'{"dsseEnvelope": {}}', "--bundle"),
        (b'{"schema": "mrtd.measurement/1"}', "no measurement document"),
    ],
)
def test_anything_else_is_bad_input(desk: Desk, content: bytes, hint: str) -> None:
    code, out = desk.run(desk.write("boot", content), "--binding", "none")
    assert code == 2
    assert hint in out


def test_a_bundle_without_evidence_is_bad_input(desk: Desk) -> None:
    given = desk.write("boot.zip", encode_bundle(bundle_of({"proc/cmdline": b"quiet"})))
    assert desk.run(given)[0] == 2


def test_what_binds_the_evidence_has_to_be_said(desk: Desk) -> None:
    code, out = desk.run(desk.token(), "--jwks", desk.jwks())
    assert code == 2
    assert "--binding none" in out


@pytest.mark.parametrize("text", ["", "00" * 64, "64" * 63, "xy"])
def test_report_data_is_64_bytes(desk: Desk, text: str) -> None:
    with pytest.raises(SystemExit) as end:
        desk.run(desk.token(), "--report-data", text)
    assert end.value.code == 2


@pytest.mark.parametrize("option", ["INPUT", "--bundle", "--jwks"])
def test_files_that_are_missing_have_no_hint_of_other_verbs(desk: Desk, option: str) -> None:
    missing = desk.folder / "missing"
    words = (missing,) if option == "INPUT" else (desk.token(), option, missing)
    code, out = desk.run(*words, "--binding", "none")
    assert (code, out) == (
        2, f"mrtd: error: {missing}: {option}: cannot be read: No such file or directory\n",
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>", b'{"keys":[]}'])
def test_a_file_without_keys_is_bad_input(desk: Desk, content: bytes) -> None:
    keys = desk.write("certs.json", content)
    code, out = desk.run(desk.token(), "--jwks", keys, "--binding", "none")
    assert code == 2
    assert "certs.json: --jwks: is no JWK set" in out


@pytest.mark.parametrize("text", ["garbage", "", "2026-06-14T12:00:00"])
def test_a_time_has_a_form(desk: Desk, text: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", "x", "--now", text])
    assert end.value.code == 2
    said = " ".join(desk.capsys.readouterr().err.split())
    assert f"{text!r} is no time with a zone such as 2026-06-14T12:00:00Z" in said


@pytest.mark.parametrize("name", ["jwt", "cryptography"])
def test_a_missing_library_is_not_known(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (desk.token(), *OFFLINE, "--jwks", desk.jwks())
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    code, out = desk.run(*words)
    assert code == 3
    assert "pip install './mrtd[verifier]'" in " ".join(out.split())


@pytest.mark.parametrize("name", ["sigstore.models", "sigstore.verify", "rfc3161_client"])
def test_a_missing_library_for_signatures_is_not_known(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (desk.token(), *OFFLINE, "--jwks", desk.jwks(), "--bundle", desk.bundle())
    monkeypatch.setitem(sys.modules, name, None)
    code, out = desk.run(*words)
    assert code == 3, out
    assert "pip install './mrtd[verifier]'" in " ".join(out.split())


def test_the_signer_is_whole_in_failed_checks(desk: Desk) -> None:
    stranger = desk.bundle(identity=GitHubIdentity.foreign_caller())
    _, out = desk.run(desk.token(), *OFFLINE, "--jwks", desk.jwks(), "--bundle", stranger)
    assert RELEASE_URL in out


def test_missing_ids_are_an_error_that_says_how_to_find_them(desk: Desk) -> None:
    desk.policy.write_text("", encoding="utf-8")
    code, out = desk.run(desk.token(), "--binding", "none")
    assert code == 2
    assert "gh api repos/devopsdefender/dd --jq '.id, .owner.id'" in out


def test_an_old_root_is_an_alarm(desk: Desk) -> None:
    desk.publish()
    desk.write_policy("maximum_age_days = 1\n")
    old = (NOW - timedelta(days=2)).timestamp()
    os.utime(desk.root, (old, old))
    code, out = desk.run(desk.token(), "--jwks", desk.jwks(), "--binding", "none")
    assert code == 0
    assert "trust_root_old" in out
    assert "ALARM       2 days old, the limit is 1: mrtd trust refresh" in out


def test_json_has_everything(desk: Desk) -> None:
    desk.publish()
    words = (desk.token(), "--jwks", desk.jwks(), "--binding", "none", "--json")
    code, out = desk.run(*words)
    found = json.loads(out)
    assert code == 0
    assert found["schema"] == "mrtd.verify/1"
    assert datetime.fromisoformat(found["time"]) == NOW
    assert [source["what"] for source in found["sources"]] == ["trust root", "token keys"]
    assert len(found["sources"][0]["sha256"]) == 64
    (result,) = found["results"]
    assert (result["answer"], result["verdict"]["allowed"]) == ("admitted", True)
    assert result["verdict"]["release"]["tag"] == "v1.4.0"


def test_a_strangers_texts_do_not_reach_the_terminal(desk: Desk) -> None:
    """Evidence is a stranger's: no control characters of it are printed."""
    made = reference.document()
    made["release"]["tag"] = "v1"
    desk.publish(made)
    token = desk.write("evil\x1b[31m.jwt", desk.token().read_bytes())
    _, out = desk.run(token, "--jwks", desk.jwks(), "--binding", "none")
    assert "\x1b" not in out


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "--offline: no socket is opened" in out
