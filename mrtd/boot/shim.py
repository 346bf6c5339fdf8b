"""shim: the variables that it measures, and the second stage that it verifies and starts.

Sources: rhboot/shim mok.c (mok_state_variables: which are measured, in which order; what is in them
without a MOK), sbat.c (SbatLevel), shim.c (second stage; certificates in the order db, vendor),
tpm.c (PCRs), SBAT.md. Logs of Debian's shim 16.1; log of a TD with Ubuntu's shim 15.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mrtd.boot.authenticode_signature import is_certificate
from mrtd.boot.chain import Chain, Image
from mrtd.boot.pe import pe_sections
from mrtd.eventlog import EventType, InputName, Origin
from mrtd.firmware.guids import guid
from mrtd.firmware.variables import Variable, variable_data
from mrtd.registers import Unpinned

if TYPE_CHECKING:
    from mrtd.boot.recorder import Content

_SHIM_LOCK: Final = guid("605dab50-e046-4300-abb6-3dd810dd8b23")
_X509: Final = guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_SHA256: Final = guid("c1c41626-504c-4092-aca9-41f936934328")
_MOK_PCR: Final = 14
_IPL: Final = EventType.EV_IPL
_ORIGINAL_SBAT: Final = b"sbat,1,2021030218\n"
_TRUSTED: Final = b"\1"
_SECOND_STAGE: Final = "grubx64.efi"
_FALLBACK: Final = "fbx64.efi"
_MAX_STAGE: Final = 1 << 28
_MOK_VARIABLES: Final = frozenset(
    {
        "MokList", "MokListX", "MokListTrusted", "MokSBState", "MokDBState", "MokIgnoreDB",
        "SbatLevel", "SbatPolicy",
    }
)  # fmt: skip


def start_shim(chain: Chain, image: Image) -> None:
    """What shim measures, and what it starts.

    Raises:
        InputError: shim or its second stage is malformed, or Secure Boot refuses the latter.
    """
    sections = {s.name: s.content(image.data) for s in pe_sections(image.data, origin=image.path)
                if s.name in {".vendor_cert", ".sbatlevel"}}  # fmt: skip
    where = Origin(InputName.BOOT_LOADER, f"{image.path} .vendor_cert")
    vendor, revoked = _vendor(sections.get(".vendor_cert", b""))
    stored = chain.machine.stored & _MOK_VARIABLES
    known: tuple[tuple[str, Content], ...] = (
        ("MokList", mok_list(vendor)),
        ("MokListX", revoked or _signature_list(_SHA256, bytes(32))),
    )
    if stored:
        reason = Unpinned(f"the variable store has {', '.join(sorted(stored))}, which shim reads")
        known = tuple((name, reason) for name, _ in known)
    for name, content in known:
        chain.recorder.measure(_MOK_PCR, _IPL, content, name, where, data=name.encode() + b"\0")
    level = sbat_level(sections.get(".sbatlevel", b""), secure_boot=chain.secure_boot)
    told: Content = level
    if not isinstance(level, Unpinned):
        told = variable_data(Variable(_SHIM_LOCK, "SbatLevel", level))
    chain.authority("SbatLevel", told, "revocation level of shim",
                    Origin(InputName.BOOT_LOADER, f"{image.path} .sbatlevel"))  # fmt: skip
    chain.recorder.measure(
        _MOK_PCR, _IPL, _TRUSTED, "MokListTrusted", where, data=b"MokListTrusted\0"
    )
    chain.vendor = vendor
    _second_stage(chain, image)


def _second_stage(chain: Chain, image: Image) -> None:
    folder = image.path.replace("\\", "/").rpartition("/")[0]
    if image.files is None:
        chain.unknown((4, 8, 9), "shim has no file system to read its second stage from", "shim")
        return
    removable = folder.upper().endswith("/EFI/BOOT") or folder.upper() == "EFI/BOOT"
    if removable and image.files.exists(f"{folder}/{_FALLBACK}"):
        chain.unknown(
            (1, 4, 5, 7, 8, 9, 11, 12, 13, 14),
            f"shim starts {_FALLBACK}, which makes boot options and starts one of them or resets",
            f"{folder}/{_FALLBACK}",
        )
        return
    path = f"{folder}/{_SECOND_STAGE}"
    data = memoryview(image.files.read(path, _MAX_STAGE))
    verify_with_shim(chain, data, path)
    chain.measure_image(data, path, InputName.BOOT_LOADER)
    chain.start(Image(data, path, image.files))


def verify_with_shim(chain: Chain, data: memoryview, path: str) -> None:
    """The event of the certificate that lets shim start an image, if Secure Boot is on.

    Raises:
        SpecError: neither db nor shim's own certificate verifies it.
    """
    if chain.policy is None:
        return
    allowed = chain.policy.authority(data, path, required=not is_certificate(chain.vendor))
    vendor = is_certificate(chain.vendor) and chain.policy.signed_by(chain.vendor, data, path)
    if allowed is not None and vendor:
        # db goes first (shim.c, check_allowlist), but who signed is read by names alone
        reason = f"both db and shim's own certificate seem to verify {path}"
        chain.authority(allowed.name, Unpinned(reason), allowed.label, allowed.origin)
    elif allowed is not None:
        chain.authority(allowed.name, allowed.variable, allowed.label, allowed.origin)
    elif vendor:
        body = variable_data(Variable(_SHIM_LOCK, "MokListRT", _SHIM_LOCK + chain.vendor))
        chain.authority("MokListRT", body, "certificate in shim",
                        Origin(InputName.BOOT_LOADER, "shim .vendor_cert"))  # fmt: skip
    else:
        chain.authority(
            "MokListRT", Unpinned(f"what lets shim start {path} is not derived"), path,
            Origin(InputName.BOOT_LOADER, path),
        )  # fmt: skip


def _vendor(section: bytes) -> tuple[bytes, bytes]:
    """What shim was built with: authorised certificate or database, and revocations.

    Source: shim cert.S: u32 sizes of both, u32 offsets of both, from the section's start.
    """
    numbers = [int.from_bytes(section[at : at + 4], "little") for at in range(0, 16, 4)]
    sizes, offsets = numbers[:2], numbers[2:]
    found = [section[start : start + size] for start, size in zip(offsets, sizes, strict=True)]
    return found[0], found[1]


def mok_list(vendor: bytes) -> bytes:
    """What MokListRT holds without a MOK: shim's own certificate or database."""
    return _signature_list(_X509, vendor) if is_certificate(vendor) else vendor


def _signature_list(kind: bytes, signature: bytes) -> bytes:
    """EFI_SIGNATURE_LIST of one signature that shim owns."""
    size = 16 + len(signature)
    numbers = (28 + size, 0, size)
    return kind + b"".join(n.to_bytes(4, "little") for n in numbers) + _SHIM_LOCK + signature


def sbat_level(section: bytes, *, secure_boot: bool) -> bytes | Unpinned:
    """What shim sets and measures as SbatLevel, where the variable store has none.

    Without Secure Boot it is the first level of all; with it, the one that this shim raises every
    machine to by itself (sbat.c; section: u32 version, u32 offsets of automatic and latest level,
    from behind the version).
    """
    if not secure_boot:
        return _ORIGINAL_SBAT
    start = 4 + int.from_bytes(section[4:8], "little")
    level = section[start:].split(b"\0", 1)[0]
    if section[:4] != bytes(4) or not level.startswith(b"sbat,"):
        return Unpinned("this shim has no section .sbatlevel that says what SbatLevel becomes")
    return level
