# SPDX-License-Identifier: GPL-2.0-or-later
"""An instruction budget is kept exactly, whatever happens on the way, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vcpu_worker.engine import EXIT_BUDGET, EXIT_HVC, EXIT_MMIO, EXIT_NISV, EXIT_REQUEST, Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

ADD = 0xE2800001  # add r0, r0, #1
ADDEQ = 0x02811001  # addeq r1, r1, #1
LOOP = (ADD, ADDEQ, 0xEAFFFFFC)  # b .-8
TLBIALL = 0xEE080F17  # mcr p15, 0, r0, c8, c7, 0
HVC = 0xE1400070  # hvc #0


def place(vcpu: Vcpu) -> tuple[int, int]:
    """r0 and PC."""
    core = vcpu.core()
    return core[0], core[15]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 100, 1000])
def test_it_is_exact(machine: Machine, n: int) -> None:
    machine.put(machine.CODE, *LOOP)
    vcpu = machine.vcpu()
    leave = vcpu.run(n)
    assert (leave.kind, leave.executed) == (EXIT_BUDGET, n)
    assert place(vcpu) == ((n + 2) // 3, machine.CODE + n % 3 * 4) and leave.pc == machine.CODE + n % 3 * 4
    assert vcpu.core()[1] == 0, "a skipped instruction counts, too"


def test_pieces_make_a_whole(machine: Machine) -> None:
    machine.put(machine.CODE, *LOOP)
    vcpu = machine.vcpu()
    done = 0

    @given(st.integers(1, 40))
    def check(n: int) -> None:
        nonlocal done
        assert vcpu.run(n).executed == n
        done += n
        assert place(vcpu) == ((done + 2) // 3, machine.CODE + done % 3 * 4)

    check()


def test_it_counts_in_code_that_ran_without_one_before(machine: Machine) -> None:
    machine.put(machine.CODE, ADD, ADD, 0xE3500FFA, 0x1AFFFFFB, HVC)  # cmp r0, #1000; bne .-12
    vcpu = machine.vcpu()
    for _ in range(2):
        vcpu.power_on(machine.CODE, 0, 0, 0)
        assert vcpu.run().kind == EXIT_HVC and vcpu.core()[0] == 1000
        vcpu.power_on(machine.CODE, 0, 0, 0)
        assert vcpu.run(30).kind == EXIT_BUDGET
        assert place(vcpu) == (16, machine.CODE + 8)


def test_a_run_without_one_is_not_stopped_by_an_old_one(machine: Machine) -> None:
    machine.put(machine.CODE, *(ADD,) * 50, HVC)
    vcpu = machine.vcpu()
    assert vcpu.run(10).kind == EXIT_BUDGET
    leave = vcpu.run()
    assert (leave.kind, leave.executed, vcpu.core()[0]) == (EXIT_HVC, 0, 50)


def test_native_exits_do_not_refill_it(machine: Machine) -> None:
    machine.put(machine.CODE, ADD, TLBIALL, 0xEAFFFFFC)  # b .-8
    vcpu = machine.vcpu()
    assert vcpu.run(30).kind == EXIT_BUDGET
    assert place(vcpu) == (10, machine.CODE) and machine.counter("tlbi") == 10


def test_what_faults_at_stage_2_counts_once(machine: Machine) -> None:
    machine.put(machine.CODE, ADD, 0xE5810000, 0xE2811A01, 0xEAFFFFFB)  # str r0, [r1]; add r1, r1, #4096; b .-12
    vcpu = machine.vcpu()
    vcpu.set_core(1, machine.DATA)
    assert vcpu.run(40).kind == EXIT_BUDGET
    assert place(vcpu) == (10, machine.CODE) and machine.counter("stage2") == 11


def test_what_is_fetched_over_many_pages_counts_once(machine: Machine) -> None:
    for page in range(8):
        machine.put(machine.DATA + 4096 * page, ADD, 0xEA0003FD)  # b .+4092
    vcpu = machine.vcpu()
    vcpu.set_core(15, machine.DATA)
    assert vcpu.run(15).kind == EXIT_BUDGET
    assert place(vcpu) == (8, machine.DATA + 4096 * 7 + 4)


def test_thumb_and_it_blocks(machine: Machine) -> None:
    machine.put_thumb(machine.CODE, 0xBF0C, 0x3001, 0x3101, 0xE7FB)  # ite eq; addeq r0, #1; addne r1, #1; b .-6
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | 1, 0, 0, 0)
    vcpu.set_core(16, vcpu.core()[16] | psr.Z)
    states = []
    for _ in range(8):
        assert vcpu.run(1).kind == EXIT_BUDGET
        core = vcpu.core()
        states.append((core[0], core[1], core[15] - machine.CODE, psr.itstate(core[16])))
    assert states == [
        (0, 0, 2, 0x0C),
        (1, 0, 4, 0x18),
        (1, 0, 6, 0),
        (1, 0, 0, 0),
        (1, 0, 2, 0x0C),
        (2, 0, 4, 0x18),
        (2, 0, 6, 0),
        (2, 0, 0, 0),
    ]


def test_an_exception_counts_as_the_instruction_that_took_it(machine: Machine) -> None:
    machine.put(machine.CODE, 0xEF000000, ADD)  # svc #0
    machine.put(machine.VECTORS + 8, 0xE1B0F00E)  # movs pc, lr
    vcpu = machine.vcpu()
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    vcpu.set_core(16, vcpu.core()[16] & ~psr.MODE | psr.Mode.USER)
    places = [vcpu.run(1) and place(vcpu)[1] for _ in range(3)]
    assert places == [machine.VECTORS + 8, machine.CODE + 4, machine.CODE + 8]


def test_an_endless_prefetch_abort_uses_it_up(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0: empty tables
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])
    leave = vcpu.run(1000)
    assert (leave.kind, leave.executed, leave.pc) == (EXIT_BUDGET, 1000, 0x0C)


@pytest.mark.parametrize(
    ("word", "kind", "executed"),
    [
        (0xE5921000, EXIT_MMIO, 2),  # ldr r1, [r2]
        (0xE4921004, EXIT_NISV, 2),  # ldr r1, [r2], #4
        (HVC, EXIT_HVC, 3),
    ],
)
def test_exits_say_how_much_is_used(machine: Machine, word: int, kind: int, executed: int) -> None:
    machine.put(machine.CODE, ADD, ADD, word, ADD, 0xEAFFFFFE)  # b .
    vcpu = machine.vcpu()
    vcpu.set_core(2, machine.DEVICE)
    leave = vcpu.run(100)
    assert (leave.kind, leave.executed) == (kind, executed)


def test_an_event_says_how_much_is_used(machine: Machine) -> None:
    machine.put(machine.CODE, *LOOP)
    vcpu = machine.vcpu()
    machine.page.post(0, machine.page.EVENT)
    leave = vcpu.run(9)
    assert (leave.kind, leave.executed) == (EXIT_REQUEST, 0)
    assert vcpu.run(9).executed == 9 and place(vcpu) == (3, machine.CODE)


def test_stops_from_outside_lose_none(machines: Callable[..., Machine]) -> None:
    machine = machines()
    machine.put(machine.CODE, *LOOP)

    def body(vcpu: Vcpu) -> tuple[int, int]:
        total = 300_000
        left, kinds = total, 0
        while left:
            leave = vcpu.run(left)
            left -= leave.executed
            kinds += leave.kind == EXIT_REQUEST
        return vcpu.core()[0], kinds

    child = machine.child(0, body)
    while not child.is_done:
        machine.page.post(0, machine.page.EVENT | machine.page.PING)
    count, _ = child.result()
    assert count == 100_000
