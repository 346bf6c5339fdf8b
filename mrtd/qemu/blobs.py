"""The blobs that the firmware measures: given as files, derived from them, or asked of QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mrtd.errors import MalformedAcpi
from mrtd.firmware.acpi import (
    LOADER_FILE,
    RSDP_FILE,
    TABLES_FILE,
    TPM_LOG_FILE,
    derive_loader,
    derive_rsdp,
    measured_files,
)
from mrtd.firmware.profiles import Step
from mrtd.firmware.sequence import MEASURED_FW_CFG, NamedBlob
from mrtd.firmware.smbios import measured_table, with_processor_id
from mrtd.launch.inputs import LaunchInputs, LoadedFile
from mrtd.launch.options import split_option
from mrtd.launch.spec import DirectBoot, LaunchSpec
from mrtd.qemu.vmm_profiles import vmm_profile
from mrtd.registers import Unpinned

if TYPE_CHECKING:
    from mrtd.firmware.identify import Firmware
    from mrtd.qemu.fw_cfg import FwCfg

_SMBIOS_TABLES: Final = "etc/smbios/smbios-tables"
_BOOT_MENU: Final = "BootMenu"
_BOOT_ORDER: Final = "bootorder"
_ALWAYS: Final = (_BOOT_MENU, _BOOT_ORDER)
# qemu hw/i386/x86-common.c: -kernel adds the boot ROM in front of all other boot devices
_DIRECT_BOOT_ORDER: Final = b"/rom@genroms/linuxboot_dma.bin\0"
_NO_BOOT_MENU: Final = bytes(2)
_A_BOOT_MENU: Final = (1).to_bytes(2, "little")
_TPM_LOG: Final = bytes(1 << 16)  # qemu hw/acpi/tpm.h TPM_LOG_AREA_MINIMUM_SIZE


def acpi_blobs(
    inputs: LaunchInputs, fw_cfg: FwCfg | Unpinned, *, tpm: bool
) -> tuple[NamedBlob, ...]:
    """The ACPI files in the order that the firmware measures them.

    Args:
        inputs: the launch's files; given tables win over QEMU's.
        fw_cfg: what QEMU offers, or why it is not known.
        tpm: whether the machine has a TPM, and so an ``etc/tpm/log``.

    Raises:
        MalformedAcpi: a given blob breaks its format.
    """
    if inputs.acpi_tables is not None:
        return _given(inputs, inputs.acpi_tables, tpm=tpm)
    if isinstance(fw_cfg, Unpinned):
        names = (LOADER_FILE, RSDP_FILE, *((TPM_LOG_FILE,) if tpm else ()), TABLES_FILE)
        return tuple(NamedBlob(name, fw_cfg, "not known") for name in names)
    where = f"QEMU {fw_cfg.qemu_version} fw_cfg"
    names = measured_files(fw_cfg.files[LOADER_FILE], origin=f"{where} {LOADER_FILE}")
    missing = [name for name in names if name not in fw_cfg.files]
    if missing:
        raise MalformedAcpi(f"allocates {missing[0]}, which is missing", origin=where)
    return tuple(NamedBlob(name, fw_cfg.files[name], where) for name in names)


def _given(inputs: LaunchInputs, tables: LoadedFile, *, tpm: bool) -> tuple[NamedBlob, ...]:
    derived = f"derived from {tables.name}"
    loader, rsdp = inputs.acpi_loader, inputs.acpi_rsdp
    if loader is None and tpm:
        unknown = Unpinned("the loader of a machine with a TPM is not derived: give acpi.loader")
        return (NamedBlob(LOADER_FILE, unknown, derived),)
    script = derive_loader(tables.data, origin=tables.name) if loader is None else loader.data
    blobs = {
        LOADER_FILE: NamedBlob(LOADER_FILE, script, loader.name if loader else derived),
        RSDP_FILE: NamedBlob(
            RSDP_FILE,
            rsdp.data if rsdp else derive_rsdp(tables.data, origin=tables.name),
            rsdp.name if rsdp else derived,
        ),
        TABLES_FILE: NamedBlob(TABLES_FILE, tables.data, tables.name),
        TPM_LOG_FILE: NamedBlob(TPM_LOG_FILE, _TPM_LOG, "an empty log"),
    }
    origin = loader.name if loader else derived
    names = measured_files(script, origin=origin)
    for name in names:
        if name not in blobs:
            raise MalformedAcpi(f"allocates {name!r}, which is not given", origin=origin)
    return tuple(blobs[name] for name in names)


def smbios_table(
    spec: LaunchSpec, inputs: LaunchInputs, firmware: Firmware, fw_cfg: FwCfg | Unpinned
) -> NamedBlob:
    """The SMBIOS table as edk2 >= 202505 measures it: given, or made of QEMU's and the firmware's.

    With ``cpu = "host"`` it holds the host's CPU signature, which a dump on another host does not
    have: then it is known only with ``machine.processor_id``.
    """
    name = str(Step.SMBIOS)
    if inputs.smbios is not None:
        return NamedBlob(name, inputs.smbios.data, inputs.smbios.name)
    if isinstance(fw_cfg, Unpinned):
        reason = "SMBIOS tables are measured by edk2 >= 202505, and QEMU was not asked for them"
        return NamedBlob(name, Unpinned(f"{reason}: give smbios.measured"), "QEMU and firmware")
    where = f"QEMU {fw_cfg.qemu_version} fw_cfg, {firmware.tdvf.origin}"
    bios = firmware.signals.bios if firmware.signals else None
    if bios is None:
        reason = "the firmware's own SMBIOS strings were not found in its image"
        return NamedBlob(name, Unpinned(f"{reason}: give smbios.measured"), where)
    tables = fw_cfg.files.get(_SMBIOS_TABLES, b"")
    if spec.machine.processor_id is not None:
        processor_id = bytes.fromhex(spec.machine.processor_id.replace(" ", ""))
        tables = with_processor_id(tables, processor_id, origin=where)
    elif spec.machine.cpu.partition(",")[0] in {"host", "max"}:
        reason = (
            f"cpu = {spec.machine.cpu!r}: edk2 >= 202505 measures the host's CPU signature in its "
            "SMBIOS tables: give machine.processor_id"
        )
        return NamedBlob(name, Unpinned(reason), where)
    return NamedBlob(name, measured_table(tables, bios, origin=where), where)


def fw_cfg_items(spec: LaunchSpec, fw_cfg: FwCfg | Unpinned) -> tuple[NamedBlob, ...]:
    """The fw_cfg items that edk2 >= 202505 measures and that exist, in its order.

    Without QEMU they follow from the spec, as long as no device changes them.
    """
    if isinstance(fw_cfg, Unpinned):
        if vmm_profile(spec.vmm).tables or spec.machine.not_modelled:
            return tuple(NamedBlob(name, fw_cfg, "not known") for name in _ALWAYS)
        return _items_of_spec(spec)
    items = {**fw_cfg.files, _BOOT_MENU: fw_cfg.boot_menu}
    where = f"QEMU {fw_cfg.qemu_version} fw_cfg"
    return tuple(NamedBlob(name, items[name], where) for name in MEASURED_FW_CFG if name in items)


def _items_of_spec(spec: LaunchSpec) -> tuple[NamedBlob, ...]:
    options = dict(split_option(spec.machine.boot_options)) if spec.machine.boot_options else {}
    orders: list[NamedBlob] = []
    if isinstance(spec.boot, DirectBoot):
        strict = options.get("strict") == "on"
        # qemu system/bootdevice.c get_boot_devices_list: one a line, and HALT behind them
        boot_order = _DIRECT_BOOT_ORDER[:-1] + b"\nHALT\0" if strict else _DIRECT_BOOT_ORDER
        orders = [NamedBlob(_BOOT_ORDER, boot_order, "boot.kind = direct")]
    if any("bootindex" in device for device in spec.machine.devices):
        unasked = Unpinned("a device has a bootindex, and QEMU was not asked for the boot order")
        orders = [NamedBlob(_BOOT_ORDER, unasked, "machine.devices")]
    roots: tuple[NamedBlob, ...] = ()
    if any("pxb" in device for device in spec.machine.devices):
        unknown = Unpinned("a device adds PCI roots, and QEMU was not asked how many")
        roots = (NamedBlob("etc/extra-pci-roots", unknown, "machine.devices"),)
    given = tuple(
        NamedBlob(name, text.encode(), f"machine.fw_cfg {name}")
        for name, text in spec.machine.fw_cfg.items()
        if name in MEASURED_FW_CFG
    )
    menu = NamedBlob(_BOOT_MENU, _NO_BOOT_MENU, "QEMU's default")
    if options.get("menu") == "on":
        menu = NamedBlob(_BOOT_MENU, _A_BOOT_MENU, "machine.boot_options")
    wait: tuple[NamedBlob, ...] = ()
    if (time := options.get("splash-time", "")).isdecimal():
        # qemu hw/nvram/fw_cfg.c fw_cfg_bootsplash: u16, little-endian
        blob = (int(time[:9]) & 0xFFFF).to_bytes(2, "little")
        wait = (NamedBlob("etc/boot-menu-wait", blob, "machine.boot_options"),)
    found = {blob.name: blob for blob in (*roots, menu, *wait, *orders, *given)}
    return tuple(found[name] for name in MEASURED_FW_CFG if name in found)
