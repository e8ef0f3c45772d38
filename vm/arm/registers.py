# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of a vCPU by the names that operators and debuggers use."""

from __future__ import annotations

CORE = (*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "cpsr")
"""Of the current mode; the place is the engine's number."""

_BANKS = {
    0x10: ("usr", (13, 14)),
    0x11: ("fiq", (8, 9, 10, 11, 12, 13, 14, 16)),
    0x12: ("irq", (13, 14, 16)),
    0x13: ("svc", (13, 14, 16)),
    0x17: ("abt", (13, 14, 16)),
    0x1B: ("und", (13, 14, 16)),
}
_BANKED_NAMES = {13: "sp", 14: "lr", 16: "spsr"}

BANKED = {
    f"{_BANKED_NAMES.get(n, f'r{n}')}_{bank}": (mode, n) for mode, (bank, numbers) in _BANKS.items() for n in numbers
}
"""Name to mode and number, 16 for the SPSR."""

CP15 = {
    "sctlr": (1, 0, 0, 0),
    "ttbr0": (2, 0, 0, 0),
    "ttbr1": (2, 0, 0, 1),
    "ttbcr": (2, 0, 0, 2),
    "dacr": (3, 0, 0, 0),
    "dfsr": (5, 0, 0, 0),
    "ifsr": (5, 0, 0, 1),
    "dfar": (6, 0, 0, 0),
    "ifar": (6, 0, 0, 2),
    "vbar": (12, 0, 0, 0),
    "contextidr": (13, 0, 0, 1),
}
"""Name to CRn, CRm, opc1, opc2. ARM ARM (DDI 0406C), table B3-42."""

DOUBLES = tuple(f"d{n}" for n in range(32))
