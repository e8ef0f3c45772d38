# SPDX-License-Identifier: GPL-2.0-or-later
"""The bus: which device answers at an intermediate physical address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from allstop.devicesrv.device import PAGE_BYTES, Device

WIDTHS = (1, 2, 4, 8)
_PAGE_SHIFT = PAGE_BYTES.bit_length() - 1
_MASKS = {size: (1 << 8 * size) - 1 for size in WIDTHS}


# The bus calls it after each access: vCPU, ipa, size, is_write, value written or read, whether no device was there.
Witness: TypeAlias = Callable[[int, int, int, bool, int, bool], object]


class BusError(ValueError):
    """A device cannot be attached where it was asked to be; the text says why."""


class Region:
    """One device's place on the bus."""

    __slots__ = ("alignment", "device", "end", "ipa", "name")

    def __init__(self, ipa: int, device: Device) -> None:
        self.ipa = ipa
        self.end = ipa + device.size_bytes
        self.device = device
        self.name = f"{type(device).__name__} at 0x{ipa:08x}"
        # For each width that is taken, the offset bits which must be zero.
        self.alignment = {size: 0 if device.unaligned else size - 1 for size in device.widths}


def _look_away(*access: object) -> None:
    """The default witness."""


class Bus:
    """Devices in ranges that do not overlap.

    Ranges begin and end on pages, because an access reaches the bus through a page that stage 2 does not map.
    `unassigned` counts accesses that no device answered. `witness` sees what was performed, in order: the MMIO oracle
    learns of an access here and nowhere else, however the request for it came.
    """

    def __init__(self) -> None:
        self.witness: Witness = _look_away
        self.unassigned = 0
        self._regions: list[Region] = []
        self._pages: dict[int, Region] = {}  # pages that were accessed, so that a lookup is one probe

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def attach(self, ipa: int, device: Device) -> Region:
        """Put `device` at `ipa`. Raises BusError if it is not on page borders or overlaps another."""
        new = Region(ipa, device)
        if device.size_bytes <= 0 or ipa % PAGE_BYTES or device.size_bytes % PAGE_BYTES:
            raise BusError(f"{new.name} must begin at, and its size_bytes be, a multiple of 0x{PAGE_BYTES:x}")
        for other in self._regions:
            if ipa < other.end and other.ipa < new.end:
                raise BusError(
                    f"{new.name} (0x{device.size_bytes:x} bytes) overlaps {other.name} "
                    f"(0x{other.device.size_bytes:x} bytes)"
                )
        self._regions.append(new)
        return new

    def find(self, ipa: int) -> Region | None:
        """The region that holds `ipa`, or None."""
        for region in self._regions:
            if region.ipa <= ipa < region.end:
                self._pages[ipa >> _PAGE_SHIFT] = region
                return region
        return None

    def access(self, ipa: int, size: int, is_write: bool, value: int, cpu: int) -> int | None:
        """Perform one access: the value read, 0 for a write, None where no device is.

        `size` is 1, 2, 4 or 8. An access in a device's window of a width or alignment that the device does
        not take is a guest's mistake: it reads as zero, a write is ignored, and the device's count goes up.
        A device's exception passes through.
        """
        answer = self._perform(ipa, size, is_write, value, cpu)
        self.witness(cpu, ipa, size, is_write, value if is_write else answer or 0, answer is None)
        return answer

    def _perform(self, ipa: int, size: int, is_write: bool, value: int, cpu: int) -> int | None:
        region = self._pages.get(ipa >> _PAGE_SHIFT) or self.find(ipa)
        if region is None or ipa + size > region.end:
            self.unassigned += 1
            return None
        offset = ipa - region.ipa
        must_be_zero = region.alignment.get(size)
        if must_be_zero is None:
            if size == 8 and 4 in region.alignment:
                low = self._perform(ipa, 4, is_write, value & _MASKS[4], cpu)
                high = self._perform(ipa + 4, 4, is_write, value >> 32, cpu)
                return low | high << 32  # type: ignore[operator]  # both are inside the region: not None
            return region.device.mistake()
        if offset & must_be_zero:
            return region.device.mistake()
        if is_write:
            region.device.write(offset, size, value & _MASKS[size], cpu)
            return 0
        return region.device.read(offset, size, cpu) & _MASKS[size]
