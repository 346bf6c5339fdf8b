"""TD report bodies, as a quote carries them.

Sources: Intel TDX DCAP Quoting Library API (revision 0.9), appendix A.3 "TD Quote Body" (1.0: 584
bytes, 1.5: 648 bytes); DCAP ``sgx_quote_4.h`` and ``sgx_quote_5.h`` (``sgx_report2_body_t``,
``_v1_5_t``, ``_v1_5_ex_t``: 885 bytes). All integers are little-endian, fields are packed.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.errors import MalformedQuote
from mrtd.evidence.attributes import TdAttributes, Xfam
from mrtd.registers import SHA384_SIZE, RegisterName, Sha384


class Field(msgspec.Struct, frozen=True):
    """A field of a packed structure: ``data[start:end]``."""

    name: str
    start: int
    end: int

    def then(self, name: str, size: int) -> Field:
        """The field that starts where this one ends."""
        return Field(name, self.end, self.end + size)

    def bytes_of(self, data: memoryview) -> bytes:
        """The field's bytes in a structure whose size has been checked."""
        return bytes(data[self.start : self.end])

    def uint(self, data: memoryview) -> int:
        """The field as an unsigned little-endian integer."""
        return int.from_bytes(data[self.start : self.end], "little")

    def digest(self, data: memoryview) -> Sha384:
        """The field as a SHA-384 value (48 bytes)."""
        return Sha384(self.bytes_of(data))


# TD report 1.0
TEE_TCB_SVN: Final = Field("tee_tcb_svn", 0, 16)
MR_SEAM: Final = TEE_TCB_SVN.then("mr_seam", SHA384_SIZE)
MR_SIGNER_SEAM: Final = MR_SEAM.then("mr_signer_seam", SHA384_SIZE)
SEAM_ATTRIBUTES: Final = MR_SIGNER_SEAM.then("seam_attributes", 8)
TD_ATTRIBUTES: Final = SEAM_ATTRIBUTES.then("td_attributes", 8)
XFAM: Final = TD_ATTRIBUTES.then("xfam", 8)
MR_TD: Final = XFAM.then("mr_td", SHA384_SIZE)
MR_CONFIG_ID: Final = MR_TD.then("mr_config_id", SHA384_SIZE)
MR_OWNER: Final = MR_CONFIG_ID.then("mr_owner", SHA384_SIZE)
MR_OWNER_CONFIG: Final = MR_OWNER.then("mr_owner_config", SHA384_SIZE)
RTMR0: Final = MR_OWNER_CONFIG.then("rtmr0", SHA384_SIZE)
RTMR1: Final = RTMR0.then("rtmr1", SHA384_SIZE)
RTMR2: Final = RTMR1.then("rtmr2", SHA384_SIZE)
RTMR3: Final = RTMR2.then("rtmr3", SHA384_SIZE)
REPORT_DATA: Final = RTMR3.then("report_data", 64)
# 1.5
TEE_TCB_SVN2: Final = REPORT_DATA.then("tee_tcb_svn2", 16)
MR_SERVICE_TD: Final = TEE_TCB_SVN2.then("mr_service_td", SHA384_SIZE)
# 1.5ex
VMID: Final = MR_SERVICE_TD.then("vmid", 1)
TD_ID: Final = VMID.then("td_id", 32)
DEV_INFO: Final = TD_ID.then("dev_info", SHA384_SIZE)
INIT_SERVICE_TD_HASH: Final = DEV_INFO.then("init_service_td_hash", SHA384_SIZE)
INIT_SERVICE_TD_ATTRIBUTES: Final = INIT_SERVICE_TD_HASH.then("init_service_td_attributes", 8)
INIT_CPU_SVN: Final = INIT_SERVICE_TD_ATTRIBUTES.then("init_cpu_svn", 16)
INIT_TEE_TCB_SVN: Final = INIT_CPU_SVN.then("init_tee_tcb_svn", 16)
INIT_TEE_FMSPC: Final = INIT_TEE_TCB_SVN.then("init_tee_fmspc", 12)
CUR_SERVICE_TD_HASH: Final = INIT_TEE_FMSPC.then("cur_service_td_hash", SHA384_SIZE)
CUR_SERVICE_TD_ATTRIBUTES: Final = CUR_SERVICE_TD_HASH.then("cur_service_td_attributes", 8)

# Version of the report by the size of its body, bytes
SIZE_OF_VERSION: Final = {
    "1.0": REPORT_DATA.end,
    "1.5": MR_SERVICE_TD.end,
    "1.5ex": CUR_SERVICE_TD_ATTRIBUTES.end,
}


class ServiceTd15(msgspec.Struct, frozen=True):
    """What a TD report 1.5 adds.

    Attributes:
        tee_tcb_svn2: SVNs of the TDX module that runs now, 16 bytes; `TdReport.tee_tcb_svn` are
            those at the TD's launch.
        mr_service_td: digest over the bound service TDs, e.g. a migration TD; zero if none.
    """

    tee_tcb_svn2: bytes
    mr_service_td: Sha384


class Extended15(msgspec.Struct, frozen=True):
    """What a TD report 1.5ex adds: identity of the TD instance, and its state at creation.

    Attributes:
        vmid: 0 for an unpartitioned TD, else the nested VM's index.
        td_id: 32 bytes, unique to the TD's instance.
        dev_info: digest of the assigned devices' information.
        init_service_td_hash: service TDs bound at creation.
        init_service_td_attributes: their attributes, 8 bytes.
        init_cpu_svn: CPUSVN at creation, 16 bytes.
        init_tee_tcb_svn: SVNs of the TDX module at creation, 16 bytes.
        init_tee_fmspc: platform model at creation, 12 bytes.
        cur_service_td_hash: service TDs bound now.
        cur_service_td_attributes: their attributes, 8 bytes.
    """

    vmid: int
    td_id: bytes
    dev_info: Sha384
    init_service_td_hash: Sha384
    init_service_td_attributes: bytes
    init_cpu_svn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    cur_service_td_hash: Sha384
    cur_service_td_attributes: bytes


class TdReport(msgspec.Struct, frozen=True):
    """A TD report body: what the TDX module says about a TD.

    Attributes:
        version: ``1.0``, ``1.5`` or ``1.5ex``.
        tee_tcb_svn: SVNs of the TDX module at launch, 16 bytes (0: its ISVSVN, 1: its version).
        mr_seam: measurement of the TDX module.
        mr_signer_seam: its signer; zero for Intel's.
        seam_attributes: its attributes, 8 bytes; zero for a production module.
        td_attributes: of the TD.
        xfam: extended CPU state that the TD may use.
        mr_td: MRTD.
        mr_config_id: set by the host, for the TD's configuration; zero if unused.
        mr_owner: set by the host, for the TD's owner; zero if unused.
        mr_owner_config: set by the host, for the owner's configuration; zero if unused.
        rtmrs: RTMR0..3.
        report_data: 64 bytes that the TD chose.
        v15: what 1.5 adds; None in 1.0.
        v15ex: what 1.5ex adds; None before.
    """

    version: str
    tee_tcb_svn: bytes
    mr_seam: Sha384
    mr_signer_seam: Sha384
    seam_attributes: bytes
    td_attributes: TdAttributes
    xfam: Xfam
    mr_td: Sha384
    mr_config_id: Sha384
    mr_owner: Sha384
    mr_owner_config: Sha384
    rtmrs: tuple[Sha384, Sha384, Sha384, Sha384]
    report_data: bytes
    v15: ServiceTd15 | None = None
    v15ex: Extended15 | None = None

    @property
    def registers(self) -> dict[RegisterName, Sha384]:
        """MRTD and RTMR0..3 by name."""
        rtmrs = (RegisterName.RTMR0, RegisterName.RTMR1, RegisterName.RTMR2, RegisterName.RTMR3)
        return {RegisterName.MRTD: self.mr_td, **dict(zip(rtmrs, self.rtmrs, strict=True))}


def read_td_report(body: memoryview, *, version: str, origin: str, base: int = 0) -> TdReport:
    """Read a TD report body.

    Args:
        body: the whole body; its size has to fit the version.
        version: a key of `SIZE_OF_VERSION`.
        origin: the file that it is in, for messages.
        base: its offset there.

    Raises:
        MalformedQuote: the size does not fit the version.
    """
    if len(body) != SIZE_OF_VERSION[version]:
        raise MalformedQuote(
            f"{len(body)} bytes are no TD report {version} ({SIZE_OF_VERSION[version]} bytes)",
            origin=origin,
            offset=base,
            field="TD report",
        )
    return TdReport(
        version=version,
        tee_tcb_svn=TEE_TCB_SVN.bytes_of(body),
        mr_seam=MR_SEAM.digest(body),
        mr_signer_seam=MR_SIGNER_SEAM.digest(body),
        seam_attributes=SEAM_ATTRIBUTES.bytes_of(body),
        td_attributes=TdAttributes(TD_ATTRIBUTES.uint(body)),
        xfam=Xfam(XFAM.uint(body)),
        mr_td=MR_TD.digest(body),
        mr_config_id=MR_CONFIG_ID.digest(body),
        mr_owner=MR_OWNER.digest(body),
        mr_owner_config=MR_OWNER_CONFIG.digest(body),
        rtmrs=(RTMR0.digest(body), RTMR1.digest(body), RTMR2.digest(body), RTMR3.digest(body)),
        report_data=REPORT_DATA.bytes_of(body),
        v15=_read_v15(body) if len(body) >= MR_SERVICE_TD.end else None,
        v15ex=_read_v15ex(body) if len(body) >= CUR_SERVICE_TD_ATTRIBUTES.end else None,
    )


def _read_v15(body: memoryview) -> ServiceTd15:
    return ServiceTd15(TEE_TCB_SVN2.bytes_of(body), MR_SERVICE_TD.digest(body))


def _read_v15ex(body: memoryview) -> Extended15:
    return Extended15(
        vmid=VMID.uint(body),
        td_id=TD_ID.bytes_of(body),
        dev_info=DEV_INFO.digest(body),
        init_service_td_hash=INIT_SERVICE_TD_HASH.digest(body),
        init_service_td_attributes=INIT_SERVICE_TD_ATTRIBUTES.bytes_of(body),
        init_cpu_svn=INIT_CPU_SVN.bytes_of(body),
        init_tee_tcb_svn=INIT_TEE_TCB_SVN.bytes_of(body),
        init_tee_fmspc=INIT_TEE_FMSPC.bytes_of(body),
        cur_service_td_hash=CUR_SERVICE_TD_HASH.digest(body),
        cur_service_td_attributes=CUR_SERVICE_TD_ATTRIBUTES.bytes_of(body),
    )
