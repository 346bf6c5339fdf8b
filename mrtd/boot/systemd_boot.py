r"""systemd-boot: what it measures, and the entry that it starts.

Sources: systemd src/boot/boot.c of v257 (config_load_defaults, config_entry_add_type1,
config_entry_add_unified, image_start); UAPI Group, "Boot Loader Specification" (both types of
entries). Logs of Debian 257.13.
"""

from __future__ import annotations

import fnmatch
from typing import Final

from mrtd.boot.chain import Chain, Files, Image
from mrtd.boot.loader_entries import Entry, read_entries, read_loader_conf
from mrtd.boot.newc import pad4
from mrtd.boot.recorder import utf16
from mrtd.boot.stub_versions import LoaderInfo, stub_row
from mrtd.boot.systemd_stub import measure_smbios
from mrtd.eventlog import EventType, InputName, Origin
from mrtd.registers import Sha384, Target

_LOADER_CONF: Final = "/loader/loader.conf"
# Drivers that it loads and starts first, which the firmware measures (drivers.c)
_DRIVERS: Final = "/EFI/systemd/drivers"
_DRIVER: Final = "x64.efi"
# Keys that it enrolls in a virtual machine without Secure Boot, and then restarts (secure-boot.c)
_KEYS: Final = "/loader/keys/auto"
_ANY: Final = (1, 4, 5, 7, 8, 9, 11, 12, 13, 14)
# Settings that choose no entry but by "default" (loader.conf(5) of v257)
_SETTINGS: Final = frozenset(
    {
        "default", "timeout", "console-mode", "editor", "auto-entries", "auto-firmware",
        "auto-poweroff", "auto-reboot", "beep", "secure-boot-enroll", "reboot-for-bitlocker",
        "random-seed-mode",
    }
)  # fmt: skip
_STORED: Final = "LoaderEntry"
"""How names of variables begin that choose an entry, before loader.conf (Boot Loader Interface)."""
_CONFIG_PCR: Final = 5
_PARAMETERS_PCR: Final = 12
_LOADER_CONF_TAG: Final = 0xF5BC582A
_MAX_CONF: Final = 1 << 20
_MAX_FILE: Final = 1 << 32
# All that an entry can change
_CHOICE: Final = (1, 4, 9, 11, 12, 13)


def start_systemd_boot(chain: Chain, image: Image, info: LoaderInfo) -> None:
    """What systemd-boot measures, and what it starts.

    Args:
        chain: the boot.
        image: systemd-boot.
        info: what it says of itself.

    Raises:
        InputError: an entry or what it starts is malformed.
    """
    row = stub_row(info.major)
    name = f"systemd-boot {info.version}"
    if row is None or image.files is None:
        chain.unknown((5, *_CHOICE), f"the rules of {name} are not known", name)
        return
    if odd := _does_more(chain, image.files):
        chain.unknown(_ANY, f"{name}: {odd}", name)
        return
    text = ""
    if image.files.exists(_LOADER_CONF):
        content = image.files.read(_LOADER_CONF, _MAX_CONF)
        text = content.decode("utf-8", "replace")
        chain.tagged(
            _CONFIG_PCR, _LOADER_CONF_TAG, content, text="loader.conf", label="loader.conf",
            origin=Origin(InputName.LOADER_CONFIG, _LOADER_CONF), through_cc=row.cc_tagged,
        )  # fmt: skip
    if row.measures_smbios:
        measure_smbios(chain, through_cc=row.cc_tagged)
    entries = read_entries(image.files)
    settings = read_loader_conf(text)
    undecided = "" if chain.entry else _chosen_elsewhere(chain, settings)
    chosen = undecided or choose(entries, chain.entry or settings.get("default", ""))
    chain.entry = None
    if isinstance(chosen, str):
        chain.unknown(_CHOICE, f"{name}: {chosen}", name)
        return
    _start_entry(chain, image, chosen, measured=chain.target is Target.TPM or row.cc)


def _does_more(chain: Chain, files: Files) -> str:
    """What it does before it looks for entries and is not derived; empty if nothing."""
    found = files.listdir(_DRIVERS) if files.exists(_DRIVERS) else ()
    if any(not e.directory and e.name.lower().endswith(_DRIVER) for e in found):
        return f"the drivers in {_DRIVERS}, which it starts, are not derived"
    if not chain.secure_boot and files.exists(_KEYS):
        return f"it may enroll the keys in {_KEYS} and restart, which is not derived"
    return ""


def _chosen_elsewhere(chain: Chain, settings: dict[str, str]) -> str:
    """What may choose another entry than loader.conf's default; empty if nothing."""
    odd = sorted(name for name in chain.machine.stored if name.startswith(_STORED))
    odd += sorted(f"{key!r} of loader.conf" for key in settings.keys() - _SETTINGS)
    odd += ["an extended boot loader partition (XBOOTLDR)"] if chain.extended else []
    if not odd:
        return ""
    return f"which entry it starts may depend on {', '.join(odd)}; set boot.entry to it"


def choose(entries: tuple[Entry, ...], wanted: str) -> Entry | str:
    """The entry that is started, or why that does not follow.

    Args:
        entries: every entry.
        wanted: a pattern of entry identifiers, from ``default`` or ``boot.entry``; empty if none.
    """
    if wanted:
        found = [e for e in entries if fnmatch.fnmatchcase(e.id.lower(), wanted.lower())]
    else:
        found = list(entries)
    if len(found) == 1:
        return found[0] if not found[0].counted else (
            f"entry {found[0].id!r} counts its boot attempts in its name, which each boot changes"
        )  # fmt: skip
    listed = ", ".join(repr(entry.id) for entry in found or entries)
    if not found:
        return f"no entry is named {wanted!r} (there are: {listed or 'none'})"
    how = f"is named {wanted!r}" if wanted else "is the default, as loader.conf names none"
    return f"more than one entry {how} ({listed}); set boot.entry to the one that is started"


def _start_entry(chain: Chain, loader: Image, entry: Entry, *, measured: bool) -> None:
    files = loader.files
    if files is None or not entry.path:
        chain.unknown(_CHOICE, f"entry {entry.id!r} names neither linux nor efi", entry.id)
        return
    if entry.unsupported:
        chain.unknown(_CHOICE, f"entry {entry.id!r}: {entry.unsupported} is not modelled", entry.id)
        return
    source = InputName.UKI if entry.unified else InputName.KERNEL
    image = Image(memoryview(files.read(entry.path, _MAX_FILE)), entry.path, files)
    chain.load_image(image.data, entry.path, source)
    names = " ".join("initrd=" + path.replace("/", "\\") for path in entry.initrds)
    options = " ".join(part for part in (names, entry.options) if part)
    if options and measured:
        chain.recorder.measure(
            _PARAMETERS_PCR, EventType.EV_IPL, utf16(options), options,
            Origin(InputName.LOADER_CONFIG, entry.source), data=utf16(options),
        )  # fmt: skip
    if not entry.linux:
        chain.start(image, options)
        return
    initrds = [files.read(path, _MAX_FILE) for path in entry.initrds]
    digest = Sha384.of(*map(pad4, initrds)) if len(initrds) > 1 else None
    if len(initrds) == 1:
        digest = Sha384.of(initrds[0])
    chain.start_kernel(
        image.data, options, digest, where=entry.path, cmdline_where=entry.source,
        initrd_where=", ".join(entry.initrds),
    )  # fmt: skip
