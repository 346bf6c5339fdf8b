"""Who signs quotes and who keeps their collateral; and the GitHub runner that launches.

Sources: Intel DCAP (``/etc/qgs.conf``, vsock port 4050; ``/etc/sgx_default_qcnl.conf``); QEMU
docs/system/i386/tdx.rst (``quote-generation-socket``); GitHub REST API, self-hosted runners and
runner groups.
"""

from __future__ import annotations

import re
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from ci.doctor_findings import Finding, Need, missing, ok, text_of, unknown
from ci.doctor_host import Address, Host, Tcp, Unix, Vsock
from mrtd.errors import MrtdError, SpecError
from mrtd.printable import printable
from mrtd.reference.strict_json import read_json

QGS_SOCKET: Final = "/var/run/tdx-qgs/qgs.socket"
QGS_PORT: Final = 4050
HOST_CID: Final = 2
_QGS_CONFIG: Final = "/etc/qgs.conf"
_QCNL_CONFIG: Final = "/etc/sgx_default_qcnl.conf"
_GET_QGS: Final = "install tdx-qgs of Intel's DCAP and start it: systemctl enable --now qgsd"
_EPHEMERAL: Final = (
    "register the runner with ./config.sh --ephemeral, so that each job gets a fresh one"
)
_GROUP: Final = (
    "put it into a runner group of the organisation: selected repositories, restricted to the "
    "release workflow at a ref (Settings, Actions, Runner groups)"
)
_API: Final = "https://api.github.com"
_PCCS_URL: Final = re.compile(
    r'^\s*(?:[{,]\s*)?"?pccs_url"?\s*[:=]\s*"?([^"\s,]+)', re.MULTILINE | re.IGNORECASE
)
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}")


def read_address(text: str) -> Address:
    """An address such as ``unix:/run/qgs.socket`` or ``vsock:2:4050``. Raises `SpecError`."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest.startswith("/") and len(rest) < 108:
        return Unix(rest)
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", rest)
    if kind == "vsock" and match and max(int(match[1]), int(match[2])) < 1 << 32:
        return Vsock(int(match[1]), int(match[2]))
    raise SpecError(
        "is neither unix:/PATH nor vsock:CID:PORT", origin="command line", field="--qgs"
    )


def check_qgs(host: Host, wanted: Address | None, *, virtual: bool, sgx: bool) -> Finding:
    """Whether the Quote Generation Service takes connections where QEMU would make them.

    In a virtual machine CID 2 is somebody else's host, which is left alone. The service signs in an
    SGX enclave, so a host without SGX cannot have one.
    """
    name, need = "qgs", Need.EVIDENCE
    usual: tuple[Address, ...] = (Unix(QGS_SOCKET), Vsock(HOST_CID, _port(host)))
    told, asked_all = [], True
    for address in usual if wanted is None else (wanted,):
        if virtual and isinstance(address, Vsock):
            told.append(f"{address}: not asked, for this is a virtual machine")
            asked_all = False
            continue
        try:
            host.connect(address)
        except OSError as error:
            told.append(f"{address}: {_reason(error)}")
        else:
            return ok(name, f"{address} takes connections", need=need)
    text = "; ".join(told)
    say = missing if asked_all else unknown
    first = "" if sgx else "enable SGX in the BIOS, for quotes are signed in an enclave; then "
    return say(name, text, f"{first}{_remedy(text)}", need=need)


def _port(host: Host) -> int:
    config = text_of(host, _QGS_CONFIG) or ""
    match = re.search(r"^\s*port\s*=\s*(\d{1,5})\s*$", config, re.MULTILINE)
    return int(match[1]) if match and int(match[1]) else QGS_PORT


def _reason(error: OSError) -> str:
    kinds: tuple[tuple[type[OSError], str], ...] = (
        (TimeoutError, "silent: no answer in 3 s"),
        (FileNotFoundError, "is not there"),
        (ConnectionRefusedError, "nobody listens"),
        (PermissionError, "is not for this user"),
        (socket.gaierror, "no such host"),
    )
    known = next((text for kind, text in kinds if isinstance(error, kind)), None)
    return known or printable(error.strerror or type(error).__name__)


def _remedy(told: str) -> str:
    if "silent" in told:
        return "restart it (systemctl restart qgsd) and read its log (journalctl -u qgsd)"
    if "not for this user" in told:
        return 'sudo usermod -aG qgsd "$USER", and log in again; or let QEMU\'s user in'
    if "No such device" in told or "not supported" in told:
        return f"modprobe vsock_loopback, which connects this host with itself; or {_GET_QGS}"
    return _GET_QGS


def check_pccs(host: Host, *, network: bool) -> Finding:
    """Whether the configured cache of collateral can be reached; only where that is asked for."""
    name = "pccs"
    config = text_of(host, _QCNL_CONFIG)
    remedy = (
        f"set pccs_url in {_QCNL_CONFIG} to your PCCS, which has the platform's PCK certificate"
    )
    if config is None:
        return unknown(name, f"no {_QCNL_CONFIG}", remedy, need=Need.ADVICE)
    address = _pccs_address(config)
    if address is None:
        return missing(name, f"no pccs_url in {_QCNL_CONFIG}", remedy, need=Need.EVIDENCE)
    if not network:
        text = f"{address} is configured, and was not asked"
        return unknown(name, text, "ask with --network", need=Need.ADVICE)
    try:
        host.connect(address)
    except OSError as error:
        text = f"{address}: {_reason(error)}"
        return missing(name, text, "start it (systemctl start pccs), or set pccs_url to one that "
                       "runs", need=Need.EVIDENCE)  # fmt: skip
    return ok(name, f"{address} takes connections", need=Need.EVIDENCE)


def _pccs_address(config: str) -> Tcp | None:
    """From ``"pccs_url": "https://..."`` (JSON with comments), or ``PCCS_URL=...`` of old."""
    match = _PCCS_URL.search(config)
    if match is None:
        return None
    try:
        parts = urlsplit(match[1])
        port = parts.port or (80 if parts.scheme == "http" else 443)
        return Tcp(printable(parts.hostname), port) if parts.hostname else None
    except ValueError:
        return None


def check_runner(host: Host, repository: str | None) -> list[Finding]:
    """Whether the GitHub runner here lives for one job, and who may use it.

    Only its owner can ask that, with a token that may administer the repository.
    """
    environment = host.environment
    ephemeral, group = "runner_ephemeral", "runner_group"
    if environment.get("RUNNER_ENVIRONMENT") == "github-hosted":
        text = "hosted by GitHub: fresh for each job"
        return [ok(ephemeral, text, need=Need.ADVICE), ok(group, "GitHub's", need=Need.ADVICE)]
    token, name = environment.get("GITHUB_TOKEN"), environment.get("RUNNER_NAME")
    if not (token and repository):
        text = "only asked with --repo OWNER/NAME and GITHUB_TOKEN (administration: read)"
        return [
            unknown(ephemeral, text, _EPHEMERAL, need=Need.ADVICE),
            unknown(group, text, _GROUP, need=Need.ADVICE),
        ]
    if not _REPOSITORY.fullmatch(repository):
        raise SpecError("is not OWNER/NAME", origin="command line", field="--repo")
    listed = _ask(host, token, f"repos/{repository}/actions/runners?per_page=100")
    runner = _runner(listed, name)
    if runner is None:
        text = f"GitHub does not say ({_why(listed, name)})"
        return [
            unknown(ephemeral, text, _EPHEMERAL, need=Need.ADVICE),
            unknown(group, text, _GROUP, need=Need.ADVICE),
        ]
    owner = repository.partition("/")[0]
    return [_ephemeral(runner), _group(host, token, owner, runner.get("runner_group_id"))]


def _ask(host: Host, token: str, path: str) -> dict[str, Any] | str:
    """An object, or why there is none."""
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "User-Agent": "mrtd-doctor",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        answer = host.get(f"{_API}/{path}", headers)
        if answer.status != 200:
            return f"HTTP {answer.status}"
        tree = read_json(answer.body, origin="GitHub")
    except MrtdError as error:
        return printable(error.message.replace(token, "[token]"))[:200]
    return tree if isinstance(tree, dict) else "no object"


def _runner(listed: dict[str, Any] | str, name: str | None) -> dict[str, Any] | None:
    runners = listed.get("runners") if isinstance(listed, dict) else None
    for runner in runners if isinstance(runners, list) else ():
        if isinstance(runner, dict) and name and runner.get("name") == name:
            return runner
    return None


def _why(listed: dict[str, Any] | str, name: str | None) -> str:
    if isinstance(listed, str):
        return listed
    return f"no runner {printable(name)[:60]!r}" if name else "RUNNER_NAME is not set"


def _ephemeral(runner: dict[str, Any]) -> Finding:
    name, need = "runner_ephemeral", Need.ADVICE
    match runner.get("ephemeral"):
        case True:
            return ok(name, "ephemeral", need=need)
        case False:
            text = "it runs one job after another: a job can leave something for the next"
            return missing(name, text, _EPHEMERAL, need=need)
        case _:
            return unknown(name, "GitHub's answer does not say", _EPHEMERAL, need=need)


def _group(host: Host, token: str, owner: str, number: object) -> Finding:
    name, need = "runner_group", Need.ADVICE
    if type(number) is not int:
        return unknown(name, "GitHub's answer names no runner group", _GROUP, need=need)
    found = _ask(host, token, f"orgs/{owner}/actions/runner-groups/{number}")
    if isinstance(found, str):
        return unknown(name, f"GitHub does not say ({found})", _GROUP, need=need)
    workflows = found.get("selected_workflows")
    pinned = isinstance(workflows, list) and all("@" in str(one) for one in workflows)
    closed = found.get("visibility") == "selected" and found.get("restricted_to_workflows") is True
    public = found.get("allows_public_repositories") is not False
    faults = (
        (found.get("visibility") != "selected", "open to all repositories"),
        (found.get("restricted_to_workflows") is not True, "open to every workflow"),
        (not pinned, "open to a workflow at any ref"),
        # where pull requests cannot bring a workflow of their own, a public one may release
        (public and not (closed and pinned), "open to public repositories"),
    )
    open_ = [text for bad, text in faults if bad]
    if open_:
        return missing(name, "; ".join(open_), _GROUP, need=need)
    return ok(name, "selected repositories and workflows only", need=need)
