# SPDX-License-Identifier: GPL-2.0-or-later
"""The 16-bit Thumb loads and stores.

Source: ARM DDI 0406C, section A6.2 and the T1, T2 encodings of chapter A8.
"""

from __future__ import annotations

from allstop.vm.arm.a32 import register_list
from allstop.vm.arm.instruction import (
    Indexing,
    Instruction,
    Kind,
    Multiple,
    Offset,
    ShiftedRegister,
    Single,
    UndecodableError,
)
from allstop.vm.arm.psr import ALWAYS

_REGISTER_FORMS = (
    # opB of "load/store single", bits [11:9]: load, size in bytes, signed
    (False, 4, False),
    (False, 2, False),
    (False, 1, False),
    (True, 1, True),
    (True, 4, False),
    (True, 2, False),
    (True, 1, False),
    (True, 2, True),
)
_IMMEDIATE_SIZES = {6: 4, 7: 1, 8: 2}


def decode_t16(word: int) -> Instruction:
    """The memory access that the 16-bit Thumb instruction `word` makes. Raises UndecodableError."""
    group, load = word >> 12, word >> 11 & 1 == 1
    low, middle = word & 7, word >> 3 & 7
    if group == 5:
        by_register, size, signed = _REGISTER_FORMS[word >> 9 & 7]
        return _single(word, by_register, size, signed, low, middle, ShiftedRegister(word >> 6 & 7))
    if group in _IMMEDIATE_SIZES:
        size = _IMMEDIATE_SIZES[group]
        return _single(word, load, size, False, low, middle, (word >> 6 & 31) * size)
    if group == 9:
        return _single(word, load, 4, False, word >> 8 & 7, 13, 4 * (word & 0xFF))
    if word >> 11 == 9:
        return _single(word, True, 4, False, word >> 8 & 7, 15, 4 * (word & 0xFF))
    if word & 0xF600 == 0xB400:
        bits = word & 0xFF | (word & 0x100) << (7 if load else 6)
        return _multiple(word, load, 13, bits, writeback=True)
    if group == 12:
        rn, bits = word >> 8 & 7, word & 0xFF
        return _multiple(word, load, rn, bits, writeback=not (load and bits >> rn & 1))
    raise UndecodableError(f"T16 {word:#06x} is no load or store.")


def _single(word: int, load: bool, size: int, signed: bool, rt: int, rn: int, offset: Offset) -> Instruction:
    kind = Kind.LOAD if load else Kind.STORE
    return Single(word, True, ALWAYS, kind, size, signed, False, rt, rn, offset, Indexing.OFFSET)


def _multiple(word: int, load: bool, rn: int, bits: int, writeback: bool) -> Instruction:
    if not bits:
        raise UndecodableError("A load or store of no register is UNPREDICTABLE.")
    down = rn == 13 and not load
    kind = Kind.LOAD_MULTIPLE if load else Kind.STORE_MULTIPLE
    return Multiple(word, True, ALWAYS, kind, rn, register_list(bits), not down, down, writeback, False)
