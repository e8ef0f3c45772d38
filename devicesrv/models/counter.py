# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that counts and logs its accesses, to show an access that was performed twice or not at all."""

from __future__ import annotations

from allstop.devicesrv.device import Device, Wiring

RESET = 0xFFC


class CounterDevice(Device):
    """Each access counts one, whatever its offset, width and direction.

    A read gives the number of accesses before it. A write at 0xffc sets the count to zero and is not counted.
    Each access, that one too, is a line in accesses.jsonl: its count, vCPU, offset, size, direction and
    value.
    """

    widths = frozenset({1, 2, 4, 8})
    unaligned = True

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._count = 0

    def read(self, offset: int, size: int, cpu: int) -> int:
        value = self._count
        self._log(offset, size, False, value, cpu)
        self._count += 1
        return value

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self._log(offset, size, True, value, cpu)
        self._count = 0 if offset == RESET else self._count + 1

    def _log(self, offset: int, size: int, is_write: bool, value: int, cpu: int) -> None:
        self.wiring.record(
            "accesses",
            {"count": self._count, "vcpu": cpu, "offset": offset, "size": size, "write": is_write, "value": value},
        )
