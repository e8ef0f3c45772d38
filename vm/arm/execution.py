# SPDX-License-Identifier: GPL-2.0-or-later
"""What a decoded load or store does, as two pure steps with the memory accesses in between.

`plan` says which accesses the instruction makes, in the architecture's order. The caller makes them, maybe on a
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

from allstop.vm.arm import psr
from allstop.vm.arm.instruction import (
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
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.transfer import (
    WORD,
    Access,
    Change,
    CpuState,
    Effects,
    ExclusiveMonitor,
    Plan,
    base_address,
    byte_ordered,
    read_access,
    register_operand,
    write_access,
)
from allstop.vm.arm.vector import NeonStructure, VfpMultiple, VfpSingle
from allstop.vm.arm.vector_execution import finish_neon, finish_vfp, plan_neon, plan_vfp

__all__ = ["Access", "CpuState", "Effects", "ExclusiveMonitor", "Plan", "finish", "plan"]


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
            return plan_vfp(instruction, state)
        case NeonStructure():
            return plan_neon(instruction, state)
        case Swap():
            address, size = state.r[instruction.rn], instruction.size
            read = read_access(address, size, state)
            write = write_access(address, size, state.r[instruction.rt2], state)
            return Plan(instruction, (read, write), state.r[15], state.cpsr)
        case TableBranch():
            base, index = register_operand(instruction.rn, state, instruction), state.r[instruction.rm]
            read = read_access(base + index * instruction.size, instruction.size, state)
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
    reads = [access.size for access in plan.accesses if not access.write]
    if len(values) != len(reads):
        raise ValueError(f"{plan.instruction} makes {len(reads)} reads, but {len(values)} values were given")
    big = plan.cpsr & psr.E != 0
    loaded = list(values)
    if big:
        loaded = [byte_ordered(value, size, big) for value, size in zip(values, reads, strict=True)]
    change = Change(plan)
    instruction = plan.instruction
    match instruction:
        case Single() if instruction.reads:
            value = loaded[0]
            if instruction.signed and value >> 8 * instruction.size - 1:
                value |= WORD << 8 * instruction.size & WORD
            change.load(instruction.rt, value)
        case Multiple() if instruction.reads:
            _finish_multiple(instruction, loaded, change)
        case Dual() if instruction.reads:
            change.registers = {instruction.rt: loaded[0], instruction.rt2: loaded[1]} | change.registers
        case Exclusive():
            _finish_exclusive(instruction, loaded, big, change)
        case VfpSingle() | VfpMultiple() if instruction.reads:
            finish_vfp(instruction, loaded, big, change)
        case NeonStructure() if instruction.reads:
            finish_neon(instruction, loaded, big, change)
        case Swap():
            change.load(instruction.rt, loaded[0])
        case TableBranch():
            change.pc = plan.address + 4 + 2 * loaded[0] & WORD
        case ReturnFromException():
            change.exception_return(loaded[0], loaded[1])
    return change.effects()


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
    value &= WORD
    return -value if offset.subtract else value


def _addressed(instruction: Single | Dual, state: CpuState) -> tuple[int, dict[int, int]]:
    """The address of a single or dual access, and the writeback."""
    base = base_address(instruction.rn, state, instruction)
    moved = base + _offset(instruction.offset, state) & WORD
    if instruction.indexing is Indexing.OFFSET:
        return moved, {}
    return moved if instruction.indexing is Indexing.PRE else base, {instruction.rn: moved}


def _plan_single(instruction: Single, state: CpuState) -> Plan:
    address, writeback = _addressed(instruction, state)
    if instruction.reads:
        access = read_access(address, instruction.size, state, instruction.unprivileged)
    else:
        value = register_operand(instruction.rt, state, instruction)
        access = write_access(address, instruction.size, value, state, instruction.unprivileged)
    return Plan(instruction, (access,), state.r[15], state.cpsr, registers=writeback)


def _plan_dual(instruction: Dual, state: CpuState) -> Plan:
    address, writeback = _addressed(instruction, state)
    accesses = tuple(
        read_access(address + 4 * k, 4, state)
        if instruction.reads
        else write_access(address + 4 * k, 4, state.r[register], state)
        for k, register in enumerate((instruction.rt, instruction.rt2))
    )
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback)


def _block(base: int, count: int, increment: bool, before: bool) -> tuple[int, int]:
    """The lowest address of a multiple transfer of `count` words, and the base after it."""
    if increment:
        return base + (4 if before else 0), base + 4 * count & WORD
    return base - 4 * count + (0 if before else 4), base - 4 * count & WORD


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
            accesses.append(read_access(lowest + 4 * k, 4, state))
            continue
        if instruction.user and register != 15 and psr.banked_from_user(cpsr, register):
            value = state.banked(Mode.USER, register)
        else:
            value = register_operand(register, state, instruction)
        accesses.append(write_access(lowest + 4 * k, 4, value, state))
    writeback = {instruction.rn: after} if instruction.writeback else {}
    return Plan(instruction, tuple(accesses), state.r[15], cpsr, spsr, registers=writeback)


def _finish_multiple(instruction: Multiple, loaded: list[int], change: Change) -> None:
    for register, value in zip(instruction.registers, loaded, strict=True):
        if instruction.exception_return and register == 15:
            change.exception_return(value, change.plan.spsr)
        elif instruction.user and not instruction.exception_return and psr.banked_from_user(change.plan.cpsr, register):
            change.user_registers[register] = value
        else:
            change.load(register, value)


def _plan_exclusive(instruction: Exclusive, state: CpuState) -> Plan:
    address = state.r[instruction.rn] + instruction.offset & WORD
    if instruction.reads:
        read = read_access(address, instruction.size, state)
        return Plan(instruction, (read,), state.r[15], state.cpsr)
    if state.exclusive.address != address:
        return Plan(instruction, (), state.r[15], state.cpsr, failed=True)
    value = state.r[instruction.rt]
    if instruction.rt2 is not None:
        # The lower address always gets rt: in big-endian order that is the upper half.
        low, high = value, state.r[instruction.rt2]
        value = low << 32 | high if state.cpsr & psr.E else high << 32 | low
    write = write_access(address, instruction.size, value, state)
    return Plan(instruction, (write,), state.r[15], state.cpsr)


def _finish_exclusive(instruction: Exclusive, loaded: list[int], big: bool, change: Change) -> None:
    if instruction.status is not None:
        change.registers[instruction.status] = int(change.plan.failed)
        change.exclusive = ExclusiveMonitor()
        return
    value = loaded[0]
    change.exclusive = ExclusiveMonitor(change.plan.accesses[0].address, value)
    if instruction.rt2 is None:
        change.registers[instruction.rt] = value
    else:
        halves = (value >> 32, value & WORD)
        change.registers[instruction.rt], change.registers[instruction.rt2] = halves if big else halves[::-1]


def _plan_return(instruction: ReturnFromException, state: CpuState) -> Plan:
    if state.cpsr & psr.MODE in (Mode.USER, Mode.HYP):
        raise UndecodableError("RFE means nothing in User or Hyp mode.")
    lowest, after = _block(state.r[instruction.rn], 2, instruction.increment, instruction.before)
    accesses = (read_access(lowest, 4, state), read_access(lowest + 4, 4, state))
    writeback = {instruction.rn: after} if instruction.writeback else {}
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback)


def _plan_store_return_state(instruction: StoreReturnState, state: CpuState) -> Plan:
    cpsr, mode = state.cpsr, Mode(instruction.mode)
    _refuse_without_spsr(instruction, cpsr)
    own = mode == cpsr & psr.MODE
    bank = Mode.USER if mode in psr.USER_BANK else mode
    base = state.r[13] if own else state.banked(bank, 13)
    lowest, after = _block(base, 2, instruction.increment, instruction.before)
    accesses = (write_access(lowest, 4, state.r[14], state), write_access(lowest + 4, 4, state.spsr, state))
    if not instruction.writeback:
        return Plan(instruction, accesses, state.r[15], cpsr)
    if own:
        return Plan(instruction, accesses, state.r[15], cpsr, registers={13: after})
    if bank is Mode.USER:
        return Plan(instruction, accesses, state.r[15], cpsr, user_registers={13: after})
    return Plan(instruction, accesses, state.r[15], cpsr, stack_pointers={mode: after})
