# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's registers for an operator to look at."""
from __future__ import annotations

import json

from vcpu_worker.engine import Vcpu

_CORE = (*(f"r{n}" for n in range(13)), "sp", "lr", "pc", "cpsr")
_BANKS = {0x10: ("usr", (13, 14)), 0x11: ("fiq", (8, 9, 10, 11, 12, 13, 14, 16)), 0x12: ("irq", (13, 14, 16)),
          0x13: ("svc", (13, 14, 16)), 0x17: ("abt", (13, 14, 16)), 0x1B: ("und", (13, 14, 16))}
_BANKED_NAMES = {13: "sp", 14: "lr", 16: "spsr"}
# Name: CRn, CRm, opc1, opc2. ARM ARM (DDI 0406C), table B3-42.
_CP15 = {"sctlr": (1, 0, 0, 0), "ttbr0": (2, 0, 0, 0), "ttbr1": (2, 0, 0, 1), "ttbcr": (2, 0, 0, 2),
         "dacr": (3, 0, 0, 0), "dfsr": (5, 0, 0, 0), "ifsr": (5, 0, 0, 1), "dfar": (6, 0, 0, 0), "ifar": (6, 0, 0, 2),
         "vbar": (12, 0, 0, 0), "contextidr": (13, 0, 0, 1)}


def read_registers(vcpu: Vcpu) -> bytes:
    """A JSON object, names to numbers: the current mode's, the banked ones (`spsr_irq`), and some of CP15's."""
    registers: dict[str, int] = dict(zip(_CORE, vcpu.core(), strict=True))
    for mode, (name, numbers) in _BANKS.items():
        for n in numbers:
            registers[f"{_BANKED_NAMES.get(n, f'r{n}')}_{name}"] = vcpu.banked(mode, n)
    for name, place in _CP15.items():
        registers[name] = vcpu.cp15(*place)
    return json.dumps(registers).encode()
