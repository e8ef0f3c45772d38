# SPDX-License-Identifier: GPL-2.0-or-later
"""The wide (32-bit) Thumb loads and stores; a word is (first halfword << 16) | second halfword.

Source: ARM DDI 0406C, section A6.3 and the T32 encodings of chapter A8. On what is UNPREDICTABLE see
`allstop.vm.arm.a32`.
"""

from __future__ import annotations

from allstop.vm.arm.a32 import exclusive, register_list, store_return_state
from allstop.vm.arm.instruction import (
    Dual,
    Indexing,
    Instruction,
    Kind,
    Multiple,
    Offset,
    ReturnFromException,
    Shift,
    ShiftedRegister,
    Single,
    TableBranch,
    UndecodableError,
)
from allstop.vm.arm.psr import ALWAYS
from allstop.vm.arm.vector import decode_neon, decode_vfp


def decode_t32(word: int) -> Instruction:
    """The memory access that the wide Thumb instruction `word` makes. Raises UndecodableError."""
    if word >> 25 == 0x74:  # 1110 100
        return _dual_exclusive_table(word) if word & 1 << 22 else _multiple(word)
    if word >> 25 == 0x7C:  # 1111 100
        if word & 0x01100000 == 0x01000000:
            return decode_neon(word, thumb=True)
        return _single(word)
    if word >> 25 == 0x76:  # 1110 110
        return decode_vfp(word, thumb=True)
    if word >> 25 == 0x7E:  # 1111 110
        raise UndecodableError(f"T32 {word:#010x} is LDC2, STC2 or another coprocessor's transfer.")
    raise UndecodableError(f"T32 {word:#010x} is no load or store.")


def _multiple(word: int) -> Instruction:
    writeback, load = word >> 21 & 1 == 1, word >> 20 & 1 == 1
    rn, bits, mode = word >> 16 & 15, word & 0xFFFF, word >> 23 & 3
    if mode in (0, 3):
        increment = mode == 3
        if load and bits == 0xC000:
            if rn == 15:
                raise UndecodableError("RFE with PC as its base is UNPREDICTABLE.")
            kind = Kind.RETURN_FROM_EXCEPTION
            return ReturnFromException(word, True, ALWAYS, kind, rn, increment, not increment, writeback)
        if not load and rn == 13 and bits & 0xFFE0 == 0xC000:
            return store_return_state(word, True, bits & 31, increment, not increment, writeback)
        raise UndecodableError(f"T32 {word:#010x} is an UNPREDICTABLE form of SRS or RFE.")
    registers = register_list(bits)
    if rn == 15 or len(registers) < 2:
        raise UndecodableError("LDM or STM by PC, or of fewer than two registers, is UNPREDICTABLE.")
    if writeback and rn in registers:
        raise UndecodableError("LDM or STM with writeback that transfers its base is UNPREDICTABLE in Thumb.")
    if 15 in registers and not load:
        raise UndecodableError("STM of PC is UNPREDICTABLE in Thumb.")
    increment = mode == 1
    kind = Kind.LOAD_MULTIPLE if load else Kind.STORE_MULTIPLE
    return Multiple(word, True, ALWAYS, kind, rn, registers, increment, not increment, writeback, False)


def _dual_exclusive_table(word: int) -> Instruction:
    load, rn, rt, rt2 = word >> 20 & 1 == 1, word >> 16 & 15, word >> 12 & 15, word >> 8 & 15
    before, increment, writeback = word >> 24 & 1 == 1, word >> 23 & 1 == 1, word >> 21 & 1 == 1
    if before or writeback:
        if 15 in (rt, rt2) or rn == 15 and (writeback or not load):
            raise UndecodableError("LDRD or STRD of PC, or with PC as a base to write, is UNPREDICTABLE.")
        offset = 4 * (word & 0xFF) if increment else -4 * (word & 0xFF)
        indexing = Indexing.POST if not before else Indexing.PRE if writeback else Indexing.OFFSET
        kind = Kind.LOAD_DUAL if load else Kind.STORE_DUAL
        return Dual(word, True, ALWAYS, kind, rt, rt2, rn, offset, indexing)
    if not increment:
        status = None if load else rt2
        if load and rt2 != 15:
            raise UndecodableError("LDREX with a register in its status field is UNPREDICTABLE.")
        return exclusive(word, True, ALWAYS, load, 4, rt, None, status, rn, 4 * (word & 0xFF))
    operation, lowest = word >> 4 & 15, word & 15
    if load and operation in (0, 1):
        if word & 0xFF00 != 0xF000 or lowest == 15:
            raise UndecodableError("TBB or TBH by PC, or with an unused field set, is UNPREDICTABLE.")
        return TableBranch(word, True, ALWAYS, Kind.TABLE_BRANCH, operation + 1, rn, lowest)
    if operation in (4, 5, 7):
        size = {4: 1, 5: 2, 7: 8}[operation]
        if load and lowest != 15 or size != 8 and rt2 != 15:
            raise UndecodableError("An exclusive access with a register in an unused field is UNPREDICTABLE.")
        second = rt2 if size == 8 else None
        return exclusive(word, True, ALWAYS, load, size, rt, second, None if load else lowest, rn, 0)
    if operation >= 8:
        raise UndecodableError("Load-acquire and store-release do not exist in ARMv7.")
    raise UndecodableError(f"T32 {word:#010x} is an undefined exclusive access or table branch.")


def _single(word: int) -> Instruction:
    load, signed, size = word >> 20 & 1 == 1, word >> 24 & 1 == 1, 1 << (word >> 21 & 3)
    rn, rt = word >> 16 & 15, word >> 12 & 15
    if not load and rn == 15:
        raise UndecodableError("A Thumb store with PC as its base is undefined.")
    if size == 8 or signed and size == 4:
        raise UndecodableError(f"T32 {word:#010x} is an undefined load or store.")
    offset: Offset
    indexing, unprivileged = Indexing.OFFSET, False
    if rn == 15:
        offset = word & 0xFFF if word & 1 << 23 else -(word & 0xFFF)
    elif word & 1 << 23:
        offset = word & 0xFFF
    elif word & 1 << 11:
        before, increment, writeback = word >> 10 & 1, word >> 9 & 1, word >> 8 & 1
        if not before and not writeback:
            raise UndecodableError(f"T32 {word:#010x} is an undefined load or store.")
        offset = word & 0xFF if increment else -(word & 0xFF)
        unprivileged = bool(before and increment and not writeback)
        if writeback:
            indexing = Indexing.PRE if before else Indexing.POST
    elif word & 0xFC0:
        raise UndecodableError(f"T32 {word:#010x} is an undefined load or store.")
    else:
        offset = ShiftedRegister(word & 15, Shift.LSL, word >> 4 & 3)
        if offset.register == 15:
            raise UndecodableError("PC as the index register is UNPREDICTABLE.")
    if rt == 15:
        if load and size < 4 and indexing is Indexing.OFFSET and not unprivileged:
            raise UndecodableError(f"T32 {word:#010x} is a preload or hint, which accesses nothing.")
        if size < 4 or not load or unprivileged:
            raise UndecodableError("PC as the register of this Thumb load or store is UNPREDICTABLE.")
    kind = Kind.LOAD if load else Kind.STORE
    return Single(word, True, ALWAYS, kind, size, signed, unprivileged, rt, rn, offset, indexing)
