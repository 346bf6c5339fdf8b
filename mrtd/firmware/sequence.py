"""The events of a firmware, made from its profile's rows and the inputs that they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from mrtd.eventlog import Event, EventLog, EventType, InputName, Origin, register_of_pcr
from mrtd.firmware.boot_options import BootVariable, boot_variables
from mrtd.firmware.profiles import FirmwareProfile, Step
from mrtd.firmware.td_hob import td_hob
from mrtd.firmware.tdvf import SectionType, Tdvf
from mrtd.firmware.variables import SecureBoot, Variable, secure_boot_policy, variable_data
from mrtd.registers import RegisterName, Sha384, Target, Unpinned

_SEPARATOR: Final = bytes(4)
_CALLING: Final = b"Calling EFI Application from Boot Option"
_EXIT: Final = b"Exit Boot Services Invocation"
_EXIT_FAILED: Final = b"Exit Boot Services Returned with Failure"
_EXIT_SUCCEEDED: Final = b"Exit Boot Services Returned with Success"
_NO_LOG_OF_RETRY: Final = (
    "this firmware's ExitBootServices fails once where it can save variables to a FAT file system, "
    "in VMs with a TPM; no log of TDX hardware confirms it"
)
_ACPI_EVENT: Final = b"ACPI DATA"
_FW_CFG_EVENT: Final = b"QEMU FW CFG\0"
_FW_CFG_NAME: Final = 56
# edk2 >= 202505 QemuFwCfgLib cache: items it measures, in its order (facts 3.2, row 2a)
MEASURED_FW_CFG: Final = (
    "etc/extra-pci-roots",
    "BootMenu",
    "etc/boot-menu-wait",
    "etc/reserved-memory-end",
    "opt/ovmf/X-PciMmio64Mb",
    "bootorder",
)

Blob = bytes | Unpinned


class NamedBlob(msgspec.Struct, frozen=True):
    """A blob that the firmware measures, or why it is not known; and where it came from."""

    name: str
    content: Blob
    where: str


class FirmwareInputs(msgspec.Struct, frozen=True):
    """All that the firmware measures.

    Attributes:
        image: the firmware image.
        tdvf: its TDX metadata.
        memory: guest memory, bytes.
        hob_unknown: why the VMM's TD HOB is not the one that follows from that; empty if it is.
        variables: those of its CFV.
        secure_boot: state of the SecureBoot variable.
        acpi: the ACPI files in the order measured.
        fw_cfg: the fw_cfg items that exist, of `MEASURED_FW_CFG`.
        smbios: the SMBIOS table as measured.
        boot_image: the event of what it starts before it makes boot options: a kernel that is
            booted directly.
        version: its version string.
        volumes: the PEI and the DXE volume, unpacked; None where it has not been unpacked.
        cfv: digest of its CFV, where somebody has hashed that already.
        before_image: what is measured before the boot image: what verifies it, or drivers.
        boot_options: its boot variables when it boots from a device, or why they are not known;
            None for those of a direct boot.
    """

    image: memoryview
    tdvf: Tdvf
    memory: int
    variables: tuple[Variable, ...]
    secure_boot: SecureBoot
    acpi: tuple[NamedBlob, ...]
    fw_cfg: tuple[NamedBlob, ...]
    smbios: NamedBlob
    boot_image: Event | None
    hob_unknown: str = ""
    version: str = ""
    volumes: tuple[memoryview, memoryview] | None = None
    cfv: Sha384 | None = None
    before_image: EventLog = ()
    boot_options: tuple[BootVariable, ...] | Unpinned | None = None


def firmware_events(profile: FirmwareProfile, inputs: FirmwareInputs, target: Target) -> EventLog:
    """What the firmware extends from reset until it starts the boot image, in order."""
    return tuple(_Sequence(profile, inputs, target).events())


def exit_boot_services(
    target: Target, profile: FirmwareProfile, *, flushed: bool = False
) -> EventLog:
    """The actions of ExitBootServices: it is called, and succeeds or is called again.

    Args:
        target: who takes the measurements.
        profile: what the firmware does.
        flushed: whether the machine has a disk whose flush changes the memory map
            (`mrtd.qemu.exit_flush`).
    """
    rule = Origin(InputName.PROFILE, profile.name)
    retried = flushed and profile.exit_flushes
    texts = (_EXIT, *((_EXIT_FAILED, _EXIT) if retried else ()), _EXIT_SUCCEEDED)
    doubt = _NO_LOG_OF_RETRY if retried and target is Target.CC else ""
    actions = (_action(text, 5, target, rule) for text in texts)
    return tuple(msgspec.structs.replace(a, unconfirmed=doubt) if doubt else a for a in actions)


def _action(text: bytes, pcr: int, target: Target, origin: Origin) -> Event:
    return Event(
        register_of_pcr(pcr, target),
        EventType.EV_EFI_ACTION,
        Sha384.of(text),
        text.decode(),
        origin,
        text,
    )


class _Sequence:
    def __init__(self, profile: FirmwareProfile, inputs: FirmwareInputs, target: Target) -> None:
        self.profile = profile
        self.inputs = inputs
        self.target = target
        self.rule = Origin(InputName.PROFILE, profile.name)

    def events(self) -> Iterator[Event]:
        rows = self.profile.cc if self.target is Target.CC else self.profile.tpm
        for row in rows:
            for event in _STEPS[row.step](self):
                yield Event(
                    event.register,
                    event.type,
                    event.digest,
                    event.description,
                    event.origin,
                    event.data,
                    row.unconfirmed if self.target is Target.CC else "",
                )

    def crtm_version(self) -> Iterator[Event]:
        data = (self.inputs.version + "\0").encode("utf-16-le")
        shown = f"version {self.inputs.version!r}"
        where = self.firmware("version string")
        yield self.event(0, EventType.EV_S_CRTM_VERSION, Sha384.of(data), shown, where, data=data)

    def td_hob(self) -> Iterator[Event]:
        where = f"machine.memory, {self.inputs.memory:#x} bytes; TDVF sections"
        unknown = self.inputs.hob_unknown
        yield self.event(
            1,
            EventType.EV_EFI_HANDOFF_TABLES2,
            Unpinned(unknown)
            if unknown
            else Sha384.of(td_hob(self.inputs.tdvf, self.inputs.memory)),
            "TD HOB: memory map",
            Origin(InputName.MEMORY, where),
        )

    def fw_cfg(self) -> Iterator[Event]:
        for item in self.inputs.fw_cfg:
            name = item.name.encode("ascii", "replace").ljust(_FW_CFG_NAME, b"\0")
            yield self.blob_event(
                item, EventType.EV_PLATFORM_CONFIG_FLAGS, InputName.FW_CFG, _FW_CFG_EVENT + name
            )

    def acpi(self) -> Iterator[Event]:
        for blob in self.inputs.acpi:
            yield self.blob_event(
                blob, EventType.EV_PLATFORM_CONFIG_FLAGS, InputName.ACPI, _ACPI_EVENT
            )

    def smbios(self) -> Iterator[Event]:
        yield self.blob_event(
            self.inputs.smbios, EventType.EV_EFI_HANDOFF_TABLES, InputName.SMBIOS, b""
        )

    def calling_application(self) -> Iterator[Event]:
        yield _action(_CALLING, 4, self.target, self.rule)

    def policy_separator(self) -> Iterator[Event]:
        yield self.separator(register_of_pcr(7, self.target))

    def separator_rtmr0(self) -> Iterator[Event]:
        yield self.separator(RegisterName.RTMR0)

    def separator_rtmr1(self) -> Iterator[Event]:
        yield self.separator(RegisterName.RTMR1)

    def separators(self) -> Iterator[Event]:
        for pcr in range(7):
            yield self.separator(register_of_pcr(pcr, self.target))

    def event(
        self,
        pcr: int,
        kind: EventType,
        digest: Sha384 | Unpinned,
        description: str,
        origin: Origin,
        *,
        data: bytes = b"",
    ) -> Event:
        register = register_of_pcr(pcr, self.target)
        return Event(register, kind, digest, description, origin, data)

    def firmware(self, where: str) -> Origin:
        return Origin(InputName.FIRMWARE, f"{self.inputs.tdvf.origin} {where}")

    def firmware_volumes(self) -> Iterator[Event]:
        """PEI and DXE volume, as unpacked into memory (edk2 Tcg2Pei, MeasureMainBios)."""
        changed = Unpinned("the PEI volume's modules write to it before it is measured")
        if self.inputs.volumes is None:
            unknown = Unpinned("the firmware image has no PEI and DXE volume that can be unpacked")
            digests: tuple[Sha384 | Unpinned, ...] = (unknown, unknown)
        else:
            pei, dxe = (Sha384.of(volume) for volume in self.inputs.volumes)
            digests = (pei if self.profile.pei_volume_as_built else changed, dxe)
        for name, digest in zip(("PEI", "DXE"), digests, strict=True):
            yield self.event(
                0, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB, digest, f"{name} firmware volume",
                self.firmware("unpacked"),
            )  # fmt: skip

    def cfv(self) -> Iterator[Event]:
        section = self.inputs.tdvf.of_type(SectionType.CFV)[0]
        content = section.content(self.inputs.image)
        yield self.event(
            1, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, self.inputs.cfv or Sha384.of(content),
            "CFV: variable store as built",
            Origin(
                InputName.VARIABLES,
                f"{self.inputs.tdvf.origin}+{section.data_offset:#x}, {len(content):#x} bytes",
            ),
        )  # fmt: skip

    def secure_boot_policy(self) -> Iterator[Event]:
        for variable in secure_boot_policy(self.inputs.variables, self.inputs.secure_boot):
            data = variable_data(variable)
            state = f"{len(variable.data)} bytes" if variable.data else "empty"
            if variable.name == "SecureBoot":
                state = str(self.inputs.secure_boot)
            yield self.event(
                7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, Sha384.of(data),
                f"{variable.name}: {state}",
                Origin(InputName.VARIABLES, f"{self.inputs.tdvf.origin} CFV"), data=data,
            )  # fmt: skip

    def blob_event(self, blob: NamedBlob, kind: EventType, source: InputName, data: bytes) -> Event:
        content = blob.content
        digest = content if isinstance(content, Unpinned) else Sha384.of(content)
        return self.event(1, kind, digest, blob.name, Origin(source, blob.where), data=data)

    def boot_image(self) -> Iterator[Event]:
        yield from self.inputs.before_image
        if self.inputs.boot_image is not None:
            yield self.inputs.boot_image

    def boot_variables(self) -> Iterator[Event]:
        options = self.inputs.boot_options
        if isinstance(options, Unpinned):
            yield self.event(
                1, EventType.EV_EFI_VARIABLE_BOOT, options, "BootOrder and boot options", self.rule
            )
            return
        for variable in boot_variables(self.profile.boot_apps) if options is None else options:
            yield self.event(
                1, EventType.EV_EFI_VARIABLE_BOOT, Sha384.of(variable.data),
                f"{variable.name}: {variable.description}", self.rule,
                data=variable_data(variable.variable),
            )  # fmt: skip

    def boot_variables_unknown(self) -> Iterator[Event]:
        reason = Unpinned(f"{self.profile.name}: into which registers boot variables and "
                          "separators go is not known")  # fmt: skip
        for pcr in (1, 4):
            yield self.event(
                pcr, EventType.EV_EFI_VARIABLE_BOOT, reason, Step.BOOT_VARIABLES_UNKNOWN, self.rule
            )

    def separator(self, register: RegisterName) -> Event:
        return Event(
            register, EventType.EV_SEPARATOR, Sha384.of(_SEPARATOR), "separator", self.rule,
            _SEPARATOR,
        )  # fmt: skip


_STEPS: Final[dict[Step, Callable[[_Sequence], Iterator[Event]]]] = {
    Step.CRTM_VERSION: _Sequence.crtm_version,
    Step.FIRMWARE_VOLUMES: _Sequence.firmware_volumes,
    Step.TD_HOB: _Sequence.td_hob,
    Step.CFV: _Sequence.cfv,
    Step.FW_CFG: _Sequence.fw_cfg,
    Step.SECURE_BOOT_POLICY: _Sequence.secure_boot_policy,
    Step.POLICY_SEPARATOR: _Sequence.policy_separator,
    Step.ACPI: _Sequence.acpi,
    Step.BOOT_IMAGE: _Sequence.boot_image,
    Step.SMBIOS: _Sequence.smbios,
    Step.BOOT_VARIABLES: _Sequence.boot_variables,
    Step.BOOT_VARIABLES_UNKNOWN: _Sequence.boot_variables_unknown,
    Step.CALLING_APPLICATION: _Sequence.calling_application,
    Step.SEPARATOR_RTMR0: _Sequence.separator_rtmr0,
    Step.SEPARATOR_RTMR1: _Sequence.separator_rtmr1,
    Step.SEPARATORS: _Sequence.separators,
}
