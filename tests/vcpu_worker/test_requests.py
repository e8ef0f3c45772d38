# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests: what is posted to a vCPU is served, natively where it can be, before its next instruction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EXIT_REQUEST, Vcpu

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Child, Machine

AT_ONCE_S = 0.15  # of a wait that looks around by itself each 0.25 s
COUNTING = (
    0xE2800001,  # add r0, r0, #1
    0xE5810000,  # str r0, [r1]
    0xEAFFFFFC,  # b .-8
)
WFI = (0xE320F003, 0xE1400070)  # wfi; hvc #0


def counting(machine: Machine) -> Child:
    """A vCPU in another process that counts in DATA until it leaves to Python: the kind of its exit."""
    machine.put(machine.CODE, *COUNTING)

    def body(vcpu: Vcpu) -> int:
        vcpu.set_core(1, machine.DATA)
        return vcpu.run().kind

    child = machine.child(0, body)
    machine.until(lambda: machine.word(machine.DATA), "it counts")
    return child


def counts(machine: Machine) -> bool:
    """Wait until it has counted on."""
    before = machine.word(machine.DATA)
    machine.until(lambda: machine.word(machine.DATA) != before, "it counts on")
    return True


def without_vectors(machine: Machine) -> Child:
    """A vCPU whose guest aborts forever: nothing can be fetched, its vectors neither. It never starts a block."""
    machine.put(
        machine.CODE,
        0xEE010F10,  # mcr p15, 0, r0, c1, c0, 0
        0xEAFFFFFE,
    )  # b .

    def body(vcpu: Vcpu) -> int:
        vcpu.set_core(0, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
        vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
        return vcpu.run().kind

    child = machine.child(0, body)
    machine.until(lambda: machine.counter("stage2") >= 2, "it walks its tables")
    return child


def served(machine: Machine, bit: int) -> None:
    """Post `bit` and wait until it is served."""
    machine.page.post(0, bit)
    machine.until(lambda: not machine.page.requests(0) & bit, "the request is served")


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("TLB_FLUSH", "tlb_flush"),
        ("CODE_FLUSH", "code_flush"),
        ("PING", "ping"),
        ("INTERRUPT", "interrupt"),
        ("TICK", "kick"),
    ],
)
def test_requests_are_served_without_leaving_to_python(machine: Machine, name: str, counter: str) -> None:
    child = counting(machine)
    before = machine.counter(counter)
    served(machine, getattr(machine.page, name))
    machine.until(lambda: machine.counter(counter) > before, "it is counted")
    assert counts(machine) and not child.is_done


def test_a_ping_beats(machine: Machine) -> None:
    counting(machine)
    before = machine.page.heartbeat(0)
    served(machine, machine.page.PING)
    machine.until(lambda: machine.page.heartbeat(0) == before + 1, "one beat")


def test_a_flush_makes_the_new_table_seen(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE5910000,  # ldr r0, [r1]
        0xE5820000,  # str r0, [r2]
        0xEAFFFFFC,
    )  # b .-8
    table, va = machine.TABLES, 0x1230_0000
    machine.put(table + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section
    machine.put(table + 4 * (va >> 20), table + 0x4000 | 1)
    machine.put(table + 0x4000, machine.DATA | 0x32)  # small page
    machine.put(machine.DATA, 1)
    machine.put(machine.DATA + 0x1000, 2)
    seen = machine.DATA + 0x2000

    def body(vcpu: Vcpu) -> None:
        vcpu.cp15(2, 0, 0, 0, False, table)  # TTBR0
        vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
        vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
        vcpu.set_core(16, vcpu.core()[16])
        vcpu.set_core(1, va)
        vcpu.set_core(2, seen)
        vcpu.run()

    machine.child(0, body)
    machine.until(lambda: machine.word(seen) == 1, "the old page")
    machine.put(table + 0x4000, machine.DATA + 0x1000 | 0x32)  # small page
    served(machine, machine.page.PING)
    machine.put(seen, 0)
    machine.until(lambda: machine.word(seen), "another look")
    assert machine.word(seen) == 1, "nothing was flushed, and the TLB has forgotten"
    served(machine, machine.page.TLB_FLUSH)
    machine.until(lambda: machine.word(seen) == 2, "the new page")


def test_stop_parks_until_it_is_cleared(machine: Machine) -> None:
    child = counting(machine)
    page = machine.page
    assert page.stop([], 5.0) == []
    assert page.mode(0) in (page.OUTSIDE, page.SLEEPING)
    machine.until(lambda: page.describe(0) == "parked by a stop", "it is parked")
    before = machine.word(machine.DATA)
    page.post(0, page.TLB_FLUSH | page.PING)  # wakes it, and does not let it in
    cpu_s, until = child.cpu_s(), time.monotonic() + 0.3
    machine.until(lambda: time.monotonic() > until, "time passes")
    assert machine.word(machine.DATA) == before and child.cpu_s() - cpu_s < 0.05
    page.resume()
    assert counts(machine) and not page.requests(0) & (page.TLB_FLUSH | page.PING)
    assert machine.counter("stopped") == 1


def test_stop_is_served_although_other_requests_pour_in(machine: Machine) -> None:
    counting(machine)
    page = machine.page
    noise = machine.fork(lambda: [page.post(0, page.PING | page.INTERRUPT) for _ in range(20_000)] and None)
    for _ in range(20):
        assert page.stop([], 5.0) == []
        before = machine.word(machine.DATA)
        machine.until(lambda: "parked" in page.describe(0), "it is parked")
        assert machine.word(machine.DATA) == before
        page.resume()
        counts(machine)
    noise.result()


def test_a_guest_that_aborts_for_ever_can_be_stopped(machine: Machine) -> None:
    child = without_vectors(machine)
    assert machine.page.stop([], 5.0) == []
    machine.page.resume()
    served(machine, machine.page.PING)
    assert machine.page.stop([], 5.0) == [] and not child.is_done


def test_a_vcpu_that_has_served_a_request_is_not_marked_as_leaving(machine: Machine) -> None:
    """An asker that finds the vCPU in the guest must not mark a later guest entry: the request is served by then,
    nothing makes the vCPU exit, and the asker would wait forever."""
    counting(machine)
    page = machine.page

    def post_often() -> None:
        for _ in range(6_000):
            page.post(0, page.PING)
            if page.mode(0) != page.IN_GUEST:
                machine.until(lambda: page.mode(0) == page.IN_GUEST, "a later guest entry is marked")

    posting = [machine.fork(post_often) for _ in range(3)]
    for child in posting:
        child.result()


def test_the_owner_of_a_stopped_world_enters_it(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE2800001, 0xE1400070)  # add r0, r0, #1; hvc #0
    vcpu = machine.vcpu()
    machine.page.post(0, machine.page.STOP)
    assert vcpu.run(0, True).kind == EXIT_HVC
    assert vcpu.core()[0] == 1 and machine.counter("stopped") == 0


def parked(machine: Machine) -> Child:
    """A vCPU that is parked by a stop."""
    child = counting(machine)
    machine.page.post(0, machine.page.STOP)
    machine.until(lambda: machine.page.describe(0) == "parked by a stop", "it is parked")
    return child


def asleep(machine: Machine) -> Child:
    """A vCPU that sleeps in WFI."""
    machine.put(machine.CODE, *WFI)
    child = machine.child(0, lambda vcpu: vcpu.run().kind)
    machine.until(lambda: machine.page.mode(0) == machine.page.SLEEPING, "it sleeps")
    return child


@pytest.mark.parametrize("state", [counting, parked, asleep, without_vectors])
def test_quit_leaves_at_once(machines: Callable[[], Machine], state: Callable[[Machine], Child]) -> None:
    times_s = []
    for _ in range(3):  # the best of them: the host may be busy
        machine = machines()
        child = state(machine)
        start_s = time.monotonic()
        machine.page.post(0, machine.page.QUIT)
        assert child.result() == EXIT_REQUEST
        times_s.append(time.monotonic() - start_s)
        assert machine.page.requests(0) & machine.page.QUIT, "no process may take it back"
    assert min(times_s) < AT_ONCE_S


def test_an_event_that_comes_before_entry_is_served_before_the_first_instruction(machine: Machine) -> None:
    machine.put(machine.CODE, *COUNTING)
    vcpu = machine.vcpu()
    machine.page.post(0, machine.page.EVENT)
    leave = vcpu.run()
    assert (leave.kind, leave.pc, vcpu.core()[0]) == (EXIT_REQUEST, machine.CODE, 0)
    assert not machine.page.requests(0) & machine.page.EVENT


def test_a_stop_that_comes_before_entry_is_served_before_the_first_instruction(machine: Machine) -> None:
    machine.put(machine.CODE, *COUNTING)
    machine.page.post(0, machine.page.STOP)

    def body(vcpu: Vcpu) -> int:
        vcpu.set_core(1, machine.DATA)
        return vcpu.run().kind

    machine.child(0, body)
    machine.until(lambda: machine.page.describe(0) == "parked by a stop", "it is parked")
    assert machine.word(machine.DATA) == 0 and machine.counter("stage2") == 0
    machine.page.clear(0, machine.page.STOP)
    machine.until(lambda: machine.word(machine.DATA), "it counts")


def test_an_event_reaches_python_although_the_world_is_stopped(machine: Machine) -> None:
    machine.put(machine.CODE, *COUNTING)
    vcpu = machine.vcpu()
    machine.page.post(0, machine.page.EVENT | machine.page.STOP)
    assert vcpu.run().kind == EXIT_REQUEST


def test_the_pc_is_published_for_whoever_explains_a_hang(machine: Machine) -> None:
    counting(machine)
    served(machine, machine.page.PING)
    machine.until(lambda: machine.page.activity(0)[2], "the pc")
    assert machine.page.describe(0) == "in the guest" and 0 <= machine.page.activity(0)[2] - machine.CODE <= 8
