# SPDX-License-Identifier: GPL-2.0-or-later
"""A mailbox: vCPUs leave words in it, and its interrupt stays up while one waits."""

from __future__ import annotations

from collections import deque

from allstop.devicesrv.device import Device, Wiring

DATA = 0x00  # write: leave a word; read: take the oldest, 0 if there is none
WAITING = 0x04  # read: how many words wait
SENDER = 0x08  # read: the vCPU that left the oldest
ENABLE = 0x0C  # bit 0: whether waiting words raise the interrupt
CAPACITY = 16


class Mailbox(Device):
    """Sixteen words, first in, first out."""

    widths = frozenset({4})

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._words: deque[tuple[int, int]] = deque()
        self._enable = 0

    def read(self, offset: int, size: int, cpu: int) -> int:
        if offset == WAITING:
            return len(self._words)
        if offset == ENABLE:
            return self._enable
        if offset == SENDER:
            return self._words[0][1] if self._words else 0
        if offset != DATA:
            return self.mistake()
        word = self._words.popleft()[0] if self._words else 0
        self._drive()
        return word

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        if offset == DATA and len(self._words) < CAPACITY:
            self._words.append((value, cpu))
            self.wiring.record("mail", {"sender": cpu, "word": value})
        elif offset == ENABLE:
            self._enable = value & 1
        else:
            self.mistake()
        self._drive()

    def _drive(self) -> None:
        self.wiring.irq(bool(self._enable and self._words))
