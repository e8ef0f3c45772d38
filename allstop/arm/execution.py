# SPDX-License-Identifier: GPL-2.0-or-later
"""What a decoded load or store does, as two pure steps with the memory accesses in between.

`plan` says which accesses the instruction makes, in the architecture's order. Somebody makes them, maybe on a
device that takes its time. `finish` turns the values that were read into the effects on registers. Nothing is
changed before `finish`, so an access that aborts leaves the instruction as if it had not begun.

Rules that hold throughout:

* Values in an `Access`, and those given to `finish`, are as a little-endian bus has them: the byte at the
  lowest address is the least significant one. CPSR.E is applied here and nowhere else.
* LDM, LDRD, VLDM, NEON: lower registers and lower elements at lower addresses, ascending. LDRD, STRD and
  doubles are two accesses of four bytes; LDREXD and STREXD one of eight. Unaligned accesses stay one access.
* The trapped instruction has passed its condition; ITSTATE is advanced and otherwise not looked at.
* Where the architecture says UNPREDICTABLE and the decoder lets it through, the result is that of the engine
  (QEMU's translator): a loaded value wins over writeback of the same register, except in LDRD, where
  writeback wins; a store takes the registers as they were before writeback.

Source: ARM DDI 0406C, chapter A8 and section B9.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from allstop.arm import psr
from allstop.arm.instruction import (
    Dual,
    Exclusive,
    Indexing,
    Instruction,
    Multiple,
    Offset,
    ReturnFromException,
    Shift,
    Single,
    StoreReturnState,
    Swap,
    TableBranch,
    UndecodableError,
)
from allstop.arm.psr import Mode
from allstop.arm.vector import NeonStructure, Structure, VfpMultiple, VfpSingle

_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ExclusiveMonitor:
    """The local monitor: open when `address` (gva) is None.

    `value` is what the load exclusive returned, its byte order already the CPU's; 64 bits for LDREXD.
    """

    address: int | None = None
    value: int = 0


class CpuState(Protocol):
    """The vCPU as it was when the instruction trapped."""

    @property
    def r(self) -> Sequence[int]:
        """r0 to r14 of the current mode, and in r[15] the address of the trapped instruction itself."""

    @property
    def cpsr(self) -> int:
        """The guest's CPSR, ITSTATE included."""

    @property
    def spsr(self) -> int:
        """The current mode's SPSR; asked for by SRS and exception returns only."""

    @property
    def exclusive(self) -> ExclusiveMonitor:
        """The local exclusive monitor; asked for by store exclusives only."""

    def banked(self, mode: Mode, register: int) -> int:
        """r`register` of another mode: r8 to r14 of USER, or the r13 of any mode."""

    def double(self, number: int) -> int:
        """D`number` (0..31) as 64 bits; S registers are its halves."""


@dataclass(frozen=True, slots=True)
class Access:
    """One access to memory at the guest virtual `address`, of `size` 1, 2, 4 or 8 bytes.

    `value` is what is written, None for a read. `privileged` is False for User mode and for the T variants.
    """

    address: int
    size: int
    write: bool
    value: int | None
    privileged: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """An instruction whose accesses are known; the rest is what `finish` needs of the CPU's state.

    `registers`, `user_registers` and `stack_pointers` are the base writeback. `doubles` are the D registers
    that will be changed in part. `failed` marks a store exclusive that the monitor refuses.
    """

    instruction: Instruction
    accesses: tuple[Access, ...]
    address: int
    cpsr: int
    spsr: int = 0
    registers: dict[int, int] = field(default_factory=dict)
    user_registers: dict[int, int] = field(default_factory=dict)
    stack_pointers: dict[Mode, int] = field(default_factory=dict)
    doubles: dict[int, int] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Effects:
    """What the instruction changes. Apply `cpsr` last: the registers are those of the mode it ran in.

    `registers` are r0 to r14 of that mode, `user_registers` User mode's where they differ from it,
    `stack_pointers` the r13 of other modes (SRS), `vfp` whole D registers by number. `cpsr` and
    `exclusive` are None where nothing changes; `pc` is the next instruction, its state the T bit of `cpsr`.
    """

    pc: int
    registers: dict[int, int]
    user_registers: dict[int, int]
    stack_pointers: dict[Mode, int]
    vfp: dict[int, int]
    cpsr: int | None
    exclusive: ExclusiveMonitor | None


def plan(instruction: Instruction, state: CpuState) -> Plan:
    """The accesses of `instruction` in `state`, in order, and what is needed to finish it.

    Raises UndecodableError where the instruction means nothing in the current mode.
    """
    match instruction:
        case Single():
            return _plan_single(instruction, state)
        case Multiple():
            return _plan_multiple(instruction, state)
        case Dual():
            return _plan_dual(instruction, state)
        case Exclusive():
            return _plan_exclusive(instruction, state)
        case VfpSingle() | VfpMultiple():
            return _plan_vfp(instruction, state)
        case NeonStructure():
            return _plan_neon(instruction, state)
        case Swap():
            address, size = state.r[instruction.rn], instruction.size
            read = _read(address, size, state)
            write = _write(address, size, state.r[instruction.rt2], state)
            return Plan(instruction, (read, write), state.r[15], state.cpsr)
        case TableBranch():
            base, index = _operand(instruction.rn, state, instruction), state.r[instruction.rm]
            read = _read(base + index * instruction.size, instruction.size, state)
            return Plan(instruction, (read,), state.r[15], state.cpsr)
        case ReturnFromException():
            return _plan_return(instruction, state)
        case StoreReturnState():
            return _plan_store_return_state(instruction, state)
    raise UndecodableError(f"There is no execution for {instruction}.")


def finish(plan: Plan, values: Sequence[int]) -> Effects:
    """The effects of a planned instruction, given the values of its reads in the order of its accesses.

    Raises ValueError when the number of values is not that of the reads.
    """
    reads = [access for access in plan.accesses if not access.write]
    if len(values) != len(reads):
        raise ValueError(f"{plan.instruction} makes {len(reads)} reads, but {len(values)} values were given")
    big = plan.cpsr & psr.E != 0
    loaded = [_ordered(value, access.size, big) for value, access in zip(values, reads, strict=True)]
    change = _Change(plan)
    instruction = plan.instruction
    match instruction:
        case Single() if instruction.reads:
            value = loaded[0]
            if instruction.signed and value >> 8 * instruction.size - 1:
                value |= _WORD << 8 * instruction.size & _WORD
            change.load(instruction.rt, value)
        case Multiple() if instruction.reads:
            _finish_multiple(instruction, loaded, change)
        case Dual() if instruction.reads:
            change.registers = {instruction.rt: loaded[0], instruction.rt2: loaded[1]} | change.registers
        case Exclusive():
            _finish_exclusive(instruction, loaded, big, change)
        case VfpSingle() | VfpMultiple() if instruction.reads:
            first, _ = _vfp_words(instruction)
            for number, value in enumerate(_word_order(instruction, loaded, big), start=first):
                change.insert(number >> 1, 32 * (number & 1), 32, value)
        case NeonStructure() if instruction.reads:
            _finish_neon(instruction, loaded, big, change)
        case Swap():
            change.load(instruction.rt, loaded[0])
        case TableBranch():
            change.pc = plan.address + 4 + 2 * loaded[0] & _WORD
        case ReturnFromException():
            change.exception_return(loaded[0], loaded[1])
    return change.effects()


class _Change:
    """Effects in the making, begun from a plan's writeback, next PC and ITSTATE."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.registers = dict(plan.registers)
        self.user_registers = dict(plan.user_registers)
        self.doubles = dict(plan.doubles)
        self.pc = plan.address + plan.instruction.length & _WORD
        self.cpsr = psr.advance_itstate(plan.cpsr) if plan.instruction.thumb else plan.cpsr
        self.exclusive: ExclusiveMonitor | None = None

    def load(self, register: int, value: int) -> None:
        """A loaded word: into PC, it selects the instruction set (LoadWritePC)."""
        if register != 15:
            self.registers[register] = value
            return
        self.pc = value & ~1
        self.cpsr = self.cpsr | psr.T if value & 1 else self.cpsr & ~psr.T

    def exception_return(self, pc: int, cpsr: int) -> None:
        self.cpsr = cpsr & ~psr.RESERVED
        self.pc = pc & (~1 if cpsr & psr.T else ~3)

    def insert(self, number: int, lowest_bit: int, bits: int, value: int) -> None:
        """Replace bits of D`number`."""
        mask = (1 << bits) - 1 << lowest_bit
        self.doubles[number] = self.doubles[number] & ~mask | value << lowest_bit

    def effects(self) -> Effects:
        cpsr = None if self.cpsr == self.plan.cpsr else self.cpsr
        vfp = self.doubles if self.plan.instruction.reads else {}
        pointers = self.plan.stack_pointers
        return Effects(self.pc, self.registers, self.user_registers, pointers, vfp, cpsr, self.exclusive)


def _ordered(value: int, size: int, big: bool) -> int:
    """A value of `size` bytes between the CPU's byte order and the bus's."""
    if not big or size == 1:
        return value
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def _operand(register: int, state: CpuState, instruction: Instruction) -> int:
    """A register as an operand: PC reads as the instruction's address plus 8, in Thumb state plus 4."""
    if register != 15:
        return state.r[register]
    return state.r[15] + (4 if instruction.thumb else 8)


def _base(register: int, state: CpuState, instruction: Instruction) -> int:
    """A register as a base: PC is aligned to a word (it differs from `_operand` in Thumb state only)."""
    return _operand(register, state, instruction) & ~3 if register == 15 else state.r[register]


def _read(address: int, size: int, state: CpuState, unprivileged: bool = False) -> Access:
    privileged = psr.privileged(state.cpsr) and not unprivileged
    return Access(address & _WORD, size, False, None, privileged)


def _write(address: int, size: int, value: int, state: CpuState, unprivileged: bool = False) -> Access:
    privileged = psr.privileged(state.cpsr) and not unprivileged
    value = _ordered(value & (1 << 8 * size) - 1, size, state.cpsr & psr.E != 0)
    return Access(address & _WORD, size, True, value, privileged)


def _offset(offset: Offset, state: CpuState) -> int:
    if isinstance(offset, int):
        return offset
    value, amount = state.r[offset.register], offset.amount
    match offset.shift:
        case Shift.LSL:
            value <<= amount
        case Shift.LSR:
            value >>= amount
        case Shift.ASR:
            value = (value - (1 << 32) if value >> 31 else value) >> amount
        case Shift.ROR:
            value = value >> amount | value << 32 - amount
        case Shift.RRX:
            value = value >> 1 | (1 << 31 if state.cpsr & psr.C else 0)
    value &= _WORD
    return -value if offset.subtract else value


def _addressed(instruction: Single | Dual, state: CpuState) -> tuple[int, dict[int, int]]:
    """The address of a single or dual access, and the writeback."""
    base = _base(instruction.rn, state, instruction)
    moved = base + _offset(instruction.offset, state) & _WORD
    if instruction.indexing is Indexing.OFFSET:
        return moved, {}
    return moved if instruction.indexing is Indexing.PRE else base, {instruction.rn: moved}


def _plan_single(instruction: Single, state: CpuState) -> Plan:
    address, writeback = _addressed(instruction, state)
    if instruction.reads:
        access = _read(address, instruction.size, state, instruction.unprivileged)
    else:
        value = _operand(instruction.rt, state, instruction)
        access = _write(address, instruction.size, value, state, instruction.unprivileged)
    return Plan(instruction, (access,), state.r[15], state.cpsr, registers=writeback)


def _plan_dual(instruction: Dual, state: CpuState) -> Plan:
    address, writeback = _addressed(instruction, state)
    accesses = tuple(
        _read(address + 4 * k, 4, state)
        if instruction.reads
        else _write(address + 4 * k, 4, state.r[register], state)
        for k, register in enumerate((instruction.rt, instruction.rt2))
    )
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback)


def _block(base: int, count: int, increment: bool, before: bool) -> tuple[int, int]:
    """The lowest address of a multiple transfer of `count` words, and the base after it."""
    if increment:
        return base + (4 if before else 0), base + 4 * count & _WORD
    return base - 4 * count + (0 if before else 4), base - 4 * count & _WORD


def _refuse_without_spsr(instruction: Instruction, cpsr: int) -> None:
    if cpsr & psr.MODE in (Mode.USER, Mode.SYSTEM, Mode.HYP):
        raise UndecodableError(f"{instruction} means nothing in User, System or Hyp mode.")


def _plan_multiple(instruction: Multiple, state: CpuState) -> Plan:
    cpsr, spsr = state.cpsr, 0
    if instruction.user:
        _refuse_without_spsr(instruction, cpsr)
        spsr = state.spsr if instruction.exception_return else 0
    count = len(instruction.registers)
    lowest, after = _block(state.r[instruction.rn], count, instruction.increment, instruction.before)
    accesses = []
    for k, register in enumerate(instruction.registers):
        if instruction.reads:
            accesses.append(_read(lowest + 4 * k, 4, state))
            continue
        if instruction.user and register != 15 and psr.banked_from_user(cpsr, register):
            value = state.banked(Mode.USER, register)
        else:
            value = _operand(register, state, instruction)
        accesses.append(_write(lowest + 4 * k, 4, value, state))
    writeback = {instruction.rn: after} if instruction.writeback else {}
    return Plan(instruction, tuple(accesses), state.r[15], cpsr, spsr, registers=writeback)


def _finish_multiple(instruction: Multiple, loaded: list[int], change: _Change) -> None:
    for register, value in zip(instruction.registers, loaded, strict=True):
        if instruction.exception_return and register == 15:
            change.exception_return(value, change.plan.spsr)
        elif (
            instruction.user
            and not instruction.exception_return
            and psr.banked_from_user(change.plan.cpsr, register)
        ):
            change.user_registers[register] = value
        else:
            change.load(register, value)


def _plan_exclusive(instruction: Exclusive, state: CpuState) -> Plan:
    address = state.r[instruction.rn] + instruction.offset & _WORD
    if instruction.reads:
        read = _read(address, instruction.size, state)
        return Plan(instruction, (read,), state.r[15], state.cpsr)
    if state.exclusive.address != address:
        return Plan(instruction, (), state.r[15], state.cpsr, failed=True)
    value = state.r[instruction.rt]
    if instruction.rt2 is not None:
        # The lower address always gets rt: in big-endian order that is the upper half.
        low, high = value, state.r[instruction.rt2]
        value = low << 32 | high if state.cpsr & psr.E else high << 32 | low
    write = _write(address, instruction.size, value, state)
    return Plan(instruction, (write,), state.r[15], state.cpsr)


def _finish_exclusive(instruction: Exclusive, loaded: list[int], big: bool, change: _Change) -> None:
    if instruction.status is not None:
        change.registers[instruction.status] = int(change.plan.failed)
        change.exclusive = ExclusiveMonitor()
        return
    value = loaded[0]
    change.exclusive = ExclusiveMonitor(change.plan.accesses[0].address, value)
    if instruction.rt2 is None:
        change.registers[instruction.rt] = value
    else:
        halves = (value >> 32, value & _WORD)
        change.registers[instruction.rt], change.registers[instruction.rt2] = halves if big else halves[::-1]


def _plan_return(instruction: ReturnFromException, state: CpuState) -> Plan:
    if state.cpsr & psr.MODE in (Mode.USER, Mode.HYP):
        raise UndecodableError("RFE means nothing in User or Hyp mode.")
    lowest, after = _block(state.r[instruction.rn], 2, instruction.increment, instruction.before)
    accesses = (_read(lowest, 4, state), _read(lowest + 4, 4, state))
    writeback = {instruction.rn: after} if instruction.writeback else {}
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback)


def _plan_store_return_state(instruction: StoreReturnState, state: CpuState) -> Plan:
    cpsr, mode = state.cpsr, Mode(instruction.mode)
    _refuse_without_spsr(instruction, cpsr)
    own = mode == cpsr & psr.MODE
    bank = Mode.USER if mode in psr.USER_BANK else mode
    base = state.r[13] if own else state.banked(bank, 13)
    lowest, after = _block(base, 2, instruction.increment, instruction.before)
    accesses = (_write(lowest, 4, state.r[14], state), _write(lowest + 4, 4, state.spsr, state))
    if not instruction.writeback:
        return Plan(instruction, accesses, state.r[15], cpsr)
    if own:
        return Plan(instruction, accesses, state.r[15], cpsr, registers={13: after})
    if bank is Mode.USER:
        return Plan(instruction, accesses, state.r[15], cpsr, user_registers={13: after})
    return Plan(instruction, accesses, state.r[15], cpsr, stack_pointers={mode: after})


def _vfp_words(instruction: VfpSingle | VfpMultiple) -> tuple[int, int]:
    """The register words of a VFP transfer, numbered as S registers (D16 is word 32): first, and how many."""
    count = instruction.count if isinstance(instruction, VfpMultiple) else 1
    return (2 * instruction.vd, 2 * count) if instruction.double else (instruction.vd, count)


def _word_order(instruction: VfpSingle | VfpMultiple, words: list[int], big: bool) -> list[int]:
    """The words of doubles between address order and register order: big-endian has the high half first."""
    if not (instruction.double and big):
        return words
    return [words[k ^ 1] for k in range(len(words))]


def _plan_vfp(instruction: VfpSingle | VfpMultiple, state: CpuState) -> Plan:
    first, count = _vfp_words(instruction)
    doubles = {n: state.double(n) for n in range(first >> 1, (first + count + 1) >> 1)}
    lowest, writeback = _base(instruction.rn, state, instruction), {}
    if isinstance(instruction, VfpSingle):
        lowest += instruction.offset
    else:
        step = -4 * instruction.words if instruction.decrement else 4 * instruction.words
        writeback = {instruction.rn: lowest + step & _WORD} if instruction.writeback else {}
        lowest += step if instruction.decrement else 0
    accesses: tuple[Access, ...]
    if instruction.reads:
        accesses = tuple(_read(lowest + 4 * k, 4, state) for k in range(count))
    else:
        words = [doubles[n >> 1] >> 32 * (n & 1) & _WORD for n in range(first, first + count)]
        words = _word_order(instruction, words, state.cpsr & psr.E != 0)
        accesses = tuple(_write(lowest + 4 * k, 4, word, state) for k, word in enumerate(words))
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback, doubles=doubles)


def _neon_elements(instruction: NeonStructure) -> list[tuple[int, int]]:
    """Where each element goes, in the order of addresses: D register, and its lane."""
    starts = [instruction.vd + k * instruction.stride for k in range(instruction.elements)]
    if instruction.structure is not Structure.MULTIPLE:
        return [(number, instruction.lane) for number in starts]
    lanes = range(8 // instruction.size)
    return [(start + r, lane) for r in range(instruction.count) for lane in lanes for start in starts]


def _plan_neon(instruction: NeonStructure, state: CpuState) -> Plan:
    size, base, big = instruction.size, state.r[instruction.rn], state.cpsr & psr.E != 0
    elements = _neon_elements(instruction)
    extra = instruction.count if instruction.structure is Structure.ALL_LANES else 1
    doubles = {number + r: state.double(number + r) for number, _ in elements for r in range(extra)}
    accesses: list[Access] = []
    for k, (number, lane) in enumerate(elements):
        address = base + k * size
        value = doubles[number] >> 8 * size * lane & (1 << 8 * size) - 1
        if size < 8:
            pieces = [(address, size, value)]
        else:
            low, high = (value >> 32, value & _WORD) if big else (value & _WORD, value >> 32)
            pieces = [(address, 4, low), (address + 4, 4, high)]
        for place, width, piece in pieces:
            read = instruction.reads
            accesses.append(_read(place, width, state) if read else _write(place, width, piece, state))
    writeback = {}
    if instruction.rm != 15:
        step = instruction.bytes_transferred if instruction.rm == 13 else state.r[instruction.rm]
        writeback = {instruction.rn: base + step & _WORD}
    return Plan(instruction, tuple(accesses), state.r[15], state.cpsr, registers=writeback, doubles=doubles)


def _finish_neon(instruction: NeonStructure, loaded: list[int], big: bool, change: _Change) -> None:
    bits = 8 * instruction.size
    if instruction.size == 8:
        pairs = zip(loaded[0::2], loaded[1::2], strict=True)
        loaded = [low << 32 | high if big else high << 32 | low for low, high in pairs]
    for (number, lane), value in zip(_neon_elements(instruction), loaded, strict=True):
        if instruction.structure is not Structure.ALL_LANES:
            change.insert(number, bits * lane, bits, value)
            continue
        for r in range(instruction.count):
            for each in range(8 // instruction.size):
                change.insert(number + r, bits * each, bits, value)
