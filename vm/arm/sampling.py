# SPDX-License-Identifier: GPL-2.0-or-later
"""Random loads and stores of every class, and a random CPU in which to run each one.

`sample` draws the class first and evenly, then an encoding of it, then its fields: a rare class is tested as
often as a common one. Encodings that the architecture calls UNPREDICTABLE are never drawn; the list is
in `allstop.vm.arm.encodings`. `stage` draws registers, flags, mode, byte order and ITSTATE such that the condition
passes and the accesses fall where there is memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode
from allstop.vm.arm.encodings import ENCODINGS
from allstop.vm.arm.execution import ExclusiveMonitor, plan
from allstop.vm.arm.instruction import (
    Dual,
    Exclusive,
    Indexing,
    Instruction,
    Multiple,
    ReturnFromException,
    Shift,
    ShiftedRegister,
    Single,
    StoreReturnState,
    Swap,
    TableBranch,
)
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.vector import NeonStructure, VfpMultiple, VfpSingle

CLASS_NAMES = tuple(ENCODINGS)
"""Every class that `sample` draws from."""

_WORD = 0xFFFFFFFF
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One instruction, as `decode` takes it, and the class that it was drawn for."""

    word: int
    thumb: bool
    class_name: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole CPU (an `execution.CpuState`) about to execute a sample.

    `doubles` are D0 to D31. `banks` holds User mode's r8 to r14 and the r13 of every other mode. `memory`
    lists bytes that must stand at an address because they are loaded into PC or CPSR.
    """

    sample: Sample
    r: tuple[int, ...]
    cpsr: int
    spsr: int
    exclusive: ExclusiveMonitor
    doubles: tuple[int, ...]
    banks: dict[tuple[Mode, int], int]
    memory: tuple[tuple[int, bytes], ...] = ()

    def banked(self, mode: Mode, register: int) -> int:
        """r`register` of another mode."""
        return self.banks[mode, register]

    def double(self, number: int) -> int:
        """D`number`."""
        return self.doubles[number]


def sample(rng: Random) -> Sample:
    """A random instruction, every class being equally likely."""
    name = rng.choice(CLASS_NAMES)
    encoding = rng.choice(ENCODINGS[name])
    while True:
        word = encoding.word(rng.getrandbits(32))
        if encoding.legal(encoding.fields(word)):
            return Sample(word, encoding.thumb, name)


def stage(rng: Random, sample: Sample, pc: int, reachable: Sequence[range]) -> Scene | None:
    """A random CPU at `pc` (gva) for this sample, whose accesses all lie in one of `reachable` (gva).

    None where that cannot be had: the addresses of literals are fixed by the encoding.
    """
    instruction = decode(sample.word, sample.thumb)
    for _ in range(_ATTEMPTS):
        cpsr = _program_status(rng, instruction)
        registers = [rng.getrandbits(32) for _ in range(15)] + [pc]
        banks = {(Mode.USER, n): rng.getrandbits(32) for n in range(8, 15)}
        banks |= {(mode, 13): rng.getrandbits(32) for mode in psr.GUEST_MODES - psr.USER_BANK}
        target = _target(rng, instruction, reachable[0])
        if not _aim(rng, instruction, registers, banks, target, cpsr):
            continue
        for n in range(8, 15):
            if not psr.banked_from_user(cpsr, n):
                banks[Mode.USER, n] = registers[n]
        if (own := Mode(cpsr & psr.MODE)) not in psr.USER_BANK:
            banks[own, 13] = registers[13]
        doubles = tuple(rng.getrandbits(64) for _ in range(32))
        spsr = _any_status(rng)
        scene = Scene(sample, tuple(registers), cpsr, spsr, ExclusiveMonitor(), doubles, banks)
        if isinstance(instruction, Exclusive) and not instruction.reads and rng.random() < 0.75:
            address = registers[instruction.rn] + instruction.offset & _WORD
            scene = replace(scene, exclusive=ExclusiveMonitor(address))
        accesses = plan(instruction, scene).accesses
        if all(any(a.address in r and a.address + a.size - 1 in r for r in reachable) for a in accesses):
            return replace(scene, memory=_landing(rng, instruction, scene))
    return None


def _branches(instruction: Instruction) -> bool:
    match instruction:
        case Single():
            return instruction.reads and instruction.rt == 15
        case Multiple():
            return instruction.reads and 15 in instruction.registers
    return isinstance(instruction, TableBranch | ReturnFromException)


def _any_status(rng: Random) -> int:
    """A random CPSR or SPSR: a guest's mode, no Jazelle, and ITSTATE only where it means something."""
    status = rng.getrandbits(32) & ~(psr.J | psr.RESERVED | psr.ITSTATE | psr.MODE)
    status |= rng.choice(sorted(psr.GUEST_MODES))
    if status & psr.T and rng.random() < 0.5:
        status = psr.with_itstate(status, rng.randrange(14) << 4 | rng.randrange(1, 16))
    return status


def _program_status(rng: Random, instruction: Instruction) -> int:
    """A random CPSR under which the instruction means something and its condition passes."""
    modes = set(psr.GUEST_MODES)
    if isinstance(instruction, StoreReturnState) or isinstance(instruction, Multiple) and instruction.user:
        modes -= psr.USER_BANK
    elif isinstance(instruction, ReturnFromException):
        modes -= {Mode.USER}
    status = _any_status(rng) & ~(psr.MODE | psr.ITSTATE | psr.T) | rng.choice(sorted(modes))
    if instruction.thumb:
        status |= psr.T
        if rng.random() < 0.5:
            # A branch must be the last instruction of its IT block.
            mask = 8 if _branches(instruction) else rng.randrange(1, 16)
            status = psr.with_itstate(status, rng.randrange(14) << 4 | mask)
    condition = psr.current_condition(status) if instruction.thumb else instruction.condition
    flags = [f << 28 for f in range(16) if psr.condition_passed(condition, f << 28)]
    return status & ~(0xF << 28) | rng.choice(flags)


def _target(rng: Random, instruction: Instruction, where: range) -> int:
    """A random lowest address: aligned where the architecture demands it, at times unaligned elsewhere."""
    alignment = 4
    match instruction:
        case Single() | TableBranch():
            # A word that goes to PC must be aligned.
            keeps = rng.random() < 0.75 or isinstance(instruction, Single) and instruction.rt == 15
            alignment = instruction.size if keeps else 1
        case Exclusive() | Swap():
            alignment = instruction.size
        case NeonStructure():
            alignment = instruction.alignment if rng.random() < 0.75 else max(instruction.alignment, 8)
    return rng.randrange(where.start, where.stop) // alignment * alignment


def _aim(
    rng: Random,
    instruction: Instruction,
    registers: list[int],
    banks: dict[tuple[Mode, int], int],
    target: int,
    cpsr: int,
) -> bool:
    """Set the base (or, where that is PC, the index) such that the first access is at `target`.

    False where this instruction cannot be aimed; the addresses of literals are left as they are.
    """
    match instruction:
        case Single() | Dual():
            return _aim_single(instruction, registers, target, cpsr)
        case Multiple() | ReturnFromException():
            count = len(instruction.registers) if isinstance(instruction, Multiple) else 2
            registers[instruction.rn] = target - _lowest(count, instruction.increment, instruction.before) & _WORD
        case StoreReturnState():
            stack = target - _lowest(2, instruction.increment, instruction.before) & _WORD
            if instruction.mode == cpsr & psr.MODE:
                registers[13] = stack
            else:
                banks[Mode.USER if instruction.mode == Mode.SYSTEM else Mode(instruction.mode), 13] = stack
        case Exclusive():
            registers[instruction.rn] = target - instruction.offset & _WORD
        case Swap() | NeonStructure():
            registers[instruction.rn] = target
        case TableBranch():
            return _aim_table(rng, instruction, registers, target)
        case VfpMultiple() if instruction.rn != 15:
            registers[instruction.rn] = target + (4 * instruction.words if instruction.decrement else 0) & _WORD
        case VfpSingle() if instruction.rn != 15:
            registers[instruction.rn] = target - instruction.offset & _WORD
    return True


def _lowest(count: int, increment: bool, before: bool) -> int:
    """The lowest address of a multiple transfer, from its base."""
    if increment:
        return 4 if before else 0
    return -4 * count + (0 if before else 4)


def _aim_table(rng: Random, instruction: TableBranch, registers: list[int], target: int) -> bool:
    rn, rm, size = instruction.rn, instruction.rm, instruction.size
    if rn == 15:
        registers[rm] = (target - registers[15] - 4 & _WORD) // size
    elif rn == rm and size == 1:
        registers[rn] = target >> 1 | rng.getrandbits(1) << 31
    elif rn == rm:
        registers[rn] = target * pow(3, -1, 1 << 32) & _WORD
    else:
        registers[rn] = target - registers[rm] * size & _WORD
    return True


def _aim_single(instruction: Single | Dual, registers: list[int], target: int, cpsr: int) -> bool:
    rn, offset = instruction.rn, instruction.offset
    if instruction.indexing is Indexing.POST:
        registers[rn] = target
    elif isinstance(offset, int):
        if rn != 15:
            registers[rn] = target - offset & _WORD
    elif rn == 15:
        distance = target - registers[15] - 8
        registers[offset.register] = _unshifted(offset, -distance if offset.subtract else distance)
    elif rn == offset.register:
        # base * (1 +- 2^amount) must be the target: solvable where that factor is odd, or is 2.
        if offset.shift is not Shift.LSL or offset.subtract and offset.amount == 0:
            return False
        factor = 1 - (1 << offset.amount) if offset.subtract else 1 + (1 << offset.amount)
        if factor == 2:
            registers[rn] = target >> 1
        else:
            registers[rn] = target * pow(factor, -1, 1 << 32) & _WORD
    else:
        registers[rn] = target - _shifted(offset, registers[offset.register], cpsr) & _WORD
    return True


def _shifted(offset: ShiftedRegister, value: int, cpsr: int) -> int:
    """The offset that an index register's value makes."""
    amount = offset.amount
    match offset.shift:
        case Shift.LSL:
            value = value << amount & _WORD
        case Shift.LSR:
            value >>= amount
        case Shift.ASR:
            value = (value ^ 1 << 31) - (1 << 31) >> amount & _WORD
        case Shift.ROR:
            value = (value | value << 32) >> amount & _WORD
        case Shift.RRX:
            value = value >> 1 | (cpsr & psr.C) << 2 & 1 << 31
    return -value if offset.subtract else value


def _unshifted(offset: ShiftedRegister, distance: int) -> int:
    """A register value whose shift comes near `distance`; whether it does is checked afterwards."""
    amount = offset.amount
    match offset.shift:
        case Shift.LSL:
            return distance >> amount & _WORD
        case Shift.LSR:
            return (distance & _WORD) << amount & _WORD
        case Shift.ASR:
            return distance << amount & _WORD
        case Shift.ROR:
            return (distance & _WORD) * ((1 << amount) | 1 << 32) >> 32 & _WORD | (distance << amount) & _WORD
        case Shift.RRX:
            return distance << 1 & _WORD


def _landing(rng: Random, instruction: Instruction, scene: Scene) -> tuple[tuple[int, bytes], ...]:
    """What must be in memory so that a load into PC, or into CPSR, is not UNPREDICTABLE."""
    if not _branches(instruction) or isinstance(instruction, TableBranch):
        return ()
    order: Literal["big", "little"] = "big" if scene.cpsr & psr.E else "little"
    accesses = plan(instruction, scene).accesses
    to = rng.getrandbits(32) | 1 << 31
    if isinstance(instruction, ReturnFromException):
        status = _any_status(rng)
        words = [(accesses[0].address, to), (accesses[1].address, status)]
    else:
        words = [(accesses[-1].address, to if to & 1 else to & ~2)]
    return tuple((address, word.to_bytes(4, order)) for address, word in words)
