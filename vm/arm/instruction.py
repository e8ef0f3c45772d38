# SPDX-License-Identifier: GPL-2.0-or-later
"""A decoded instruction that accesses memory: what it transfers, where, and how it reads as assembly text.

The classes mirror the architecture's families, not its encodings: a 16-bit `ldr r0, [r1]` and the A32 one are
both a `Single`. Encoding, condition and length stay with the instruction; everything else that execution
needs is a field. Source: ARM DDI 0406C, chapters A5 to A8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum

from allstop.vm.arm.psr import ALWAYS

_CONDITIONS = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "")
REGISTER_NAMES = (*(f"r{n}" for n in range(13)), "sp", "lr", "pc")


class UndecodableError(Exception):
    """These bits are no memory access that can be executed; the message says why, in one sentence."""


class Kind(Enum):
    """What an instruction does to memory, in the architecture's families."""

    LOAD = "load"
    STORE = "store"
    LOAD_DUAL = "load dual"
    STORE_DUAL = "store dual"
    LOAD_MULTIPLE = "load multiple"
    STORE_MULTIPLE = "store multiple"
    LOAD_EXCLUSIVE = "load exclusive"
    STORE_EXCLUSIVE = "store exclusive"
    SWAP = "swap"
    TABLE_BRANCH = "table branch"
    RETURN_FROM_EXCEPTION = "return from exception"
    STORE_RETURN_STATE = "store return state"
    VFP_LOAD = "VFP load"
    VFP_STORE = "VFP store"
    VFP_LOAD_MULTIPLE = "VFP load multiple"
    VFP_STORE_MULTIPLE = "VFP store multiple"
    NEON_LOAD = "NEON load"
    NEON_STORE = "NEON store"


_STORES = frozenset(
    {
        Kind.STORE,
        Kind.STORE_DUAL,
        Kind.STORE_MULTIPLE,
        Kind.STORE_EXCLUSIVE,
        Kind.STORE_RETURN_STATE,
        Kind.VFP_STORE,
        Kind.VFP_STORE_MULTIPLE,
        Kind.NEON_STORE,
    }
)


class Shift(Enum):
    """The shifts of an index register; RRX has an amount of 1."""

    LSL = "lsl"
    LSR = "lsr"
    ASR = "asr"
    ROR = "ror"
    RRX = "rrx"


class Indexing(Enum):
    """When the offset is applied, and whether the base register keeps the result."""

    OFFSET = ""
    PRE = "pre"
    POST = "post"


@dataclass(frozen=True, slots=True)
class ShiftedRegister:
    """An index register as an offset: `register` shifted by `amount` bits (0..32), added or subtracted."""

    register: int
    shift: Shift = Shift.LSL
    amount: int = 0
    subtract: bool = False

    def __str__(self) -> str:
        text = f"{'-' if self.subtract else ''}{REGISTER_NAMES[self.register]}"
        if self.shift is Shift.RRX:
            return f"{text}, rrx"
        return f"{text}, {self.shift.value} #{self.amount}" if self.amount else text


Offset = int | ShiftedRegister
"""An offset in bytes from the base register: a signed constant, or a shifted register."""


def address_text(rn: int, offset: Offset, indexing: Indexing) -> str:
    """The address operand of an instruction, such as `[r5], #4`."""
    base = REGISTER_NAMES[rn]
    shown = f"#{offset}" if isinstance(offset, int) else str(offset)
    if indexing is Indexing.POST:
        return f"[{base}], {shown}"
    inside = f"[{base}]" if offset == 0 and indexing is Indexing.OFFSET else f"[{base}, {shown}]"
    return f"{inside}!" if indexing is Indexing.PRE else inside


def addressing_form(rn: int, offset: Offset, indexing: Indexing) -> str:
    """The addressing form as coverage statistics name it, such as `immediate post`."""
    if isinstance(offset, int):
        name = "literal" if rn == 15 and indexing is Indexing.OFFSET else "immediate"
    else:
        name = "register" if offset.amount == 0 else "scaled register"
    return f"{name} {indexing.value}".rstrip()


def block_mode(increment: bool, before: bool) -> str:
    """The suffix of a multiple transfer: ia, ib, da or db."""
    return ("i" if increment else "d") + ("b" if before else "a")


@dataclass(frozen=True, slots=True)
class Instruction(ABC):
    """What all instructions have: the encoding (`word`, `thumb`) and the condition field.

    `word` is the A32 word, the 16-bit Thumb halfword, or a wide Thumb instruction as (first << 16) | second.
    `condition` is 14 (always) where the encoding has no such field; in an IT block, ITSTATE decides.
    `str()` gives unified assembly text, such as `ldr r6, [r5], #4`.

    `reads`, `writes` and `length` (2 or 4 bytes) follow from these; they are kept, since emulation asks for them again
    and again, of instructions that were decoded once. A swap both reads and writes: its abort may report either.
    """

    word: int
    thumb: bool
    condition: int
    kind: Kind
    reads: bool = field(init=False, repr=False, compare=False)
    writes: bool = field(init=False, repr=False, compare=False)
    length: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        stores = self.kind in _STORES
        object.__setattr__(self, "reads", not stores)
        object.__setattr__(self, "writes", stores or self.kind is Kind.SWAP)
        object.__setattr__(self, "length", 2 if self.thumb and self.word < 0x10000 else 4)

    @property
    @abstractmethod
    def mnemonic(self) -> str:
        """The name without condition and without data type, in lower case."""

    @property
    @abstractmethod
    def operands(self) -> str:
        """The operands as assembly text."""

    @property
    def form(self) -> str:
        """The addressing form, where its family has several; empty otherwise."""
        return ""

    @property
    def data_type(self) -> str:
        """The data type suffix of the mnemonic, such as `.32`; empty for most."""
        return ""

    @property
    def encoding(self) -> str:
        """The instruction set: `A32`, `T32` (wide Thumb) or `T16`."""
        if not self.thumb:
            return "A32"
        return "T16" if self.word < 0x10000 else "T32"

    @property
    def class_name(self) -> str:
        """The class that coverage statistics count it under, such as `A32 LDR immediate post`."""
        return f"{self.encoding} {self.mnemonic.upper()} {self.form}".rstrip()

    def agrees_with(self, wnr: bool) -> bool:
        """Whether this instruction can have caused an abort whose HSR.WnR is `wnr`."""
        return self.writes if wnr else self.reads

    def __str__(self) -> str:
        suffix = _CONDITIONS[self.condition] if self.condition < ALWAYS else ""
        return f"{self.mnemonic}{suffix}{self.data_type} {self.operands}"


@dataclass(frozen=True, slots=True)
class Single(Instruction):
    """LDR, STR and their byte, halfword, signed and unprivileged (T) forms; PUSH and POP of one register.

    `size` is 1, 2 or 4 bytes. With `rn` 15 the base is Align(PC, 4).
    """

    size: int
    signed: bool
    unprivileged: bool
    rt: int
    rn: int
    offset: Offset
    indexing: Indexing

    @property
    def _stack(self) -> bool:
        if self.rn != 13 or self.size != 4 or self.unprivileged:
            return False
        return (self.reads, self.offset, self.indexing) in (
            (True, 4, Indexing.POST),
            (False, -4, Indexing.PRE),
        )

    @property
    def mnemonic(self) -> str:
        if self._stack:
            return "pop" if self.reads else "push"
        name = f"{'ldr' if self.reads else 'str'}{'s' if self.signed else ''}"
        return f"{name}{ {1: 'b', 2: 'h', 4: ''}[self.size] }{'t' if self.unprivileged else ''}"

    @property
    def form(self) -> str:
        form = "single" if self._stack else addressing_form(self.rn, self.offset, self.indexing)
        return f"{form} PC" if self.rt == 15 else form

    @property
    def operands(self) -> str:
        if self._stack:
            return f"{{{REGISTER_NAMES[self.rt]}}}"
        return f"{REGISTER_NAMES[self.rt]}, {address_text(self.rn, self.offset, self.indexing)}"


@dataclass(frozen=True, slots=True)
class Dual(Instruction):
    """LDRD and STRD: `rt` at the address, `rt2` four bytes above."""

    rt: int
    rt2: int
    rn: int
    offset: Offset
    indexing: Indexing

    @property
    def mnemonic(self) -> str:
        return "ldrd" if self.reads else "strd"

    @property
    def form(self) -> str:
        return addressing_form(self.rn, self.offset, self.indexing)

    @property
    def operands(self) -> str:
        address = address_text(self.rn, self.offset, self.indexing)
        return f"{REGISTER_NAMES[self.rt]}, {REGISTER_NAMES[self.rt2]}, {address}"


@dataclass(frozen=True, slots=True)
class Multiple(Instruction):
    """LDM and STM in all four modes, PUSH and POP.

    `registers` ascends, and so do the addresses, whatever the mode. `user` is the caret: the User-mode
    registers are transferred, or, for a load with PC in the list, CPSR is restored from SPSR.
    """

    rn: int
    registers: tuple[int, ...]
    increment: bool
    before: bool
    writeback: bool
    user: bool

    @property
    def exception_return(self) -> bool:
        """Whether this is LDM (exception return)."""
        return self.user and self.reads and 15 in self.registers

    @property
    def _stack(self) -> bool:
        if self.rn != 13 or not self.writeback or self.user:
            return False
        if not self.thumb and len(self.registers) == 1:
            return False  # there, PUSH and POP of one register are encodings of STR and LDR
        return (self.increment, self.before) == ((True, False) if self.reads else (False, True))

    @property
    def mnemonic(self) -> str:
        if self._stack:
            return "pop" if self.reads else "push"
        return ("ldm" if self.reads else "stm") + block_mode(self.increment, self.before)

    @property
    def form(self) -> str:
        words = ["writeback"] if self.writeback and not self._stack else []
        if self.user:
            words.append("exception return" if self.exception_return else "user bank")
        elif 15 in self.registers:
            words.append("PC")
        return " ".join(words)

    @property
    def operands(self) -> str:
        listed = f"{{{', '.join(REGISTER_NAMES[n] for n in self.registers)}}}"
        if self._stack:
            return listed
        return f"{REGISTER_NAMES[self.rn]}{'!' if self.writeback else ''}, {listed}{'^' if self.user else ''}"


@dataclass(frozen=True, slots=True)
class Exclusive(Instruction):
    """LDREX and STREX and their byte, halfword and doubleword forms; `size` is 1, 2, 4 or 8.

    `rt2` is set for doublewords only, `status` (the register that tells success) for stores only.
    """

    size: int
    rt: int
    rt2: int | None
    status: int | None
    rn: int
    offset: int

    @property
    def mnemonic(self) -> str:
        return f"{'ldrex' if self.reads else 'strex'}{ {1: 'b', 2: 'h', 4: '', 8: 'd'}[self.size] }"

    @property
    def operands(self) -> str:
        named = [REGISTER_NAMES[n] for n in (self.status, self.rt, self.rt2) if n is not None]
        return f"{', '.join(named)}, {address_text(self.rn, self.offset, Indexing.OFFSET)}"


@dataclass(frozen=True, slots=True)
class Swap(Instruction):
    """SWP and SWPB: reads into `rt`, then writes `rt2`, at the same address; `size` is 1 or 4."""

    size: int
    rt: int
    rt2: int
    rn: int

    @property
    def mnemonic(self) -> str:
        return "swp" if self.size == 4 else "swpb"

    @property
    def operands(self) -> str:
        return f"{REGISTER_NAMES[self.rt]}, {REGISTER_NAMES[self.rt2]}, [{REGISTER_NAMES[self.rn]}]"


@dataclass(frozen=True, slots=True)
class TableBranch(Instruction):
    """TBB and TBH: a branch forward by twice an entry of `size` (1 or 2) bytes out of a table."""

    size: int
    rn: int
    rm: int

    @property
    def mnemonic(self) -> str:
        return "tbb" if self.size == 1 else "tbh"

    @property
    def operands(self) -> str:
        scale = "" if self.size == 1 else ", lsl #1"
        return f"[{REGISTER_NAMES[self.rn]}, {REGISTER_NAMES[self.rm]}{scale}]"


@dataclass(frozen=True, slots=True)
class ReturnFromException(Instruction):
    """RFE: loads PC, and CPSR from the word above."""

    rn: int
    increment: bool
    before: bool
    writeback: bool

    @property
    def mnemonic(self) -> str:
        return f"rfe{block_mode(self.increment, self.before)}"

    @property
    def form(self) -> str:
        return "writeback" if self.writeback else ""

    @property
    def operands(self) -> str:
        return f"{REGISTER_NAMES[self.rn]}{'!' if self.writeback else ''}"


@dataclass(frozen=True, slots=True)
class StoreReturnState(Instruction):
    """SRS: stores LR, and SPSR in the word above, on the stack of the mode numbered `mode`."""

    mode: int
    increment: bool
    before: bool
    writeback: bool

    @property
    def mnemonic(self) -> str:
        return f"srs{block_mode(self.increment, self.before)}"

    @property
    def form(self) -> str:
        return "writeback" if self.writeback else ""

    @property
    def operands(self) -> str:
        return f"sp{'!' if self.writeback else ''}, #{self.mode}"
