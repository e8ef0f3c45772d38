# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints: the vCPU stops before the instruction, every time, and never executes it twice or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allstop.vcpu_worker.engine import EXIT_BREAKPOINT, EXIT_HVC, Vcpu

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
ADD_R0_1 = 0xE2800001
SUBS_R1_1 = 0xE2511001
LOOP = 3


def stops(vcpu: Vcpu) -> list[int]:
    """Where the vCPU stops, until its HVC."""
    found = []
    while (leave := vcpu.run()).kind == EXIT_BREAKPOINT:
        found.append(leave.pc)
        assert len(found) < 100
    assert leave.kind == EXIT_HVC
    return found


def branch(at: int, to: int, condition: int) -> int:
    return condition << 28 | 0xA000000 | (to - at - 2 & 0xFFFFFF)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 9), max_size=4))
def test_each_is_hit_each_time_it_is_reached(machine: Machine, where: set[int]) -> None:
    vcpu = machine.vcpu()
    try:
        machine.put(machine.CODE, *[ADD_R0_1] * 8, SUBS_R1_1, branch(9, 0, 1), HVC)
        vcpu.set_breakpoints([machine.CODE + 4 * i for i in where])
        vcpu.power_on(machine.CODE, 0, LOOP, 0)
        assert stops(vcpu) == [machine.CODE + 4 * i for i in sorted(where)] * LOOP
        assert vcpu.core()[0] == 8 * LOOP
    finally:
        vcpu.close()


@pytest.mark.parametrize("offset", range(0, 12, 2))
def test_thumb(machine: Machine, offset: int) -> None:
    """adds r0, #1 is narrow, add.w r0, r0, #1 wide: a breakpoint is at an instruction's first halfword only."""
    vcpu = machine.vcpu()
    machine.put_thumb(machine.CODE, 0x3001, 0xF100, 0x0001, 0x3001, 0xF100, 0x0001, 0xF7E0, 0x8000)
    vcpu.set_breakpoints([machine.CODE + offset])
    vcpu.power_on(machine.CODE | 1, 0, 0, 0)
    leave = vcpu.run()
    at_instruction = offset in (0, 2, 6, 8)
    if at_instruction:
        assert (leave.kind, leave.pc) == (EXIT_BREAKPOINT, machine.CODE + offset)
        leave = vcpu.run()
    assert leave.kind == EXIT_HVC
    assert vcpu.core()[0] == 4


def test_they_can_be_changed_and_removed(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, ADD_R0_1, ADD_R0_1, ADD_R0_1, HVC)
    vcpu.power_on(machine.CODE, 0, 0, 0)
    assert stops(vcpu) == []
    vcpu.set_breakpoints([machine.CODE + 4])
    vcpu.power_on(machine.CODE, 0, 0, 0)
    assert stops(vcpu) == [machine.CODE + 4]
    vcpu.set_breakpoints([])
    vcpu.power_on(machine.CODE, 0, 0, 0)
    assert stops(vcpu) == []
    with pytest.raises(ValueError, match="at most 64"):
        vcpu.set_breakpoints(range(65))
