# SPDX-License-Identifier: GPL-2.0-or-later
"""A RAM that is a device: every access to it is an exit. It takes any width at any offset."""

from __future__ import annotations

from allstop.devicesrv.device import Device, Wiring
from allstop.vm.board import RAMDEV_BYTES


class RamDevice(Device):
    """Little-endian memory, zero at first."""

    size_bytes = RAMDEV_BYTES
    widths = frozenset({1, 2, 4, 8})
    unaligned = True

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._bytes = bytearray(self.size_bytes)

    def read(self, offset: int, size: int, cpu: int) -> int:
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")
