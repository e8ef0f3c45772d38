# SPDX-License-Identifier: GPL-2.0-or-later
"""PL011: the board's UART. Source: ARM DDI 0183G, chapter 3; QEMU's model where that leaves a choice.

Output leaves at once, so the transmit FIFO is always empty; and a character sent without enabling the UART
leaves too, as it does on QEMU, since small guests count on it. Input waits outside until the guest has enabled the
UART and its receiver, because switching the FIFO on would discard it; a guest that reads a character without ever
enabling the UART still gets it. There is no time here: a receive timeout, which on a wire comes 32 bit times after the
last character, has come as soon as characters wait below the trigger level.

The receive interrupts are those of a FIFO that passes a level, not of one that is above it: ICR clears them for good,
until a character arrives or one is read and others still wait.
"""

from __future__ import annotations

from collections import deque

from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.models.primecell import identification

DR = 0x00
RSR = 0x04
FR = 0x18
ILPR = 0x20
IBRD = 0x24
FBRD = 0x28
LCR_H = 0x2C
CR = 0x30
IFLS = 0x34
IMSC = 0x38
RIS = 0x3C
MIS = 0x40
ICR = 0x44
DMACR = 0x48

DR_OVERRUN = 1 << 11
RSR_OVERRUN = 1 << 3
FR_CTS = 1 << 0
FR_DSR = 1 << 1
FR_DCD = 1 << 2
FR_RXFE = 1 << 4
FR_RXFF = 1 << 6
FR_TXFE = 1 << 7
FR_RI = 1 << 8
LCR_FEN = 1 << 4
CR_UARTEN = 1 << 0
CR_LOOPBACK = 1 << 7
CR_TXE = 1 << 8
CR_RXE = 1 << 9
CR_DTR = 1 << 10
CR_RTS = 1 << 11
CR_OUT1 = 1 << 12
CR_OUT2 = 1 << 13
INT_RX = 1 << 4
INT_TX = 1 << 5
INT_RX_TIMEOUT = 1 << 6
INT_OVERRUN = 1 << 10

FIFO_DEPTH = 16
_RX_TRIGGERS = (2, 4, 8, 12, 14)  # characters, by IFLS[5:3]; the other values are reserved
_PERIPH_ID = bytes((0x11, 0x10, 0x14, 0x00))
# Registers that hold what is written: offset to the bits that exist.
_STORED = {ILPR: 0xFF, IBRD: 0xFFFF, FBRD: 0x3F, LCR_H: 0xFF, CR: 0xFF87, IFLS: 0x3F, IMSC: 0x7FF, DMACR: 0x7}
_AT_RESET = {CR: CR_TXE | CR_RXE, IFLS: 0x12}
# In loopback a modem output is what a modem input reads: CR's bit, FR's bit, and that of the interrupt for its change.
_MODEM = ((CR_OUT2, FR_RI, 1 << 0), (CR_RTS, FR_CTS, 1 << 1), (CR_OUT1, FR_DCD, 1 << 2), (CR_DTR, FR_DSR, 1 << 3))


class Pl011(Device):
    """A UART whose output goes to `wiring.console`, and whose input comes by `receive`."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__(wiring)
        self._stored = {offset: _AT_RESET.get(offset, 0) for offset in _STORED}
        self._fifo: deque[int] = deque()
        self._overrun = False  # as RSR has it, until the guest clears it
        self._overrun_unread = False  # as the next character of DR has it
        self._never_enabled = True
        self._looked_for = False  # without the UART having been enabled
        self._raw = 0
        self._line = False

    @property
    def listening(self) -> bool:
        """Whether characters from outside are received at all."""
        control = self._stored[CR]
        if not control & CR_RXE or control & CR_LOOPBACK:
            return False
        return bool(control & CR_UARTEN) or self._never_enabled and self._looked_for

    @property
    def opened(self) -> bool:
        """Whether a driver waits for input: a receive interrupt is enabled. A kernel that only prints enables none."""
        return bool(self._stored[IMSC] & (INT_RX | INT_RX_TIMEOUT))

    def receive(self, data: bytes) -> int:
        """Characters arrive from outside. Returns how many were taken: the rest did not fit, and the sender,
        which is not a wire, should offer it again after the guest has read."""
        if not self.listening:
            return 0
        taken = min(len(data), self._depth() - len(self._fifo))
        if taken > 0:
            self._fifo.extend(data[:taken])
            self._received()
        return max(taken, 0)

    def read(self, offset: int, size: int, cpu: int) -> int:
        if offset == FR:
            return self._flags()
        if offset == DR:
            return self._take()
        if offset in self._stored:
            return self._stored[offset]
        if offset == RIS:
            return self._raw
        if offset == MIS:
            return self._raw & self._stored[IMSC]
        if offset == RSR:
            return RSR_OVERRUN if self._overrun else 0
        word = identification(_PERIPH_ID, offset)
        return self.mistake() if word is None else word

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        if offset == DR:
            self._send(value & 0xFF)
        elif offset in self._stored:
            before, modem = self._stored[offset], self._modem()
            self._stored[offset] = value & _STORED[offset]
            if offset == LCR_H and (before ^ value) & LCR_FEN:
                self._fifo.clear()  # the FIFO is switched on or off: what waited is gone
                self._raw &= ~(INT_RX | INT_RX_TIMEOUT)  # or a handler would look for it forever
            if offset == CR:
                self._never_enabled = self._never_enabled and not value & CR_UARTEN
                changed = modem ^ self._modem()
                self._raw |= sum(interrupt for _, flag, interrupt in _MODEM if changed & flag)
            self._refresh()
        elif offset == ICR:
            self._raw &= ~value
            self._refresh()
        elif offset == RSR:
            self._overrun = False
        else:
            self.mistake()

    def _flags(self) -> int:
        waiting = len(self._fifo)
        self._looked_for = True
        receive = FR_RXFE if not waiting else FR_RXFF if waiting >= self._depth() else 0
        return FR_TXFE | receive | self._modem()

    def _modem(self) -> int:
        """FR's bits of the modem lines, to which nothing is connected but, in loopback, their own outputs."""
        control = self._stored[CR]
        if not control & CR_LOOPBACK:
            return 0
        return sum(flag for output, flag, _ in _MODEM if control & output)

    def _depth(self) -> int:
        return FIFO_DEPTH if self._stored[LCR_H] & LCR_FEN else 1

    def _trigger(self) -> int:
        """Number of waiting characters that raise the receive interrupt."""
        if not self._stored[LCR_H] & LCR_FEN:
            return 1
        return _RX_TRIGGERS[min(self._stored[IFLS] >> 3 & 0x7, len(_RX_TRIGGERS) - 1)]

    def _send(self, character: int) -> None:
        if self._stored[CR] & CR_LOOPBACK:
            if len(self._fifo) < self._depth():
                self._fifo.append(character)
                self._received()
            else:
                self._overrun = self._overrun_unread = True
                self._raw |= INT_OVERRUN
        else:
            self.wiring.console(bytes((character,)))
        self._raw |= INT_TX  # the transmitter went through its trigger level on the way to empty
        self._refresh()

    def _received(self) -> None:
        self._raw |= INT_RX if len(self._fifo) >= self._trigger() else INT_RX_TIMEOUT
        self._refresh()

    def _take(self) -> int:
        """A read of DR: the oldest character, and whether one has been lost since the last read."""
        character = self._fifo.popleft() if self._fifo else 0
        if self._overrun_unread:
            character |= DR_OVERRUN
            self._overrun_unread = False  # there is room again
        if len(self._fifo) < self._trigger():
            self._raw &= ~INT_RX
        if not self._fifo:
            self._raw &= ~INT_RX_TIMEOUT
        elif not self._raw & INT_RX:
            self._raw |= INT_RX_TIMEOUT
        self._refresh()
        return character

    def _refresh(self) -> None:
        level = bool(self._raw & self._stored[IMSC])
        if level != self._line:
            self._line = level
            self.wiring.irq(level)
