# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage 2: memory costs what is touched, and every vCPU sees code that changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

VALID, WRITABLE, XN = 1, 3 << 6, 1 << 54
BX_LR = 0xE12FFF1E
MOVW_R0 = 0xE3000000  # movw r0, #0
READ_R0 = 0xE5910000  # ldr r0, [r1]
STORE_R0 = 0xE5810000  # str r0, [r1]
HVC = 0xE1400070  # hvc #0
SELF = 0xEAFFFFFE  # b .

# What vCPUs do in rounds. r4 = &written, r5 = &code, r6 = executed[2], r7 = round, r8 = last, r9 = movw r0, r10 = pages
EXECUTOR = (
    0xE320F001,  # yield
    0xE5940000,  # ldr r0, [r4]
    0xE1500007,  # cmp r0, r7
    0x1AFFFFFB,  # bne .-12
    0xF57FF05F,  # dmb
    0xF57FF06F,  # isb
    0xE1A00227,  # lsr r0, r7, #4
    0xE08A5600,  # add r5, r10, r0, lsl #12
    0xE12FFF35,  # blx r5
    0xE1500007,  # cmp r0, r7
    0x0A000000,  # beq .+8
    0xE1400071,  # hvc #1
    0xF57FF05F,  # dmb
    0xE5867000,  # str r7, [r6]
    0xE5867004,  # str r7, [r6, #4]
    0xE2877001,  # add r7, r7, #1
    0xE1570008,  # cmp r7, r8
    0x1AFFFFED,  # bne .-68
    0xE1400070,  # hvc #0
)
WRITER = (
    0xE320F001,  # yield
    0xE5960000,  # ldr r0, [r6]
    0xE5961004,  # ldr r1, [r6, #4]
    0xE2802001,  # add r2, r0, #1
    0xE1500001,  # cmp r0, r1
    0x01520007,  # cmpeq r2, r7
    0x1AFFFFF8,  # bne .-24
    0xF57FF05F,  # dmb
    0xE1A00227,  # lsr r0, r7, #4
    0xE08A5600,  # add r5, r10, r0, lsl #12
    0xE1871009,  # orr r1, r7, r9
    0xE5851000,  # str r1, [r5]
    0xEE075F3B,  # mcr p15, 0, r5, c7, c11, 1
    0xF57FF04F,  # dsb
    0xEE075F35,  # mcr p15, 0, r5, c7, c5, 1
    0xF57FF04F,  # dsb
    0xF57FF06F,  # isb
    0xE5847000,  # str r7, [r4]
    0xE2877001,  # add r7, r7, #1
    0xE1570008,  # cmp r7, r8
    0x1AFFFFEA,  # bne .-80
    0xE1400070,  # hvc #0
)
BYSTANDER = (  # writes to the same page at the same time, and means no harm
    0xE320F001,  # yield
    0xE5960000,  # ldr r0, [r6]
    0xE2800001,  # add r0, r0, #1
    0xE1500007,  # cmp r0, r7
    0x3AFFFFFA,  # bcc .-16
    0xE1A00227,  # lsr r0, r7, #4
    0xE08A5600,  # add r5, r10, r0, lsl #12
    0xE5857800,  # str r7, [r5, #2048]
    0xE2877001,  # add r7, r7, #1
    0xE1570008,  # cmp r7, r8
    0x1AFFFFF4,  # bne .-40
    0xE1400070,  # hvc #0
)


def test_memory_costs_what_is_touched(machines: Callable[..., Machine]) -> None:
    machine = machines(memory_bytes=1 << 30)
    machine.put(
        machine.CODE,
        0xE5810000,  # str r0, [r1]
        0xE2811601,  # add r1, r1, #0x100000
        0xE1510002,  # cmp r1, r2
        0x1AFFFFFB,  # bne .-12
        0xE1400070,
    )  # hvc #0
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE, 1, machine.RAM + 0x400_0000, machine.RAM + 0x4000_0000 - 0x100_0000)
    machine.call(vcpu)
    touched = (0x4000_0000 - 0x500_0000) // 0x100000
    assert machine.word(machine.RAM + 0x4000_0000 - 0x110_0000) == 1
    assert os.fstat(machine.ram_fd).st_blocks * 512 <= (touched + 2) * 4096
    assert os.fstat(machine.stage2_fd).st_blocks * 512 <= (touched // 2 + 8) * 4096  # a page of entries is for 2 MiB


def test_the_first_touch_decides(machine: Machine) -> None:
    machine.put(machine.CODE, READ_R0, HVC, 0xE5820000, HVC)  # str r0, [r2]
    other = machine.DATA + 0x1000
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE, 7, machine.DATA, other)
    assert machine.entry(machine.CODE) == machine.entry(machine.DATA) == machine.entry(other) == 0
    machine.call(vcpu)
    code, data = machine.entry(machine.CODE), machine.entry(machine.DATA)
    assert code & VALID and not code & XN and code & WRITABLE == 1 << 6
    assert data & VALID and data & XN and data & WRITABLE == WRITABLE
    assert code & 0xFFFFF000 == machine.CODE and data & 0xFFFFF000 == machine.DATA
    assert machine.entry(other) == 0
    machine.call(vcpu)
    assert machine.entry(other) & XN
    assert machine.counter("stage2") == 3 and machine.counter("flip_to_exec") == 0


def test_a_page_changes_sides_and_back(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE12FFF31, STORE_R0, HVC)  # blx r1
    machine.put(machine.DATA, 0xE3A02005, BX_LR)  # mov r2, #5
    vcpu = machine.vcpu()
    for value in (6, 7):
        vcpu.power_on(machine.CODE, 0xE3A02000 | value, machine.DATA, 0)  # mov r2, #value
        machine.call(vcpu)
        assert vcpu.core()[2] == value - 1
    assert (machine.counter("flip_to_write"), machine.counter("flip_to_exec")) == (2, 1)
    assert machine.counter("write_exec_pages") == 0
    assert machine.entry(machine.DATA) & XN and machine.word(machine.DATA) == 0xE3A02007


def broken(machine: Machine, ipa: int) -> int:
    """Have the page's entry be in the middle of a change by another vCPU; the entry that will come of it."""
    entry = ipa | XN | WRITABLE | 1 << 10 | 3 << 8 | 0xF << 2 | 3
    machine.set_entry(ipa, entry & ~VALID)
    return entry


def test_an_entry_that_is_being_changed_is_waited_for(machine: Machine) -> None:
    machine.put(machine.CODE, READ_R0, HVC)
    machine.put(machine.DATA, 77)
    made = broken(machine, machine.DATA)

    def body(vcpu: Any) -> tuple[int, int]:
        vcpu.set_core(1, machine.DATA)
        return machine.call(vcpu), vcpu.core()[0]

    child = machine.child(0, body)
    machine.until(lambda: machine.counter("stage2") > 5, "it tries again and again")
    assert machine.page.stop([], 5.0) == [] and machine.entry(machine.DATA) == made & ~VALID
    machine.page.resume()
    assert not child.is_done
    machine.set_entry(machine.DATA, made)
    assert child.result() == (0, 77)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_walk_through_an_entry_that_is_being_changed_waits_too(machine: Machine, goes_on: bool) -> None:
    machine.put(machine.TABLES, machine.RAM | 0xC02)  # section
    made = broken(machine, machine.TABLES)

    def body(vcpu: Any) -> int | None:
        vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
        vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
        vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
        value: int | None = vcpu.translate(0x123, False, True)
        return value

    child = machine.child(0, body)
    machine.until(lambda: machine.counter("stage2") > 5, "it tries again and again")
    assert not child.is_done
    if goes_on:
        machine.set_entry(machine.TABLES, made)
    else:  # the other vCPU has died
        machine.page.post(0, machine.page.QUIT)
    assert child.result() == (machine.RAM + 0x123 if goes_on else None)


def play(machine: Machine, rounds: int, pages: int, *parts: tuple[int, ...]) -> list[Any]:
    """Run one vCPU for each part, to its end; what each says: 0 is good."""
    children = []
    for number, part in enumerate(parts):
        code = machine.CODE + 0x1000 * number
        machine.put(code, *part)

        def body(vcpu: Any, number: int = number, code: int = code) -> int:
            for n, value in enumerate((machine.DATA, 0, machine.DATA + 64, 1, rounds, MOVW_R0, pages), start=4):
                vcpu.set_core(n, value)
            vcpu.set_core(15, code)
            return machine.call(vcpu, number)

        children.append(machine.child(number, body))
    said: list[Any] = []
    while children and not any(said):  # one that fails leaves the others waiting
        machine.until(lambda left=children: any(child.is_done for child in left), "a vCPU that comes to its end")
        done = [child for child in children if child.is_done]
        children = [child for child in children if child not in done]
        said += [child.result() for child in done]
    return said


def functions(machine: Machine, rounds: int, step: int) -> int:
    """Pages of functions, to be written and called alternately."""
    for page in range(0, rounds // 16 + 1):
        machine.put(machine.RAM + 0x10_0000 + page * step, MOVW_R0, BX_LR)
    return machine.RAM + 0x10_0000


def test_code_written_by_another_vcpu_is_executed(machines: Callable[..., Machine]) -> None:
    machine = machines(vcpus=2, cores=1)
    assert play(machine, 400, functions(machine, 400, 4096), EXECUTOR, WRITER) == [0, 0]
    assert machine.counter("flip_to_exec", 0) >= 300 and machine.counter("flip_to_write", 1) >= 300
    assert machine.counter("write_exec_pages", 0) == machine.counter("write_exec_pages", 1) == 0


def test_a_third_vcpu_that_writes_to_the_page_hides_nothing(machines: Callable[..., Machine]) -> None:
    """A toggle is a transition with other vCPUs in it: no vCPU may store before those that execute have left."""
    machine = machines(vcpus=3, cores=1)
    assert play(machine, 240, functions(machine, 240, 4096), EXECUTOR, WRITER, BYSTANDER) == [0, 0, 0]


def test_two_executors_see_the_new_code(machines: Callable[..., Machine]) -> None:
    """The one that makes the page executable again must not be overtaken by one that has old translations of it."""
    machine = machines(vcpus=3, cores=1)
    say, say_other = EXECUTOR.index(0xE5867000), EXECUTOR.index(0xE5867004)
    one, other = list(EXECUTOR), list(EXECUTOR)
    one[say_other] = other[say] = 0xE320F000  # nop
    assert play(machine, 240, functions(machine, 240, 4096), tuple(one), WRITER, tuple(other)) == [0, 0, 0]


def test_an_instruction_that_writes_to_its_own_page_goes_on(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE5889000,  # str r9, [r8]
        0xE2877001,  # add r7, r7, #1
        0xE157000A,  # cmp r7, r10
        0x1AFFFFFB,  # bne .-12
        0xE1400070,
    )  # hvc #0
    vcpu = machine.vcpu()
    for n, value in ((8, machine.CODE + 64), (9, 5), (10, 1000)):
        vcpu.set_core(n, value)
    assert machine.call(vcpu) == 0
    assert (vcpu.core()[7], machine.word(machine.CODE + 64)) == (1000, 5)
    assert machine.counter("write_exec_pages") == 1 and machine.counter("stage2") < 10
    assert not machine.entry(machine.CODE) & XN and machine.entry(machine.CODE) & WRITABLE == WRITABLE


def test_code_that_rewrites_itself_executes_what_it_wrote(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE1870009,  # orr r0, r7, r9
        0xE5880000,  # str r0, [r8]
        0xEE078F3B,  # mcr p15, 0, r8, c7, c11, 1
        0xF57FF04F,  # dsb
        0xEE078F35,  # mcr p15, 0, r8, c7, c5, 1
        0xEE078FD5,  # mcr p15, 0, r8, c7, c5, 6
        0xF57FF04F,  # dsb
        0xF57FF06F,  # isb
        0xE3000000,  # movw r0, #0
        0xE1500007,  # cmp r0, r7
        0x0A000000,  # beq .+8
        0xE1400071,  # hvc #1
        0xE2877001,  # add r7, r7, #1
        0xE157000A,  # cmp r7, r10
        0x1AFFFFF0,  # bne .-56
        0xE1400070,
    )  # hvc #0
    vcpu = machine.vcpu()
    for n, value in ((8, machine.CODE + 32), (9, MOVW_R0), (10, 500)):
        vcpu.set_core(n, value)
    assert machine.call(vcpu) == 0
    assert vcpu.core()[7] == 500 and machine.counter("stage2") < 10 and machine.counter("icache") == 500


def test_a_page_of_code_and_data_does_not_toggle_for_ever(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE12FFF38,  # blx r8
        0xE5887040,  # str r7, [r8, #64]
        0xE2877001,  # add r7, r7, #1
        0xE157000A,  # cmp r7, r10
        0x1AFFFFFA,  # bne .-16
        0xE1400070,
    )  # hvc #0
    machine.put(machine.DATA, BX_LR)
    vcpu = machine.vcpu()
    vcpu.set_core(8, machine.DATA)
    vcpu.set_core(10, 1000)
    assert machine.call(vcpu) == 0
    toggles = machine.counter("flip_to_exec") + machine.counter("flip_to_write")
    assert 10 < toggles < 60 and machine.counter("write_exec_pages") == 1
    assert not machine.entry(machine.DATA) & XN and machine.entry(machine.DATA) & WRITABLE == WRITABLE


@pytest.mark.parametrize(
    "maintenance",
    [
        0xEE075F35,  # mcr p15, 0, r5, c7, c5, 1
        0xEE075F11,  # mcr p15, 0, r5, c7, c1, 0
        0xEE075F15,  # mcr p15, 0, r5, c7, c5, 0
    ],
    ids=["ICIMVAU", "ICIALLUIS", "ICIALLU"],
)
def test_wx_pages_are_coherent_by_cache_maintenance(machines: Callable[..., Machine], maintenance: int) -> None:
    machine = machines(vcpus=2, cores=1)
    same_page = {0xE1A00227: 0xE3A00000}  # lsr r0, r7, #4: mov r0, #0
    executor = tuple(same_page.get(word, word) for word in EXECUTOR)
    writer = tuple((same_page | {0xEE075F35: maintenance}).get(word, word) for word in WRITER)
    assert play(machine, 300, functions(machine, 0, 0), executor, writer) == [0, 0]
    assert machine.counter("write_exec_pages", 0) + machine.counter("write_exec_pages", 1) >= 1
    assert machine.counter("icache", 1) == 299 and machine.counter("code_flush", 0) > 200


def test_a_page_that_was_wx_becomes_an_ordinary_one_again(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE5889000,  # str r9, [r8]
        0xE2877001,  # add r7, r7, #1
        0xE157000A,  # cmp r7, r10
        0x1AFFFFFB,  # bne .-12
        0xEE075F15,  # mcr p15, 0, r5, c7, c5, 0
        0xE1400070,
    )  # hvc #0
    vcpu = machine.vcpu()
    for n, value in ((8, machine.CODE + 64), (9, 5), (10, 1000)):
        vcpu.set_core(n, value)
    assert machine.call(vcpu) == 0
    assert is_wx(machine)
    wx_at = time.monotonic()

    def invalidated() -> bool:
        vcpu.set_core(15, machine.CODE + 16)
        return machine.call(vcpu) == 0 and not is_wx(machine)

    machine.until(invalidated, "the page is executable and read-only")
    assert time.monotonic() - wx_at > 0.3
    vcpu.set_core(7, 0)
    vcpu.set_core(15, machine.CODE)
    assert machine.call(vcpu) == 0
    assert vcpu.core()[7] == 1000 and is_wx(machine), "and W+X again where it has to be"
    assert machine.counter("stage2") < 20


def is_wx(machine: Machine) -> bool:
    entry = machine.entry(machine.CODE)
    return not entry & XN and entry & WRITABLE == WRITABLE
