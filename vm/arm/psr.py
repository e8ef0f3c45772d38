# SPDX-License-Identifier: GPL-2.0-or-later
"""The program status register: its fields, the modes, and the state of an IT block.

Source: ARM DDI 0406C (ARMv7-A/R), sections B1.3.3 "Program Status Registers" and A2.5.2 "ITSTATE".
"""

from __future__ import annotations

from enum import IntEnum

N = 1 << 31
Z = 1 << 30
C = 1 << 29
V = 1 << 28
Q = 1 << 27
J = 1 << 24
E = 1 << 9
A = 1 << 8
I = 1 << 7  # noqa: E741  (the architecture's name)
F = 1 << 6
T = 1 << 5
MODE = 0x1F
ITSTATE = 0x0600FC00
RESERVED = 0x00F00000
"""Bits that read as zero: no write of the register, exception returns included, sets them."""

ALWAYS = 14
"""The condition AL."""


class Mode(IntEnum):
    """Processor modes, by their encoding in CPSR[4:0]."""

    USER = 0x10
    FIQ = 0x11
    IRQ = 0x12
    SUPERVISOR = 0x13
    MONITOR = 0x16
    ABORT = 0x17
    HYP = 0x1A
    UNDEFINED = 0x1B
    SYSTEM = 0x1F


GUEST_MODES = frozenset(Mode) - {Mode.MONITOR, Mode.HYP}
"""The modes of a guest: PL0 and PL1, non-secure."""

USER_BANK = frozenset({Mode.USER, Mode.SYSTEM})
"""The modes whose own registers are the User-mode ones."""


def mode(cpsr: int) -> int:
    """CPSR[4:0]; a `Mode` where it is a valid one."""
    return cpsr & MODE


def privileged(cpsr: int) -> bool:
    """Whether accesses are made at PL1 or higher: in every mode but User."""
    return cpsr & MODE != Mode.USER


def banked_from_user(cpsr: int, register: int) -> bool:
    """Whether the current mode's r`register` (0..14) is another one than User mode's."""
    current = cpsr & MODE
    if current in USER_BANK:
        return False
    if register == 13:
        return True
    if register == 14:
        return current != Mode.HYP  # Hyp mode uses User mode's LR
    return current == Mode.FIQ and register >= 8


def itstate(cpsr: int) -> int:
    """The eight ITSTATE bits: IT[7:2] are CPSR[15:10], IT[1:0] are CPSR[26:25]."""
    return cpsr >> 8 & 0xFC | cpsr >> 25 & 3


def with_itstate(cpsr: int, state: int) -> int:
    """`cpsr` with the eight ITSTATE bits replaced by `state`."""
    return cpsr & ~ITSTATE | (state & 0xFC) << 8 | (state & 3) << 25


def advance_itstate(cpsr: int) -> int:
    """`cpsr` after one Thumb instruction has retired (the architecture's ITAdvance)."""
    if not cpsr & ITSTATE:
        return cpsr
    state = itstate(cpsr)
    return with_itstate(cpsr, state & 0xE0 | state << 1 & 0x1F if state & 7 else 0)


def current_condition(cpsr: int) -> int:
    """The condition that ITSTATE puts on the current Thumb instruction; `ALWAYS` outside an IT block."""
    state = itstate(cpsr)
    return state >> 4 if state & 0xF else ALWAYS


def condition_passed(condition: int, cpsr: int) -> bool:
    """Whether a condition field (0..15) holds for the flags of `cpsr`; 14 and 15 always do."""
    n, z, c, v = cpsr & N != 0, cpsr & Z != 0, cpsr & C != 0, cpsr & V != 0
    match condition >> 1:
        case 0:
            holds = z
        case 1:
            holds = c
        case 2:
            holds = n
        case 3:
            holds = v
        case 4:
            holds = c and not z
        case 5:
            holds = n == v
        case 6:
            holds = n == v and not z
        case _:
            return True
    return not holds if condition & 1 else holds
