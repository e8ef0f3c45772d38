# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's registers by name, for operators and debuggers."""

from __future__ import annotations

import json

from allstop.vcpu_worker.engine import Vcpu
from allstop.vm.arm.registers import BANKED, CORE, CP15, DOUBLES


def read_registers(vcpu: Vcpu) -> bytes:
    """A JSON object, names to numbers: the current mode's, the banked ones (`spsr_irq`), and some of CP15's."""
    return json.dumps(_read(vcpu)).encode()


def read_all_registers(vcpu: Vcpu) -> bytes:
    """The same, with `fpscr` and VFP's `d0` to `d31`."""
    registers = _read(vcpu)
    registers["fpscr"] = vcpu.fpscr()
    for n, name in enumerate(DOUBLES):
        registers[name] = vcpu.d(n)
    return json.dumps(registers).encode()


def write_register(vcpu: Vcpu, name: str, value: int) -> bool:
    """Change the register of this name; False when there is none. After a change of CP15 the caller flushes the TLB."""
    if name in CORE:
        vcpu.set_core(CORE.index(name), value & 0xFFFFFFFF)
    elif name in BANKED:
        vcpu.banked(*BANKED[name], value & 0xFFFFFFFF)
    elif name in CP15:
        vcpu.cp15(*CP15[name], False, value & 0xFFFFFFFF)
    elif name in DOUBLES:
        vcpu.set_d(DOUBLES.index(name), value)
    elif name == "fpscr":
        vcpu.fpscr(value & 0xFFFFFFFF)
    else:
        return False
    return True


def _read(vcpu: Vcpu) -> dict[str, int]:
    registers: dict[str, int] = dict(zip(CORE, vcpu.core(), strict=True))
    for name, (mode, n) in BANKED.items():
        registers[name] = vcpu.banked(mode, n)
    for name, place in CP15.items():
        registers[name] = vcpu.cp15(*place)
    return registers
