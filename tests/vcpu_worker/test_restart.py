# SPDX-License-Identifier: GPL-2.0-or-later
"""An instruction that faults in its second half can be started again: its first half overwrites nothing it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EXIT_NISV, Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

VA = 0x1230_0000
EDGE = VA + 4096
HVC = 0xE1400070  # hvc #0
THUMB_HVC = 0xF7E08000  # hvc #0

LOADS = [  # thumb, word, base, offset, registers loaded
    (False, 0xE1C000D0, 0, 0, (0, 1)),  # ldrd r0, r1, [r0]
    (False, 0xE14000D8, 0, -8, (0, 1)),  # ldrd r0, r1, [r0, #-8]
    (False, 0xE18220D4, 2, 0x40, (2, 3)),  # ldrd r2, r3, [r2, r4]
    (False, 0xE10220D4, 2, -0x40, (2, 3)),  # ldrd r2, r3, [r2, -r4]
    (False, 0xE1C320D0, 3, 0, (2, 3)),  # ldrd r2, r3, [r3]
    (True, 0xE9D00100, 0, 0, (0, 1)),  # ldrd r0, r1, [r0]
    (True, 0xE9555102, 5, -8, (5, 1)),  # ldrd r5, r1, [r5, #-8]
    (True, 0xE9D51502, 5, 8, (1, 5)),  # ldrd r1, r5, [r5, #8]
    (False, 0xE8900007, 0, 0, (0, 1)),  # ldm r0, {r0, r1, r2}
    (True, 0xE8900007, 0, 0, (0, 1)),  # ldm r0, {r0, r1, r2}
]


def prepared(machine: Machine, thumb: bool, word: int, base: int, offset: int, second: int) -> Vcpu:
    """A vCPU before a load of the last word of one page and the first of another, which is `second`."""
    if thumb:
        machine.put_thumb(machine.CODE, word, THUMB_HVC)
    else:
        machine.put(machine.CODE, word, HVC)
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section
    machine.put(machine.TABLES + 4 * (VA >> 20), machine.TABLES + 0x4000 | 1)
    machine.put(machine.TABLES + 0x4000, machine.DATA | 0x32, second)  # small page
    machine.put(machine.DATA + 4092, 0x1111)
    machine.put(machine.DATA + 0x5000, 0x2222)
    machine.put(machine.VECTORS + 0x10, 0xE1400071)  # hvc #1
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | thumb, 0, 0, 0)
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16] & ~psr.MODE | psr.Mode.SYSTEM)
    vcpu.set_core(4, 0x40)
    vcpu.set_core(base, EDGE - 4 - offset)
    return vcpu


@pytest.mark.parametrize(("thumb", "word", "base", "offset", "loaded"), LOADS)
def test_where_the_second_page_is_touched_for_the_first_time(
    machine: Machine, thumb: bool, word: int, base: int, offset: int, loaded: tuple[int, int]
) -> None:
    vcpu = prepared(machine, thumb, word, base, offset, machine.DATA + 0x5000 | 0x32)
    leave = vcpu.run()
    assert (leave.kind, leave.hsr & 0xFFFF) == (EXIT_HVC, 0)
    assert [vcpu.core()[n] for n in loaded] == [0x1111, 0x2222]


@pytest.mark.parametrize(("thumb", "word", "base", "offset", "loaded"), LOADS)
def test_where_the_second_page_is_a_device(
    machine: Machine, thumb: bool, word: int, base: int, offset: int, loaded: tuple[int, int]
) -> None:
    vcpu = prepared(machine, thumb, word, base, offset, machine.DEVICE | 0x32)
    leave = vcpu.run()
    assert (leave.kind, leave.hdfar) == (EXIT_NISV, EDGE)
    assert vcpu.core()[base] == EDGE - 4 - offset


@pytest.mark.parametrize(("thumb", "word", "base", "offset", "loaded"), LOADS)
def test_where_the_guest_has_to_bring_the_second_page(
    machine: Machine, thumb: bool, word: int, base: int, offset: int, loaded: tuple[int, int]
) -> None:
    vcpu = prepared(machine, thumb, word, base, offset, 0)
    leave = vcpu.run()
    assert (leave.kind, leave.hsr & 0xFFFF, vcpu.cp15(6, 0, 0, 0)) == (EXIT_HVC, 1, EDGE)  # DFAR
    assert vcpu.core()[base] == EDGE - 4 - offset
