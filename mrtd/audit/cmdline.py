"""What a kernel command line switches that an auditor wants to know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from mrtd.audit.findings import Finding
from mrtd.disk.verity_cmdline import parameters, verity_arguments

_INPUT: Final = "cmdline"
# Keys that are meant to come several times (kernel-parameters.txt, dracut.cmdline(7))
_REPEATED: Final = re.compile(
    r"console|earlycon|earlyprintk|ip|nameserver|vlan|bond|bridge|dm_mod\.waitfor|module_blacklist|"
    r"modprobe\.blacklist|rd\.driver\.(pre|post|blacklist)|rd\.luks\.(uuid|name|options|key)|"
    r"rd\.lvm\.(lv|vg)|luks\.(uuid|name|options|key)|systemd\.(mask|wants|setenv)|"
    r"systemd\.set_credential(_binary)?|hugepagesz?|memmap|trace_event|dyndbg|ipv6\..*|rd\.route|"
    r"systemd\.mount_extra|systemd\.swap_extra|vfio_pci\.ids"
)
# Key (with _ for -) and the values that count: None for any; a switch without a value has ""
_SWITCHES: Final[Mapping[str, tuple[tuple[str, str | None], ...]]] = MappingProxyType({
    "cmdline_init": (("init", None), ("rdinit", None)),
    "cmdline_shell": (
        ("rd.break", None), ("rd.shell", r"|1|yes|on|true"), ("rd.emergency", "halt.*|shell"),
        ("break", None), ("single", None), ("s", None), ("S", None), ("1", None),
        ("emergency", None), ("rescue", None), ("b", None), ("_b", None),
        ("systemd.unit", r"(rescue|emergency)\.target"),
        ("rd.systemd.unit", r"(rescue|emergency)\.target"),
        ("systemd.debug_shell", r"(?!0$|no$|off$|false$).*"),
        ("rd.systemd.debug_shell", r"(?!0$|no$|off$|false$).*"),
        ("systemd.crash_shell", r"(?!0$|no$|off$|false$).*"),
        ("SYSTEMD_SULOGIN_FORCE", None), ("systemd.setenv", "SYSTEMD_SULOGIN_FORCE=.*"),
    ),
    "cmdline_unit": (
        ("systemd.unit", r"(?!(rescue|emergency)\.target$).*"), ("systemd.wants", None),
        ("rd.systemd.unit", r"(?!(rescue|emergency)\.target$).*"), ("systemd.mask", None),
        ("systemd.run", None), ("systemd.setenv", "(?!SYSTEMD_SULOGIN_FORCE=).*"),
        ("rd.systemd.wants", None), ("rd.systemd.mask", None), ("systemd.mount_extra", None),
    ),
    "cmdline_modules": (
        ("module_blacklist", None), ("modprobe.blacklist", None), ("initcall_blacklist", None),
        ("rd.driver.blacklist", None),
    ),
    "cmdline_protection_off": (
        ("mitigations", "off"), ("nokaslr", None), ("nosmep", None), ("nosmap", None),
        ("nopti", None), ("pti", "off"), ("nospectre_v1", None), ("nospectre_v2", None),
        ("spectre_v2", "off"), ("selinux", "0"), ("enforcing", "0"), ("apparmor", "0"),
        ("audit", "0|off"), ("ima_appraise", "off|fix|log"), ("lockdown", "none"),
        ("module.sig_enforce", "0|n|N|off"), ("slab_nomerge", "0"), ("init_on_alloc", "0"),
        ("rodata", "off"), ("iomem", "relaxed"), ("sysrq_always_enabled", None),
    ),
    "cmdline_credential": (
        ("systemd.set_credential", None), ("systemd.set_credential_binary", None),
    ),
})  # fmt: skip
_SECRET: Final = re.compile(
    r"pass(word|wd|phrase)?|secret|token|api_?key|private_?key", re.IGNORECASE
)
_HARMLESS: Final = re.compile(r"(rd\.)?luks\..*|.*_?keymap|.*tokens?_?(file|path)|.*\.keytable")
_SERIAL: Final = re.compile(r"(ttyS|hvc|ttyAMA|uart)")
_SHOWN: Final = 80


def cmdline_findings(cmdline: str) -> Iterator[Finding]:
    """What is odd about a command line.

    Args:
        cmdline: as the kernel gets it.
    """
    given = parameters(cmdline)
    yield from _duplicates(given)
    for rule, rows in _SWITCHES.items():
        for key, value in given:
            if any(name == key and (pattern is None or re.fullmatch(pattern, value))
                   for name, pattern in rows):  # fmt: skip
                # what may be a secret is not repeated
                shown = key if rule == "cmdline_credential" else _shown(key, value)
                yield Finding(rule, _INPUT, shown)
    yield from _secrets(given)
    consoles = [value for key, value in given if key == "console" and _SERIAL.match(value)]
    if consoles:
        yield Finding("console_on_host", _INPUT, ", ".join(f"console={c[:40]}" for c in consoles))
    yield from _verity(cmdline)


def _secrets(given: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    for key, value in given:
        last = key.rpartition(".")[2]
        if value and _SECRET.search(last) and not _HARMLESS.fullmatch(key):
            yield Finding("cmdline_secret", _INPUT, f"{key[:_SHOWN]}=...")


def _verity(cmdline: str) -> Iterator[Finding]:
    for argument in verity_arguments(cmdline):
        if argument.problem is not None:
            yield Finding("verity_weakened", "rootfs", f"{argument.key}=: {argument.problem}")


def _duplicates(given: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    values: dict[str, list[str]] = {}
    for key, value in given:
        found = values.setdefault(key, [])
        if value not in found:
            found.append(value)
    for key, found in values.items():
        if len(found) > 1 and not _REPEATED.fullmatch(key):
            text = "; ".join(_shown(key, value) for value in found)
            yield Finding("cmdline_duplicate_key", _INPUT, text)


def _shown(key: str, value: str) -> str:
    text = f"{key}={value}" if value else key
    if _SECRET.search(key):
        text = f"{key}=..."
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
