# SPDX-License-Identifier: GPL-2.0-or-later
"""Exceptions that the hypervisor gives to the guest: they must look like those that the guest takes by itself."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from allstop.vcpu_worker.engine import EXIT_BUDGET, Vcpu
from allstop.vm.arm import psr

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

V, EE, TE = 1 << 13, 1 << 25, 1 << 30  # of SCTLR
HOLE = 0x2345_0678  # where nothing is mapped
FLAGS = psr.N | psr.C | 3 << 16  # to be found again in SPSR

CODE = {  # by what happens: in ARM and in Thumb state; r1 = HOLE
    "undefined": (0xE7F000F0, 0xDE00),  # udf #0; udf #0
    "read": (0xE5910000, 0x6808),  # ldr r0, [r1]; ldr r0, [r1]
    "write": (0xE5810000, 0x6008),  # str r0, [r1]; str r0, [r1]
    "prefetch": (0xE1A0F001, 0x468F),  # mov pc, r1; mov pc, r1
}


def with_tables(machine: Machine, lpae: bool, order: str) -> None:
    """Map RAM flat, and the high vectors to the end of its first 2 MiB. SCTLR.EE is the byte order of tables, too."""
    table = machine.TABLES - machine.RAM
    if not lpae:
        struct.pack_into(order + "I", machine.ram, table + 4 * 0x400, machine.RAM | 0xC02)  # section, read and write
        struct.pack_into(order + "I", machine.ram, table + 4 * 0xFFF, machine.RAM + 0x10_0000 | 0xC02)
        return
    level2 = table + 0x1000
    block = machine.RAM | 1 | 1 << 10 | 1 << 6  # access flag, read and write at PL0 too
    entry = machine.RAM + level2 | 3
    struct.pack_into(order + "4Q", machine.ram, table, 0, entry, 0, entry)
    struct.pack_into(order + "Q", machine.ram, level2, block)
    struct.pack_into(order + "Q", machine.ram, level2 + 511 * 8, block)


def prepared(machine: Machine, vcpu: Vcpu, lpae: bool, thumb: bool, sctlr: int) -> None:
    """The vCPU in User mode at CODE, the MMU on."""
    with_tables(machine, lpae, ">" if sctlr & EE else "<")
    machine.page.post(0, machine.page.TLB_FLUSH)
    vcpu.power_on(machine.CODE | thumb, 0, HOLE, 0)
    vcpu.cp15(2, 0, 0, 2, False, lpae << 31)  # TTBCR
    if lpae:
        vcpu.cp15(0, 2, 0, 0, True, machine.TABLES)  # TTBR0
        vcpu.cp15(10, 2, 0, 0, False, 0xFF)  # MAIR0: attribute 0 is normal memory
    else:
        vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | sctlr | 1)  # SCTLR.M
    vcpu.set_core(16, psr.Mode.USER | FLAGS | psr.E | (psr.T if thumb else 0))


def seen(vcpu: Vcpu) -> dict[str, object]:
    """What the guest's handler can see of its exception."""
    core = vcpu.core()
    return {
        "core": core,
        "spsr": vcpu.banked(core[16] & 0x1F, 16),
        "usr": vcpu.banked(psr.Mode.USER, 14),
        "dfsr": vcpu.cp15(5, 0, 0, 0),
        "ifsr": vcpu.cp15(5, 0, 0, 1),
        "dfar": vcpu.cp15(6, 0, 0, 0),
        "ifar": vcpu.cp15(6, 0, 0, 2),
    }


@pytest.mark.parametrize("thumb", [False, True], ids=["arm", "thumb"])
@pytest.mark.parametrize("lpae", [False, True], ids=["short", "lpae"])
@pytest.mark.parametrize("what", CODE)
def test_an_injected_exception_is_like_the_guests_own(machine: Machine, what: str, lpae: bool, thumb: bool) -> None:
    word = CODE[what][thumb]
    (machine.put_thumb if thumb else machine.put)(machine.CODE, word)
    vcpu = machine.vcpu()
    for sctlr in (0, V, EE, TE, V | EE | TE):
        prepared(machine, vcpu, lpae, thumb, sctlr)
        assert vcpu.run(1).kind == EXIT_BUDGET
        own = seen(vcpu)
        prepared(machine, vcpu, lpae, thumb, sctlr)
        if what == "undefined":
            vcpu.undefined()
        else:
            if what == "prefetch":
                vcpu.set_core(15, HOLE)
            vcpu.abort(HOLE, prefetch=what == "prefetch", is_write=what == "write", lpae_status=5, short_status=5)
        assert seen(vcpu) == own, hex(sctlr)
        assert own["spsr"] == psr.Mode.USER | FLAGS | psr.E | (psr.T if thumb else 0)


@pytest.mark.parametrize(
    ("prefetch", "write", "short", "long"),
    [(False, False, 0x008, 0x210), (False, True, 0x808, 0xA10), (True, False, 0x008, 0x210)],
)
def test_an_external_abort_is_the_default(machine: Machine, prefetch: bool, write: bool, short: int, long: int) -> None:
    vcpu = machine.vcpu()
    for lpae, status in ((0, short), (1 << 31, long)):
        vcpu.power_on(machine.CODE, 0, 0, 0)
        vcpu.cp15(2, 0, 0, 2, False, lpae)  # TTBCR
        vcpu.abort(0x1234_5678, prefetch=prefetch, is_write=write)
        assert vcpu.cp15(5, 0, 0, prefetch) == status
        assert vcpu.cp15(6, 0, 0, 2 if prefetch else 0) == 0x1234_5678
        assert vcpu.core()[14:16] == (machine.CODE + (4 if prefetch else 8), 0x0C if prefetch else 0x10)
    assert machine.counter("abort_injected") == 2


def test_the_fifth_bit_of_a_short_status(machine: Machine) -> None:
    vcpu = machine.vcpu()
    vcpu.abort(0, short_status=0x16)  # asynchronous external abort
    assert vcpu.cp15(5, 0, 0, 0) == 0x406


@pytest.mark.parametrize(
    "inject", [lambda vcpu: vcpu.abort(0), lambda vcpu: vcpu.abort(0, prefetch=True), lambda vcpu: vcpu.undefined()]
)
def test_an_abort_instead_of_an_answer(machine: Machine, inject: Callable[[Vcpu], None]) -> None:
    """An access that ended in an abort never retires, and its register is not written later."""
    machine.put(machine.CODE, 0xE5910000)  # ldr r0, [r1]
    vcpu = machine.vcpu()
    vcpu.set_core(1, machine.DEVICE)
    vcpu.run()
    inject(vcpu)
    before = vcpu.core()
    vcpu.answer(5)
    assert vcpu.core() == before


def test_itstate_is_saved_and_cleared(machine: Machine) -> None:
    vcpu = machine.vcpu()
    cpsr = psr.with_itstate(psr.Mode.SUPERVISOR | psr.T, 0xA6)
    vcpu.set_core(16, cpsr)
    vcpu.abort(0)
    assert vcpu.banked(psr.Mode.ABORT, 16) == cpsr
    assert vcpu.core()[16] == psr.Mode.ABORT | psr.A | psr.I
