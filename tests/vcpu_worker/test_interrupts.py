# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts and WFI: the line word goes in, the guest's own exception entry comes out; sleep costs nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_BUDGET, EXIT_REQUEST, Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Child, Machine

NOP = 0xE320F000  # nop
WFI = 0xE320F003  # wfi
CPSIE_I = 0xF1080080  # cpsie i
CPSIE_F = 0xF1080040  # cpsie f
ADD = 0xE2800001  # add r0, r0, #1
SELF = 0xEAFFFFFE  # b .
IRQ, FIQ = 1, 2


def hvc(n: int) -> int:
    """hvc #n"""
    return 0xE1400070 | n


def with_vectors(machine: Machine, *code: int) -> None:
    """Code, and vectors that call out with the vector's offset."""
    machine.put(machine.CODE, *code)
    for offset in range(0, 0x20, 4):
        machine.put(machine.VECTORS + offset, hvc(offset // 4))


def opened(machine: Machine, unmasked: bool = True) -> Vcpu:
    """The vCPU, with VBAR, and the interrupts unmasked."""
    return unmask(machine, machine.vcpu(), unmasked)


def unmask(machine: Machine, vcpu: Vcpu, unmasked: bool = True) -> Vcpu:
    """Set VBAR, and unmask."""
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    if unmasked:
        vcpu.set_core(16, vcpu.core()[16] & ~(psr.I | psr.F))
    return vcpu


def line(version: int, level: int) -> int:
    """A line word."""
    return version << 2 | level


def sleeper(machine: Machine, unmasked: bool = True, *after: int) -> Child:
    """A vCPU in another process that sleeps in WFI, and then calls out: what it called."""
    with_vectors(machine, WFI, *after, hvc(15))
    child = machine.child(0, lambda vcpu: (machine.call(unmask(machine, vcpu, unmasked)), vcpu.core()))
    machine.until(lambda: machine.page.mode(0) == machine.page.SLEEPING, "it sleeps")
    return child


@pytest.mark.parametrize(
    ("level", "mode", "offset", "masks"),
    [(IRQ, psr.Mode.IRQ, 0x18, psr.A | psr.I), (FIQ, psr.Mode.FIQ, 0x1C, psr.A | psr.I | psr.F)],
)
def test_an_interrupt_enters_its_vector(machine: Machine, level: int, mode: int, offset: int, masks: int) -> None:
    with_vectors(machine, NOP, NOP)
    vcpu = opened(machine)
    before = vcpu.core()[16] & ~psr.A
    vcpu.set_core(16, before)
    machine.page.set_line(0, line(1, level))
    assert machine.call(vcpu) == offset // 4
    core = vcpu.core()
    assert core[16] == before & ~psr.MODE | mode | masks
    assert (core[14], core[15]) == (machine.CODE + 4, machine.VECTORS + offset + 4)
    assert vcpu.banked(mode, 16) == before


def test_a_masked_interrupt_waits_for_the_guest_to_unmask_it(machine: Machine) -> None:
    with_vectors(machine, NOP, ADD, CPSIE_I, ADD, SELF)
    vcpu = opened(machine, unmasked=False)
    machine.page.set_line(0, line(1, IRQ))
    assert machine.call(vcpu) == 6
    assert vcpu.core()[0] == 1 and vcpu.core()[14] == machine.CODE + 12 + 4
    assert machine.counter("kick") == 0, "it took no help from outside"


def test_an_exception_return_that_unmasks_lets_it_in(machine: Machine) -> None:
    with_vectors(machine, ADD, SELF)
    machine.put(machine.CODE + 0x100, 0xE1B0F00E)  # movs pc, lr
    vcpu = opened(machine, unmasked=False)
    machine.page.set_line(0, line(1, IRQ))
    vcpu.set_core(15, machine.CODE + 0x100)
    vcpu.set_core(14, machine.CODE)
    vcpu.banked(psr.Mode.SUPERVISOR, 16, psr.Mode.SUPERVISOR)
    assert machine.call(vcpu) == 6
    assert (vcpu.core()[0], vcpu.core()[14]) == (0, machine.CODE + 4)


def test_a_running_guest_is_interrupted_in_its_loop(machine: Machine) -> None:
    with_vectors(machine, ADD, 0xE5810000, 0xEAFFFFFC)  # str r0, [r1]; b .-8

    def body(vcpu: Vcpu) -> tuple[int, tuple[int, ...]]:
        unmask(machine, vcpu).set_core(1, machine.DATA)
        return machine.call(vcpu), vcpu.core()

    child = machine.child(0, body)
    machine.until(lambda: machine.word(machine.DATA), "it runs")
    machine.page.set_line(0, line(1, IRQ))
    vector, core = child.result()
    assert vector == 6
    at = (core[14] - 4 - machine.CODE) // 4
    assert core[0] - (at == 1) == machine.word(machine.DATA) and 0 <= at <= 2


def test_a_line_that_was_lowered_is_not_taken(machine: Machine) -> None:
    with_vectors(machine, ADD, ADD)
    vcpu = opened(machine)
    machine.page.set_line(0, line(1, IRQ))
    machine.page.set_line(0, line(2, 0))
    assert vcpu.run(2).kind == EXIT_BUDGET and vcpu.core()[0] == 2


def test_a_line_that_was_lowered_after_it_was_seen_is_not_taken(machine: Machine) -> None:
    with_vectors(machine, ADD, ADD, CPSIE_I, ADD, SELF)
    vcpu = opened(machine, unmasked=False)
    machine.page.set_line(0, line(1, IRQ))
    assert vcpu.run(1).kind == EXIT_BUDGET and machine.counter("interrupt")
    machine.page.set_line(0, line(2, 0))
    assert vcpu.run(9).kind == EXIT_BUDGET and vcpu.core()[0] == 3


def test_the_newest_version_of_the_line_wins(machine: Machine) -> None:
    with_vectors(machine, ADD, ADD)
    vcpu = opened(machine)
    assert machine.page.set_line(0, line(5, IRQ))
    assert not machine.page.set_line(0, line(4, 0)), "older"
    assert not machine.page.set_line(0, line(5, FIQ)), "not newer"
    assert not machine.page.set_line(0, line(6, IRQ)), "no change"
    assert machine.page.line(0) == line(6, IRQ)
    assert machine.call(vcpu) == 6


def test_a_level_stays_until_it_is_lowered(machine: Machine) -> None:
    with_vectors(machine, ADD, SELF)
    machine.put(machine.VECTORS + 0x18, hvc(6), 0xE25EF004)  # subs pc, lr, #4
    vcpu = opened(machine)
    machine.page.set_line(0, line(1, IRQ))
    assert [machine.call(vcpu) for _ in range(3)] == [6, 6, 6] and vcpu.core()[0] == 0


def test_sleep_costs_no_cpu_and_ends_with_the_line(machine: Machine) -> None:
    child = sleeper(machine)
    assert machine.page.describe(0) == "asleep in WFI"
    cpu_s, until = child.cpu_s(), time.monotonic() + 0.6
    machine.until(lambda: time.monotonic() > until, "time passes")
    assert child.cpu_s() - cpu_s < 0.03 and not child.is_done
    beats = machine.page.heartbeat(0)
    machine.until(lambda: machine.page.heartbeat(0) > beats, "it says that it lives")
    machine.page.set_line(0, line(1, IRQ))
    vector, core = child.result()
    assert (vector, core[14]) == (6, machine.CODE + 4 + 4)


def test_the_line_wakes_a_sleeper_at_once(machines: type[Machine]) -> None:
    times_s = []
    for _ in range(3):  # the best of them: the host may be busy
        machine = machines()
        child = sleeper(machine)
        start_s = time.monotonic()
        machine.page.set_line(0, line(1, IRQ))
        machine.until(lambda child=child: child.is_done, "it woke up")
        times_s.append(time.monotonic() - start_s)
    assert min(times_s) < 0.1


@pytest.mark.parametrize("early", [True, False])
def test_a_pending_interrupt_that_is_masked_ends_the_sleep(machine: Machine, early: bool) -> None:
    if early:
        machine.page.set_line(0, line(1, IRQ))
        with_vectors(machine, WFI, hvc(15))
        assert machine.call(opened(machine, unmasked=False)) == 15
        return
    child = sleeper(machine, False)
    machine.page.set_line(0, line(1, IRQ))
    vector, core = child.result()
    assert (vector, core[15]) == (15, machine.CODE + 8)


def test_other_requests_do_not_end_the_sleep(machine: Machine) -> None:
    child = sleeper(machine)
    page = machine.page
    for bit in (page.PING, page.TLB_FLUSH, page.CODE_FLUSH, page.INTERRUPT):
        page.post(0, bit)
    page.set_line(0, line(1, 0))
    machine.until(lambda: not page.requests(0) & page.PING, "it has looked")
    assert page.stop([], 1.0) == [], "a sleeper is out of the guest"
    page.set_line(0, line(2, IRQ))
    machine.until(lambda: page.describe(0) == "parked by a stop", "it is parked")
    assert not child.is_done
    page.resume()
    assert child.result()[0] == 6


@pytest.mark.parametrize(("instruction", "length"), [(0xBF30, 2), (0xF3AF8003, 4)])  # wfi; wfi.w
def test_thumb_code_goes_on_behind_its_wfi(machine: Machine, instruction: int, length: int) -> None:
    machine.put_thumb(machine.CODE, instruction, 0xF7E08001)  # hvc #1
    child = machine.child(0, lambda vcpu: (vcpu.power_on(machine.CODE | 1, 0, 0, 0), vcpu.run().pc)[1])
    machine.until(lambda: machine.page.mode(0) == machine.page.SLEEPING, "it sleeps")
    machine.page.set_line(0, line(1, IRQ))
    assert child.result() == machine.CODE + length + 4


def test_a_trapped_wfi_advances_the_it_block(machine: Machine) -> None:
    machine.put_thumb(machine.CODE, 0x4292, 0xBF04, 0xBF30, 0x3001, 0xF7E08001)  # cmp; itt eq; wfi; adds; hvc #1
    child = machine.child(0, lambda vcpu: (vcpu.power_on(machine.CODE | 1, 0, 0, 0), vcpu.run().hsr, vcpu.core())[1:])
    machine.until(lambda: machine.page.mode(0) == machine.page.SLEEPING, "it sleeps")
    machine.page.set_line(0, line(1, IRQ))
    hsr, core = child.result()
    assert (hsr & 0xFFFF, core[0], psr.itstate(core[16])) == (1, 1, 0)


@pytest.mark.parametrize("bit", ["EVENT", "QUIT", "TICK"])
def test_python_sleeps_the_same_way(machine: Machine, bit: str) -> None:
    def body(vcpu: Vcpu) -> tuple[int, int]:
        vcpu.wait_for_interrupt()
        return vcpu.core()[15], vcpu.run(1).kind

    machine.put(machine.CODE, ADD)
    child = machine.child(0, body)
    machine.until(lambda: machine.page.mode(0) == machine.page.SLEEPING, "it sleeps")
    machine.page.post(0, getattr(machine.page, bit))
    assert child.result() == (machine.CODE, EXIT_BUDGET if bit == "TICK" else EXIT_REQUEST)
