# SPDX-License-Identifier: GPL-2.0-or-later
"""The text and the properties of decoded instructions; the text is what an assembler would accept."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from allstop.vm.arm.decoder import decode, thumb_is_wide
from allstop.vm.arm.encodings import ENCODINGS
from allstop.vm.arm.instruction import Instruction, Kind

TEXTS = [
    (0xE4956004, False, "ldr r6, [r5], #4", "A32 LDR immediate post"),
    (0x15B56004, False, "ldrne r6, [r5, #4]!", "A32 LDR immediate pre"),
    (0xE7156066, False, "ldr r6, [r5, -r6, rrx]", "A32 LDR scaled register"),
    (0xE59FF008, False, "ldr pc, [pc, #8]", "A32 LDR literal PC"),
    (0xE4B56004, False, "ldrt r6, [r5], #4", "A32 LDRT immediate post"),
    (0xE1C520D8, False, "ldrd r2, r3, [r5, #8]", "A32 LDRD immediate"),
    (0xE8BD8010, False, "pop {r4, pc}", "A32 POP PC"),
    (0xE9D58001, False, "ldmib r5, {r0, pc}^", "A32 LDMIB exception return"),
    (0xE8D50003, False, "ldmia r5, {r0, r1}^", "A32 LDMIA user bank"),
    (0xE1812F90, False, "strex r2, r0, [r1]", "A32 STREX"),
    (0xE1010092, False, "swp r0, r2, [r1]", "A32 SWP"),
    (0xF8BD0A00, False, "rfeia sp!", "A32 RFEIA writeback"),
    (0xF96D0513, False, "srsdb sp!, #19", "A32 SRSDB writeback"),
    (0xED9F0A01, False, "vldr s0, [pc, #4]", "A32 VLDR single literal"),
    (0xED2D8B04, False, "vpush {d8, d9}", "A32 VPUSH double"),
    (0xECB50B05, False, "fldmiax r5!, {d0, d1}", "A32 FLDMIAX double writeback"),
    (0xF4E5014D, False, "vld2.8 {d16[2], d17[2]}, [r5]!", "A32 VLD2 lane writeback"),
    (0xF4A50C9F, False, "vld1.32 {d0[]}, [r5:32]", "A32 VLD1 all lanes"),
    (0xF4A50FDF, False, "vld4.32 {d0[], d1[], d2[], d3[]}, [r5:128]", "A32 VLD4 all lanes"),
    (0xF4A50F9F, False, "vld4.32 {d0[], d1[], d2[], d3[]}, [r5:64]", "A32 VLD4 all lanes"),
    (0xF4250352, False, "vld2.16 {d0, d1, d2, d3}, [r5:64], r2", "A32 VLD2 multiple register writeback"),
    (0x682E, True, "ldr r6, [r5]", "T16 LDR immediate"),
    (0xB510, True, "push {r4, lr}", "T16 PUSH"),
    (0xC803, True, "ldmia r0, {r0, r1}", "T16 LDMIA"),
    (0xE8D1F012, True, "tbh [r1, r2, lsl #1]", "T32 TBH"),
    (0xE8D2477F, True, "ldrexd r4, r7, [r2]", "T32 LDREXD"),
    (0xF85DFB04, True, "pop {pc}", "T32 POP single PC"),
]


@pytest.mark.parametrize(("word", "thumb", "text", "class_name"), TEXTS)
def test_text_and_class(word: int, thumb: bool, text: str, class_name: str) -> None:
    instruction = decode(word, thumb)
    assert (str(instruction), instruction.class_name) == (text, class_name)


@pytest.mark.parametrize(
    ("word", "thumb", "kind", "length", "read_abort", "write_abort"),
    [
        (0xE4956004, False, Kind.LOAD, 4, True, False),
        (0x602E, True, Kind.STORE, 2, False, True),
        (0xF8D56004, True, Kind.LOAD, 4, True, False),
        (0x05856004, False, Kind.STORE, 4, False, True),  # a word that would fit into a halfword's range is A32
        (0xE1010092, False, Kind.SWAP, 4, True, True),
        (0xE1812F90, False, Kind.STORE_EXCLUSIVE, 4, False, True),
        (0xE8D1F002, True, Kind.TABLE_BRANCH, 4, True, False),
        (0xF96D0513, False, Kind.STORE_RETURN_STATE, 4, False, True),
        (0xF4050352, False, Kind.NEON_STORE, 4, False, True),
    ],
)
def test_kind_length_and_direction(
    word: int, thumb: bool, kind: Kind, length: int, read_abort: bool, write_abort: bool
) -> None:
    instruction = decode(word, thumb)
    assert (instruction.kind, instruction.length) == (kind, length)
    assert instruction.agrees_with(wnr=False) is read_abort
    assert instruction.agrees_with(wnr=True) is write_abort


def legal_words(rng: Random, thumb: bool, each: int) -> list[Instruction]:
    """Some legal instructions of every encoding."""
    instructions = []
    for encoding in (e for encodings in ENCODINGS.values() for e in encodings if e.thumb == thumb):
        words = (encoding.word(rng.getrandbits(32)) for _ in range(500 * each))
        legal = (word for word in words if encoding.legal(encoding.fields(word)))
        instructions += [decode(word, thumb) for word in islice(legal, each)]
    return instructions


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("arm-none-eabi-as") is None, reason="needs the ARM cross assembler")
@pytest.mark.parametrize("thumb", [False, True])
def test_the_text_of_every_class_assembles_to_the_same_instruction(tmp_path: Path, thumb: bool) -> None:
    instructions = legal_words(Random(6), thumb, each=3)
    lines = [".syntax unified", ".arch armv7-a", ".fpu neon-vfpv4", ".thumb" if thumb else ".arm"]
    # Without .w the assembler would make one wide PUSH or POP of one register a narrow one of a list.
    lines += [
        str(i).replace(" ", ".w ", 1) if i.class_name.startswith(("T32 PUSH single", "T32 POP single")) else str(i)
        for i in instructions
    ]
    source, compiled, binary = tmp_path / "all.s", tmp_path / "all.o", tmp_path / "all.bin"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["arm-none-eabi-as", "-o", compiled, source], check=True, capture_output=True)
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", compiled, binary], check=True)
    code = binary.read_bytes()
    for instruction in instructions:
        if thumb:
            word, code = int.from_bytes(code[:2], "little"), code[2:]
            if thumb_is_wide(word):
                word, code = word << 16 | int.from_bytes(code[:2], "little"), code[2:]
        else:
            word, code = int.from_bytes(code[:4], "little"), code[4:]
        # The encoding may be another one of the same instruction: a shorter one, or U clear for an offset of zero.
        assert replace(decode(word, thumb), word=0) == replace(instruction, word=0), f"{word:#x} {instruction}"
