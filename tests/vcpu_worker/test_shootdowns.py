# SPDX-License-Identifier: GPL-2.0-or-later
"""TLB maintenance between vCPUs: which vCPUs an invalidation waits for, and that they have flushed when it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EXIT_REQUEST, Vcpu

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Child, Machine

BROADCAST, IPI, LOCAL, EARLY = range(4)
VA = 0x1230_0000
SPOILED = 0xDEAD_0000
MOVES = 150

READER = (  # r1 = VA, r4 = SPOILED, r5 = &stop, r6 = &seen
    0xE5910000,  # ldr r0, [r1]
    0xE1500004,  # cmp r0, r4
    0x0A000004,  # beq .+24
    0xE5860000,  # str r0, [r6]
    0xE5952000,  # ldr r2, [r5]
    0xE3520000,  # cmp r2, #0
    0x0AFFFFF8,  # beq .-24
    0xE1400070,  # hvc #0
    0xE1400071,  # hvc #1
)
TRY_AGAIN = 0xE25EF008  # subs pc, lr, #8
MOVER = (  # r1 = VA, r2 = &entry, r4 = SPOILED, r5 = &seen, r6 = &stop, r7 = round, r8 = last, r9 = attributes,
    # r10 = frame ^ other frame, r11 = frame
    0xE5950000,  # ldr r0, [r5]
    0xE1500007,  # cmp r0, r7
    0x1AFFFFFC,  # bne .-8
    0xE2877001,  # add r7, r7, #1
    0xE02BC00A,  # eor r12, r11, r10
    0xE58C7000,  # str r7, [r12]
    0xE3A00000,  # mov r0, #0
    0xF57FF05F,  # dmb
    0xE5820000,  # str r0, [r2]
    0xF57FF04F,  # dsb
    0xEE081F33,  # mcr p15, 0, r1, c8, c3, 1
    0xF57FF04F,  # dsb
    0xF57FF06F,  # isb
    0xE58B4000,  # str r4, [r11]
    0xE18C0009,  # orr r0, r12, r9
    0xE5820000,  # str r0, [r2]
    0xF57FF04F,  # dsb
    0xE1A0B00C,  # mov r11, r12
    0xE1570008,  # cmp r7, r8
    0x1AFFFFEB,  # bne .-76
    0xE5867000,  # str r7, [r6]
    0xE1400070,  # hvc #0
)
TLBIALLIS = 0xEE080F13  # mcr p15, 0, r0, c8, c3, 0
HVC = 0xE1400070  # hvc #0


def enter(machine: Machine, vcpu: Vcpu, number: int, code: int, registers: dict[int, int]) -> int:
    """Turn the MMU on, and run from `code` to a call."""
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])
    for n, value in registers.items():
        vcpu.set_core(n, value)
    vcpu.set_core(15, code)
    return machine.call(vcpu, number)


def moves(machine: Machine) -> bool:
    """Move a page under a reader, break before make; whether the reader came to see what had been taken away."""
    table, frame, words = machine.TABLES, machine.DATA, machine.DATA + 0x8000
    entry = table + 0x4000
    machine.put(machine.CODE, *READER)
    machine.put(machine.CODE + 0x1000, *MOVER)
    machine.put(machine.VECTORS + 0x10, TRY_AGAIN)
    machine.put(table + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section
    machine.put(table + 4 * (VA >> 20), entry | 1)
    machine.put(entry, frame | 0x32)
    machine.put(frame, 1)
    machine.put(words, 0, 0)
    reader = machine.child(
        1, lambda vcpu: enter(machine, vcpu, 1, machine.CODE, {1: VA, 4: SPOILED, 5: words + 4, 6: words})
    )
    mover = machine.child(
        0,
        lambda vcpu: enter(
            machine,
            vcpu,
            0,
            machine.CODE + 0x1000,
            {1: VA, 2: entry, 4: SPOILED, 5: words, 6: words + 4, 7: 1, 8: MOVES, 9: 0x32, 10: 0x1000, 11: frame},
        ),
    )
    machine.until(lambda: reader.is_done, "the reader comes to an end")
    if spoiled := reader.result() == 1:
        machine.page.post(0, machine.page.QUIT)
    else:
        assert mover.result() == 0
    return spoiled


@pytest.mark.parametrize("discipline", [BROADCAST, IPI])
def test_nobody_uses_a_translation_that_was_invalidated(machines: Callable[..., Machine], discipline: int) -> None:
    machine = machines(vcpus=2, cores=2, tlb=discipline)
    begun = machine.page.epochs()[1]
    assert not moves(machine)
    assert machine.counter("tlbi", 0) == MOVES - 1 <= machine.counter("tlb_flush", 1)
    assert machine.page.epochs()[1] - begun >= MOVES - 1 and machine.page.epochs()[1] == machine.page.epochs()[2]
    assert machine.counter("stale_tlb", 0) == 0


def test_a_local_invalidation_leaves_the_others_stale(machines: Callable[..., Machine]) -> None:
    """ARMv6, where the guest has to ask the others itself; and the proof that the test above can fail."""
    assert moves(machines(vcpus=2, cores=2, tlb=LOCAL))


def test_a_late_invalidation_is_late(machines: Callable[..., Machine]) -> None:
    """An initiator that does not wait goes on while another vCPU is still in the same guest entry."""
    machine = machines(vcpus=2, tlb=EARLY)
    machine.put(machine.CODE, *(TLBIALLIS,) * 200, HVC)
    machine.put(machine.CODE + 0x1000, 0xE2800001, 0xE5810000, 0xEAFFFFFC)  # add r0, r0, #1; str r0, [r1]; b .-8
    spinner(machine)
    vcpu = machine.vcpu(0)

    def is_late() -> bool:
        """Whether it was this time; a spinner that has left the guest, and has no core to come back on, is not late."""
        vcpu.set_core(15, machine.CODE)
        machine.call(vcpu)
        return machine.counter("stale_tlb", 0) > 0

    machine.until(is_late, "an invalidation is over while another vCPU is in the same guest entry")


def spinner(machine: Machine) -> Child:
    """vCPU 1, counting in DATA."""

    def body(vcpu: Vcpu) -> int:
        vcpu.set_core(1, machine.DATA)
        vcpu.set_core(15, machine.CODE + 0x1000)
        return vcpu.run().kind

    child = machine.child(1, body)
    machine.until(lambda: machine.word(machine.DATA), "it counts")
    return child


def busy(machine: Machine) -> tuple[Child, Callable[[], None]]:
    """vCPU 1 in the middle of a handler, in Python, and how to let it go on to the guest."""
    machine.put(machine.CODE + 0x1000, HVC, HVC)
    flag = machine.DATA + 0x100

    def body(vcpu: Vcpu) -> Any:
        vcpu.set_core(15, machine.CODE + 0x1000)
        assert vcpu.run().kind == EXIT_HVC
        machine.put(flag, 1)
        machine.until(lambda: machine.word(flag) == 2, "the handler may go on")
        return vcpu.run().kind

    child = machine.child(1, body)
    machine.until(lambda: machine.word(flag) == 1, "it is in its handler")
    return child, lambda: machine.put(flag, 2)


def initiator(machine: Machine, times: int = 1) -> Child:
    """vCPU 0, which invalidates and calls out."""
    machine.put(machine.CODE, *(TLBIALLIS,) * times, HVC)
    return machine.child(0, lambda vcpu: machine.call(vcpu))


def test_a_broadcast_does_not_wait_for_a_handler(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2)
    other, go_on = busy(machine)
    initiator(machine).result()
    assert machine.page.requests(1) & machine.page.TLB_FLUSH, "it will flush before it enters"
    assert not other.is_done and machine.counter("tlb_flush", 1) == 0
    go_on()
    assert other.result() == EXIT_HVC
    assert machine.counter("tlb_flush", 1) == 1


def test_an_ipi_waits_for_a_handler(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2, tlb=IPI)
    other, go_on = busy(machine)
    child = initiator(machine)
    machine.until(lambda: machine.page.describe(0) == "waiting for a TLB invalidation by vCPU 1", "it waits")
    beats = machine.page.heartbeat(0)
    machine.until(lambda: machine.page.heartbeat(0) > beats + 20, "it waits, and beats")
    assert not child.is_done
    go_on()
    child.result()
    other.result()
    assert machine.counter("tlb_flush", 1) >= 1


def test_an_ipi_that_waits_can_be_told_to_quit(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2, tlb=IPI)
    busy(machine)
    machine.put(machine.CODE, TLBIALLIS, HVC)
    child = machine.child(0, lambda vcpu: vcpu.run().kind)
    machine.until(lambda: machine.page.describe(0) == "waiting for a TLB invalidation by vCPU 1", "it waits")
    machine.page.post(0, machine.page.QUIT)
    assert child.result() == EXIT_REQUEST


@pytest.mark.parametrize("state", ["asleep", "off", "parked", "in the guest"])
def test_an_ipi_does_not_wait_for_who_flushes_before_it_enters(machines: Callable[..., Machine], state: str) -> None:
    machine = machines(vcpus=2, tlb=IPI)
    page = machine.page
    if state == "off":
        page.set_power(1, page.POWER_OFF)
    elif state == "asleep":
        machine.put(machine.CODE + 0x1000, 0xE320F003, HVC)  # wfi
        machine.child(1, lambda vcpu: (vcpu.set_core(15, machine.CODE + 0x1000), vcpu.run().kind))
        machine.until(lambda: page.mode(1) == page.SLEEPING, "it sleeps")
    else:
        machine.put(machine.CODE + 0x1000, 0xE2800001, 0xE5810000, 0xEAFFFFFC)  # add r0, r0, #1; str r0, [r1]; b .-8
        spinner(machine)
        if state == "parked":
            page.post(1, page.STOP)
            machine.until(lambda: page.describe(1) == "parked by a stop", "it is parked")
    initiator(machine).result()
    assert machine.counter("tlb_flush", 1) == (state == "in the guest")


@pytest.mark.parametrize("discipline", [BROADCAST, IPI])
def test_initiators_do_not_wait_for_each_other_for_ever(machines: Callable[..., Machine], discipline: int) -> None:
    machine = machines(vcpus=3, cores=2, tlb=discipline)
    for number in range(3):
        machine.put(machine.CODE + 0x1000 * number, *(TLBIALLIS,) * 300, HVC)
    children = [
        machine.child(
            number,
            lambda vcpu, number=number: (
                vcpu.set_core(15, machine.CODE + 0x1000 * number),
                machine.call(vcpu, number),
                machine.page.set_power(number, machine.page.POWER_OFF),
            ),
        )
        for number in range(3)
    ]
    for child in children:
        child.result()
    assert [machine.counter("tlbi", number) for number in range(3)] == [300] * 3
    assert machine.counter("stale_tlb") == 0


def test_a_shootdown_from_python(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2)
    machine.put(machine.CODE + 0x1000, 0xE2800001, 0xE5810000, 0xEAFFFFFC)  # add r0, r0, #1; str r0, [r1]; b .-8
    spinner(machine)
    vcpu = machine.vcpu(0)
    entries = machine.counter("kick", 1)
    vcpu.shootdown()
    assert machine.counter("tlb_flush", 0) == 1
    machine.until(lambda: machine.counter("tlb_flush", 1) == 1, "it has flushed")
    assert machine.counter("kick", 1) >= entries
