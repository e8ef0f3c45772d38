# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchpoints: the vCPU stops after the instruction that accessed a watched address, with the access made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_BREAKPOINT, EXIT_BUDGET, EXIT_HVC, EXIT_WATCHPOINT

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
NOP = 0xE1A00000
READ, WRITE, ACCESS = 1, 2, 3
R1_IS_BASE = 0xE1A01000  # mov r1, r0: r0 is what power_on gives
STR_R2 = 0xE5812008  # str r2, [r1, #8]
LDR_R3 = 0xE5913008  # ldr r3, [r1, #8]
STRB_R2 = 0xE5C12009  # strb r2, [r1, #9]
STMIA = 0xE881003C  # stmia r1, {r2-r5}: base, +4, +8, +12
LDMIA = 0xE8910038  # ldmia r1, {r3-r5}
LDREX_R3 = 0xE1943F9F  # ldrex r3, [r4]
STREX_R5 = 0xE1845F92  # strex r5, r2, [r4]
ADD_R4_R1_8 = 0xE2814008
BUMP = 0xE2833001  # add r3, r3, #1
POST_INDEX = 0xE4812004  # str r2, [r1], #4


@pytest.mark.parametrize(
    ("instruction", "kinds", "is_hit", "is_write"),
    [
        (STR_R2, WRITE, True, 1),
        (STR_R2, READ, False, 0),
        (STR_R2, ACCESS, True, 1),
        (LDR_R3, READ, True, 0),
        (LDR_R3, WRITE, False, 0),
        (STRB_R2, WRITE, True, 1),
        (STMIA, WRITE, True, 1),
        (LDMIA, ACCESS, True, 0),
    ],
)
def test_one_access(machine: Machine, instruction: int, kinds: int, is_hit: bool, is_write: int) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, instruction, NOP, HVC)
    vcpu.set_watchpoints([(machine.DATA + 8, 4, kinds)])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 0x1234)
    leave = vcpu.run()
    if is_hit:
        assert (leave.kind, leave.pc, leave.is_write) == (EXIT_WATCHPOINT, machine.CODE + 8, is_write)
        assert machine.DATA + 8 <= leave.hdfar < machine.DATA + 12
        leave = vcpu.run()
    assert leave.kind == EXIT_HVC


def test_exclusives(machine: Machine) -> None:
    """A store that is an atomic exchange of the host's is seen, too, and succeeds."""
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, ADD_R4_R1_8, LDREX_R3, STREX_R5, HVC)
    vcpu.set_watchpoints([(machine.DATA + 8, 4, WRITE)])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 0x77)
    leave = vcpu.run()
    assert (leave.kind, leave.pc) == (EXIT_WATCHPOINT, machine.CODE + 16)
    assert machine.word(machine.DATA + 8) == 0x77
    assert vcpu.core()[5] == 0
    assert vcpu.run().kind == EXIT_HVC


def test_a_store_with_writeback_is_done_once_and_neighbours_do_not_stop(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, *[POST_INDEX] * 4, HVC)
    vcpu.set_watchpoints([(machine.DATA + 8, 4, WRITE)])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 5)
    leave = vcpu.run()
    assert (leave.kind, leave.pc, leave.hdfar) == (EXIT_WATCHPOINT, machine.CODE + 16, machine.DATA + 8)
    assert vcpu.core()[1] == machine.DATA + 12
    assert vcpu.run().kind == EXIT_HVC
    assert vcpu.core()[1] == machine.DATA + 16
    assert [machine.word(machine.DATA + 4 * i) for i in range(5)] == [5, 5, 5, 5, 0]


def test_on_an_instruction_that_has_a_breakpoint_too(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, STR_R2, HVC)
    vcpu.set_breakpoints([machine.CODE + 4, machine.CODE + 8])
    vcpu.set_watchpoints([(machine.DATA + 8, 4, WRITE)])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 5)
    seen = [(leave.kind, leave.pc - machine.CODE) for leave in (vcpu.run() for _ in range(4))]
    assert seen == [(EXIT_BREAKPOINT, 4), (EXIT_WATCHPOINT, 8), (EXIT_BREAKPOINT, 8), (EXIT_HVC, 12)]


def test_under_a_budget(machine: Machine) -> None:
    """Instructions are counted exactly over a watched access."""
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, NOP, STR_R2, NOP, NOP, HVC)
    vcpu.set_watchpoints([(machine.DATA + 8, 4, WRITE)])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 5)
    leave = vcpu.run(10)
    assert (leave.kind, leave.executed) == (EXIT_WATCHPOINT, 3)
    leave = vcpu.run(1)
    assert (leave.kind, leave.executed, leave.pc) == (EXIT_BUDGET, 1, machine.CODE + 16)


def test_removed_they_are_gone(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, R1_IS_BASE, STR_R2, HVC)
    vcpu.set_watchpoints([(machine.DATA + 8, 4, WRITE)])
    vcpu.set_watchpoints([])
    vcpu.power_on(machine.CODE, machine.DATA, 0, 5)
    assert vcpu.run().kind == EXIT_HVC
    with pytest.raises(ValueError, match="at most 16"):
        vcpu.set_watchpoints([(0, 1, 1)] * 17)


def test_a_step_over_wfi_comes_back(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.CODE, 0xE320F003, HVC)
    vcpu.power_on(machine.CODE, 0, 0, 0)
    leave = vcpu.run(1)
    assert (leave.kind, leave.pc) == (EXIT_BUDGET, machine.CODE + 4)
