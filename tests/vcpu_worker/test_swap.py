# SPDX-License-Identifier: GPL-2.0-or-later
"""Swap at stage 2: a page leaves and comes back unchanged for every user, and a damaged one is found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EngineError, Vcpu
from allstop.vm.config.limits import RAM_BASE

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
MOV_R0_7 = 0xE3A00007
LDR_R2_R1 = 0xE5912000
STR_R2_R1 = 0xE5812000
TLBIALLIS = 0xEE080F13
FILL = 0xE7F000F0


@pytest.fixture
def swap_fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def enter(machine: Machine, vcpu: Vcpu, r1: int = 0) -> None:
    vcpu.power_on(machine.CODE, 0, r1, 0)
    leave = vcpu.run()
    assert leave.kind == EXIT_HVC, leave


def scene(machine: Machine, swap_fd: int, *words: int) -> Vcpu:
    vcpu = machine.vcpu()
    vcpu.keep_swap(swap_fd)
    machine.put(machine.CODE, *words, HVC)
    return vcpu


def test_code_that_was_swapped_out_runs_again(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    enter(machine, vcpu)
    before = vcpu.read_ram(machine.CODE, 4096)
    assert vcpu.swap_out(machine.CODE, FILL) == ""
    assert vcpu.read_frame(machine.CODE, 8) == FILL.to_bytes(4, "little") * 2
    assert os.pread(swap_fd, 4096, machine.CODE - RAM_BASE) == before
    enter(machine, vcpu)
    assert vcpu.core()[0] == 7
    assert vcpu.read_frame(machine.CODE, 4096) == before
    assert (machine.counter("swap_out"), machine.counter("swap_in"), machine.counter("swap_written")) == (1, 1, 0)


def test_data_that_was_swapped_out_is_read_and_written(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, LDR_R2_R1, STR_R2_R1)
    data = machine.CODE + 0x4000
    vcpu.write_ram(data, (42).to_bytes(4, "little"))
    enter(machine, vcpu, data)
    assert vcpu.swap_out(data, FILL) == ""
    enter(machine, vcpu, data)
    assert vcpu.core()[2] == 42 and vcpu.read_ram(data, 4) == (42).to_bytes(4, "little")


def test_the_hypervisor_brings_in_what_it_reads_or_writes(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    enter(machine, vcpu)
    vcpu.swap_out(machine.CODE, FILL)
    assert vcpu.read_ram(machine.CODE, 4) == MOV_R0_7.to_bytes(4, "little")
    vcpu.swap_out(machine.CODE, FILL)
    assert vcpu.write_ram(machine.CODE + 64, b"1234")
    assert vcpu.read_ram(machine.CODE, 4) == MOV_R0_7.to_bytes(4, "little")


def test_what_can_not_be_swapped_says_why(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    assert vcpu.swap_out(machine.CODE, FILL) == "the page is not in use"
    assert vcpu.swap_out(0x1000, FILL) == "the page is not in use"
    enter(machine, vcpu)
    assert vcpu.swap_in(machine.CODE) == "the page is not in use"
    assert vcpu.swap_out(machine.CODE, FILL) == ""
    assert vcpu.swap_out(machine.CODE, FILL) == "another process is changing the page"
    assert vcpu.swap_in(machine.CODE) == ""


def test_a_damaged_swap_file_is_found(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    enter(machine, vcpu)
    vcpu.swap_out(machine.CODE, FILL)
    os.pwrite(swap_fd, b"x", machine.CODE - RAM_BASE + 100)
    vcpu.power_on(machine.CODE, 0, 0, 0)
    with pytest.raises(EngineError, match="came back from the swap file with other contents"):
        vcpu.run()


def test_a_swap_file_that_is_cut_is_found(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    enter(machine, vcpu)
    vcpu.swap_out(machine.CODE, FILL)
    os.ftruncate(swap_fd, 0)
    assert "cut short" in vcpu.swap_in(machine.CODE)


def test_who_writes_to_the_frame_meanwhile_is_noticed(machine: Machine, swap_fd: int) -> None:
    vcpu = scene(machine, swap_fd, MOV_R0_7)
    enter(machine, vcpu)
    vcpu.swap_out(machine.CODE, FILL)
    os.pwrite(machine.ram_fd, b"x", machine.CODE - RAM_BASE + 100)
    enter(machine, vcpu)
    assert machine.counter("swap_written") == 1


def test_a_full_disk_leaves_the_page_where_it_is(machine: Machine) -> None:
    with open("/dev/full", "r+b", buffering=0) as full:
        vcpu = scene(machine, full.fileno(), MOV_R0_7)
        enter(machine, vcpu)
        assert "No space left" in vcpu.swap_out(machine.CODE, FILL)
    enter(machine, vcpu)
    assert vcpu.core()[0] == 7


@pytest.mark.parametrize("how", [1, 2])
def test_a_spoiled_invalidation_is_seen_by_the_oracle(machines: Callable[..., Machine], how: int) -> None:
    """Another vCPU is in the guest all the while: late and dropped let it stay there, once."""
    machine = machines(vcpus=2)
    vcpu = scene(machine, -1, TLBIALLIS)
    enter(machine, vcpu)  # with its stage-2 faults behind it
    machine.page.clear(1, machine.page.TLB_FLUSH)
    assert machine.page.set_mode(1, machine.page.IN_GUEST)
    vcpu.spoil_invalidation(how)
    enter(machine, vcpu)
    assert machine.counter("stale_tlb") == 1
    assert bool(machine.page.requests(1) & machine.page.TLB_FLUSH) == (how == 1)
    machine.page.set_mode(1, machine.page.OUTSIDE)
    enter(machine, vcpu)
    assert machine.counter("stale_tlb") == 1


@pytest.mark.parametrize(("how", "times"), [(0, 1), (3, 2)])
def test_a_doubled_invalidation_is_done_twice_and_is_right(
    machines: Callable[..., Machine], how: int, times: int
) -> None:
    machine = machines(vcpus=2)
    vcpu = scene(machine, -1, TLBIALLIS)
    enter(machine, vcpu)
    begun = machine.page.epochs()[1]
    vcpu.spoil_invalidation(how)
    enter(machine, vcpu)
    assert machine.page.epochs()[1] - begun == times
    assert machine.counter("stale_tlb") == 0


def test_no_page_changes_in_a_stopped_world(machines: Callable[..., Machine], swap_fd: int) -> None:
    """The actor waits for the end of the stop, and keeps no vCPU from the page meanwhile."""
    machine = machines(vcpus=2)
    child_ready = machine.DATA + 0x100
    code = machine.CODE

    def swap(vcpu: Vcpu) -> str:
        vcpu.keep_swap(swap_fd)
        assert vcpu.run().kind == EXIT_HVC
        machine.put(child_ready, 1)
        machine.until(lambda: machine.word(child_ready) == 2, "the world is stopped")
        return vcpu.swap_out(code, FILL)

    machine.put(code, MOV_R0_7, HVC)
    child = machine.child(1, swap)
    machine.until(lambda: machine.word(child_ready) == 1, "it has run")
    assert machine.page.stop([0], 5.0) == []
    machine.put(child_ready, 2)
    machine.until(lambda: machine.page.mode(1) == machine.page.SLEEPING, "it waits for the end of the stop")
    assert machine.word(code) == MOV_R0_7 and machine.entry(code) & 1  # the owner of the world may need the page
    machine.page.resume()
    assert child.result() == ""
    assert machine.word(code) == FILL
