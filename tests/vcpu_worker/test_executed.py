# SPDX-License-Identifier: GPL-2.0-or-later
"""The instruction as the engine executed it, which is not always the one that stands in memory by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_MMIO, EXIT_NISV, Vcpu

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

POST = 0xE4956004  # ldr r6, [r5], #4
OTHER = 0xE4956008  # ldr r6, [r5], #8
BYTE = 0xE5D56000  # ldrb r6, [r5]
VA = 0x1230_0000


def trap(vcpu: Vcpu, machine: Machine, pc: int) -> tuple[int, int, int]:
    """Run from `pc` to an exit: its kind, instruction and length."""
    vcpu.set_core(5, machine.DEVICE)
    vcpu.set_core(15, pc)
    leave = vcpu.run()
    assert leave.pc == pc
    return leave.kind, leave.instruction, leave.length


def test_another_writer_has_replaced_the_word(machine: Machine) -> None:
    machine.put(machine.CODE, POST)
    vcpu = machine.vcpu()
    assert trap(vcpu, machine, machine.CODE) == (EXIT_NISV, POST, 4)
    machine.put(machine.CODE, BYTE)
    assert trap(vcpu, machine, machine.CODE) == (EXIT_NISV, POST, 4), "the engine has not seen the new word"
    assert vcpu.read_ram(machine.CODE, 4) == BYTE.to_bytes(4, "little")


def test_write_ram_drops_what_was_translated(machine: Machine) -> None:
    machine.put(machine.CODE, POST)
    vcpu = machine.vcpu()
    assert trap(vcpu, machine, machine.CODE) == (EXIT_NISV, POST, 4)
    assert vcpu.write_ram(machine.CODE, OTHER.to_bytes(4, "little"))
    assert trap(vcpu, machine, machine.CODE) == (EXIT_NISV, OTHER, 4)
    assert vcpu.write_ram(machine.CODE, BYTE.to_bytes(4, "little"))
    assert trap(vcpu, machine, machine.CODE)[0] == EXIT_MMIO


def test_write_ram_drops_what_was_translated_from_a_wx_page(machine: Machine) -> None:
    machine.put(
        machine.CODE,
        0xE58F0000,  # str r0, [pc]
        0xF57FF06F,  # isb
        0,
    )  # here
    vcpu = machine.vcpu()
    vcpu.set_core(0, POST)
    vcpu.set_core(5, machine.DEVICE)
    assert vcpu.run().instruction == POST
    assert machine.counter("write_exec_pages") == 1
    assert vcpu.write_ram(machine.CODE + 8, OTHER.to_bytes(4, "little"))
    assert trap(vcpu, machine, machine.CODE + 8) == (EXIT_NISV, OTHER, 4)


def map_va(machine: Machine, vcpu: Vcpu, *pages: int) -> None:
    """Have the MMU map these pages at VA, and RAM and the device flat; forget what was mapped before."""
    table = machine.TABLES
    machine.put(table + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section, read and write
    machine.put(table + 4 * (machine.DEVICE >> 20), machine.DEVICE | 0xC02)
    machine.put(table + 4 * (VA >> 20), table + 0x4000 | 1)
    machine.put(table + 0x4000, *(page | 0x32 for page in pages))  # small pages, read and write
    vcpu.cp15(2, 0, 0, 0, False, table)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])
    machine.page.post(0, machine.page.TLB_FLUSH)


def test_old_blocks_come_back_with_a_remap(machine: Machine) -> None:
    one, other = machine.DATA, machine.DATA + 0x1000
    machine.put(one, POST)
    machine.put(other, OTHER)
    vcpu = machine.vcpu()
    map_va(machine, vcpu, one)
    assert trap(vcpu, machine, VA) == (EXIT_NISV, POST, 4)
    map_va(machine, vcpu, other)
    assert trap(vcpu, machine, VA) == (EXIT_NISV, OTHER, 4)
    machine.put(one, BYTE)
    map_va(machine, vcpu, one)
    assert trap(vcpu, machine, VA) == (EXIT_NISV, POST, 4), "the old page's old block"


@pytest.mark.parametrize("mapped", [False, True])
def test_an_instruction_over_a_page_boundary(machine: Machine, mapped: bool) -> None:
    one, other = machine.DATA, machine.DATA + (0x3000 if mapped else 0x1000)
    machine.put_thumb(one + 0xFFE, 0xF855)  # ldr r6, [r5], #4
    machine.put_thumb(other, 0x6B04)
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | 1, 0, 0, 0)
    start = machine.DATA
    if mapped:
        map_va(machine, vcpu, one, other)
        start = VA
    assert trap(vcpu, machine, start + 0xFFE) == (EXIT_NISV, 0xF8556B04, 4)
    machine.put_thumb(other, 0x6B08)  # ldr r6, [r5], #8
    assert trap(vcpu, machine, start + 0xFFE) == (EXIT_NISV, 0xF8556B04, 4)


def test_it_is_known_among_many_blocks(machine: Machine) -> None:
    blocks = 3000
    for n in range(blocks):
        machine.put(
            machine.DATA + 12 * n,
            0xE2800001,  # add r0, r0, #1
            0xE4956000 | n % 4096,  # ldr r6, [r5], #n
            0xEAFFFFFF,
        )  # b .+4
    vcpu = machine.vcpu()
    for again in range(2):
        vcpu.set_core(15, machine.DATA)
        for n in range(blocks):
            vcpu.set_core(5, machine.DEVICE)
            leave = vcpu.run()
            assert (leave.kind, leave.instruction, leave.length) == (EXIT_NISV, 0xE4956000 | n % 4096, 4), (again, n)
            vcpu.retire(4)
            machine.put(leave.pc, BYTE)
