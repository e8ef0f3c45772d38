# SPDX-License-Identifier: GPL-2.0-or-later
"""Stops of a running vCPU, from another process: each at an instruction boundary, none lost, nothing done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allstop.vcpu_worker.engine import EXIT_REQUEST, Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

STOPS = 800


def stop_often(machine: Machine, prepare: Callable[[Vcpu], None], check: Callable[[tuple[int, ...]], Any]) -> list[Any]:
    """Post EVENT to a vCPU in the guest, again and again; what `check` finds wrong with its state at each stop, and the
    number of stops, last."""
    page = machine.page

    def body(vcpu: Vcpu) -> list[Any]:
        prepare(vcpu)
        wrong, stops = [], 0
        while True:
            leave = vcpu.run()
            assert leave.kind == EXIT_REQUEST, leave
            if page.requests(0) & page.QUIT:
                return [*wrong[:3], stops]
            stops += 1
            core = vcpu.core()
            assert core[15] == leave.pc
            if found := check(core):
                wrong.append((found, [hex(value) for value in core]))
            machine.put(machine.RAM, stops)

    child = machine.child(0, body)
    for _ in range(STOPS):
        machine.until(lambda: page.mode(0) == page.IN_GUEST and not page.requests(0) or child.is_done, "it runs")
        page.post(0, page.EVENT)
    machine.until(lambda: machine.word(machine.RAM) == STOPS or child.is_done, "the last stop is seen")
    page.post(0, page.QUIT)
    outcome: list[Any] = child.result()
    return outcome


def test_stores_are_done_once(machine: Machine) -> None:
    loop = (
        0xE2800001,  # add r0, r0, #1
        0xE5810000,  # str r0, [r1]
        0xE5810004,  # str r0, [r1, #4]
        0xEAFFFFFB,  # b .-12
    )
    machine.put(machine.CODE, *loop)

    def prepare(vcpu: Vcpu) -> None:
        vcpu.set_core(1, machine.DATA)

    def check(core: tuple[int, ...]) -> bool:
        at = (core[15] - machine.CODE) // 4
        # what memory holds before each of the four instructions, as seen from r0
        ahead = ((0, 0), (1, 1), (0, 1), (0, 0))[at]
        return (core[0] - ahead[0], core[0] - ahead[1]) != (machine.word(machine.DATA), machine.word(machine.DATA + 4))

    assert stop_often(machine, prepare, check) == [STOPS]


def test_a_load_into_its_own_base_is_not_torn(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE1C000D0,  # ldrd r0, r1, [r0]
        0xE2822001,  # add r2, r2, #1
        0xEAFFFFFC,
    )  # b .-8
    machine.put(machine.DATA, machine.DATA, 0x1234)

    def prepare(vcpu: Vcpu) -> None:
        vcpu.set_core(0, machine.DATA)

    assert stop_often(machine, prepare, lambda core: core[0] != machine.DATA) == [STOPS]


def test_an_it_block_is_left_and_entered_where_it_was(machine: Machine) -> None:
    machine.put_thumb(
        machine.CODE,
        0x4292,
        0xBF02,  # cmp r2, r2; ittt eq
        0x3001,
        0x6008,
        0x6048,  # addeq r0, #1; streq r0, [r1]; streq r0, [r1, #4]
        0xE7F9,
    )  # b .-10

    def prepare(vcpu: Vcpu) -> None:
        vcpu.power_on(machine.CODE | 1, 0, machine.DATA, 0)

    def check(core: tuple[int, ...]) -> bool:
        at = (core[15] - machine.CODE) // 2
        ahead = ((0, 0), (0, 0), (0, 0), (1, 1), (0, 1), (0, 0))[at]
        itstate = (0, 0, 0x02, 0x04, 0x08, 0)[at]
        memory = machine.word(machine.DATA), machine.word(machine.DATA + 4)
        return (core[0] - ahead[0], core[0] - ahead[1]) != memory or psr.itstate(core[16]) != itstate

    assert stop_often(machine, prepare, check) == [STOPS]


def test_exclusives_survive_stops(machine: Machine) -> None:
    """A stop between LDREX and STREX may make the STREX fail, but not succeed wrongly, and the loop goes on."""
    machine.put(
        machine.CODE,
        0xE1910F9F,  # ldrex r0, [r1]
        0xE2800001,  # add r0, r0, #1
        0xE1812F90,  # strex r2, r0, [r1]
        0xE3520000,  # cmp r2, #0
        0x02833001,  # addeq r3, r3, #1
        0xEAFFFFF9,
    )  # b .-20

    def prepare(vcpu: Vcpu) -> None:
        vcpu.set_core(1, machine.DATA)

    def check(core: tuple[int, ...]) -> bool:
        at = (core[15] - machine.CODE) // 4
        counted = at in (3, 4) and core[2] == 0
        return machine.word(machine.DATA) != core[3] + counted

    assert stop_often(machine, prepare, check) == [STOPS]
