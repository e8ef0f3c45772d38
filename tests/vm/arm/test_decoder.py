# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bits are a memory access: the decoder's claims against what the engine touches, and its refusals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.arm import psr
from allstop.vm.arm.decoder import decode, decode_kvm, thumb_is_wide
from allstop.vm.arm.encodings import ENCODINGS
from allstop.vm.arm.execution import ExclusiveMonitor, plan
from allstop.vm.arm.instruction import UndecodableError
from allstop.vm.arm.psr import Mode
from allstop.vm.arm.sampling import Sample, Scene, sample

PC = 0x13FE0
DEFINED_BY_THE_ENGINE_ONLY = ("UNPREDICTABLE", "A Thumb store with PC as its base is undefined.")
"""What a refusal says of bits that the engine executes although the architecture gives them no meaning."""


def scene_of(rng: Random, word: int, thumb: bool, mode: Mode) -> Scene:
    """A CPU whose registers all point into memory, and whose flags let the instruction pass."""
    condition = psr.ALWAYS if thumb else word >> 28
    flags = [f << 28 for f in range(16) if psr.condition_passed(condition, f << 28)]
    r = (*(rng.randrange(0x10000, 0x16000, 8) for _ in range(15)), PC)
    cpsr = rng.choice(flags) | 0x1C0 | mode | (psr.T if thumb else 0)
    banks = {(m, 13): 0x12000 for m in psr.GUEST_MODES} | {(Mode.USER, n): 0x12000 for n in range(8, 15)}
    return Scene(Sample(word, thumb, ""), r, cpsr, 0x1D3, ExclusiveMonitor(), (0,) * 32, banks)


def disagreements(traced: Any, rng: Random, words: Iterable[int], thumb: bool, mode: Mode) -> Iterator[str]:
    """Where the decoder's claim "this accesses memory" is not what the engine does.

    Bits that are UNPREDICTABLE, and refused as such, may do in the engine what they like.
    """
    for word in words:
        scene = scene_of(rng, word, thumb, mode)
        refusal = ""
        try:
            claimed = bool(plan(decode(word, thumb), scene).accesses)
        except UndecodableError as error:
            claimed, refusal = False, str(error)
        if word > 0xFFFF:
            traced.open_monitor(None, 4, 0)  # an earlier word may have been a load exclusive
        touched = bool(traced.probe(scene))
        if touched and not claimed and any(reason in refusal for reason in DEFINED_BY_THE_ENGINE_ONLY):
            continue
        if touched != claimed:
            yield f"{word:#x}: engine {touched}, decoder {claimed} {refusal}"


def near_misses(rng: Random, count: int, thumb: bool) -> Iterator[int]:
    """Legal loads and stores with one or two bits flipped, as far as they stay where loads and stores are.

    Outside of that space are instructions that change the system, which later words must find as it was.
    """
    while count:
        drawn = sample(rng)
        if drawn.thumb != thumb or drawn.class_name.startswith("T16"):
            continue
        word = drawn.word
        for _ in range(rng.randrange(1, 3)):
            word ^= 1 << rng.randrange(32)
        group = word >> 25 & 7
        if thumb:
            kept = word >> 25 in (0x74, 0x76, 0x7C, 0x7E)
        elif word >> 28 == 15:
            kept = group in (2, 4, 6)
        else:
            kept = group in (2, 3, 4, 6) or group == 0 and word & 0x90 == 0x90
        if kept:
            count -= 1
            yield word


def test_all_16_bit_thumb_instructions_are_known(traced: Any) -> None:
    rng = Random(16)
    wrong = list(disagreements(traced, rng, range(0xE800), True, Mode.USER))
    assert not wrong, wrong[:20]


@pytest.mark.parametrize("thumb", [False, True])
def test_no_access_of_random_words_is_missed_or_invented(traced: Any, thumb: bool) -> None:
    # In User mode, where a random instruction cannot change the system.
    rng = Random(32 + thumb)
    words = [rng.randrange(0xE8000000 if thumb else 0, 1 << 32) for _ in range(8000)]
    wrong = list(disagreements(traced, rng, words, thumb, Mode.USER))
    assert not wrong, wrong[:20]


@pytest.mark.parametrize("thumb", [False, True])
def test_a_bit_beside_a_load_or_store_is_judged_as_the_engine_does(traced: Any, thumb: bool) -> None:
    # The exact fixed bits of RFE, SRS, SWP or exclusives never come up in random words; these go by them.
    rng = Random(64 + thumb)
    wrong = list(disagreements(traced, rng, near_misses(rng, 5000, thumb), thumb, Mode.ABORT))
    assert not wrong, wrong[:20]


@given(st.integers(0, 0xFFFFFFFF), st.booleans())
def test_any_bits_are_decoded_or_refused(word: int, thumb: bool) -> None:
    try:
        instruction = decode(word, thumb)
    except UndecodableError as error:
        assert str(error).endswith(".")
        return
    assert (instruction.word, instruction.thumb) == (word, thumb)
    assert instruction.reads or instruction.writes
    assert str(instruction).startswith(instruction.mnemonic)


def test_every_wide_prefix_is_decoded_or_refused() -> None:
    rng = Random(3)
    for first in range(0xE800, 0x10000):
        for _ in range(4):
            word = first << 16 | rng.getrandbits(16)
            try:
                assert decode(word, True).length == 4
            except UndecodableError as error:
                assert str(error)


def test_every_encoding_is_decoded_as_its_class() -> None:
    rng = Random(4)
    for name, encodings in ENCODINGS.items():
        for encoding in encodings:
            words = (encoding.word(rng.getrandbits(32)) for _ in range(500))
            word = next(word for word in words if encoding.legal(encoding.fields(word)))
            instruction = decode(word, encoding.thumb)
            assert instruction.class_name == name, f"{word:#x} {instruction}"


@pytest.mark.parametrize(
    ("word", "thumb", "because"),
    [
        (0xE1900C9F, False, "ARMv7"),  # lda r0, [r0]
        (0xE8D00FAF, True, "ARMv7"),  # lda r0, [r0]
        (0xE1812E90, False, "ARMv7"),  # stlex r2, r0, [r1]
        (0xECB05E01, False, "coprocessor 14"),  # ldc p14, c5, [r0], #4
        (0xF5D0F000, False, "preload"),  # pld [r0]
        (0xF890F000, True, "preload"),  # pld [r0]
        (0xE1A00000, False, "no load or store"),  # mov r0, r0
        (0xEC510B10, False, "between registers"),  # vmov r0, r1, d0
        (0xE8BD0000, False, "no register"),  # ldm sp!, {}
        (0xE800, True, "half"),
        (0xBF00BF00, True, "wide"),
    ],
)
def test_a_refusal_says_why(word: int, thumb: bool, because: str) -> None:
    with pytest.raises(UndecodableError, match=because):
        decode(word, thumb)


def test_a_wide_thumb_instruction_is_told_by_its_first_halfword() -> None:
    assert [thumb_is_wide(h) for h in (0xE7FF, 0xE800, 0xF000, 0xFFFF, 0xBF00)] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("word", "thumb", "text"),
    [
        (0xE4956004, False, "ldr r6, [r5], #4"),
        (0xE7A12103, False, "str r2, [r1, r3, lsl #2]!"),
        (0xE0D520D4, False, "ldrsb r2, [r5], #4"),
        (0xE0A520B6, False, "strht r2, [r5], r6"),
        (0xE4F56004, False, "ldrbt r6, [r5], #4"),
        (0xF8556B04, True, "ldr r6, [r5], #4"),
        (0xF9156D04, True, "ldrsb r6, [r5, #-4]!"),
    ],
)
def test_the_kvm_decoder_takes_single_accesses_with_writeback(word: int, thumb: bool, text: str) -> None:
    assert str(decode_kvm(word, thumb)) == text


@pytest.mark.parametrize(
    ("word", "thumb"),
    [
        (0xE5956018, False),  # ldr r6, [r5, #24]: has a syndrome
        (0xE495F004, False),  # ldr pc, [r5], #4
        (0xE8B50003, False),  # ldmia r5!, {r0, r1}
        (0xE0C520D8, False),  # ldrd r2, r3, [r5], #8
        (0xE1950F9F, False),  # ldrex r0, [r5]
        (0xE1050090, False),  # swp r0, r0, [r5]
        (0xECB50B02, False),  # vldmia r5!, {d0}
        (0xF425070D, False),  # vld1.8 {d0}, [r5]!
        (0x682E, True),  # ldr r6, [r5]
        (0xF8D56004, True),  # ldr r6, [r5, #4]
        (0xF8556E04, True),  # ldrt r6, [r5, #4]
        (0xF855FB04, True),  # ldr pc, [r5], #4
    ],
)
def test_the_kvm_decoder_refuses_the_rest(word: int, thumb: bool) -> None:
    decode(word, thumb)
    with pytest.raises(UndecodableError, match="KVM"):
        decode_kvm(word, thumb)


def test_the_kvm_decoder_takes_these_classes_and_no_others() -> None:
    rng = Random(5)
    taken = set()
    for encodings in ENCODINGS.values():
        for encoding in encodings:
            words = (encoding.word(rng.getrandbits(32)) for _ in range(500))
            word = next(word for word in words if encoding.legal(encoding.fields(word)))
            try:
                taken.add(decode_kvm(word, encoding.thumb).class_name)
            except UndecodableError:
                continue
    expected = {
        name
        for name in ENCODINGS
        if (name.endswith((" pre", " post")) and "RD " not in name) or name.endswith((" PUSH single", " POP single"))
    }
    assert taken == expected
