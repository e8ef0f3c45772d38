# SPDX-License-Identifier: GPL-2.0-or-later
"""The generic timer: the registers, the lines, and a vCPU that is told on time, awake and asleep.

Source: ARM DDI 0406C, B8.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EXIT_TIMER, Vcpu
from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
WFI = 0xE320F003
LOOP = 0xEAFFFFFE
FREQUENCY_HZ = 62_500_000
ENABLE, IMASK, ISTATUS = 1, 2, 4
READ_FREQUENCY = 0xEE1E0F10
# By timer: write TVAL, read TVAL, write CTL, read CTL, write CVAL (r0, r1), read CVAL, read the counter.
PHYSICAL = (0xEE0E0F12, 0xEE1E0F12, 0xEE0E0F32, 0xEE1E0F32, 0xEC410F2E, 0xEC510F2E, 0xEC510F0E)
VIRTUAL = (0xEE0E0F13, 0xEE1E0F13, 0xEE0E0F33, 0xEE1E0F33, 0xEC410F3E, 0xEC510F3E, 0xEC510F1E)
both = pytest.mark.parametrize("timer", [PHYSICAL, VIRTUAL], ids=["physical", "virtual"])


def execute(machine: Machine, vcpu: Vcpu, word: int, r0: int = 0, r1: int = 0) -> tuple[int, int]:
    """One instruction of the guest; r0 and r1 after it. The timers' lines are told on the way."""
    machine.put(machine.CODE + 0x100, word, HVC)
    vcpu.write_ram(machine.CODE + 0x100, machine.ram[0x1_0100:0x1_0104])
    vcpu.set_core(0, r0)
    vcpu.set_core(1, r1)
    vcpu.set_core(15, machine.CODE + 0x100)
    while (leave := vcpu.run()).kind == EXIT_TIMER:
        vcpu.timer_levels()
    assert leave.kind == EXIT_HVC, leave
    return vcpu.core()[0], vcpu.core()[1]


def wide(pair: tuple[int, int]) -> int:
    return pair[1] << 32 | pair[0]


@both
def test_the_counter_counts_time_from_the_machines_start(machine: Machine, timer: tuple[int, ...]) -> None:
    vcpu = machine.vcpu()
    assert execute(machine, vcpu, READ_FREQUENCY)[0] == FREQUENCY_HZ
    before_s = time.monotonic()
    first = wide(execute(machine, vcpu, timer[6]))
    machine.until(lambda: time.monotonic() > before_s + 0.02, "20 ms")
    second = wide(execute(machine, vcpu, timer[6]))
    took_s = time.monotonic() - before_s
    assert first < 10 * FREQUENCY_HZ
    assert 0.02 * FREQUENCY_HZ * 0.9 < second - first < took_s * FREQUENCY_HZ


@both
def test_the_registers_read_as_they_were_written(machine: Machine, timer: tuple[int, ...]) -> None:
    write_tval, read_tval, write_ctl, read_ctl, write_cval, read_cval, read_count = timer
    vcpu = machine.vcpu()
    assert execute(machine, vcpu, read_ctl)[0] == 0
    execute(machine, vcpu, write_cval, 0x89ABCDEF, 0x01234567)
    assert wide(execute(machine, vcpu, read_cval)) == 0x0123456789ABCDEF
    execute(machine, vcpu, write_ctl, 0xFFFFFFFF)
    assert execute(machine, vcpu, read_ctl)[0] == ENABLE | IMASK, "not due"
    execute(machine, vcpu, write_tval, 0x7FFFFFFF)
    count = wide(execute(machine, vcpu, read_count))
    assert 0 <= count + 0x7FFFFFFF - wide(execute(machine, vcpu, read_cval)) < FREQUENCY_HZ
    assert 0x7FFFFFFF - FREQUENCY_HZ < execute(machine, vcpu, read_tval)[0] < 0x7FFFFFFF
    execute(machine, vcpu, write_tval, -1000 & 0xFFFFFFFF)
    assert execute(machine, vcpu, read_ctl)[0] == ENABLE | IMASK | ISTATUS, "masked, and due"
    assert execute(machine, vcpu, read_tval)[0] >= 1 << 31, "it counts on, below zero"
    execute(machine, vcpu, write_ctl, 0)
    assert execute(machine, vcpu, read_ctl)[0] == 0, "ISTATUS needs ENABLE"


@both
def test_a_line_rises_on_time_and_falls_when_the_guest_says_so(machine: Machine, timer: tuple[int, ...]) -> None:
    write_tval, _, write_ctl, _, _, _, _ = timer
    vcpu = machine.vcpu()
    execute(machine, vcpu, write_tval, FREQUENCY_HZ // 50)
    execute(machine, vcpu, write_ctl, ENABLE)
    assert vcpu.timer_levels() == (0, 0)
    started_s = time.monotonic()
    machine.put(machine.CODE + 0x200, LOOP)
    vcpu.set_core(15, machine.CODE + 0x200)
    leave = vcpu.run()
    took_s = time.monotonic() - started_s
    assert leave.kind == EXIT_TIMER
    assert leave.timers == 1
    assert leave.pc == machine.CODE + 0x200
    assert 0.01 < took_s < 1
    assert vcpu.timer_levels() == ((1, 0) if timer is PHYSICAL else (0, 1))
    execute(machine, vcpu, write_ctl, ENABLE | IMASK)
    assert vcpu.timer_levels() == (0, 0)
    execute(machine, vcpu, write_ctl, ENABLE)
    assert vcpu.timer_levels() != (0, 0), "unmasked, and still due"
    execute(machine, vcpu, write_tval, FREQUENCY_HZ)
    assert vcpu.timer_levels() == (0, 0), "it is due later now"


@both
def test_a_sleeping_vcpu_is_told(machine: Machine, timer: tuple[int, ...]) -> None:
    vcpu = machine.vcpu()
    execute(machine, vcpu, timer[0], FREQUENCY_HZ // 20)
    execute(machine, vcpu, timer[2], ENABLE)
    machine.put(machine.CODE + 0x200, WFI, LOOP)
    vcpu.set_core(15, machine.CODE + 0x200)
    started_s, cpu_s = time.monotonic(), time.process_time()
    leave = vcpu.run()
    assert leave.kind == EXIT_TIMER
    assert leave.pc == machine.CODE + 0x204
    assert 0.03 < time.monotonic() - started_s < 1
    assert time.process_time() - cpu_s < 0.02, "it slept"


def test_a_line_that_falls_while_the_guest_could_see_it_is_told_at_once(machine: Machine) -> None:
    vcpu = machine.vcpu()
    execute(machine, vcpu, VIRTUAL[0], 0)
    execute(machine, vcpu, VIRTUAL[2], ENABLE)
    assert vcpu.timer_levels() == (0, 1)
    mask = 0xEE0E0F33
    for line, kind in ((0, EXIT_HVC), (1 << 2 | 1, EXIT_TIMER)):
        execute(machine, vcpu, VIRTUAL[2], ENABLE)
        vcpu.timer_levels()
        machine.page.set_line(0, line)
        machine.put(machine.CODE + 0x200, mask, HVC)
        vcpu.set_core(0, ENABLE | IMASK)
        vcpu.set_core(15, machine.CODE + 0x200)
        leave = vcpu.run()
        assert (leave.kind, leave.timers) == (kind, 1)
        assert vcpu.timer_levels() == (0, 0)
        execute(machine, vcpu, VIRTUAL[2], ENABLE)
        assert vcpu.timer_levels() == (0, 1)


def test_the_timers_are_part_of_the_state_and_end_with_a_reset(machine: Machine) -> None:
    vcpu = machine.vcpu()
    execute(machine, vcpu, VIRTUAL[0], 0)
    execute(machine, vcpu, VIRTUAL[2], ENABLE)
    execute(machine, vcpu, PHYSICAL[4], 0x1234, 0x5678)
    state = vcpu.save()
    vcpu.power_on(machine.CODE, 0, 0, 0)
    assert vcpu.timer_levels() == (0, 0)
    assert execute(machine, vcpu, VIRTUAL[3])[0] == 0
    vcpu.restore(state)
    assert vcpu.timer_levels() == (0, 1)
    assert wide(execute(machine, vcpu, PHYSICAL[5])) == 0x0000567800001234


def test_user_mode_needs_permission(machine: Machine) -> None:
    """CNTKCTL decides, as before: the library still checks whether an access to a register is allowed."""
    vcpu = machine.vcpu()
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    machine.put(machine.VECTORS, *(0xE1400071,) * 8)  # HVC #1
    for allowed, immediate in ((2, 0), (0, 1)):
        vcpu.cp15(14, 1, 0, 0, False, allowed)
        machine.put(machine.CODE, 0xF1020010, VIRTUAL[6], 0xEF000000)  # CPS to User mode; SVC
        machine.put(machine.VECTORS + 8, HVC)
        vcpu.write_ram(machine.CODE, machine.ram[0x1_0000:0x1_000C])
        vcpu.set_core(16, 0x1D3)
        vcpu.set_core(15, machine.CODE)
        assert machine.call(vcpu) == immediate


def test_the_timers_tick_where_turns_are_short(machines: Callable[..., Machine]) -> None:
    """Four vCPUs and more for each core have a timer of the host for their time slices, too."""
    machine = machines(vcpus=8, cores=2)
    vcpu = machine.vcpu()
    execute(machine, vcpu, VIRTUAL[0], FREQUENCY_HZ // 50)
    execute(machine, vcpu, VIRTUAL[2], ENABLE)
    machine.put(machine.CODE + 0x200, LOOP)
    vcpu.set_core(15, machine.CODE + 0x200)
    assert vcpu.run().kind == EXIT_TIMER


def test_time_may_go_slower_for_the_guest_than_for_its_host(machines: Callable[..., Machine]) -> None:
    """A hundred times: the frequency is what it was, a 2500th of a second of the guest's is 40 ms."""
    machine = machines(time_dilation=100)
    vcpu = machine.vcpu()
    assert execute(machine, vcpu, READ_FREQUENCY)[0] == FREQUENCY_HZ
    before_s = time.monotonic()
    first = wide(execute(machine, vcpu, VIRTUAL[6]))
    execute(machine, vcpu, VIRTUAL[0], FREQUENCY_HZ // 2500)
    execute(machine, vcpu, VIRTUAL[2], ENABLE)
    machine.put(machine.CODE + 0x200, WFI, LOOP)
    vcpu.set_core(15, machine.CODE + 0x200)
    assert vcpu.run().kind == EXIT_TIMER
    assert time.monotonic() - before_s > 0.03
    second = wide(execute(machine, vcpu, VIRTUAL[6]))
    assert FREQUENCY_HZ // 2500 <= second - first < (time.monotonic() - before_s) * FREQUENCY_HZ / 100 + 1
