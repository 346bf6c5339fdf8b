"""A libvirt domain as the QEMU command line that libvirt makes of it.

Source: libvirt src/qemu/qemu_command.c (qemuBuildCommandLine, whose order this follows), compared
with ``virsh domxml-to-native`` of libvirt 9.0 and 12.8. Only what defines the machine is
translated; addresses and controllers are those in the XML, which ``virsh dumpxml`` prints in full.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from mrtd.launch.arguments import Argument, Influence, Treatment
from mrtd.launch.domain_tree import Node, read_domain_tree
from mrtd.launch.libvirt_devices import device_words
from mrtd.launch.libvirt_places import device_option
from mrtd.launch.libvirt_silent import SILENT
from mrtd.launch.options import escape

_UNITS: Final = {
    "b": 1, "bytes": 1, "KB": 10**3, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20,
    "MiB": 1 << 20, "GB": 10**9, "G": 1 << 30, "GiB": 1 << 30, "TB": 10**12, "T": 1 << 40,
    "TiB": 1 << 40,
}  # fmt: skip
# Switches of <features> that are machine properties, in libvirt's order.
_MACHINE_SWITCHES: Final = (("vmport", "vmport"), ("smm", "smm"), ("ps2", "i8042"))
_SMBIOS: Final = {"bios": "0", "system": "1", "baseBoard": "2", "chassis": "3", "oemStrings": "11"}
_BOOT_FILES: Final = {
    "kernel": "-kernel", "initrd": "-initrd", "cmdline": "-append", "dtb": "-dtb",
    "shim": "-shim",
}  # fmt: skip
_LOADER_HINT: Final = (
    "give what `virsh dumpxml` prints of the defined domain, or write <loader type='rom'>PATH"
    "</loader>"
)
_IRQCHIPS: Final = {"qemu": "split", "kvm": "on"}


def domain_words(data: bytes, *, origin: str) -> tuple[tuple[str, ...], tuple[Argument, ...]]:
    """The QEMU words of a domain, and what became of each part of it that is not in them.

    Args:
        data: what ``virsh dumpxml`` prints.
        origin: its file.

    Raises:
        SpecError: not such a document, no x86 KVM machine, or a part that no TD can have.
    """
    domain = read_domain_tree(data, origin=origin)
    domain.visited = True

    if domain.get("type") not in {"kvm", "qemu"}:
        raise domain.fail(f"{domain.get('type')!r} is not run by QEMU", "domain@type")
    words = [*_machine(domain), *_cpu(domain), *_memory(domain), *_smp(domain)]
    words += [*_smbios(domain), *_power(domain), *_boot(domain), *_security(domain)]
    words += device_words(domain)
    words += [arg.get("value") for line in domain.all("qemu:commandline")
              for arg in line.all("qemu:arg")]  # fmt: skip
    return tuple(words), tuple(_left(domain))


def _machine(domain: Node) -> Iterator[str]:
    yield from ("-nodefaults", "-no-user-config")
    kind = domain.child("os").child("type")
    if kind.get("arch", "x86_64") != "x86_64" or kind.text != "hvm":
        raise kind.fail("is no x86_64 virtual machine")
    features = domain.child("features")
    options = [kind.get("machine", "q35"), "usb=off"]
    options += [
        f"{option}={features.child(element).get('state', 'on')}"
        for element, option in _MACHINE_SWITCHES
        if features.has(element)
    ]
    if (driver := features.child("ioapic").get("driver")) in _IRQCHIPS:
        options.append(f"kernel_irqchip={_IRQCHIPS[driver]}")
    for timer in domain.child("clock").all("timer"):
        if timer.get("name") == "hpet" and (present := timer.get("present")):
            options.append(f"hpet={'on' if present == 'yes' else 'off'}")
    options.append(f"acpi={'on' if features.has('acpi') else 'off'}")
    yield from ("-machine", ",".join(options))
    if size := list(features.child("smm").all("tseg")):
        yield from ("-global", f"mch.extended-tseg-mbytes={_scaled(size[0], 'MiB') >> 20}")


def _cpu(domain: Node) -> Iterator[str]:
    cpu, features = domain.child("cpu"), domain.child("features")
    mode = cpu.get("mode", "custom")
    if mode == "custom":
        model = cpu.child("model").text or "qemu64"
    elif mode in {"host-passthrough", "maximum"}:
        model = {"host-passthrough": "host", "maximum": "max"}[mode]
        if migratable := cpu.get("migratable"):
            model += f",migratable={migratable}"
    else:
        raise cpu.fail(
            f"mode {mode!r} is whatever the host makes of it", "@mode",
            hint="TDs run with mode='host-passthrough'; `virsh domxml-to-native qemu-argv` on the "
            "host shows the model, for --qemu-cmdline",
        )  # fmt: skip
    parts = [escape(model)] if mode == "custom" else [model]
    for feature in cpu.all("feature"):
        on = feature.get("policy", "require") in {"require", "force"}
        parts.append(f"{escape(feature.get('name'))}={'on' if on else 'off'}")
    if features.has("pmu") and (state := features.child("pmu").get("state", "on")):
        parts.append(f"pmu={state}")
    width = cpu.child("maxphysaddr")
    if width.get("mode") == "emulate":
        parts.append(f"phys-bits={width.number('bits')}")
    elif width.get("limit"):
        parts += ["host-phys-bits=on", f"host-phys-bits-limit={width.number('limit')}"]
    yield from ("-cpu", ",".join(parts))


def _memory(domain: Node) -> Iterator[str]:
    size = f"size={_scaled(domain.child('memory'), 'KiB') >> 10}k"
    if domain.has("maxMemory"):
        largest = domain.child("maxMemory")
        most = _scaled(largest, "KiB") >> 10
        size += f",slots={largest.number('slots')},maxmem={most}k"
    yield from ("-m", size)


def _scaled(size: Node, unit: str) -> int:
    """Bytes of a size with its ``unit`` attribute."""
    unit = size.get("unit", unit)
    if unit not in _UNITS:
        raise size.fail(f"{unit!r} is no unit", "@unit")
    return size.number_text() * _UNITS[unit]


def _smp(domain: Node) -> Iterator[str]:
    vcpu, cpu = domain.child("vcpu"), domain.child("cpu")
    most = vcpu.number_text(1)
    topology = cpu.child("topology")
    shape = {
        name: topology.number(name) for name in ("sockets", "dies", "clusters", "cores", "threads")
        if topology.get(name)
    } or {"sockets": most, "cores": 1, "threads": 1}  # fmt: skip
    parts = [str(vcpu.number("current", most)), f"maxcpus={most}"]
    yield from ("-smp", ",".join([*parts, *(f"{name}={n}" for name, n in shape.items())]))
    for cell in cpu.child("numa").all("cell"):
        yield from ("-numa", f"node,nodeid={cell.number('id')},cpus={escape(cell.get('cpus'))}")


def _smbios(domain: Node) -> Iterator[str]:
    mode = domain.child("os").child("smbios").get("mode")
    for info in domain.all("sysinfo"):
        if info.get("type") == "fwcfg":
            yield from _fw_cfg(info)
        elif mode == "sysinfo":
            yield from _sysinfo(info)
    if mode == "host":
        yield from ("-smbios", "file=the host's own SMBIOS tables")
    if domain.has("genid"):
        yield from device_option("vmgenid", {"guid": domain.child("genid").text})


def _fw_cfg(info: Node) -> Iterator[str]:
    for entry in info.all("entry"):
        file = entry.get("file")
        value = f"file={escape(file)}" if file else f"string={escape(entry.text)}"
        yield from ("-fw_cfg", f"name={escape(entry.get('name'))},{value}")


def _sysinfo(info: Node) -> Iterator[str]:
    for part in info.children:
        part.visited = True
        if part.tag not in _SMBIOS:
            raise part.fail("is no part of SMBIOS that QEMU takes")
        fields = [f"{e.get('name') or 'value'}={escape(e.text)}" for e in part.all("entry")]
        yield from ("-smbios", ",".join([f"type={_SMBIOS[part.tag]}", *fields]))


def _power(domain: Node) -> Iterator[str]:
    for element, option in (("suspend-to-mem", "s3"), ("suspend-to-disk", "s4")):
        if enabled := domain.child("pm").child(element).get("enabled"):
            yield from ("-global", f"ICH9-LPC.disable_{option}={int(enabled == 'no')}")


def _boot(domain: Node) -> Iterator[str]:
    system = domain.child("os")
    yield from _firmware(system)
    menu, options = system.child("bootmenu"), []
    if enable := menu.get("enable"):
        options.append(f"menu={'on' if enable == 'yes' else 'off'}")
    if timeout := menu.get("timeout"):
        options.append(f"splash-time={timeout}")
    if timeout := system.child("bios").get("rebootTimeout"):
        options.append(f"reboot-timeout={timeout}")
    yield from ("-boot", ",".join([*options, "strict=on"]))
    for element, option in _BOOT_FILES.items():
        if system.has(element) and (text := system.child(element).text):
            yield from (option, text)


def _firmware(system: Node) -> Iterator[str]:
    loader = system.child("loader")
    if system.get("firmware") and not loader.text:
        raise system.fail("the host chooses the firmware", "@firmware", hint=_LOADER_HINT)
    if (kind := loader.get("type", "rom")) != "rom":
        raise loader.fail(
            f"type {kind!r}: a TD's firmware is memory that is measured, not flash",
            "@type",
            hint="<loader type='rom'>, without <nvram>",
        )
    if loader.text:
        yield from ("-bios", loader.text)


def _security(domain: Node) -> Iterator[str]:
    if not domain.has("launchSecurity"):
        return
    security = domain.child("launchSecurity")
    if (kind := security.get("type")) != "tdx":
        raise security.fail(f"{kind!r} is not Intel TDX", "@type")
    guest: dict[str, object] = {"qom-type": "tdx-guest", "id": "lsec0"}
    if security.has("policy"):
        guest["attributes"] = security.child("policy").number_text()
    for element, name in (("mrConfigId", "mrconfigid"), ("mrOwner", "mrowner"),
                          ("mrOwnerConfig", "mrownerconfig")):  # fmt: skip
        if security.has(element):
            guest[name] = security.child(element).text
    yield from ("-object", json.dumps(guest))


def _left(domain: Node) -> Iterator[Argument]:
    """What was not translated: known to be without influence, or a warning."""
    for path in dict.fromkeys(domain.unread()):
        for pattern, reason in SILENT:
            if fnmatchcase(path, pattern):
                yield Argument(path, Treatment.NO_INFLUENCE, Influence.NONE, reason)
                break
        else:
            yield Argument(
                path, Treatment.WARNING, Influence.ACPI,
                "this reader does not know what QEMU makes of it", "domain_part_unknown",
            )  # fmt: skip
