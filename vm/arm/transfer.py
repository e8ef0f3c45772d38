# SPDX-License-Identifier: GPL-2.0-or-later
"""An instruction on its way through memory: the CPU it starts from, its accesses, its plan, its effects.

What `allstop.vm.arm.execution` hands out, and the few primitives of the architecture that both the general and
the vector registers' transfers are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from allstop.vm.arm import psr
from allstop.vm.arm.instruction import Instruction
from allstop.vm.arm.psr import Mode

WORD = 0xFFFFFFFF
"""The mask of a register."""

_NOTHING: Mapping[Any, int] = MappingProxyType({})
_USER = int(Mode.USER)  # an IntEnum compares slowly


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


class Access(NamedTuple):
    """One access to memory at the guest virtual `address`, of `size` 1, 2, 4 or 8 bytes.

    `value` is what is written, None for a read. `privileged` is False for User mode and for the T variants.
    """

    address: int
    size: int
    write: bool
    value: int | None
    privileged: bool


class Plan(NamedTuple):
    """An instruction whose accesses are known; the rest is what `finish` needs of the CPU's state.

    `registers`, `user_registers` and `stack_pointers` are the base writeback. `doubles` are the D registers
    that will be changed in part. `failed` marks a store exclusive that the monitor refuses.
    """

    instruction: Instruction
    accesses: tuple[Access, ...]
    address: int
    cpsr: int
    spsr: int = 0
    registers: Mapping[int, int] = _NOTHING
    user_registers: Mapping[int, int] = _NOTHING
    stack_pointers: Mapping[Mode, int] = _NOTHING
    doubles: Mapping[int, int] = _NOTHING
    failed: bool = False


class Effects(NamedTuple):
    """What the instruction changes. Apply `cpsr` last: the registers are those of the mode it ran in.

    `registers` are r0 to r14 of that mode, `user_registers` User mode's where they differ from it,
    `stack_pointers` the r13 of other modes (SRS), `vfp` whole D registers by number. `cpsr` and
    `exclusive` are None where nothing changes; `pc` is the next instruction, its state the T bit of `cpsr`.
    """

    pc: int
    registers: dict[int, int]
    user_registers: dict[int, int]
    stack_pointers: Mapping[Mode, int]
    vfp: dict[int, int]
    cpsr: int | None
    exclusive: ExclusiveMonitor | None


class Change:
    """Effects in the making, begun from a plan's writeback, next PC and ITSTATE."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.registers = dict(plan.registers)
        self.user_registers = dict(plan.user_registers)
        self.doubles = dict(plan.doubles)
        self.pc = plan.address + plan.instruction.length & WORD
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
        """A loaded PC, and a CPSR from the SPSR or from memory."""
        self.cpsr = cpsr & ~psr.RESERVED
        self.pc = pc & (~1 if cpsr & psr.T else ~3)

    def insert(self, number: int, lowest_bit: int, bits: int, value: int) -> None:
        """Replace bits of D`number`."""
        mask = (1 << bits) - 1 << lowest_bit
        self.doubles[number] = self.doubles[number] & ~mask | value << lowest_bit

    def effects(self) -> Effects:
        """The effects."""
        cpsr = None if self.cpsr == self.plan.cpsr else self.cpsr
        vfp = self.doubles if self.plan.instruction.reads else {}
        pointers = self.plan.stack_pointers
        return Effects(self.pc, self.registers, self.user_registers, pointers, vfp, cpsr, self.exclusive)


def byte_ordered(value: int, size: int, big: bool) -> int:
    """A value of `size` bytes, turned from the CPU's byte order (CPSR.E) to a little-endian bus's, or back."""
    if not big or size == 1:
        return value
    return int.from_bytes(value.to_bytes(size, "little"), "big")


def register_operand(register: int, state: CpuState, instruction: Instruction) -> int:
    """A register as an operand: PC reads as the instruction's address plus 8, in Thumb state plus 4."""
    if register != 15:
        return state.r[register]
    return state.r[15] + (4 if instruction.thumb else 8)


def base_address(register: int, state: CpuState, instruction: Instruction) -> int:
    """A register as a base: PC is aligned to a word (it differs from `register_operand` in Thumb state only)."""
    return register_operand(register, state, instruction) & ~3 if register == 15 else state.r[register]


def read_access(address: int, size: int, state: CpuState, unprivileged: bool = False) -> Access:
    """A read at the current privilege, or at User mode's."""
    privileged = not unprivileged and state.cpsr & psr.MODE != _USER
    return Access(address & WORD, size, False, None, privileged)


def write_access(address: int, size: int, value: int, state: CpuState, unprivileged: bool = False) -> Access:
    """A write of a register's low bytes, at the current privilege or at User mode's."""
    privileged = not unprivileged and state.cpsr & psr.MODE != _USER
    value = byte_ordered(value & (1 << 8 * size) - 1, size, state.cpsr & psr.E != 0)
    return Access(address & WORD, size, True, value, privileged)
