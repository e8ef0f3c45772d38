# SPDX-License-Identifier: GPL-2.0-or-later
"""VFP and Advanced SIMD (NEON) loads and stores: the same fields in A32 and in T32.

Source: ARM DDI 0406C, sections A7.6 "Extension register load/store" and A7.7 "Advanced SIMD element or
structure load/store".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from allstop.vm.arm.instruction import (
    REGISTER_NAMES,
    Indexing,
    Instruction,
    Kind,
    UndecodableError,
    address_text,
    addressing_form,
    block_mode,
)
from allstop.vm.arm.psr import ALWAYS


@dataclass(frozen=True, slots=True)
class VfpSingle(Instruction):
    """VLDR and VSTR of S`vd`, or of D`vd` where `double`."""

    double: bool
    vd: int
    rn: int
    offset: int

    @property
    def mnemonic(self) -> str:
        return "vldr" if self.reads else "vstr"

    @property
    def form(self) -> str:
        addressing = addressing_form(self.rn, self.offset, Indexing.OFFSET)
        return f"{'double' if self.double else 'single'} {addressing}"

    @property
    def operands(self) -> str:
        register = f"{'d' if self.double else 's'}{self.vd}"
        return f"{register}, {address_text(self.rn, self.offset, Indexing.OFFSET)}"


@dataclass(frozen=True, slots=True)
class VfpMultiple(Instruction):
    """VLDM and VSTM (increment after, or decrement before with writeback), VPUSH and VPOP.

    `count` registers from `vd`. `words` is the base register's step in words: for doubles twice the
    count, and one more in the deprecated FLDMX and FSTMX.
    """

    double: bool
    vd: int
    count: int
    words: int
    rn: int
    decrement: bool
    writeback: bool

    @property
    def _x(self) -> bool:
        return self.double and self.words & 1 == 1

    @property
    def _stack(self) -> bool:
        return self.rn == 13 and self.writeback and self.decrement != self.reads and not self._x

    @property
    def mnemonic(self) -> str:
        if self._stack:
            return "vpop" if self.reads else "vpush"
        mode = block_mode(not self.decrement, self.decrement)
        if self._x:
            return f"{'fldm' if self.reads else 'fstm'}{mode}x"
        return f"{'vldm' if self.reads else 'vstm'}{mode}"

    @property
    def form(self) -> str:
        form = "double" if self.double else "single"
        return f"{form} writeback" if self.writeback and not self._stack else form

    @property
    def operands(self) -> str:
        letter = "d" if self.double else "s"
        listed = f"{{{', '.join(f'{letter}{n}' for n in range(self.vd, self.vd + self.count))}}}"
        if self._stack:
            return listed
        return f"{REGISTER_NAMES[self.rn]}{'!' if self.writeback else ''}, {listed}"


class Structure(Enum):
    """How a NEON structure access spreads over the lanes."""

    MULTIPLE = "multiple"
    LANE = "lane"
    ALL_LANES = "all lanes"


@dataclass(frozen=True, slots=True)
class NeonStructure(Instruction):
    """VLD1 to VLD4 and VST1 to VST4: structures of `elements` elements of `size` (1, 2, 4, 8) bytes.

    Element k of a structure lies in the D registers vd + k * stride. MULTIPLE does this for `count` registers
    in a row each; LANE for the one `lane`; ALL_LANES copies each element to every lane of `count` registers.
    `alignment` is what the instruction promises in bytes (1: nothing). `rm` 15 means no writeback, 13 an
    increment by the bytes transferred, others an increment by that register.
    """

    structure: Structure
    elements: int
    size: int
    vd: int
    count: int
    stride: int
    lane: int
    alignment: int
    rn: int
    rm: int

    @property
    def bytes_transferred(self) -> int:
        """Bytes of memory that the instruction touches, from the base register's address on."""
        if self.structure is Structure.MULTIPLE:
            return 8 * self.elements * self.count
        return self.size * self.elements

    @property
    def mnemonic(self) -> str:
        return f"{'vld' if self.reads else 'vst'}{self.elements}"

    @property
    def data_type(self) -> str:
        return f".{8 * self.size}"

    @property
    def form(self) -> str:
        if self.rm == 15:
            return self.structure.value
        return f"{self.structure.value} {'writeback' if self.rm == 13 else 'register writeback'}"

    @property
    def operands(self) -> str:
        suffix = {Structure.MULTIPLE: "", Structure.LANE: f"[{self.lane}]", Structure.ALL_LANES: "[]"}
        pairs = [(k, r) for k in range(self.elements) for r in range(self.count)]
        numbers = sorted(self.vd + k * self.stride + r for k, r in pairs)
        listed = ", ".join(f"d{n}{suffix[self.structure]}" for n in numbers)
        base = REGISTER_NAMES[self.rn] + (f":{8 * self.alignment}" if self.alignment > 1 else "")
        after = {15: "", 13: "!"}.get(self.rm, f", {REGISTER_NAMES[self.rm]}")
        return f"{{{listed}}}, [{base}]{after}"


_MULTIPLE_FORMS = {
    # type field: elements of a structure, registers in a row for each, distance between their registers
    0b0000: (4, 1, 1),
    0b0001: (4, 1, 2),
    0b0010: (1, 4, 1),
    0b0011: (2, 2, 2),
    0b0100: (3, 1, 1),
    0b0101: (3, 1, 2),
    0b0110: (1, 3, 1),
    0b0111: (1, 1, 1),
    0b1000: (2, 1, 1),
    0b1001: (2, 1, 2),
    0b1010: (1, 2, 1),
}

_LANE_ALIGNMENTS = (
    # the legal alignment fields of VLD1 to VLD4 (single lane), by the size field
    ({0}, {0, 1}, {0, 3}),
    ({0, 1}, {0, 1}, {0, 1}),
    ({0}, {0}, {0}),
    ({0, 1}, {0, 1}, {0, 1, 2}),
)


def decode_vfp(word: int, thumb: bool) -> Instruction:
    """A word of the coprocessor load/store space (bits [27:25] = 110). Raises UndecodableError."""
    coprocessor = word >> 8 & 15
    puw = word >> 22 & 4 | word >> 22 & 2 | word >> 21 & 1
    if puw == 0:
        raise UndecodableError(f"{word:#010x} moves between registers, or is undefined.")
    if coprocessor not in (10, 11):
        raise UndecodableError(f"LDC or STC to coprocessor {coprocessor}, which takes none here.")
    if puw in (1, 7):
        raise UndecodableError(f"{word:#010x} is an undefined VFP encoding.")
    condition = ALWAYS if thumb else word >> 28
    load, double = word >> 20 & 1 == 1, coprocessor == 11
    rn, constant = word >> 16 & 15, word & 0xFF
    vd = word >> 18 & 16 | word >> 12 & 15 if double else word >> 11 & 30 | word >> 22 & 1
    if rn == 15 and (puw & 1 or thumb and not (load and puw & 5 == 4)):
        raise UndecodableError("PC as the base of this VFP load or store is UNPREDICTABLE.")
    if puw & 5 == 4:
        offset = 4 * constant if word & 1 << 23 else -4 * constant
        kind = Kind.VFP_LOAD if load else Kind.VFP_STORE
        return VfpSingle(word, thumb, condition, kind, double, vd, rn, offset)
    count = constant >> 1 if double else constant
    if count == 0 or vd + count > 32 or double and count > 16:
        raise UndecodableError("A VFP load or store of no registers, or beyond the last, is UNPREDICTABLE.")
    writeback, decrement = puw & 1 == 1, puw & 4 != 0
    kind = Kind.VFP_LOAD_MULTIPLE if load else Kind.VFP_STORE_MULTIPLE
    return VfpMultiple(word, thumb, condition, kind, double, vd, count, constant, rn, decrement, writeback)


def decode_neon(word: int, thumb: bool) -> Instruction:
    """A word of the element or structure load/store space, whose low 24 bits are the same in A32 and T32.

    Raises UndecodableError.
    """
    rn = word >> 16 & 15
    if rn == 15:
        raise UndecodableError("A NEON load or store with PC as its base is UNPREDICTABLE.")
    if not word & 1 << 23:
        instruction = _multiple(word, thumb)
    elif word >> 10 & 3 == 3:
        instruction = _all_lanes(word, thumb)
    else:
        instruction = _lane(word, thumb)
    last = instruction.vd + (instruction.elements - 1) * instruction.stride + instruction.count - 1
    if last > 31:
        raise UndecodableError("A NEON load or store beyond the last register is UNPREDICTABLE.")
    return instruction


def _undefined(word: int) -> UndecodableError:
    return UndecodableError(f"{word:#010x} is an undefined NEON load or store.")


def _multiple(word: int, thumb: bool) -> NeonStructure:
    kind, size, align = word >> 8 & 15, word >> 6 & 3, word >> 4 & 3
    if kind not in _MULTIPLE_FORMS:
        raise _undefined(word)
    elements, count, stride = _MULTIPLE_FORMS[kind]
    if kind >> 2 == 1 and align & 2 or kind >> 2 == 2 and align == 3 or elements > 1 and size == 3:
        raise _undefined(word)
    alignment = 4 << align if align else 1
    return _structure(word, thumb, Structure.MULTIPLE, elements, 1 << size, count, stride, 0, alignment)


def _lane(word: int, thumb: bool) -> NeonStructure:
    elements, size, index = (word >> 8 & 3) + 1, word >> 10 & 3, word >> 4 & 15
    lane = index >> size + 1
    low = index & (2 << size) - 1  # the bits below the lane number: spacing and alignment
    stride = 2 if size and elements > 1 and low >> size & 1 else 1
    aligned = low & (1 << size) - 1 if size and elements > 1 else low
    if aligned not in _LANE_ALIGNMENTS[elements - 1][size]:
        raise _undefined(word)
    alignment = 1
    if aligned:
        alignment = 16 if aligned == 2 else min(elements << size, 8)
    return _structure(word, thumb, Structure.LANE, elements, 1 << size, 1, stride, lane, alignment)


def _all_lanes(word: int, thumb: bool) -> NeonStructure:
    elements, size, t, a = (word >> 8 & 3) + 1, word >> 6 & 3, word >> 5 & 1, word >> 4 & 1
    if not word & 1 << 21:
        raise _undefined(word)
    if size == 3 and not (elements == 4 and a) or elements == 3 and a or elements == 1 and size == 0 and a:
        raise _undefined(word)
    alignment = 1
    if a:
        alignment = 16 if size == 3 else min(elements << size, 8)
    count, stride = (t + 1, 1) if elements == 1 else (1, t + 1)
    bytes_each = 4 if size == 3 else 1 << size
    return _structure(word, thumb, Structure.ALL_LANES, elements, bytes_each, count, stride, 0, alignment)


def _structure(
    word: int,
    thumb: bool,
    structure: Structure,
    elements: int,
    size: int,
    count: int,
    stride: int,
    lane: int,
    alignment: int,
) -> NeonStructure:
    kind = Kind.NEON_LOAD if word & 1 << 21 else Kind.NEON_STORE
    vd, rn, rm = word >> 18 & 16 | word >> 12 & 15, word >> 16 & 15, word & 15
    return NeonStructure(
        word, thumb, ALWAYS, kind, structure, elements, size, vd, count, stride, lane, alignment, rn, rm
    )
