# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of CP14 and CP15 that are the engine's own, and those that do not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import Vcpu
from allstop.vm.arm.coprocessor import describe_access

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE140_0070


def single(is_read: bool, opc1: int, crn: int, crm: int, opc2: int, rt: int = 0, cp: int = 15) -> int:
    """MRC or MCR of r0, or of `rt`."""
    return 0xEE00_0010 | is_read << 20 | opc1 << 21 | crn << 16 | rt << 12 | cp << 8 | opc2 << 5 | crm


def run(machine: Machine, vcpu: Vcpu, *words: int) -> tuple[int, ...]:
    """Execute words at a place of their own, and then HVC; the registers."""
    machine.put(machine.CODE, *words, HVC)
    vcpu.set_core(15, machine.CODE)
    machine.call(vcpu)
    return vcpu.core()


@pytest.mark.parametrize(
    ("vcpus", "number", "l2ctlr"), [(1, 0, 0x0080_0000), (4, 0, 0x0380_0000), (8, 7, 0x0780_0000), (11, 9, 0x0280_0000)]
)
def test_l2ctlr_has_the_number_of_cpus_of_the_cluster(
    machines: Callable[..., Machine], vcpus: int, number: int, l2ctlr: int
) -> None:
    machine = machines(vcpus=vcpus)
    machine.put(machine.CODE, single(True, 1, 9, 0, 2), HVC)

    def body(vcpu: Vcpu) -> int:
        machine.call(vcpu, number)
        value: int = vcpu.core()[0]
        return value

    assert machine.child(number, body).result() == l2ctlr


def test_the_cpu_is_an_a15_without_the_erratum_of_tlb_maintenance(machine: Machine) -> None:
    """Would break: r2p1, for which Linux interrupts every CPU after each TLB invalidation (798181)."""
    vcpu = machine.vcpu()
    core = run(machine, vcpu, single(True, 0, 0, 0, 0), single(True, 0, 0, 1, 1, 1), single(True, 4, 15, 0, 0, 2))
    assert core[:3] == (0x414F_C0F0, 0x0001_0001, 0x0800_0000)


def test_vfp_is_the_guests_to_enable(machine: Machine) -> None:
    """Would break: an NSACR that keeps CPACR's cp10 and cp11 for the secure world."""
    vcpu = machine.vcpu()
    vcpu.set_core(0, 0xF << 20)
    vcpu.set_core(3, 1 << 30)
    core = run(machine, vcpu, single(False, 0, 1, 0, 2), single(True, 0, 1, 0, 2, 1), 0xEEE8_3A10, 0xEEF7_2A10)
    assert core[1] == 0xF << 20  # CPACR
    assert core[2] == 0x1011_0222  # MVFR0: vmsr fpexc, r3; vmrs r2, mvfr0


def test_the_cycle_counter_counts_when_it_is_enabled(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.set_core(0, 1 << 31)  # PMCNTENSET.C
    vcpu.set_core(1, 1)  # PMCR.E
    vcpu.set_core(5, 1000)
    core = run(
        machine,
        vcpu,
        single(True, 0, 9, 12, 0, 6),
        single(True, 0, 9, 13, 0, 2),
        single(False, 0, 9, 12, 1),
        single(False, 0, 9, 12, 0, 1),
        single(True, 0, 9, 13, 0, 3),
        0xE255_5001,
        0x1AFF_FFFD,
        single(True, 0, 9, 13, 0, 4),
    )
    assert core[6] == 0x410F_3000  # six counters
    assert core[2] == 0
    assert (core[4] - core[3]) & 0xFFFF_FFFF > 1000


def test_the_cycle_counter_goes_on_when_it_is_read_and_stands_when_it_is_disabled(machine: Machine) -> None:
    """Would break: the library's, which starts again after each look. Over an exception, and a visit to EL2, too."""
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS + 8, 0xE1B0F00E)  # movs pc, lr
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    vcpu.set_core(0, 1 << 31)
    vcpu.set_core(1, 5)  # PMCR.C, E
    pmccntr = [single(True, 0, 9, 13, 0, n) for n in range(2, 8)]
    core = run(
        machine,
        vcpu,
        single(False, 0, 9, 12, 1),
        single(False, 0, 9, 12, 0, 1),
        pmccntr[0],
        pmccntr[1],
        0xEF000000,
        pmccntr[2],
        HVC,
        pmccntr[3],
        single(False, 0, 9, 12, 2),
        pmccntr[4],
        pmccntr[5],
    )
    assert core[2] < core[3] < core[4]
    machine.call(vcpu)
    core = vcpu.core()
    assert core[4] < core[5] <= core[6] == core[7]


def test_the_cycle_counter_can_be_set_and_overflows(machine: Machine) -> None:
    vcpu = machine.vcpu()
    for n, value in ((0, 1 << 31), (1, 1), (2, 0xFFFF_FFF0), (6, 100)):
        vcpu.set_core(n, value)
    core = run(
        machine,
        vcpu,
        single(False, 0, 9, 12, 1),
        single(False, 0, 9, 13, 0, 2),
        single(True, 0, 9, 13, 0, 3),
        single(True, 0, 9, 12, 3, 4),
        single(False, 0, 9, 12, 0, 1),
        single(True, 0, 9, 13, 0, 5),
        0xE3500000,
        0xE2566001,
        0x1AFFFFFD,
        single(True, 0, 9, 12, 3, 7),
        single(False, 0, 9, 12, 3),
        single(True, 0, 9, 12, 3, 8),
    )
    assert core[3] == 0xFFFF_FFF0
    assert core[4] == 0
    assert (core[7], core[8]) == (1 << 31, 0)


def test_what_the_guest_left_in_the_pmu_is_saved(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.set_core(0, 5)
    run(machine, vcpu, single(False, 0, 9, 12, 5), single(False, 0, 9, 13, 2), single(False, 0, 9, 12, 0))
    state = vcpu.save()
    vcpu.power_on(machine.CODE + 0x100, 0, 0, 0)
    machine.put(
        machine.CODE + 0x1000,
        single(True, 0, 9, 12, 5, 1),
        single(True, 0, 9, 13, 2, 2),
        single(True, 0, 9, 12, 0, 3),
        HVC,
    )
    vcpu.set_core(15, machine.CODE + 0x1000)
    machine.call(vcpu)
    assert vcpu.core()[1:4] == (0, 0, 0x410F_3000)
    vcpu.restore(state)
    vcpu.set_core(15, machine.CODE + 0x1000)
    machine.call(vcpu)
    assert vcpu.core()[1:4] == (5, 5, 0x410F_3001)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((single(True, 0, 1, 1, 0),), "read p15 0 c1 c1 0 (SCR)"),
        ((single(False, 0, 1, 1, 2),), "wrote p15 0 c1 c1 2 (NSACR)"),
        ((single(True, 0, 1, 5, 4, 3, 14),), "read p14 0 c1 c5 4 (DBGPRSR)"),
        ((0xEC51_0F29,), "read the 64-bit register p15 2 c9"),
        ((0xEC40_0F92,), "wrote the 64-bit register p15 9 c2"),
        ((single(True, 4, 1, 1, 0),), "read p15 4 c1 c1 0 (HCR)"),
    ],
)
def test_a_register_that_nobody_has_is_undefined_and_named(machine: Machine, words: tuple[int, ...], said: str) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS + 4, 0xE2855001, 0xE1B0F00E)  # add r5, r5, #1; movs pc, lr
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    core = run(machine, vcpu, *words, *words)
    assert core[5] == 2
    ((access, times),) = machine.page.undefined(0)
    assert (describe_access(access), times) == (said, 2)
    assert machine.counter("undefined_access") == 2


def test_it_is_named_in_thumb_and_in_user_mode_too(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS + 4, 0xE1400071)  # hvc #1
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    machine.put_thumb(machine.CODE, 0xEE111F11)  # mrc p15, 0, r1, c1, c1, 0
    vcpu.set_core(16, vcpu.core()[16] & ~0x1F | 0x30)  # User mode, Thumb
    vcpu.set_core(15, machine.CODE)
    assert machine.call(vcpu) == 1
    ((access, times),) = machine.page.undefined(0)
    assert (describe_access(access), times) == ("read p15 0 c1 c1 0 (SCR)", 1)


def test_what_is_undefined_otherwise_is_not_taken_for_a_register(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS + 4, HVC)
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    run(machine, vcpu, 0xE7F0_00F0)  # udf
    assert machine.page.undefined(0) == []


def test_more_kinds_than_the_page_has_room_for_are_counted(machine: Machine) -> None:
    vcpu = machine.vcpu()
    machine.put(machine.VECTORS + 4, 0xE1B0F00E)
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    run(machine, vcpu, *(single(True, 0, 2, 1 + n % 15, n % 8) for n in range(40)))
    assert len(machine.page.undefined(0)) == 16
    assert machine.counter("undefined_access") == 40


def test_the_guest_may_translate_by_tables_that_stage_2_has_not_seen(machine: Machine) -> None:
    """ATS1CPR: the walk faults at stage 2, which is served, and PAR then has the address."""
    vcpu = machine.vcpu()
    machine.put(machine.TABLES + 4 * 0x400, 0x4000_0C0E)  # a section, VA = PA
    machine.put(machine.TABLES + 4 * 0x123, 0x4020_0C0E)
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)
    vcpu.cp15(3, 0, 0, 0, False, 1)
    vcpu.set_core(1, vcpu.cp15(1, 0, 0, 0) | 1)
    vcpu.set_core(0, 0x1234_5678)
    core = run(
        machine,
        vcpu,
        single(False, 0, 1, 0, 0, 1),
        single(False, 0, 7, 8, 0),
        single(True, 0, 7, 4, 0, 2),
        single(False, 0, 7, 8, 0, 1),
        single(True, 0, 7, 4, 0, 3),
    )
    assert core[2] & 0xFFFF_F001 == 0x4024_5000
    assert core[3] & 1
