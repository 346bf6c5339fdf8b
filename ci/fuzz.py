"""Fuzz the parsers: whatever the bytes, only errors of ours may leave them.

``python -m ci.fuzz [SECONDS] [--only NAME]`` gives each target so many seconds (default: 20), in a
process of its own, starting from inputs that ``fixtures/`` builds. What breaks a parser is left in
``.cache/fuzz/NAME/`` as ``crash-...``; such a finding becomes a test.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from ci import fuzz_disk
from ci.fuzz_boot import BOOT_TARGETS
from ci.fuzz_launch import LAUNCH_TARGETS
from ci.fuzz_target import FuzzTarget
from fixtures import reference
from fixtures.acpi import build_tables
from fixtures.bzimage import build_bzimage, win_certificate
from fixtures.quotes import build_quote
from fixtures.tdvf import build_tdvf
from fixtures.varstore import GLOBAL, Variable, build_varstore
from fixtures.volumes import Module
from mrtd.boot.bzimage import read_kernel_facts
from mrtd.boot.pe import authenticode
from mrtd.errors import InputError, MalformedEventLog
from mrtd.eventlog import Event, EventType, InputName, Origin
from mrtd.eventlog.device_path import read_device_path
from mrtd.eventlog.digest_check import check_digest
from mrtd.eventlog.gpt import read_gpt
from mrtd.eventlog.json_log import read_json_log
from mrtd.eventlog.tcg2 import read_log
from mrtd.evidence.bundle import bundle_of, decode_bundle, encode_bundle
from mrtd.evidence.quote import read_quote
from mrtd.evidence.redact import redact
from mrtd.firmware.acpi import derive_loader, derive_rsdp, measured_files
from mrtd.firmware.tdvf import read_tdvf
from mrtd.firmware.variables import read_variables
from mrtd.firmware.volumes import unpack_firmware
from mrtd.images.health import read_health
from mrtd.images.podman import read_containers
from mrtd.images.settings import read_images
from mrtd.reference import read_statement
from mrtd.reference.strict_json import read_json
from mrtd.registers import ZERO, RegisterName, Target
from mrtd.verifier.bundle import LateSigstore, bundle_digest
from mrtd.verifier.clock import Clock
from mrtd.verifier.fetch import Response
from mrtd.verifier.github import GitHubLookup
from mrtd.verifier.jwks import KeySource, read_keys
from mrtd.verifier.lookup import peek
from mrtd.verifier.policy import LookupPolicy, TokenPolicy
from mrtd.verifier.settings import read_policy
from mrtd.verifier.snappy import decode_bundle_body
from mrtd.verifier.token import check_token
from mrtd.verifier.token_claims import read_claims
from mrtd.verifier.trust_root import load_trust_root
from mrtd.verifier.verdict import Reason

_FOLDER: Final = Path(__file__).resolve().parents[1] / ".cache" / "fuzz"
_SEED: Final = 1  # the same run finds the same things
_MAX_INPUT: Final = 1 << 16
_SLACK_SECONDS: Final = 120  # start, instrumentation, end

# The parsers have to be instrumented while they are imported: before this module is.
_CHILD: Final = """\
import sys
import atheris
with atheris.instrument_imports(include=["mrtd"]):
    import ci.fuzz
ci.fuzz.fuzz_here(sys.argv[1], int(sys.argv[2]))
"""


def _body(data: bytes) -> None:
    """An event's body behind its type."""
    kind, body = int.from_bytes(data[:4], "little"), data[4:]
    event = Event(RegisterName.RTMR0, kind, ZERO, None, Origin(InputName.LOG, "fuzz"), body)
    if not event.description.isprintable():
        raise AssertionError(event.description)
    check_digest(event)


def _body_seeds() -> tuple[bytes, ...]:
    path = b"\4\4\x08\0x\0\0\0" + b"\x7f\xff\4\0"
    option = b"\1\0\0\0\x0c\0x\0\0\0" + path
    name = "Boot0000".encode("utf-16-le")
    variable = bytes(16) + (8).to_bytes(8, "little") + len(option).to_bytes(8, "little")
    partition = bytes(range(128))
    gpt = b"EFI PART" + bytes(76) + (128).to_bytes(4, "little") + bytes(4)
    gpt += (1).to_bytes(8, "little") + partition
    image = bytes(24) + len(path).to_bytes(8, "little") + path
    bodies = (
        (EventType.EV_EFI_VARIABLE_BOOT, variable + name + option),
        (EventType.EV_EFI_GPT_EVENT, gpt),
        (EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image),
        (EventType.EV_IPL, b"grub_cmd: ls\0"),
        (EventType.EV_NO_ACTION, b"StartupLocality\0\3"),
    )
    return tuple(kind.to_bytes(4, "little") + body for kind, body in bodies)


def _spec_log() -> bytes:
    """The first record of a SHA-384 log, and one event (TCG PC Client PFP, chapter 10.2)."""
    head = b"Spec ID Event03\0" + bytes(4) + bytes([0, 2, 0, 2]) + (1).to_bytes(4, "little")
    head += (0x0C).to_bytes(2, "little") + (48).to_bytes(2, "little") + b"\0"
    first = bytes(4) + (3).to_bytes(4, "little") + bytes(20)
    event = b"".join(n.to_bytes(4, "little") for n in (1, 4, 1)) + b"\x0c\0" + bytes(48)
    return first + len(head).to_bytes(4, "little") + head + event + b"\4\0\0\0" + bytes(4)


def _acpi(data: bytes) -> None:
    derive_rsdp(data, origin="fuzz")
    measured_files(derive_loader(data, origin="fuzz"), origin="fuzz")


def _images(data: bytes) -> None:
    read_images(data.decode("utf-8", "replace"), origin="fuzz")


def _bundle(data: bytes) -> None:
    """A bundle that nobody signed must not be genuine, whatever is in it."""
    peek(data)
    bundle_digest(data)
    opened = _sigstore().open(data, now=datetime.now(UTC))
    if opened.signed is not None or all(check.ok for check in opened.checks):
        raise AssertionError("genuine")


@cache
def _sigstore() -> LateSigstore:
    return LateSigstore(load_trust_root())


@dataclass(frozen=True, slots=True)
class _Always:
    """A `Fetch` with one answer."""

    answer: Response

    def __call__(
        self, url: str, *, headers: Mapping[str, str], limit: int, timeout: float
    ) -> Response:
        del url, headers, limit, timeout
        return self.answer


def _rest(data: bytes) -> None:
    """Headers up to an empty line, and GitHub's answer; every bundle's host answers the same."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(":") for line in head.decode("latin-1").split("\n")]
    answer = Response(200, {name.lower(): value.strip() for name, _, value in lines}, body)
    lookup = GitHubLookup(
        LookupPolicy(),
        repository="devopsdefender/dd",
        repository_id="1000001",
        fetch=_Always(answer),
        clock=Clock(wall=lambda: 0.0, steady=lambda: 0.0),
        sleep=lambda _: None,
    )
    found = lookup("0" * 64, priority=False)
    if "internal error" in found.message:
        raise AssertionError(found.message)


def _token(data: bytes) -> None:
    """A whole token, whose key nobody knows; and the claims of one that is genuine."""
    policy = TokenPolicy()
    keys = KeySource(policy, _Always(Response(404, {}, b"")), Clock())
    text = data.decode("utf-8", "replace")
    checked = check_token(text, keys=keys, policy=policy, now=0.0)
    if checked.ok or any(c.reason is Reason.INTERNAL_ERROR for c in checked.checks):
        raise AssertionError(checked.checks)
    claims = read_json(data, origin="fuzz")
    if isinstance(claims, dict):
        read_claims(claims)


def _policy(data: bytes) -> None:
    ids = {"DD_TRUSTED_REPO_ID": "1", "DD_TRUSTED_OWNER_ID": "2"}
    read_policy(data.decode("utf-8", "replace"), ids)


_SIGSTORE_BUNDLE: Final = b"""\
{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"certificate":\
{"rawBytes":"MAA="},"tlogEntries":[{"logIndex":"1","logId":{"keyId":"AAAA"},"kindVersion":{"kind":\
"dsse","version":"0.0.1"},"integratedTime":"1795000000","inclusionPromise":{"signedEntryTimestamp":\
"AAAA"},"inclusionProof":{"logIndex":"1","rootHash":"AAAA","treeSize":"2","hashes":["AAAA"],\
"checkpoint":{"envelope":"rekor.example - 1\\n2\\nAAAA\\n\\n"}},"canonicalizedBody":"e30="}],\
"timestampVerificationData":{"rfc3161Timestamps":[{"signedTimestamp":"MAA="}]}},"dsseEnvelope":\
{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA"}]}}"""
_ANSWER: Final = b"""\
Content-Type: application/json
Link: <https://api.github.com/repositories/1000001/attestations/sha256:%s?after=x>; rel="next"

{"attestations":[{"bundle":{"mediaType":"x"},"repository_id":1000001},{"bundle":null,"bundle_url":\
"https://a.blob.core.windows.net/1.json.sn?sig=x","repository_id":1000001}]}""" % (b"0" * 64)
_CLAIMS: Final = b"""\
{"attester_type":"TDX","attester_tcb_status":"UpToDate","dbgstat":"disabled","tdx_mrtd":"%s","tdx":\
{"tdx_rtmr0":"%s","attester_runtime_data":{"nonce":"AA=="}}}""" % (b"11" * 48, b"22" * 48)
_POLICY: Final = b"""\
mode = "enforce"
[identity]
triggers = ["push", "workflow_dispatch"]
[lookup]
github = "preferred"
[release.revoked]
tags = ["v1"]
"""
_JWKS: Final = b'{"keys":[{"kty":"RSA","kid":"a","n":"' + b"_" * 342 + b'8","e":"AQAB"}]}'

_IMAGE: Final = build_tdvf(modules=[Module("TdTcg2Dxe", b"code")])

_IMAGES: Final = b"""\
schema = "mrtd.images/1"
[[repositories]]
repository = "ghcr.io/owner/ours"
keys = ["release.pub"]
[repositories.identity]
repository = "owner/name"
repository_id = 1
owner_id = 2
workflow = ".github/workflows/release.yml"
[[exceptions]]
image = "docker.io/library/busybox@sha256:%s"
reason = "r"
owner = "o"
expires = 2027-01-01
""" % (b"ab" * 32)

_BUNDLE: Final = encode_bundle(
    bundle_of({"proc/cmdline": b"console=ttyS0 password=x", "tdx/quote": build_quote()})
)
TARGETS: Final[Mapping[str, FuzzTarget]] = {
    **BOOT_TARGETS,
    **LAUNCH_TARGETS,
    "acpi": FuzzTarget(_acpi, (build_tables(size=0x800),)),
    "bundle": FuzzTarget(lambda data: redact(decode_bundle(data, origin="fuzz")), (_BUNDLE,)),
    "device-path": FuzzTarget(
        lambda data: str(read_device_path(data, origin="fuzz", error=MalformedEventLog)),
        (b"\2\1\x0c\0\xd0\x41\x03\x0a\0\0\0\0\1\1\6\0\0\1\x7f\xff\4\0",),
    ),
    "event-body": FuzzTarget(_body, _body_seeds()),
    "disk-fat": FuzzTarget(fuzz_disk.fuzz_fat, fuzz_disk.FAT_SEEDS),
    "disk-gpt": FuzzTarget(fuzz_disk.fuzz_gpt, fuzz_disk.GPT_SEEDS),
    "disk-qcow2": FuzzTarget(fuzz_disk.fuzz_qcow2, fuzz_disk.QCOW2_SEEDS),
    "disk-verity": FuzzTarget(fuzz_disk.fuzz_verity, fuzz_disk.VERITY_SEEDS),
    "disk-verity-cmdline": FuzzTarget(fuzz_disk.fuzz_verity_cmdline, fuzz_disk.CMDLINE_SEEDS),
    "gpt": FuzzTarget(read_gpt, (_body_seeds()[1][4:],)),
    "json-log": FuzzTarget(
        lambda data: read_json_log(data, origin="fuzz"),
        (b'[{"imr":0,"event_type":4,"digest":"%s"}]' % (b"00" * 48),),
    ),
    "event-log": FuzzTarget(
        lambda data: read_log(data, origin="fuzz", target=Target.CC), (_spec_log(),)
    ),
    "containers": FuzzTarget(
        lambda data: read_containers(data, origin="fuzz"),
        (b'[{"Name": "a", "ImageName": "ghcr.io/a/b:v1", "ImageDigest": "sha256:0"}]',),
    ),
    "github-answer": FuzzTarget(_rest, (_ANSWER,)),
    "health": FuzzTarget(
        lambda data: read_health(data, origin="fuzz"),
        (b'{"deployments": ["a"], "deployment_status": [{"app_name": "a"}]}',),
    ),
    "images": FuzzTarget(_images, (_IMAGES,)),
    "jwks": FuzzTarget(read_keys, (_JWKS,)),
    "kernel": FuzzTarget(
        lambda data: read_kernel_facts(memoryview(data), origin="fuzz"), (build_bzimage(),)
    ),
    "pe": FuzzTarget(
        lambda data: authenticode(memoryview(data), origin="fuzz"),
        (build_bzimage(), build_bzimage(certificate=win_certificate(b"x"), pe32=True)),
    ),
    "policy": FuzzTarget(_policy, (_POLICY,)),
    "quote": FuzzTarget(
        lambda data: read_quote(data, origin="fuzz"), (build_quote(), build_quote(version=5))
    ),
    "sigstore-bundle": FuzzTarget(_bundle, (_SIGSTORE_BUNDLE,)),
    "snappy": FuzzTarget(
        lambda data: decode_bundle_body(data, limit=1 << 20),
        (b"\x05\x10hello", b"\xff\x06\0\0sNaPpY", b"{}"),
    ),
    "statement": FuzzTarget(
        lambda data: read_statement(data, origin="fuzz"),
        tuple(
            reference.encoded(reference.statement(made))
            for made in (
                reference.document(),
                reference.revoking(reference.revocation("launch", "ab" * 32)),
            )
        ),
    ),
    "tdvf": FuzzTarget(
        lambda data: read_tdvf(memoryview(data), origin="fuzz"),
        (_IMAGE, build_tdvf(table=False, legacy=True)),
    ),
    "token": FuzzTarget(_token, (_CLAIMS,)),
    "variables": FuzzTarget(
        lambda data: read_variables(memoryview(data), origin="fuzz"),
        (build_varstore([Variable(GLOBAL, "PK", b"key")]), build_varstore(authenticated=False)),
    ),
    "volumes": FuzzTarget(
        lambda data: unpack_firmware(memoryview(data), origin="fuzz"),
        (_IMAGE, build_tdvf(modules=[Module("A")], compressed=False)),
    ),
}


def attempt(target: FuzzTarget, data: bytes) -> None:
    """Parse; an `InputError` is an answer, anything else a finding."""
    try:
        target.parse(data)
    except InputError:
        return


def fuzz_here(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which atheris ends."""
    atheris = importlib.import_module("atheris")  # untyped, and only in its own session
    target = TARGETS[name]
    folder = _FOLDER / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)
    options = {
        "artifact_prefix": f"{folder}/",
        "max_len": _MAX_INPUT,
        "max_total_time": seconds,
        "rss_limit_mb": 2048,
        "seed": _SEED,
        "timeout": 10,
        "verbosity": 0,
        "print_final_stats": 1,
    }
    arguments = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(folder / "corpus")], lambda d: attempt(target, d))
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    """Fuzz targets one after the other; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ci.fuzz")
    parser.add_argument("seconds", nargs="?", type=int, default=20)
    parser.add_argument("--only", choices=sorted(TARGETS))
    options = parser.parse_args(arguments)
    broken = []
    for name in [options.only] if options.only else TARGETS:
        command = [sys.executable, "-c", _CHILD, name, str(options.seconds)]
        try:
            done = subprocess.run(command, check=False, timeout=options.seconds + _SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            broken.append(name)
            continue
        if done.returncode:
            broken.append(name)
        print(f"fuzz {name}: {'broken' if done.returncode else 'ok'}", flush=True)
    if broken:
        print(f"broken: {', '.join(broken)}; inputs in {_FOLDER}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
