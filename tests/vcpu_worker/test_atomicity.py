# SPDX-License-Identifier: GPL-2.0-or-later
"""Exclusives of two processes: atomic through the interposer, and, to show that this can fail, not so as shipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allstop.vcpu_worker.engine import Vcpu

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

EACH = 400_000
INCREMENTS = (  # r1 = &counter, r3 = how many, r4 = &ready
    0xE5940000,  # ldr r0, [r4]
    0xE3500000,  # cmp r0, #0
    0x0AFFFFFC,  # beq .-8
    0xE1910F9F,  # ldrex r0, [r1]
    0xE2800001,  # add r0, r0, #1
    0xE1812F90,  # strex r2, r0, [r1]
    0xE3520000,  # cmp r2, #0
    0x1AFFFFFA,  # bne .-16
    0xE2533001,  # subs r3, r3, #1
    0x1AFFFFF8,  # bne .-24
    0xE1400070,  # hvc #0
)


def increments_kept(machine: Machine, as_shipped: bool) -> int:
    """How many of 2 * EACH increments by two vCPUs are in memory in the end."""
    machine.put(machine.CODE, *INCREMENTS)

    def body(vcpu: Vcpu, number: int) -> int:
        for n, value in ((1, machine.DATA), (3, EACH), (4, machine.DATA + 64)):
            vcpu.set_core(n, value)
        return machine.call(vcpu, number)

    children = [machine.child(number, lambda vcpu, number=number: body(vcpu, number), as_shipped) for number in (0, 1)]
    machine.until(lambda: machine.page.mode(0) == machine.page.mode(1) == machine.page.IN_GUEST, "both wait")
    machine.put(machine.DATA + 64, 1)
    for child in children:
        child.result()
    return machine.word(machine.DATA)


def test_the_interposer_loses_no_increment(machines: Callable[..., Machine]) -> None:
    assert increments_kept(machines(vcpus=2), False) == 2 * EACH


def test_the_library_as_shipped_loses_some(machines: Callable[..., Machine]) -> None:
    kept = []
    while len(kept) < 10 and (not kept or kept[-1] == 2 * EACH):  # they may have run one after the other
        kept.append(increments_kept(machines(vcpus=2), True))
    assert kept[-1] < 2 * EACH
