"""Logs of real boots, read by the TPM tools too: variables, images and digests agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mrtd.eventlog import EventLog, EventType
from mrtd.eventlog.bodies import Generic, decode
from mrtd.eventlog.digest_check import DigestStatus, check_digest
from mrtd.eventlog.images import BlobBody, ImageBody
from mrtd.eventlog.spec_id import SHA256, SHA384
from mrtd.eventlog.tcg2 import read_log, read_log_file
from mrtd.eventlog.variable_data import VariableBody
from mrtd.eventlog.writer import write_log
from mrtd.registers import Target
from tests.boots import Boots, Scenario
from tests.conftest import DebianParts, require_tool

pytestmark = pytest.mark.boot


@pytest.fixture(scope="session")
def log_file(boots: Boots, debian: DebianParts) -> bytes:
    scenario = Scenario(firmware=debian.ovmf_2025_02, kernel=debian.kernel_6_12)
    return boots(scenario).result.log


@pytest.fixture(scope="session")
def log(log_file: bytes) -> EventLog:
    return read_log(log_file, origin="guest", target=Target.TPM)


@pytest.fixture(scope="session")
def printed(log_file: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tpm2") / "log"
    path.write_bytes(log_file)
    command = [require_tool("tpm2"), path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_variables_have_the_same_names_and_sizes(log: EventLog, printed: str) -> None:
    theirs = re.findall(
        r"VariableName: (\S+)\n +UnicodeNameLength: (\d+)\n +VariableDataLength: (\d+)\n"
        r" +UnicodeName: (\w+)",
        printed,
    )
    bodies = [decode(event.type, event.data).body for event in log]
    ours = [
        (body.vendor, str(len(body.name)), str(len(body.data)), body.name)
        for body in bodies
        if isinstance(body, VariableBody)
    ]
    assert len(ours) > 5
    assert ours == theirs


def test_images_and_blobs_have_the_same_addresses(log: EventLog, printed: str) -> None:
    theirs = re.findall(r"(?:BlobBase|ImageLocationInMemory): 0x([0-9a-f]+)", printed)
    bodies = [decode(event.type, event.data).body for event in log]
    ours = [body.address for body in bodies if isinstance(body, ImageBody | BlobBody)]
    assert ours == [int(address, 16) for address in theirs]
    assert ours


def test_every_derivable_digest_of_a_boot_is_that_of_its_body(log: EventLog) -> None:
    found = [check_digest(event) for event in log]
    assert [c for c in found if c.status is DigestStatus.DIFFERS] == []
    matching = {e.type for e, c in zip(log, found, strict=True) if c.status is DigestStatus.MATCHES}
    assert matching >= {
        EventType.EV_S_CRTM_VERSION,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_BOOT,
        EventType.EV_SEPARATOR,
        EventType.EV_EFI_ACTION,
    }


def test_every_body_of_a_boot_is_understood(log: EventLog) -> None:
    decoded = [decode(event.type, event.data) for event in log]
    assert [d for d in decoded if d.remark or isinstance(d.body, Generic)] == []


def test_the_guests_log_declares_both_banks(log_file: bytes) -> None:
    found = read_log_file(log_file, origin="guest", target=Target.TPM)
    assert found.spec_id.algorithms == (SHA256, SHA384)
    assert found.size == len(log_file)
    assert found.remarks == ()


def test_tools_read_what_is_written(log: EventLog, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(write_log(log, target=Target.TPM))
    command = [require_tool("tpm2"), path]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    digests = re.findall(r"AlgorithmId: sha384\n    Digest: \"(\w+)\"", shown)
    assert digests == [str(event.digest) for event in log[1:]]
