"""The rules of the audit: stable ids, how urgent they are, and what to do.

docs/audit-rules.md is written from this table (``python -m ci.audit_rules``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from mrtd.notes import Level


class Rule(msgspec.Struct, frozen=True):
    """What is looked for.

    Attributes:
        id: stable, for programs and for ``--ignore``.
        level: how urgent.
        title: what it is, in a few words.
        risk: what follows, in one sentence.
        remedy: what to do.
        source: where the fact is from.
    """

    id: str
    level: Level
    title: str
    risk: str
    remedy: str
    source: str


_PARAMETERS: Final = "Linux Documentation/admin-guide/kernel-parameters.txt"
_SYSTEMD: Final = "systemd kernel-command-line(7)"
_DRACUT: Final = "dracut.cmdline(7), initramfs-tools(7)"
_VERITY: Final = "Linux Documentation/admin-guide/device-mapper/verity.rst"
_QEMU: Final = "qemu docs/system, hw/acpi"
_TDX: Final = "Intel TDX Module ABI, TDATTRIBUTES"
_CCC: Final = "Linux Documentation/security/snp-tdx-threat-model.rst"

_A, _W, _I = Level.ALARM, Level.WARNING, Level.INFO

_TABLE: Final = (
    # the TD and its registers
    Rule("debug_attribute", _A, "the TD is started for debugging",
         "The host reads and writes the TD's memory and registers: nothing in it is confidential.",
         "launch without TDATTRIBUTES bit 0 (policy, tdx-guest attributes or debug=on); verifiers "
         "refuse such a quote", _TDX),
    Rule("sept_ve_enabled", _W, "SEPT_VE_DISABLE is not set",
         "A page that the host takes away raises an exception in the guest, which the host can "
         "time: kernels refuse to start or are attackable there.",
         "set TDATTRIBUTES bit 28 (policy 0x10000000, sept-ve-disable=on)", _TDX),
    Rule("firmware_measures_nothing", _A, "the firmware extends no RTMR",
         "Any kernel, command line and initrd have the same registers.",
         "use a firmware that measures: edk2 >= 202302, or an IntelTdx build",
         "edk2 fb91d6cbd0 and OvmfPkg/*.dsc"),
    Rule("kernel_measures_nothing", _A, "the kernel cannot extend RTMR2",
         "Command line and initrd are measured nowhere.",
         "use Linux >= 6.9, or one with the CC measurement protocol backported",
         "Linux drivers/firmware/efi/libstub/efi-stub-helper.c"),
    Rule("register_unpinned", _W, "a register's value is not known",
         "A verifier cannot demand the register, so nothing that it alone measures is protected.",
         "give what is missing: the note of the register says what", "mrtd measure"),
    Rule("launch_not_derived", _A, "the launch could not be derived",
         "What its registers hold is not known, so it cannot be said what covers its inputs.",
         "mend what the detail says, and audit again", "mrtd measure"),
    Rule("machine_not_modelled", _W, "an argument of the machine is not modelled",
         "Registers depend on it, and their values are not derived.",
         "launch without it, or give blobs from a launch that is trusted", "docs/machines.md"),
    # the command line
    Rule("cmdline_not_measured", _A, "the command line is measured nowhere",
         "The host gives the kernel any command line: another root, another init.",
         "use a firmware and a kernel that measure it", "Linux efi-stub-helper.c"),
    Rule("initrd_not_measured", _A, "the initrd is measured nowhere",
         "The host gives the guest any initrd, whose programs run first and as root.",
         "put it into a UKI, or let a boot loader or the VMM load it: what the kernel reads itself "
         "(initrd= on its command line) it does not measure; Linux >= 6.9 measures the others",
         "Linux efi-stub-helper.c, efi_load_initrd"),
    Rule("cmdline_not_known", _W, "the command line is not known",
         "What it switches, and whether it names a root hash, cannot be said.",
         "boot a UKI with a .cmdline section, or a kernel directly", "systemd-stub(7)"),
    Rule("cmdline_override", _W, "the host can boot the image with another command line",
         "Without Secure Boot, load options replace the one in a UKI, and what a boot loader reads "
         "from the disk can be edited; RTMR2 alone shows it.",
         "require RTMR2 in the appraisal policy, or turn Secure Boot on", "systemd-stub(7)"),
    Rule("cmdline_duplicate_key", _W, "a key has several values",
         "The kernel, the initrd and systemd may each take another one of them.",
         "give every key once", _PARAMETERS),
    Rule("cmdline_init", _A, "init is replaced",
         "What runs as PID 1 is not what the image starts.",
         "leave init= and rdinit= out", _PARAMETERS),
    Rule("cmdline_shell", _A, "the boot ends in a shell or in a rescue mode",
         "Whoever has the console, which is the host, gets a root shell.",
         "leave the switch out", f"{_DRACUT}; {_SYSTEMD}"),
    Rule("cmdline_unit", _W, "systemd starts something else than the image's default",
         "Other units run than those that the image was checked with.",
         "leave systemd.unit=, wants= and mask= out", _SYSTEMD),
    Rule("cmdline_modules", _W, "modules or init calls are kept from running",
         "A protection that is a module, or set up by one, is silently missing.",
         "leave the blacklist out and build the image without the module", _PARAMETERS),
    Rule("cmdline_protection_off", _W, "a protection of the kernel is switched off",
         "The guest is easier to take over once something in it is attacked.",
         "leave the switch out", _PARAMETERS),
    Rule("cmdline_secret", _W, "the command line seems to hold a secret",
         "The host writes it, and everybody in the guest reads it in /proc/cmdline.",
         "hand secrets over after attestation", _PARAMETERS),
    Rule("cmdline_credential", _W, "the command line sets a credential",
         "It is measured, but the host reads it; units of systemd act on it.",
         "hand credentials over after attestation", "systemd.exec(5), systemd-creds(1)"),
    Rule("console_on_host", _I, "the console is the host's",
         "The host reads what is printed, and types where a login or a shell listens.",
         "let nothing listen on it: no getty, no emergency shell, no SysRq", _CCC),
    # root file system and disks
    Rule("rootfs_not_measured", _A, "the root file system is in no register",
         "The host changes any program of the guest, before it starts or while it runs, and no "
         "register shows it.",
         "make it read-only with dm-verity and put the root hash on the measured command line, or "
         "put all of it into the initrd", _VERITY),
    Rule("rootfs_not_checked", _W, "the root hash was not compared with a disk",
         "The command line names a hash, and whether the disk has that data is not known.",
         "list the disk in [[disks]]", _VERITY),
    Rule("rootfs_mismatch", _A, "the disk has other data than the root hash says",
         "It does not boot; or it is not the disk that was meant.",
         "make hash tree and command line anew from this disk", _VERITY),
    Rule("verity_weakened", _A, "the root hash protects less than it seems",
         "What is mounted is not protected, or errors are ignored.",
         "correct what the detail says", "systemd-veritysetup-generator(8)"),
    Rule("partition_not_measured", _W, "a partition is in no register",
         "The host reads it, and changes what the guest reads from it.",
         "protect it with dm-verity, or encrypt and authenticate it with a key that is handed over "
         "after attestation", _VERITY),
    Rule("partition_encrypted", _I, "a partition is encrypted, and in no register",
         "Who has the key is what counts: encryption alone does not show that data were changed.",
         "hand the key over after attestation, and use dm-integrity or authenticated encryption",
         "cryptsetup(8)"),
    Rule("swap_on_disk", _W, "memory is swapped to the host's disk",
         "The host reads the guest's memory there, and writes to it.",
         "encrypt it with a key of this boot, or use zram", "crypttab(5)"),
    Rule("config_disk", _A, "a disk configures the guest, and is in no register",
         "The host chooses what is in it: settings, keys, users, environment variables.",
         "measure it (into RTMR3, before it is read), sign it, or send it after attestation",
         "cloud-init NoCloud and ConfigDrive"),
    Rule("config_environment", _A, "environment variables come from a disk in no register",
         "Variables such as LD_PRELOAD or PATH, or addresses and keys, decide what programs do.",
         "read known keys only, measure the file before it is used, or sign it",
         "environ(7), ld.so(8)"),
    Rule("disk_unreadable", _W, "a disk could not be looked at",
         "What is on it is not known.",
         "give the image and its format in [[disks]] where it can be read", "docs/launch-spec.md"),
    # what the host adds
    Rule("hotplug_cpu", _W, "processors can be added while it runs",
         "The guest then has processors that no measurement knows of.",
         "leave maxcpus= out or equal to the number of processors", _QEMU),
    Rule("hotplug_memory", _W, "memory can be added while it runs",
         "The guest then accepts memory that the TD HOB did not announce.",
         "leave maxmem=, slots=, DIMM and virtio-mem devices out", _QEMU),
    Rule("hotplug_pci", _I, "devices can be added while it runs",
         "The host adds a device that no register shows, and a driver binds to it.",
         "hotplug=off at every root port; in the guest, a list of allowed drivers",
         f"{_QEMU}; {_CCC}"),
    Rule("host_device", _W, "a device of the host is passed through",
         "It reaches shared memory only, and its firmware and data are in no register.",
         "treat what it says as the host's word; TDISP is not modelled", _CCC),
    Rule("shared_folder", _A, "a folder of the host is mounted",
         "The host changes its files at any time, and no register shows it.",
         "copy what is needed into the image, or authenticate it in the guest", _CCC),
    Rule("shared_memory", _W, "memory is shared with others of the host",
         "Whoever has the other end writes it.", "leave ivshmem out", _QEMU),
    Rule("guest_agent", _A, "a guest agent listens to the host",
         "The host runs programs and reads files in the guest through it.",
         "leave the channel out, and the agent out of the image", "QEMU guest agent protocol"),
    Rule("channel", _I, "the host talks to the guest through a channel",
         "What comes through it is the host's word; no register depends on it.",
         "authenticate both ends in the guest, with a key that is bound to the quote", _CCC),
    Rule("virtual_tpm", _W, "the TPM is the host's",
         "The host runs it: its quotes, and the secrets sealed to it, are the host's.",
         "use RTMRs and quotes of the TD instead", "Linux drivers/char/tpm, swtpm(8)"),
    Rule("fw_cfg_item", _W, "a fw_cfg item is in no register",
         "The host changes it, and what reads it follows.",
         "leave it out, or let nothing in the guest read it", "edk2 QemuFwCfgLib"),
    Rule("fw_cfg_credential", _A, "credentials come from fw_cfg",
         "systemd imports them: the host sets passwords, keys, and units.",
         "leave them out; systemd.import_credentials=no on the measured command line",
         "systemd.exec(5), systemd-creds(1)"),
    Rule("smbios_credential", _A, "credentials or load options come from SMBIOS",
         "systemd and its stub take them from strings of type 11, which no event covers: edk2 "
         "zeroes them before it measures.",
         "leave them out; systemd.import_credentials=no on the measured command line",
         "systemd.exec(5), systemd-stub(7), edk2 SmbiosMeasurementDxe"),
    Rule("smbios_strings", _I, "SMBIOS fields are set",
         "Serial numbers, asset tags and OEM strings are zeroed before they are measured.",
         "let nothing in the guest depend on them", "edk2 SmbiosMeasurementDxe"),
)  # fmt: skip

RULES: Final = {rule.id: rule for rule in _TABLE}
"""All rules, by id."""
