# SPDX-License-Identifier: GPL-2.0-or-later
"""The A32 (ARM state) loads and stores, one word to one instruction.

Source: ARM DDI 0406C, chapter A5 and the encodings A1, A2 of chapter A8. An UNPREDICTABLE encoding is refused where its
result would depend on PC or on something that no field says; otherwise it means what QEMU's Cortex-A15 makes of it (see
`allstop.vm.arm.execution`).
"""

from __future__ import annotations

from allstop.vm.arm.instruction import (
    Dual,
    Exclusive,
    Indexing,
    Instruction,
    Kind,
    Multiple,
    Offset,
    ReturnFromException,
    Shift,
    ShiftedRegister,
    Single,
    StoreReturnState,
    Swap,
    UndecodableError,
)
from allstop.vm.arm.psr import ALWAYS, GUEST_MODES
from allstop.vm.arm.vector import decode_neon, decode_vfp

_SHIFTS = (Shift.LSL, Shift.LSR, Shift.ASR, Shift.ROR)
_EXCLUSIVE_SIZES = (4, 8, 1, 2)


def shifted(register: int, kind: int, amount: int, subtract: bool) -> ShiftedRegister:
    """The shift of a two-bit type and a five-bit amount (DecodeImmShift, A8.4.3)."""
    shift = _SHIFTS[kind]
    if amount == 0 and shift is not Shift.LSL:
        shift, amount = (Shift.RRX, 1) if shift is Shift.ROR else (shift, 32)
    return ShiftedRegister(register, shift, amount, subtract)


def register_list(bits: int) -> tuple[int, ...]:
    """The register numbers of a list's bits, ascending."""
    return tuple(n for n in range(16) if bits >> n & 1)


def decode_a32(word: int) -> Instruction:
    """The memory access that the A32 instruction `word` makes. Raises UndecodableError."""
    group = word >> 25 & 7
    if word >> 28 == 15:
        return _unconditional(word, group)
    if group == 2 or group == 3 and not word & 0x10:
        return _single(word, register=group == 3)
    if group == 0 and word & 0x90 == 0x90:
        return _extra(word) if word & 0x60 else _synchronization(word)
    if group == 4:
        return _multiple(word)
    if group == 6:
        return decode_vfp(word, thumb=False)
    raise UndecodableError(f"A32 {word:#010x} is no load or store.")


def _unconditional(word: int, group: int) -> Instruction:
    if word & 0xFF100000 == 0xF4000000:
        return decode_neon(word, thumb=False)
    before, increment, writeback = word >> 24 & 1 == 1, word >> 23 & 1 == 1, word >> 21 & 1 == 1
    if word & 0xFE50FFFF == 0xF8100A00:
        rn = word >> 16 & 15
        if rn == 15:
            raise UndecodableError("RFE with PC as its base is UNPREDICTABLE.")
        kind = Kind.RETURN_FROM_EXCEPTION
        return ReturnFromException(word, False, ALWAYS, kind, rn, increment, before, writeback)
    if word & 0xFE5FFFE0 == 0xF84D0500:
        return store_return_state(word, False, word & 31, increment, before, writeback)
    if group == 6:
        raise UndecodableError(f"A32 {word:#010x} is LDC2, STC2 or another coprocessor's transfer.")
    if word & 0xFC000000 == 0xF4000000:
        raise UndecodableError(f"A32 {word:#010x} is a preload or hint, which accesses nothing.")
    raise UndecodableError(f"A32 {word:#010x} is no load or store.")


def _indexing(word: int) -> Indexing:
    if not word & 1 << 24:
        return Indexing.POST
    return Indexing.PRE if word & 1 << 21 else Indexing.OFFSET


def _refuse_pc(rn: int, offset: Offset, indexing: Indexing) -> None:
    if rn == 15 and indexing is not Indexing.OFFSET:
        raise UndecodableError("Writeback to PC as the base register is UNPREDICTABLE.")
    if isinstance(offset, ShiftedRegister) and offset.register == 15:
        raise UndecodableError("PC as the index register is UNPREDICTABLE.")


def _single(word: int, register: bool) -> Instruction:
    load, subtract = word >> 20 & 1 == 1, not word & 1 << 23
    rn, rt = word >> 16 & 15, word >> 12 & 15
    size = 1 if word & 1 << 22 else 4
    offset: Offset
    if register:
        offset = shifted(word & 15, word >> 5 & 3, word >> 7 & 31, subtract)
    else:
        offset = -(word & 0xFFF) if subtract else word & 0xFFF
    indexing = _indexing(word)
    _refuse_pc(rn, offset, indexing)
    unprivileged = indexing is Indexing.POST and word & 1 << 21 != 0
    if rt == 15 and (size == 1 or load and unprivileged):
        raise UndecodableError("PC as the target of a byte access or of LDRT is UNPREDICTABLE.")
    kind = Kind.LOAD if load else Kind.STORE
    return Single(word, False, word >> 28, kind, size, False, unprivileged, rt, rn, offset, indexing)


def _extra(word: int) -> Instruction:
    """Halfword, signed and dual: bits [6:5] and the load bit say which."""
    subtract = not word & 1 << 23
    rn, rt, operation = word >> 16 & 15, word >> 12 & 15, word >> 5 & 3
    offset: Offset
    if word & 1 << 22:
        constant = word >> 4 & 0xF0 | word & 0xF
        offset = -constant if subtract else constant
    elif word & 0xF00:
        raise UndecodableError("A nonzero field beside the index register is UNPREDICTABLE.")
    else:
        offset = ShiftedRegister(word & 15, subtract=subtract)
    indexing = _indexing(word)
    _refuse_pc(rn, offset, indexing)
    unprivileged = indexing is Indexing.POST and word & 1 << 21 != 0
    load = word >> 20 & 1 == 1
    if operation != 1 and not load:
        if rt & 1 or rt == 14:
            raise UndecodableError("LDRD and STRD of an odd register, or of PC, are UNPREDICTABLE.")
        if unprivileged:
            raise UndecodableError("LDRD and STRD have no unprivileged form.")
        kind = Kind.LOAD_DUAL if operation == 2 else Kind.STORE_DUAL
        if kind is Kind.LOAD_DUAL and indexing is Indexing.POST and not word & 1 << 22 and word & 14 == rt:
            raise UndecodableError("LDRD that loads its own index before it is added is UNPREDICTABLE.")
        return Dual(word, False, word >> 28, kind, rt, rt + 1, rn, offset, indexing)
    if rt == 15:
        raise UndecodableError("PC as the target of a halfword or signed access is UNPREDICTABLE.")
    size, signed = 1 if operation == 2 else 2, operation != 1
    kind = Kind.LOAD if load else Kind.STORE
    return Single(word, False, word >> 28, kind, size, signed, unprivileged, rt, rn, offset, indexing)


def _synchronization(word: int) -> Instruction:
    condition, rn, upper, lower = word >> 28, word >> 16 & 15, word >> 12 & 15, word & 15
    if word & 0x0FB00FF0 == 0x01000090:
        if 15 in (rn, upper, lower):
            raise UndecodableError("SWP with PC is UNPREDICTABLE.")
        return Swap(word, False, condition, Kind.SWAP, 1 if word & 1 << 22 else 4, upper, lower, rn)
    if word & 0x0F800FF0 != 0x01800F90:
        if word & 0x0F800CF0 == 0x01800C90:
            raise UndecodableError("Load-acquire and store-release do not exist in ARMv7.")
        raise UndecodableError(f"A32 {word:#010x} is a multiply or undefined.")
    size = _EXCLUSIVE_SIZES[word >> 21 & 3]
    load = word >> 20 & 1 == 1
    if load and lower != 15:
        raise UndecodableError("A load exclusive with a register in its lowest field is UNPREDICTABLE.")
    status = None if load else upper
    rt = upper if load else lower
    rt2 = rt + 1 if size == 8 else None
    if size == 8 and rt & 1:
        raise UndecodableError("LDREXD and STREXD of an odd register are UNPREDICTABLE.")
    return exclusive(word, False, condition, load, size, rt, rt2, status, rn, 0)


def store_return_state(
    word: int, thumb: bool, mode: int, increment: bool, before: bool, writeback: bool
) -> StoreReturnState:
    """An SRS, refused where it names a mode that has no stack in the guest's world."""
    if mode not in GUEST_MODES:
        raise UndecodableError(f"SRS to the stack of mode {mode:#x} is UNPREDICTABLE.")
    kind = Kind.STORE_RETURN_STATE
    return StoreReturnState(word, thumb, ALWAYS, kind, mode, increment, before, writeback)


def exclusive(
    word: int,
    thumb: bool,
    condition: int,
    load: bool,
    size: int,
    rt: int,
    rt2: int | None,
    status: int | None,
    rn: int,
    offset: int,
) -> Exclusive:
    """An Exclusive, refused where its registers make it UNPREDICTABLE (the engine makes it UNDEFINED)."""
    forbidden = (13, 15) if thumb else (15,)
    named = [n for n in (rt, rt2, status) if n is not None]
    if rn == 15 or any(n in forbidden for n in named):
        raise UndecodableError("An exclusive access with PC, or in Thumb SP, is UNPREDICTABLE.")
    if rt == rt2 and load or status is not None and status in (rt, rt2, rn):
        raise UndecodableError("An exclusive access whose registers overlap is UNPREDICTABLE.")
    kind = Kind.LOAD_EXCLUSIVE if load else Kind.STORE_EXCLUSIVE
    return Exclusive(word, thumb, condition, kind, size, rt, rt2, status, rn, offset)


def _multiple(word: int) -> Instruction:
    load, user, writeback = word >> 20 & 1 == 1, word >> 22 & 1 == 1, word >> 21 & 1 == 1
    rn, bits = word >> 16 & 15, word & 0xFFFF
    if rn == 15 or not bits:
        raise UndecodableError("LDM or STM with PC as its base, or of no register, is UNPREDICTABLE.")
    if load and writeback and bits >> rn & 1:
        raise UndecodableError("LDM with writeback that loads its base is UNPREDICTABLE.")
    if user and writeback and not (load and bits & 0x8000):
        raise UndecodableError("LDM and STM of User-mode registers with writeback are UNPREDICTABLE.")
    increment, before = word >> 23 & 1 == 1, word >> 24 & 1 == 1
    registers = register_list(bits)
    kind = Kind.LOAD_MULTIPLE if load else Kind.STORE_MULTIPLE
    return Multiple(word, False, word >> 28, kind, rn, registers, increment, before, writeback, user)
