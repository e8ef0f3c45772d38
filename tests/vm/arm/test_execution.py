# SPDX-License-Identifier: GPL-2.0-or-later
"""The two steps of execution: what is planned, what is done with the answers, and what is refused.

The values are worked out by hand from the architecture; `test_differential` compares with the engine at large.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.execution import Access, Effects, ExclusiveMonitor, finish, plan
from allstop.vm.arm.instruction import UndecodableError
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.sampling import CLASS_NAMES, sample, stage

PC = 0x40008000
SVC = 0x1C0 | Mode.SUPERVISOR


@dataclass
class Cpu:
    """A CpuState whose registers hold their own numbers, except those given."""

    given: dict[int, int] = field(default_factory=dict)
    cpsr: int = SVC
    spsr: int = 0x600001D0
    exclusive: ExclusiveMonitor = field(default_factory=ExclusiveMonitor)
    pc: int = PC

    @property
    def r(self) -> list[int]:
        return [*(self.given.get(n, n) for n in range(15)), self.pc]

    def banked(self, mode: Mode, register: int) -> int:
        return mode << 8 | register

    def double(self, number: int) -> int:
        return 0xD000000000000000 | number << 32 | number


def run(word: int, thumb: bool, cpu: Cpu, *values: int) -> tuple[tuple[Access, ...], Effects]:
    """Plan and finish."""
    planned = plan(decode(word, thumb), cpu)
    return planned.accesses, finish(planned, values)


def test_a_post_indexed_load_writes_both_registers_after_the_answer() -> None:
    accesses, effects = run(0xE4956004, False, Cpu({5: 0x09000000}), 0xCAFE)  # ldr r6, [r5], #4
    assert accesses == (Access(0x09000000, 4, False, None, True),)
    assert effects.registers == {5: 0x09000004, 6: 0xCAFE}
    assert (effects.pc, effects.cpsr, effects.exclusive) == (PC + 4, None, None)
    assert (effects.user_registers, effects.stack_pointers, effects.vfp) == ({}, {}, {})


def test_a_pre_indexed_store_goes_to_the_moved_base() -> None:
    accesses, effects = run(0xE5656004, False, Cpu({5: 2}))  # strb r6, [r5, #-4]!
    assert accesses == (Access(0xFFFFFFFE, 1, True, 6, True),)
    assert effects.registers == {5: 0xFFFFFFFE}


def test_every_shift_of_an_index_register() -> None:
    cpu = Cpu({5: 0x1000, 6: 0x80000011}, cpsr=SVC | psr.C)
    shifts = {0x0206: 0x110, 0x0226: 0x8000001, 0x0246: 0xF8000001, 0x0266: 0x18000001}  # by 4
    shifts |= {0x0026: 0, 0x0046: 0xFFFFFFFF, 0x0066: 0xC0000008}  # lsr #32, asr #32, rrx
    for bits, offset in shifts.items():
        assert run(0xE7950000 | bits, False, cpu, 0)[0][0].address == 0x1000 + offset & 0xFFFFFFFF
        assert run(0xE7150000 | bits, False, cpu, 0)[0][0].address == 0x1000 - offset & 0xFFFFFFFF
    assert run(0xE7950066, False, Cpu({5: 0x1000, 6: 0x11}), 0)[0][0].address == 0x1008


def test_signed_loads_extend_and_unsigned_do_not() -> None:
    assert run(0xE1D560F0, False, Cpu(), 0x8001)[1].registers[6] == 0xFFFF8001  # ldrsh
    assert run(0xE1D560D0, False, Cpu(), 0x7F)[1].registers[6] == 0x7F  # ldrsb
    assert run(0xE1D560B0, False, Cpu(), 0x8001)[1].registers[6] == 0x8001  # ldrh


def test_big_endian_data_is_turned_for_the_bus_and_back() -> None:
    cpu = Cpu({6: 0x11223344}, cpsr=SVC | psr.E)
    assert run(0xE5856000, False, cpu)[0][0].value == 0x44332211  # str
    assert run(0xE1C560B0, False, cpu)[0][0].value == 0x4433  # strh
    assert run(0xE5956000, False, cpu, 0x44332211)[1].registers[6] == 0x11223344  # ldr
    assert run(0xE1D560F0, False, cpu, 0x0180)[1].registers[6] == 0xFFFF8001  # ldrsh


def test_unprivileged_forms_and_user_mode_are_marked() -> None:
    assert run(0xE4B56004, False, Cpu(), 0)[0][0].privileged is False  # ldrt
    assert run(0xF8556E04, True, Cpu(cpsr=SVC | psr.T), 0)[0][0].privileged is False  # ldrt, no writeback
    assert run(0xE4956004, False, Cpu(cpsr=0x1C0 | Mode.USER), 0)[0][0].privileged is False
    assert run(0xE4956004, False, Cpu(), 0)[0][0].privileged is True


def test_a_load_into_pc_selects_the_instruction_set() -> None:
    _, effects = run(0xE495F004, False, Cpu(), 0x40001235)
    assert (effects.pc, effects.cpsr) == (0x40001234, SVC | psr.T)
    _, effects = run(0xF8D5F004, True, Cpu(cpsr=SVC | psr.T), 0x40001234)
    assert (effects.pc, effects.cpsr) == (0x40001234, SVC)


def test_pc_reads_ahead_and_is_aligned_as_a_base() -> None:
    cpu = Cpu(cpsr=SVC | psr.T)
    assert run(0x4E01, True, cpu, 0)[0][0].address == PC + 8  # ldr r6, [pc, #4]
    assert run(0x4E01, True, Cpu(cpsr=SVC | psr.T, pc=PC + 2), 0)[0][0].address == PC + 8
    assert run(0xE58FF000, False, Cpu())[0] == (Access(PC + 8, 4, True, PC + 8, True),)  # str pc, [pc]


def test_a_retired_thumb_instruction_advances_its_it_block() -> None:
    start = psr.with_itstate(SVC | psr.T, 0b0000_0110)
    _, effects = run(0x682E, True, Cpu(cpsr=start), 0)
    assert effects.pc == PC + 2
    assert effects.cpsr == psr.with_itstate(SVC | psr.T, 0b0000_1100)


def test_multiples_ascend_in_every_mode() -> None:
    lowest = {0xE8950003: 0x100, 0xE9950003: 0x104, 0xE8150003: 0xFC, 0xE9150003: 0xF8}  # ia, ib, da, db
    for word, address in lowest.items():
        accesses, effects = run(word, False, Cpu({5: 0x100}), 10, 11)
        assert [a.address for a in accesses] == [address, address + 4]
        assert effects.registers == {0: 10, 1: 11}
        step = 8 if word & 1 << 23 else -8
        assert run(word | 1 << 21, False, Cpu({5: 0x100}), 10, 11)[1].registers[5] == 0x100 + step


def test_a_store_of_its_own_base_takes_the_old_value() -> None:
    accesses, effects = run(0xE8A50060, False, Cpu({5: 0x100}))  # stmia r5!, {r5, r6}
    assert [a.value for a in accesses] == [0x100, 6]
    assert effects.registers == {5: 0x108}


def test_user_bank_transfers_reach_only_what_is_banked() -> None:
    word = 0xE8D56101  # ldmia r5, {r0, r8, r13, r14}^
    _, effects = run(word, False, Cpu(), 10, 18, 113, 114)
    assert effects.registers == {0: 10, 8: 18}
    assert effects.user_registers == {13: 113, 14: 114}
    _, effects = run(word, False, Cpu(cpsr=0x1C0 | Mode.FIQ), 10, 18, 113, 114)
    assert (effects.registers, effects.user_registers) == ({0: 10}, {8: 18, 13: 113, 14: 114})
    accesses, _ = run(0xE8C56101, False, Cpu())
    assert [a.value for a in accesses] == [0, 8, 0x100D, 0x100E]


def test_exception_returns_take_cpsr_from_spsr_and_align_pc_for_it() -> None:
    cpu = Cpu({13: 0x100}, spsr=0x600001F0)
    _, effects = run(0xE8FD8001, False, cpu, 10, 0x40001237)  # ldmia sp!, {r0, pc}^
    assert (effects.pc, effects.cpsr) == (0x40001236, 0x600001F0)
    assert effects.registers == {0: 10, 13: 0x108}
    _, effects = run(0xF8BD0A00, False, cpu, 0x40001237, 0x600001D0)  # rfeia sp!
    assert (effects.pc, effects.cpsr, effects.registers) == (0x40001234, 0x600001D0, {13: 0x108})
    assert run(0xF8BD0A00, False, cpu, 0, 0x60F001D0)[1].cpsr == 0x600001D0  # reserved bits stay zero


def test_srs_uses_the_stack_of_the_mode_it_names() -> None:
    accesses, effects = run(0xF96D0517, False, Cpu({14: 0xAA}))  # srsdb sp!, #0x17 (abort)
    assert [(a.address, a.value) for a in accesses] == [(0x170D - 8, 0xAA), (0x170D - 4, 0x600001D0)]
    assert (effects.stack_pointers, effects.registers) == ({Mode.ABORT: 0x1705}, {})
    assert run(0xF96D0513, False, Cpu({13: 0x100}))[1].registers == {13: 0xF8}
    assert run(0xF96D051F, False, Cpu())[1].user_registers == {13: 0x1005}


@pytest.mark.parametrize("word", [0xE8D56101, 0xE8C56101, 0xE8FD8001, 0xF96D0513, 0xF8BD0A00])
def test_what_needs_a_privileged_mode_is_refused_in_user_mode(word: int) -> None:
    with pytest.raises(UndecodableError, match="User"):
        plan(decode(word, False), Cpu(cpsr=0x1C0 | Mode.USER))


def test_exclusives_open_use_and_close_the_monitor() -> None:
    accesses, effects = run(0xE1950F9F, False, Cpu({5: 0x100}), 7)  # ldrex r0, [r5]
    assert effects.exclusive == ExclusiveMonitor(0x100, 7)
    opened = Cpu({5: 0x100, 6: 9}, exclusive=effects.exclusive)
    accesses, effects = run(0xE1852F96, False, opened)  # strex r2, r6, [r5]
    assert accesses == (Access(0x100, 4, True, 9, True),)
    assert (effects.registers, effects.exclusive) == ({2: 0}, ExclusiveMonitor(None))
    for monitor in (ExclusiveMonitor(), ExclusiveMonitor(0x104, 7)):
        accesses, effects = run(0xE1852F96, False, Cpu({5: 0x100}, exclusive=monitor))
        assert (accesses, effects.registers, effects.exclusive) == ((), {2: 1}, ExclusiveMonitor(None))


@pytest.mark.parametrize("big", [False, True])
def test_exclusive_doublewords_keep_the_first_register_at_the_lower_address(big: bool) -> None:
    cpsr = SVC | (psr.E if big else 0)
    order = "big" if big else "little"
    memory = (0x11223344).to_bytes(4, order) + (0x55667788).to_bytes(4, order)
    value = int.from_bytes(memory, "little")
    accesses, effects = run(0xE1B50F9F, False, Cpu({5: 0x100}, cpsr=cpsr), value)  # ldrexd r0, r1, [r5]
    assert accesses == (Access(0x100, 8, False, None, True),)
    assert effects.registers == {0: 0x11223344, 1: 0x55667788}
    opened = Cpu({0: 0x11223344, 1: 0x55667788, 5: 0x100}, cpsr, exclusive=ExclusiveMonitor(0x100))
    accesses, _ = run(0xE1A52F90, False, opened)  # strexd r2, r0, r1, [r5]
    assert accesses == (Access(0x100, 8, True, value, True),)


def test_duals_are_two_words_and_swap_reads_before_it_writes() -> None:
    accesses, effects = run(0xE1C520D8, False, Cpu({5: 0x100}), 1, 2)  # ldrd r2, r3, [r5, #8]
    assert [(a.address, a.size) for a in accesses] == [(0x108, 4), (0x10C, 4)]
    assert effects.registers == {2: 1, 3: 2}
    accesses, effects = run(0xE1050096, False, Cpu({5: 0x100}), 77)  # swp r0, r6, [r5]
    assert [(a.write, a.value) for a in accesses] == [(False, None), (True, 6)]
    assert effects.registers == {0: 77}


def test_a_table_branch_goes_forward_by_twice_the_entry() -> None:
    accesses, effects = run(0xE8D5F016, True, Cpu({5: 0x100}, cpsr=SVC | psr.T), 0x8000)  # tbh [r5, r6, lsl #1]
    assert accesses == (Access(0x10C, 2, False, None, True),)
    assert (effects.pc, effects.registers) == (PC + 4 + 0x10000, {})


def test_vector_loads_change_only_their_part_of_a_register() -> None:
    _, effects = run(0xEDD50A00, False, Cpu(), 0xABCD)  # vldr s1, [r5]
    assert effects.vfp == {0: 0x0000ABCD_00000000}
    _, effects = run(0xF4E5014D, False, Cpu({5: 0x100}), 0x5A, 0xA5)  # vld2.8 {d16[2], d17[2]}, [r5]!
    assert effects.vfp == {16: 0xD0000010_005A0010, 17: 0xD0000011_00A50011}
    assert effects.registers == {5: 0x102}
    _, effects = run(0xF4A50C6F, False, Cpu(), 0xBEEF)  # vld1.16 {d0[], d1[]}, [r5]
    assert effects.vfp == {0: 0xBEEFBEEFBEEFBEEF, 1: 0xBEEFBEEFBEEFBEEF}


@pytest.mark.parametrize("big", [False, True])
def test_doubles_are_two_words_with_the_high_one_first_in_big_endian_order(big: bool) -> None:
    cpsr = SVC | (psr.E if big else 0)
    value = 0xD000000700000007
    content = int.from_bytes(value.to_bytes(8, "big" if big else "little"), "little")
    words = [content & 0xFFFFFFFF, content >> 32]
    for word in (0xED857B00, 0xEC857B02, 0xF40577CF):  # vstr d7, vstm {d7}, vst1.64 {d7}
        accesses, _ = run(word, False, Cpu({5: 0x100}, cpsr))
        assert [(a.address, a.size, a.value) for a in accesses] == [(0x100, 4, words[0]), (0x104, 4, words[1])]
    _, effects = run(0xF42577CF, False, Cpu({5: 0x100}, cpsr), *words)  # vld1.64 {d7}
    assert effects.vfp == {7: value}


def test_answers_must_be_as_many_as_the_reads() -> None:
    planned = plan(decode(0xE8950003, False), Cpu())
    for values in ((), (1,), (1, 2, 3)):
        with pytest.raises(ValueError, match="2 reads"):
            finish(planned, values)
    with pytest.raises(ValueError, match="0 reads"):
        finish(plan(decode(0xE5856000, False), Cpu()), (1,))


@given(st.integers(0, 2**64 - 1))
def test_a_plan_can_be_made_again_and_finished_again(seed: int) -> None:
    rng = Random(seed)
    drawn = sample(rng)
    scene = stage(rng, drawn, PC, [range(0x40000000, 0x40010000)])
    if scene is None:
        return
    assert drawn.class_name in CLASS_NAMES
    instruction = decode(drawn.word, drawn.thumb)
    planned = plan(instruction, scene)
    assert planned == plan(instruction, scene)
    values = [rng.getrandbits(8 * a.size) for a in planned.accesses if not a.write]
    assert bool(values) == (instruction.reads)
    effects = finish(planned, values)
    assert effects == finish(planned, values)
    assert not effects.registers.keys() - set(range(15))
    assert all(0 <= value <= 0xFFFFFFFF for value in effects.registers.values())
    assert all(a.value is None or a.value < 1 << 8 * a.size for a in planned.accesses)
