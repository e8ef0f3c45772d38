# SPDX-License-Identifier: GPL-2.0-or-later
"""Exits: what the engine says of an access to a device, and how the access is completed, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from allstop.vcpu_worker.engine import EXIT_FETCH, EXIT_HVC, EXIT_LOST, EXIT_MMIO, EXIT_NISV, EXIT_SMC, EXIT_WALK, Vcpu
from allstop.vm.arm import psr
from allstop.vm.arm.syndrome import ExceptionClass, Syndrome, ipa

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine

ARM, THUMB = False, True
STORED = 0x8877_F6E5


class Access(NamedTuple):
    """An instruction on r1 = the device, r2 = 4, r0 = STORED, and what its exit says."""

    text: str
    thumb: bool
    word: int
    offset: int
    size: int
    write: bool = False
    signed: bool = False

    def __str__(self) -> str:
        return f"{'T' if self.thumb else 'A'}32 {self.text}"

    @property
    def length(self) -> int:
        return 4 if not self.thumb or self.word > 0xFFFF else 2


WITH_SYNDROME = [
    Access("ldr r0, [r1]", ARM, 0xE5910000, 0, 4),
    Access("str r0, [r1]", ARM, 0xE5810000, 0, 4, write=True),
    Access("ldrb r0, [r1, #3]", ARM, 0xE5D10003, 3, 1),
    Access("strb r0, [r1, #3]", ARM, 0xE5C10003, 3, 1, write=True),
    Access("ldrh r0, [r1, #2]", ARM, 0xE1D100B2, 2, 2),
    Access("strh r0, [r1, #2]", ARM, 0xE1C100B2, 2, 2, write=True),
    Access("ldrsb r0, [r1, #1]", ARM, 0xE1D100D1, 1, 1, signed=True),
    Access("ldrsh r0, [r1, #2]", ARM, 0xE1D100F2, 2, 2, signed=True),
    Access("ldr r0, [r1, r2]", ARM, 0xE7910002, 4, 4),
    Access("str r0, [r1, r2]", ARM, 0xE7810002, 4, 4, write=True),
    Access("ldrsh r0, [r1, r2]", ARM, 0xE19100F2, 4, 2, signed=True),
    Access("ldr r0, [r1, #-4]", ARM, 0xE5110004, -4, 4),
    Access("ldr r0, [r1]", THUMB, 0x6808, 0, 4),
    Access("str r0, [r1]", THUMB, 0x6008, 0, 4, write=True),
    Access("ldrb r0, [r1, #1]", THUMB, 0x7848, 1, 1),
    Access("strb r0, [r1, #1]", THUMB, 0x7048, 1, 1, write=True),
    Access("ldrh r0, [r1, #2]", THUMB, 0x8848, 2, 2),
    Access("strh r0, [r1, #2]", THUMB, 0x8048, 2, 2, write=True),
    Access("ldrsb r0, [r1, r2]", THUMB, 0x5688, 4, 1, signed=True),
    Access("ldrsh r0, [r1, r2]", THUMB, 0x5E88, 4, 2, signed=True),
    Access("ldr.w r0, [r1, #4]", THUMB, 0xF8D10004, 4, 4),
    Access("str.w r0, [r1, #4]", THUMB, 0xF8C10004, 4, 4, write=True),
    Access("ldrb.w r0, [r1, #3]", THUMB, 0xF8910003, 3, 1),
    Access("strb.w r0, [r1, #3]", THUMB, 0xF8810003, 3, 1, write=True),
    Access("ldrh.w r0, [r1, #2]", THUMB, 0xF8B10002, 2, 2),
    Access("strh.w r0, [r1, #2]", THUMB, 0xF8A10002, 2, 2, write=True),
    Access("ldrsb.w r0, [r1, #1]", THUMB, 0xF9910001, 1, 1, signed=True),
    Access("ldrsh.w r0, [r1, #2]", THUMB, 0xF9B10002, 2, 2, signed=True),
    Access("ldrt r0, [r1, #4]", THUMB, 0xF8510E04, 4, 4),
    Access("strt r0, [r1, #4]", THUMB, 0xF8410E04, 4, 4, write=True),
    Access("ldr.w r0, [r1, r2, lsl #2]", THUMB, 0xF8510022, 16, 4),
]

WITHOUT_SYNDROME = [
    Access("ldr r0, [r1], #4", ARM, 0xE4910004, 0, 4),
    Access("str r0, [r1, #4]!", ARM, 0xE5A10004, 4, 4, write=True),
    Access("ldrt r0, [r1], #4", ARM, 0xE4B10004, 0, 4),
    Access("ldr pc, [r1]", ARM, 0xE591F000, 0, 4),
    Access("ldm r1, {r0, r3}", ARM, 0xE8910009, 0, 4),
    Access("stmdb r1!, {r0, r3}", ARM, 0xE9210009, -8, 4, write=True),
    Access("ldrd r2, r3, [r1]", ARM, 0xE1C120D0, 0, 4),
    Access("strd r2, r3, [r1]", ARM, 0xE1C120F0, 0, 4, write=True),
    Access("ldrex r0, [r1]", ARM, 0xE1910F9F, 0, 4),
    Access("vldr s0, [r1]", ARM, 0xED910A00, 0, 4),
    Access("vstr d0, [r1, #8]", ARM, 0xED810B02, 8, 8, write=True),
    Access("ldm r1!, {r0, r3}", THUMB, 0xC909, 0, 4),
    Access("ldr r0, [r1], #4", THUMB, 0xF8510B04, 0, 4),
    Access("strb r0, [r1, #-1]!", THUMB, 0xF8010D01, -1, 1, write=True),
    Access("ldrd r0, r2, [r1]", THUMB, 0xE9D10200, 0, 4),
    Access("ldrex r0, [r1]", THUMB, 0xE8510F00, 0, 4),
]


def place(machine: Machine, access: Access) -> int:
    """Put the access behind a no-operation, and return where it stands."""
    if access.thumb:
        machine.put_thumb(machine.CODE, 0xBF00, access.word)  # nop
        return machine.CODE + 2
    machine.put(machine.CODE, 0xE320F000, access.word)  # nop
    return machine.CODE + 4


def prepared(machine: Machine, access: Access, extra: int = 0) -> tuple[Vcpu, int]:
    """A vCPU that stands before the access, and the address of the access."""
    at = place(machine, access)
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | access.thumb, STORED, machine.DEVICE, 4)
    vcpu.cp15(1, 0, 0, 2, False, 0xF << 20)  # CPACR: VFP and NEON at PL0 and PL1
    vcpu.set_core(16, vcpu.core()[16] | extra)
    return vcpu, at


@pytest.mark.parametrize("access", WITH_SYNDROME, ids=str)
def test_an_access_with_syndrome_is_described_whole(machine: Machine, access: Access) -> None:
    vcpu, at = prepared(machine, access)
    leave = vcpu.run()
    syndrome = Syndrome(leave.hsr)
    address = machine.DEVICE + access.offset
    assert leave.kind == EXIT_MMIO
    assert syndrome.ec == ExceptionClass.DATA_ABORT_LOWER and syndrome.isv and syndrome.is_translation
    assert (syndrome.sas, syndrome.sse, syndrome.srt, syndrome.wnr, syndrome.il) == (
        access.size,
        access.signed,
        0,
        access.write,
        access.length,
    )
    assert (leave.hdfar, leave.hpfar, leave.ipa, leave.pc) == (address, address >> 12 << 4, address, at)
    assert (leave.size, leave.is_write) == (access.size, access.write)
    assert (leave.size, leave.is_write, leave.ipa) == (syndrome.sas, syndrome.wnr, ipa(leave.hpfar, leave.hdfar))
    assert leave.value == (STORED & (1 << 8 * access.size) - 1 if access.write else 0)
    before = vcpu.core()
    vcpu.answer(0x1_9ABC_8DEF)
    loaded = {1: 0xEF, 2: 0x8DEF, 4: 0x9ABC8DEF}[access.size]
    if access.signed:
        loaded |= {1: 0xFFFFFF00, 2: 0xFFFF0000}[access.size]
    after = (STORED if access.write else loaded, *before[1:15], at + access.length, before[16])
    assert vcpu.core() == after
    vcpu.set_core(0, 77)
    vcpu.answer(0x5555)
    assert vcpu.core() == (77, *after[1:]), "a second answer did something"


@pytest.mark.parametrize("access", WITHOUT_SYNDROME, ids=str)
def test_an_access_without_syndrome_comes_with_the_instruction(machine: Machine, access: Access) -> None:
    vcpu, at = prepared(machine, access)
    vcpu.fpexc(1 << 30)
    leave = vcpu.run()
    address = machine.DEVICE + access.offset
    syndrome = Syndrome(leave.hsr)
    assert leave.kind == EXIT_NISV
    assert not syndrome.isv and leave.hsr >> 14 & 0x3FF == 0
    assert syndrome.wnr == access.write == leave.is_write and leave.ipa == ipa(leave.hpfar, leave.hdfar)
    assert (leave.hdfar, leave.hpfar, leave.ipa, leave.pc) == (address, address >> 12 << 4, address, at)
    assert (leave.instruction, leave.length) == (access.word, access.length)
    assert vcpu.core()[:3] == (STORED, machine.DEVICE, 4), "the base was written back before the access was made"
    vcpu.answer(1)
    assert vcpu.core()[0] == STORED and vcpu.core()[15] == at, "there was nothing to answer"
    vcpu.retire(leave.length)
    assert vcpu.core()[15] == at + access.length


@pytest.mark.parametrize("access", [WITH_SYNDROME[0], WITH_SYNDROME[4], WITH_SYNDROME[7], WITH_SYNDROME[2]], ids=str)
def test_a_big_endian_guest_loads_swapped_values(machine: Machine, access: Access) -> None:
    vcpu, _ = prepared(machine, access, psr.E)
    leave = vcpu.run()
    assert leave.kind == EXIT_MMIO and leave.cpsr & psr.E
    vcpu.answer(0x11228394)
    assert (
        vcpu.core()[0]
        == {(4, False): 0x94832211, (2, False): 0x9483, (2, True): 0xFFFF9483, (1, False): 0x94}[
            access.size, access.signed
        ]
    )


@pytest.mark.parametrize(
    ("access", "seen"), [(WITH_SYNDROME[1], 0xE5F67788), (WITH_SYNDROME[5], 0xE5F6), (WITH_SYNDROME[3], 0xE5)], ids=str
)
def test_a_big_endian_guest_stores_swapped_values(machine: Machine, access: Access, seen: int) -> None:
    vcpu, _ = prepared(machine, access, psr.E)
    assert vcpu.run().value == seen


def test_each_register_can_be_loaded_and_stored_by_its_own_mode(machine: Machine) -> None:
    for n in range(15):
        base = 1 if n != 1 else 2
        machine.put(
            machine.CODE + 8 * n,
            0xE5800000 | base << 16 | n << 12,  # str rN, [base]
            0xE5900000 | base << 16 | n << 12,
        )  # ldr rN, [base]
    vcpu = machine.vcpu()
    vcpu.set_core(16, vcpu.core()[16] & ~0x1F | psr.Mode.FIQ)
    vcpu.set_core(1, machine.DEVICE)
    vcpu.set_core(2, machine.DEVICE)
    for n in range(15):
        if n not in (1, 2):
            vcpu.set_core(n, 0x1000 + n)
        expected = vcpu.core()[n]
        leave = vcpu.run()
        assert (leave.is_write, leave.value) == (1, expected)
        vcpu.answer(0)
        assert vcpu.run().is_write == 0
        vcpu.answer(machine.DEVICE if n in (1, 2) else 0x2000 + n)
    assert vcpu.core()[3:15] == tuple(range(0x2003, 0x200F))
    assert vcpu.banked(psr.Mode.USER, 8) == 0, "FIQ's registers went to User's"


def test_an_answer_advances_the_it_block(machine: Machine) -> None:
    machine.put_thumb(
        machine.CODE,
        0x4288,
        0xBF06,  # cmp r0, r1; itte eq
        0x6808,
        0xF8D13004,  # ldreq r0, [r1]; ldreq.w r3, [r1, #4]
        0x680C,
        0xBF00,
    )  # ldrne r4, [r1]; nop
    machine.put(machine.CODE + 16, 0xE7FEE7FE)
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | 1, machine.DEVICE, machine.DEVICE, 0)
    states = []
    for value in (0x11, 0x22):
        leave = vcpu.run()
        states.append((leave.kind, leave.pc - machine.CODE, psr.itstate(leave.cpsr)))
        vcpu.answer(value)
    # ITSTATE of the instructions that trapped; the one after them is not executed
    assert states == [(EXIT_MMIO, 4, 0x06), (EXIT_MMIO, 6, 0x0C)]
    assert psr.itstate(vcpu.core()[16]) == 0x18
    vcpu.run(1)
    core = vcpu.core()
    assert (core[0], core[3], core[4]) == (0x11, 0x22, 0)
    assert psr.itstate(core[16]) == 0


@pytest.mark.parametrize(
    ("text", "thumb", "word", "kind", "ec", "ahead", "iss"),
    [
        ("hvc #5", ARM, 0xE1400075, EXIT_HVC, ExceptionClass.HVC, 4, 5),
        ("hvc #5", THUMB, 0xF7E08005, EXIT_HVC, ExceptionClass.HVC, 4, 5),
        ("smc #0", ARM, 0xE1600070, EXIT_SMC, ExceptionClass.SMC, 0, 0),
        ("smc #0", THUMB, 0xF7F08000, EXIT_SMC, ExceptionClass.SMC, 0, 0),
    ],
)
def test_calls(machine: Machine, text: str, thumb: bool, word: int, kind: int, ec: int, ahead: int, iss: int) -> None:
    (machine.put_thumb if thumb else machine.put)(machine.CODE, word)
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE | thumb, 1, 2, 3)
    leave = vcpu.run()
    assert (leave.kind, leave.hsr >> 26, leave.hsr & 0xFFFF) == (kind, ec, iss)
    assert leave.pc == vcpu.core()[15] == machine.CODE + ahead
    assert vcpu.core()[:3] == (1, 2, 3)


def test_calls_from_user_mode_are_the_guests_own_mistake(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE1400070)  # hvc #0
    machine.put(machine.VECTORS + 4, 0xE1400071)  # hvc #1
    vcpu = machine.vcpu()
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)  # VBAR
    vcpu.set_core(16, vcpu.core()[16] & ~0x1F | psr.Mode.USER)
    leave = vcpu.run()
    assert (leave.kind, leave.hsr & 0xFFFF, leave.cpsr & 0x1F) == (EXIT_HVC, 1, psr.Mode.UNDEFINED)


def test_a_jump_out_of_memory_is_a_fetch_exit(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE12FFF11)  # bx r1
    vcpu = machine.vcpu()
    vcpu.cp15(12, 0, 0, 0, False, machine.VECTORS)
    vcpu.power_on(machine.CODE, 0, 0x2000_0100, 0)
    leave = vcpu.run()
    assert (leave.kind, leave.ipa, leave.hifar, leave.pc) == (EXIT_FETCH, 0x2000_0100, 0x2000_0100, 0x2000_0100)


def test_vectors_out_of_memory_are_the_end_and_not_a_loop(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE7F000F0)  # udf #0
    vcpu = machine.vcpu()
    leave = vcpu.run()
    assert (leave.kind, leave.hifar) == (EXIT_LOST, 4)
    assert vcpu.banked(psr.Mode.UNDEFINED, 14) == machine.CODE + 4


def test_a_table_walk_out_of_memory(machine: Machine) -> None:
    machine.put(machine.CODE, 0xE5910000)  # ldr r0, [r1]
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section, read and write
    machine.put(machine.TABLES + 4 * 0x123, 0x2000_0001)  # a level-2 table where there is no memory
    vcpu = machine.vcpu()
    vcpu.power_on(machine.CODE, 0, 0x1230_0000, 0)
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])
    leave = vcpu.run()
    assert (leave.kind, leave.hdfar, leave.ipa >> 12, leave.pc) == (EXIT_WALK, 0x1230_0000, 0x2000_0, machine.CODE)
    assert Syndrome(leave.hsr).s1ptw and leave.hsr & 3 == 2, "at level 2 of the guest's walk"


VA = 0x1230_0000


def map_va(machine: Machine, vcpu: Vcpu, *pages: int) -> None:
    """Turn the MMU on, with these pages at VA."""
    machine.put(machine.TABLES + 4 * (machine.RAM >> 20), machine.RAM | 0xC02)  # section, read and write
    machine.put(machine.TABLES + 4 * (VA >> 20), machine.TABLES + 0x4000 | 1)
    machine.put(machine.TABLES + 0x4000, *(page | 0x32 for page in pages))  # small pages, read and write
    vcpu.cp15(2, 0, 0, 0, False, machine.TABLES)  # TTBR0
    vcpu.cp15(3, 0, 0, 0, False, 1)  # DACR
    vcpu.cp15(1, 0, 0, 0, False, vcpu.cp15(1, 0, 0, 0) | 1)  # SCTLR.M
    vcpu.set_core(16, vcpu.core()[16])


@pytest.mark.parametrize("order", ["RAM first", "device first", "two devices"])
@pytest.mark.parametrize(
    ("word", "size"),
    [
        (0xE5910000, 4),
        (0xE5810000, 4),  # ldr r0, [r1]; str r0, [r1]
        (0xE1D100B0, 2),
        (0xE1C100B0, 2),
    ],
)  # ldrh r0, [r1]; strh r0, [r1]
def test_an_access_over_a_page_boundary_is_not_taken_for_its_half(
    machine: Machine, word: int, size: int, order: str
) -> None:
    """Its syndrome would have the device loaded whole, at the wrong address."""
    machine.put(machine.CODE, word)
    pages = {
        "RAM first": (machine.DATA, machine.DEVICE),
        "device first": (machine.DEVICE, machine.DATA),
        "two devices": (machine.DEVICE, machine.DEVICE + 0x5000),
    }[order]
    vcpu = machine.vcpu()
    map_va(machine, vcpu, *pages)
    machine.put(machine.DATA, *[0x1111_1111] * 1024)
    for before in range(1, size):
        vcpu.set_core(0, STORED)
        vcpu.set_core(1, VA + 4096 - before)
        vcpu.set_core(15, machine.CODE)
        leave = vcpu.run()
        assert (leave.kind, leave.instruction, leave.length) == (EXIT_NISV, word, 4)
        assert VA + 4096 - before <= leave.hdfar < VA + 4096 - before + size, "the instruction covers it"
        assert vcpu.core()[0] == STORED and machine.ram[0x20000:0x21000] == b"\x11" * 4096, "nothing is done yet"


@pytest.mark.parametrize("before_it", ["nothing", "a device", "RAM"])
def test_an_access_at_the_start_of_a_device_page(machine: Machine, before_it: str) -> None:
    """Where RAM is mapped before it, only the instruction tells that it is not the tail of another access."""
    machine.put(machine.CODE, 0xE5910000)  # ldr r0, [r1]
    vcpu = machine.vcpu()
    page = {"nothing": 0, "a device": machine.DEVICE + 0x5000, "RAM": machine.DATA}[before_it]
    map_va(machine, vcpu, page, machine.DEVICE)
    if before_it == "nothing":
        machine.put(machine.TABLES + 0x4000, 0)
    vcpu.set_core(1, VA + 4096)
    leave = vcpu.run()
    assert leave.kind == (EXIT_NISV if before_it == "RAM" else EXIT_MMIO)
    assert (leave.hdfar, leave.ipa) == (VA + 4096, machine.DEVICE)
