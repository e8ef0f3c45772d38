# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that reads and writes guest RAM by itself: beside vCPUs that execute, swap and toggle the same pages."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, Vcpu
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.memory.guest_memory import AccessError, GuestMemory

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

HVC = 0xE1400070
MOV_R0 = 0xE3A00000
CMP_R0_1 = 0xE3500001
BNE_BACK_2 = 0x1AFFFFFC  # to two words before
LDR_R2_R1 = 0xE5912000
VALID, SWAPPED, BROKEN, WANTED = 1, 1 << 62, 1 << 61, 1 << 63
FILL = 0xE7F000F0
RAM_BYTES = 4 << 20


@pytest.fixture
def swap_fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def memory_of(machine: Machine, swap_fd: int = -1) -> GuestMemory:
    return GuestMemory(machine.control_fd, machine.ram_fd, machine.stage2_fd, swap_fd)


def enter(machine: Machine, vcpu: Vcpu, r1: int = 0) -> None:
    vcpu.power_on(machine.CODE, 0, r1, 0)
    leave = vcpu.run()
    assert leave.kind == EXIT_HVC, leave


def test_bytes_go_over_the_borders_of_pages_and_back(machine: Machine) -> None:
    memory = memory_of(machine)
    data = os.urandom(3 * 4096 + 10)
    memory.write(machine.DATA + 4090, data)
    assert memory.read(machine.DATA + 4090, len(data)) == data
    assert machine.ram[machine.DATA + 4090 - RAM_BASE :][: len(data)] == data
    memory.store16(machine.DATA + 2, 0x1BEEF)
    assert memory.load16(machine.DATA + 2) == 0xBEEF
    assert memory.read(machine.DATA, 6) == b"\0\0\xef\xbe\0\0"
    assert [machine.entry(machine.DATA + 4096 * page) for page in range(5)] == [0] * 5, "no vCPU has used the pages"


@pytest.mark.parametrize(
    ("ipa", "length"),
    [
        (0, 1),
        (RAM_BASE - 1, 2),
        (RAM_BASE + RAM_BYTES - 1, 2),
        (RAM_BASE + RAM_BYTES + 1, 0),
        (RAM_BASE, RAM_BYTES + 1),
        (RAM_BASE, (1 << 64) - 1),
        ((1 << 64) - 1, 1),
        ((1 << 32) + RAM_BASE, 1),
        ((1 << 64) - 8, 16),
    ],
)
def test_what_is_not_in_ram_is_refused(machine: Machine, ipa: int, length: int) -> None:
    memory = memory_of(machine)
    with pytest.raises(AccessError, match="are not in the guest's memory"):
        memory.read(ipa, length)
    if length < 1 << 23:
        with pytest.raises(AccessError, match="are not in the guest's memory"):
            memory.write(ipa, bytes(length))
    for call in (
        lambda: memory.load16(RAM_BASE - 2),
        lambda: memory.load16(RAM_BASE + 1),
        lambda: memory.store16(RAM_BASE + RAM_BYTES, 0),
        lambda: memory.store16(RAM_BASE + 1, 0),
    ):
        with pytest.raises(AccessError):
            call()


def test_another_vcpu_executes_what_the_device_has_written(machines: Callable[..., Machine]) -> None:
    """The vCPU never leaves by itself, and does no maintenance: only the device's write can end its loop."""
    machine = machines(2)
    memory = memory_of(machine)
    machine.put(machine.CODE, MOV_R0, CMP_R0_1, BNE_BACK_2, HVC)

    def loop(vcpu: Vcpu) -> int:
        machine.call(vcpu, 1)
        return vcpu.core()[0]

    child = machine.child(1, loop)
    machine.until(
        lambda: machine.page.mode(1) == machine.page.IN_GUEST and machine.entry(machine.CODE) & VALID, "vCPU 1 executes"
    )
    begun, done = machine.page.epochs()[1:]
    entry = machine.entry(machine.CODE)
    memory.write(machine.CODE + 4096, b"data beside it")
    assert machine.page.epochs()[1:] == (begun, done) and machine.page.code_writes() == 0, "that is no code"
    memory.write(machine.CODE, struct.pack("<I", MOV_R0 | 1))
    assert child.result() == 1
    assert machine.page.epochs()[1:] == (begun + 1, done + 1) and machine.page.code_writes() == 1
    assert machine.entry(machine.CODE) == entry, "the page is what it was: executable, not writable"


def test_a_page_that_is_swapped_out_comes_back_for_the_device(machine: Machine, swap_fd: int) -> None:
    memory = memory_of(machine, swap_fd)
    vcpu = machine.vcpu()
    vcpu.keep_swap(swap_fd)
    machine.put(machine.CODE, LDR_R2_R1, HVC)
    machine.put(machine.DATA, 42)
    for work in (
        lambda: memory.read(machine.DATA, 4),
        lambda: memory.load16(machine.DATA),
        lambda: memory.write(machine.DATA + 8, b"12345678"),
        lambda: memory.store16(machine.DATA + 16, 77),
    ):
        enter(machine, vcpu, machine.DATA)
        before = machine.entry(machine.DATA)
        assert vcpu.swap_out(machine.DATA, FILL) == ""
        assert machine.entry(machine.DATA) == SWAPPED
        work()
        assert machine.entry(machine.DATA) == before
    assert (memory.swapped_in, memory.written_while_out) == (4, 0)
    enter(machine, vcpu, machine.DATA)
    assert vcpu.core()[2] == 42
    assert vcpu.read_ram(machine.DATA, 18) == b"\x2a" + bytes(7) + b"12345678" + b"\x4d\0"


def test_a_frame_that_was_written_to_meanwhile_is_seen(machine: Machine, swap_fd: int) -> None:
    memory = memory_of(machine, swap_fd)
    vcpu = machine.vcpu()
    vcpu.keep_swap(swap_fd)
    machine.put(machine.CODE, LDR_R2_R1, HVC)
    enter(machine, vcpu, machine.DATA)
    vcpu.swap_out(machine.DATA, FILL)
    machine.put(machine.DATA + 400, 1)
    memory.read(machine.DATA, 1)
    assert memory.written_while_out == 1


def test_a_damaged_swap_file_is_the_harness_s_error(machine: Machine, swap_fd: int) -> None:
    memory = memory_of(machine, swap_fd)
    vcpu = machine.vcpu()
    vcpu.keep_swap(swap_fd)
    machine.put(machine.CODE, LDR_R2_R1, HVC)
    enter(machine, vcpu, machine.DATA)
    vcpu.swap_out(machine.DATA, FILL)
    os.pwrite(swap_fd, b"!", machine.DATA - RAM_BASE)
    with pytest.raises(RuntimeError, match="the file is damaged"):
        memory.read(machine.DATA, 1)


def test_a_page_that_somebody_changes_is_waited_for_and_wanted(machine: Machine) -> None:
    machine.set_entry(machine.DATA, BROKEN)
    child = machine.fork(lambda: memory_of(machine).read(machine.DATA, 4))
    machine.until(lambda: machine.entry(machine.DATA) == BROKEN | WANTED, "the device wants the page")
    assert not child.is_done
    machine.put(machine.DATA, 0x11223344)
    machine.set_entry(machine.DATA, 0)
    assert child.result() == b"\x44\x33\x22\x11"


def test_the_device_does_not_wait_when_the_run_is_over(machine: Machine) -> None:
    memory = memory_of(machine)
    machine.set_entry(machine.DATA, BROKEN)
    machine.page.post(0, machine.page.QUIT)
    with pytest.raises(AccessError, match="the run is over"):
        memory.write(machine.DATA, b"1")


def test_the_device_counts_as_alive_while_it_works(machine: Machine) -> None:
    before = machine.page.heartbeat(machine.page.DEVICES)
    memory_of(machine).read(RAM_BASE, 4096)
    assert machine.page.heartbeat(machine.page.DEVICES) > before


def test_the_parts_of_a_machine_must_fit(machine: Machine) -> None:
    arguments: Any = (machine.control_fd, machine.ram_fd, machine.control_fd)
    with pytest.raises(ValueError, match="are not the control page"):
        GuestMemory(machine.ram_fd, machine.ram_fd, machine.stage2_fd)
    with pytest.raises(OSError):
        GuestMemory(-1, *arguments[1:])
