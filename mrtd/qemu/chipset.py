"""What the firmware does to the chipset and to PCI before it reads the ACPI tables.

QEMU builds the tables when they are first read, from what the registers hold at that moment; a dump
must write the same values first. Of the PCI resources only the 64-bit ones on the root bus show:
the root's _CRS begins at the lowest of them and ends after the highest (QEMU hw/pci-host/q35.c).
The rules are those of edk2 MdeModulePkg/Bus/Pci/PciBusDxe and OvmfPkg/PciHotPlugInitDxe,
established by comparing with booted firmware.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mrtd.errors import ToolFailed
from mrtd.qemu.pci import Window, hotplug_reserve, power_of_two
from mrtd.qemu.qtest import Qtest

_ADDRESS: Final = 0xCF8
_DATA: Final = 0xCFC
_PCIEXBAR: Final = 0x60  # host bridge 00:00.0 (Intel 3 Series datasheet, 5.1.17)
_PMBASE: Final = 0x40  # LPC bridge 00:1f.0 (Intel ICH9 datasheet, 13.1.13)
_ACPI_CNTL: Final = 0x44
_PM_BASE: Final = 0x600  # ICH9_PMBASE_VALUE in edk2 OvmfPkg
# PCI Local Bus Specification 3.0, 6.1 and 6.2.5; PCI-to-PCI Bridge Architecture 1.2, 3.2
_COMMAND: Final = 0x04
_MEMORY_ENABLE: Final = 2
_HEADER: Final = 0x0C
_BAR0: Final = 0x10
_BUSES: Final = 0x18
_PREFETCH: Final = 0x24
_PREFETCH_HIGH: Final = 0x28
_CAPABILITIES: Final = 0x34
_MIB: Final = 1 << 20
# Capability IDs
_VENDOR: Final = 0x09
_SHPC: Final = 0x0C
_EXPRESS: Final = 0x10
_HOTPLUG_SLOT: Final = 0x60  # Slot Capabilities: Hot-Plug Surprise, Hot-Plug Capable
_MAX_BUSES: Final = 255


@dataclass(frozen=True, slots=True)
class Region:
    """A 64-bit memory resource: a BAR, or a bridge's prefetchable window.

    Attributes:
        function: where it is set: bus << 8 | device << 3 | function.
        register: configuration space offset of the BAR, or 0x24 for a bridge's window.
        size: bytes.
        alignment: bytes.
    """

    function: int
    register: int
    size: int
    alignment: int


@dataclass(frozen=True, slots=True)
class _Bar:
    register: int
    prefetchable: bool
    size: int


class Pci:
    """PCI of a stopped q35 machine, through ports 0xCF8 and 0xCFC. Raises `ToolFailed`."""

    def __init__(self, qtest: Qtest) -> None:
        self._qtest = qtest
        self._buses = 0

    def set_chipset(self, ecam_base: int) -> None:
        """Place configuration space and the power management ports as the firmware does."""
        self.write(0, _PCIEXBAR + 4, ecam_base >> 32)
        self.write(0, _PCIEXBAR, ecam_base & 0xFFFFFFFF | 1)
        self.write(0x1F << 3, _PMBASE, _PM_BASE)
        self._select(0x1F << 3, _ACPI_CNTL)
        self._qtest.outb(_DATA, 0x80)

    def place_window(self, window: Window | None) -> None:
        """Put the 64-bit resources of the root bus into the window, largest alignment first."""
        regions = self._regions64(0, hotplug_reserve(window))
        if window is None:
            return
        address = window.base
        for region in sorted(regions, key=lambda region: region.alignment, reverse=True):
            address = _up(address, region.alignment)
            self._place(region, address)
            address += region.size
        if address > window.base + window.size:
            raise ToolFailed(
                f"64-bit PCI resources of {address - window.base:#x} bytes do not fit the window"
                f" of {window.size:#x}",
                origin="launch spec",
                field="machine.devices",
                hint="raise machine.phys_bits, or give acpi.tables",
            )

    def functions(self, bus: int = 0) -> Iterator[int]:
        """Every function on a bus, as bus << 8 | device << 3 | function."""
        for device in range(32):
            for number in range(8):
                function = bus << 8 | device << 3 | number
                absent = self.read(function, 0) & 0xFFFF == 0xFFFF
                if not absent:
                    yield function
                if number == 0 and (absent or not self.read(function, _HEADER) >> 23 & 1):
                    break

    def read(self, function: int, register: int) -> int:
        """32 bits of configuration space."""
        self._select(function, register)
        return self._qtest.inl(_DATA)

    def write(self, function: int, register: int, value: int) -> None:
        """Write 32 bits of configuration space."""
        self._select(function, register)
        self._qtest.outl(_DATA, value)

    def _regions64(self, bus: int, reserve: int) -> list[Region]:
        """What asks for 64-bit addresses on a bus.

        Above 4 GiB a bridge passes on prefetchable memory only (DegradeResource).
        """
        found: list[Region] = []
        for function in list(self.functions(bus)):
            is_bridge = self.read(function, _HEADER) >> 16 & 0x7F == 1
            found += [
                Region(function, bar.register, bar.size, bar.size)
                for bar in self._bars64(function, 2 if is_bridge else 6)
                if bar.prefetchable or bus == 0
            ]
            if is_bridge:
                found += self._behind(function, reserve)
        return found

    def _behind(self, bridge: int, reserve: int) -> list[Region]:
        """The prefetchable window of a bridge, if it needs one above 4 GiB."""
        self._buses += 1
        if self._buses > _MAX_BUSES:
            raise ToolFailed("more than 255 PCI buses", origin="QEMU")
        bus = self._buses
        self.write(bridge, _BUSES, bridge >> 8 | bus << 8 | 0xFF << 16)
        behind = self._regions64(bus, reserve)
        self.write(bridge, _BUSES, bridge >> 8 | bus << 8 | self._buses << 16)
        end = 0
        for region in sorted(behind, key=lambda region: region.alignment, reverse=True):
            end = _up(end, region.alignment) + region.size
        padding = self._padding(bridge, reserve)
        if self.read(bridge, _PREFETCH) & 0xF != 1:  # the window has no upper half
            return []
        size = _up(max(end, padding), _MIB)
        alignment = max([_MIB, padding, *(region.alignment for region in behind)])
        return [Region(bridge, _PREFETCH, size, alignment)] if size else []

    def _padding(self, bridge: int, reserve: int) -> int:
        """Bytes that are set aside for hotplug behind a bridge (GetResourcePadding).

        QEMU's resource reservation capability (docs/pcie_pci_bridge.txt) goes before the default.
        """
        hotplug = False
        for offset, name in self._capabilities(bridge):
            head = self.read(bridge, offset)
            if name == _EXPRESS:
                hotplug |= bool(head >> 24 & 1 and self.read(bridge, offset + 0x14) & _HOTPLUG_SLOT)
            elif name == _SHPC:
                hotplug = True
            elif name == _VENDOR and head >> 24 == 1 and head >> 16 & 0xFF >= 32:
                low = self.read(bridge, offset + 20)
                high = self.read(bridge, offset + 24) | self.read(bridge, offset + 28) << 32
                if 0 < low < (1 << 32) - 1:
                    reserve = 0
                elif 0 < high < (1 << 64) - 1:
                    reserve = power_of_two(high)
        return reserve if hotplug else 0

    def _capabilities(self, function: int) -> Iterator[tuple[int, int]]:
        """Offset and ID of each capability; a list that runs in circles ends."""
        offset = self.read(function, _CAPABILITIES) & 0xFC
        for _ in range(48):
            if not offset:
                return
            head = self.read(function, offset)
            yield offset, head & 0xFF
            offset = head >> 8 & 0xFC

    def _bars64(self, function: int, count: int) -> Iterator[_Bar]:
        index = 0
        while index < count - 1:
            register = _BAR0 + 4 * index
            low = self.read(function, register)
            index += 1
            if low & 7 == 4:
                index += 1
                yield _Bar(register, bool(low & 8), self._size64(function, register))

    def _size64(self, function: int, register: int) -> int:
        """Size of a BAR: the lowest address bit that can be written (PCI 3.0, 6.2.5.1)."""
        mask = 0
        for part in (0, 4):
            old = self.read(function, register + part)
            self.write(function, register + part, 0xFFFFFFFF)
            mask |= self.read(function, register + part) << 8 * part
            self.write(function, register + part, old)
        mask &= ~0xF
        return mask & -mask

    def _place(self, region: Region, address: int) -> None:
        if region.register == _PREFETCH:
            last = address + region.size - 1
            both = (last >> 16 & 0xFFF0 | 1) << 16 | address >> 16 & 0xFFF0 | 1
            self.write(region.function, _PREFETCH, both)
            self.write(region.function, _PREFETCH_HIGH, address >> 32)
            self.write(region.function, _PREFETCH_HIGH + 4, last >> 32)
        else:
            self.write(region.function, region.register, address & 0xFFFFFFFF)
            self.write(region.function, region.register + 4, address >> 32)
        command = self.read(region.function, _COMMAND) & 0xFFFF
        self.write(region.function, _COMMAND, command | _MEMORY_ENABLE)

    def _select(self, function: int, register: int) -> None:
        self._qtest.outl(_ADDRESS, 1 << 31 | function << 8 | register & ~3)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
