# SPDX-License-Identifier: GPL-2.0-or-later
"""What VFP and NEON loads and stores do; the second half of `allstop.vm.arm.execution`, whose rules hold here.

Source: ARM DDI 0406C, the instructions VLD1 to VLD4, VLDM, VLDR and their stores in section A8.8.
"""

from __future__ import annotations

from allstop.vm.arm import psr
from allstop.vm.arm.transfer import WORD, Access, Change, CpuState, Plan, base_address, read_access, write_access
from allstop.vm.arm.vector import NeonStructure, Structure, VfpMultiple, VfpSingle


def _vfp_words(instruction: VfpSingle | VfpMultiple) -> tuple[int, int]:
    """The register words of a VFP transfer, numbered as S registers (D16 is word 32): first, and how many."""
    count = instruction.count if isinstance(instruction, VfpMultiple) else 1
    return (2 * instruction.vd, 2 * count) if instruction.double else (instruction.vd, count)


def _word_order(instruction: VfpSingle | VfpMultiple, words: list[int], big: bool) -> list[int]:
    """The words of doubles between address order and register order: big-endian has the high half first."""
    if not (instruction.double and big):
        return words
    return [words[k ^ 1] for k in range(len(words))]


def plan_vfp(instruction: VfpSingle | VfpMultiple, state: CpuState) -> Plan:
    """The accesses of VLDR, VSTR, VLDM and VSTM: words, ascending."""
    first, count = _vfp_words(instruction)
    doubles = {n: state.double(n) for n in range(first >> 1, (first + count + 1) >> 1)}
    lowest, writeback = base_address(instruction.rn, state, instruction), {}
    if isinstance(instruction, VfpSingle):
        lowest += instruction.offset
    else:
        step = -4 * instruction.words if instruction.decrement else 4 * instruction.words
        writeback = {instruction.rn: lowest + step & WORD} if instruction.writeback else {}
        lowest += step if instruction.decrement else 0
    accesses: tuple[Access, ...]
    if instruction.reads:
        accesses = tuple(read_access(lowest + 4 * k, 4, state) for k in range(count))
    else:
        words = [doubles[n >> 1] >> 32 * (n & 1) & WORD for n in range(first, first + count)]
        words = _word_order(instruction, words, state.cpsr & psr.E != 0)
        accesses = tuple(write_access(lowest + 4 * k, 4, word, state) for k, word in enumerate(words))
    return Plan(instruction, accesses, state.r[15], state.cpsr, registers=writeback, doubles=doubles)


def _neon_elements(instruction: NeonStructure) -> list[tuple[int, int]]:
    """Where each element goes, in the order of addresses: D register, and its lane."""
    starts = [instruction.vd + k * instruction.stride for k in range(instruction.elements)]
    if instruction.structure is not Structure.MULTIPLE:
        return [(number, instruction.lane) for number in starts]
    lanes = range(8 // instruction.size)
    return [(start + r, lane) for r in range(instruction.count) for lane in lanes for start in starts]


def finish_vfp(instruction: VfpSingle | VfpMultiple, loaded: list[int], big: bool, change: Change) -> None:
    """Put the loaded words, already in the CPU's byte order, into the registers."""
    first, _ = _vfp_words(instruction)
    for number, value in enumerate(_word_order(instruction, loaded, big), start=first):
        change.insert(number >> 1, 32 * (number & 1), 32, value)


def plan_neon(instruction: NeonStructure, state: CpuState) -> Plan:
    """The accesses of VLD1 to VLD4 and VST1 to VST4: elements, ascending."""
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
            low, high = (value >> 32, value & WORD) if big else (value & WORD, value >> 32)
            pieces = [(address, 4, low), (address + 4, 4, high)]
        for place, width, piece in pieces:
            read = instruction.reads
            accesses.append(read_access(place, width, state) if read else write_access(place, width, piece, state))
    writeback = {}
    if instruction.rm != 15:
        step = instruction.bytes_transferred if instruction.rm == 13 else state.r[instruction.rm]
        writeback = {instruction.rn: base + step & WORD}
    return Plan(instruction, tuple(accesses), state.r[15], state.cpsr, registers=writeback, doubles=doubles)


def finish_neon(instruction: NeonStructure, loaded: list[int], big: bool, change: Change) -> None:
    """Put the loaded elements, already in the CPU's byte order, into their lanes."""
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
