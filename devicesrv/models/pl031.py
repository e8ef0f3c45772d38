# SPDX-License-Identifier: GPL-2.0-or-later
"""PL031: the board's real-time clock. Source: ARM DDI 0224C, chapter 3.

The alarm is compared whenever the guest accesses the clock and when `tick` is called; `due_s` says when that should
be.
"""

from __future__ import annotations

from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.models.primecell import identification

DR = 0x00
MR = 0x04
LR = 0x08
CR = 0x0C
IMSC = 0x10
RIS = 0x14
MIS = 0x18
ICR = 0x1C

_MASK = 0xFFFF_FFFF
_PERIPH_ID = bytes((0x31, 0x10, 0x14, 0x00))  # revision 1, as QEMU, for test suites that compare it all


class Pl031(Device):
    """Seconds since 1970 until the guest loads something else, and one alarm.

    due_s   the second of `wiring.clock_s` with which the alarm interrupts; None while it cannot
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._offset_s = 0  # what the guest's clock is ahead of ours
        self._load = 0
        self._match = 0
        self._mask = 0
        self._raw = 0
        self._line = False
        self._seen_s = self._now_s()
        self.due_s: int | None = None

    def tick(self) -> None:
        """Time has passed: raise the alarm if the clock has come to it."""
        now_s = self._now_s()
        passed_s = now_s - self._seen_s & _MASK
        if passed_s and 0 < (self._match - self._seen_s & _MASK) <= passed_s < 1 << 31:
            self._raw = 1
        self._seen_s = now_s
        if passed_s:
            self._refresh()

    def read(self, offset: int, size: int, cpu: int) -> int:
        self.tick()
        if offset == DR:
            return self._now_s()
        if offset == MR:
            return self._match
        if offset == LR:
            return self._load
        if offset == CR:
            return 1  # it always runs
        if offset == IMSC:
            return self._mask
        if offset == RIS:
            return self._raw
        if offset == MIS:
            return self._raw & self._mask
        word = identification(_PERIPH_ID, offset)
        return self.mistake() if word is None else word

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self.tick()
        if offset == MR:
            self._match = value
            if value == self._now_s():
                self._raw = 1
        elif offset == LR:
            self._load = value
            self._offset_s += value - self._now_s()
            self._seen_s = value
            if value == self._match:
                self._raw = 1
        elif offset == IMSC:
            self._mask = value & 1
        elif offset == ICR:
            self._raw &= ~value & 1
        elif offset != CR:  # CR is there to start the clock, which runs
            self.mistake()
        self._refresh()

    def _now_s(self) -> int:
        return self.wiring.clock_s() + self._offset_s & _MASK

    def _refresh(self) -> None:
        level = bool(self._raw & self._mask)
        if level != self._line:
            self._line = level
            self.wiring.irq(level)
        left_s = self._match - self._now_s() & _MASK
        self.due_s = self.wiring.clock_s() + left_s if self._mask and not self._raw and left_s else None
