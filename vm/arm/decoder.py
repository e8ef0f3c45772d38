# SPDX-License-Identifier: GPL-2.0-or-later
"""From the bits of an instruction to the memory access that it makes.

`decode` knows every load and store of ARMv7-A. `decode_kvm` covers what the decoder covered that was proposed for
KVM/ARM in 2012 and 2013, and refuses the rest, as it did.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from allstop.vm.arm.a32 import decode_a32
from allstop.vm.arm.instruction import Indexing, Instruction, Single, UndecodableError
from allstop.vm.arm.t16 import decode_t16
from allstop.vm.arm.t32 import decode_t32


def thumb_is_wide(first_halfword: int) -> bool:
    """Whether this halfword begins a 32-bit Thumb instruction (A6.1)."""
    return first_halfword & 0xFFFF >= 0xE800


@lru_cache(maxsize=16384)
def decode(word: int, thumb: bool) -> Instruction:
    """The instruction of these bits.

    `word` is the 32 bits of an A32 instruction, the halfword of a 16-bit Thumb instruction, or
    (first halfword << 16) | second halfword of a wide one. Raises UndecodableError where this is no access to
    memory, is undefined in ARMv7, or is UNPREDICTABLE and has no meaning to execute.
    """
    if not thumb:
        return decode_a32(word)
    if word < 0x10000:
        if thumb_is_wide(word):
            raise UndecodableError(f"Thumb {word:#06x} is only the first half of a wide instruction.")
        return decode_t16(word)
    if not thumb_is_wide(word >> 16):
        raise UndecodableError(f"Thumb {word >> 16:#06x} does not begin a wide instruction.")
    return decode_t32(word)


def decode_kvm(word: int, thumb: bool) -> Instruction:
    """The same, with the coverage (not the faults) of the patch for KVM/ARM.

    That patch took only instructions without syndrome because of writeback: A32 LDR, STR, their byte, halfword, signed
    and T forms, pre- and post-indexed; wide Thumb ones with an 8-bit constant. Not PC as base or target.
    Raises UndecodableError for everything else.
    """
    instruction = decode(word, thumb)
    if not isinstance(instruction, Single):
        raise UndecodableError(f"The KVM decoder does not take {instruction.mnemonic}.")
    if 15 in (instruction.rn, instruction.rt):
        raise UndecodableError("The KVM decoder does not take PC as base or target.")
    if instruction.indexing is Indexing.OFFSET:
        raise UndecodableError("The KVM decoder takes only accesses with writeback.")
    return instruction


DECODE: dict[str, Callable[[int, bool], Instruction]] = {"full": decode, "kvm": decode_kvm}
"""By the names of `vm/config/policies.py`'s rows."""
