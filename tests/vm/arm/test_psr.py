# SPDX-License-Identifier: GPL-2.0-or-later
"""The program status register: conditions, ITSTATE, banks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.arm import psr
from allstop.vm.arm.psr import Mode

WORDS = st.integers(0, 0xFFFFFFFF)

CONDITIONS = {
    "eq": lambda n, z, c, v: z,
    "ne": lambda n, z, c, v: not z,
    "cs": lambda n, z, c, v: c,
    "cc": lambda n, z, c, v: not c,
    "mi": lambda n, z, c, v: n,
    "pl": lambda n, z, c, v: not n,
    "vs": lambda n, z, c, v: v,
    "vc": lambda n, z, c, v: not v,
    "hi": lambda n, z, c, v: c and not z,
    "ls": lambda n, z, c, v: not c or z,
    "ge": lambda n, z, c, v: n == v,
    "lt": lambda n, z, c, v: n != v,
    "gt": lambda n, z, c, v: not z and n == v,
    "le": lambda n, z, c, v: z or n != v,
    "al": lambda n, z, c, v: True,
    "unconditional": lambda n, z, c, v: True,
}


@pytest.mark.parametrize(("condition", "name"), [*enumerate(CONDITIONS)])
def test_every_condition_for_all_flags(condition: int, name: str) -> None:
    for flags in range(16):
        n, z, c, v = (flags >> k & 1 == 1 for k in (3, 2, 1, 0))
        assert psr.condition_passed(condition, flags << 28 | Mode.USER) == CONDITIONS[name](n, z, c, v)


@given(WORDS, st.integers(0, 255))
def test_itstate_is_kept_apart_from_the_other_bits(cpsr: int, state: int) -> None:
    changed = psr.with_itstate(cpsr, state)
    assert psr.itstate(changed) == state
    assert changed & ~psr.ITSTATE == cpsr & ~psr.ITSTATE


def test_an_it_block_of_four_instructions_runs_out_after_four() -> None:
    # ITETE NE: first condition 0001, mask 0101 for the three that follow, then the terminating one.
    cpsr = psr.with_itstate(psr.T, 0b0001_0101 | 0)
    seen = []
    while psr.itstate(cpsr):
        seen.append(psr.current_condition(cpsr))
        cpsr = psr.advance_itstate(cpsr)
    assert seen == [1, 0, 1, 0]
    assert cpsr == psr.T
    assert psr.current_condition(cpsr) == psr.ALWAYS
    assert psr.advance_itstate(cpsr) == cpsr


@given(WORDS)
def test_advance_is_the_architectures_itadvance(cpsr: int) -> None:
    state = psr.itstate(cpsr)
    expected = 0 if state & 7 == 0 else state & 0xE0 | (state & 0x1F) << 1 & 0x1F
    assert psr.advance_itstate(cpsr) == psr.with_itstate(cpsr, expected)


@pytest.mark.parametrize(
    ("mode", "banked"),
    [
        (Mode.USER, []),
        (Mode.SYSTEM, []),
        (Mode.SUPERVISOR, [13, 14]),
        (Mode.ABORT, [13, 14]),
        (Mode.UNDEFINED, [13, 14]),
        (Mode.IRQ, [13, 14]),
        (Mode.FIQ, [8, 9, 10, 11, 12, 13, 14]),
        (Mode.HYP, [13]),
    ],
)
def test_which_registers_a_mode_has_of_its_own(mode: Mode, banked: list[int]) -> None:
    assert [n for n in range(15) if psr.banked_from_user(psr.T | mode, n)] == banked


def test_only_user_mode_is_unprivileged() -> None:
    assert [mode for mode in Mode if not psr.privileged(0xF0000000 | mode)] == [Mode.USER]
