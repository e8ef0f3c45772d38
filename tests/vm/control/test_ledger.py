# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ledgers of a vCPU's accesses: they agree exactly when the same was done and seen, in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.vm.control.control import ControlPage
from allstop.vm.control.ledger import difference
from allstop.vm.memory.memory import create_memory

READ = (0x0900_0000, 4, False, 7, False)
WRITE = (0x0B01_0000, 2, True, 0x1234, False)
OTHER = (0x0B01_0004, 2, True, 0x1234, False)


@pytest.fixture
def page() -> Iterator[ControlPage]:
    fd = create_memory("test-control", ControlPage.size_bytes(2))
    yield ControlPage.create(fd, 2, 2)
    os.close(fd)


def play(
    page: ControlPage,
    performed: list[tuple[int, int, bool, int, bool]],
    completed: list[tuple[int, int, bool, int, bool]],
    vcpu: int = 0,
) -> bool:
    """Whether they agree when all has been done and seen."""
    agree = True
    for access in performed:
        page.perform_access(vcpu, *access)
    for access in completed:
        page.issue_access(vcpu)
        agree = page.complete_access(vcpu, *access)
    assert agree == (difference(page, vcpu) == "")
    return agree


def test_the_same_in_the_same_order_agrees(page: ControlPage) -> None:
    assert difference(page, 0) == ""
    assert play(page, [READ, WRITE, READ], [READ, WRITE, READ])
    assert play(page, [OTHER] * 9, [OTHER] * 9, vcpu=1), "each vCPU has its own"


@pytest.mark.parametrize(
    ("performed", "completed", "words"),
    [
        ([READ, READ], [READ], "was performed twice"),
        ([READ, WRITE], [READ], "was not the only one"),
        ([], [WRITE], "was answered and not performed"),
        ([WRITE, READ], [READ, WRITE], "is not what was performed"),
        ([OTHER], [WRITE], "is not what was performed"),
        ([READ], [(*READ[:3], 8, False)], "is not what was performed"),
        ([READ], [(*READ[:4], True)], "is not what was performed"),
        ([WRITE], [(*WRITE[:2], False, *WRITE[3:])], "is not"),
        ([READ], [(READ[0], 1, *READ[2:])], "is not what was performed"),
    ],
)
def test_a_difference_is_a_sentence(
    page: ControlPage,
    performed: list[tuple[int, int, bool, int, bool]],
    completed: list[tuple[int, int, bool, int, bool]],
    words: str,
) -> None:
    assert not play(page, performed, completed, vcpu=1)
    story = difference(page, 1)
    assert words in story and story.startswith("vCPU 1's access ") and "\n" not in story
    assert difference(page, 0) == ""
    page.settle_accesses(1)
    assert difference(page, 1) == "" and play(page, [WRITE], [WRITE], vcpu=1)


def test_the_story_tells_the_accesses(page: ControlPage) -> None:
    play(page, [READ, OTHER], [READ, WRITE])
    assert difference(page, 0) == (
        "vCPU 0's access 2, a 2-byte write of 0x1234 to 0x0b010000, is not what was performed: the devices have done 2 "
        "for it where 2 were asked for, last a 4-byte read of 0x09000000 that gave 0x7 and then a 2-byte write of "
        "0x1234 to 0x0b010004"
    )


def test_an_access_under_way_may_be_performed_or_not_but_once(page: ControlPage) -> None:
    play(page, [READ], [READ])
    page.issue_access(0)
    assert difference(page, 0) == ""
    page.perform_access(0, *WRITE)
    assert difference(page, 0) == ""
    page.perform_access(0, *WRITE)
    assert "was performed twice" in difference(page, 0) or "not the only one" in difference(page, 0)


def test_bits_beyond_the_width_are_nobodys(page: ControlPage) -> None:
    assert play(page, [(0x0900_0000, 1, True, 0x41, False)], [(0x0900_0000, 1, True, 0xFFFF_FF41, False)])


def test_what_is_no_access_is_refused(page: ControlPage) -> None:
    for size in (0, 9):
        with pytest.raises(ValueError, match="1 to 8 bytes"):
            page.perform_access(0, 0, size, False, 0, False)
    with pytest.raises(IndexError, match="no vCPU 2"):
        page.complete_access(2, *READ)


accesses = st.tuples(
    st.sampled_from((0x0900_0000, 0x0B01_0000)),
    st.sampled_from((1, 4, 8)),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
)


@given(st.lists(accesses, max_size=6), st.lists(accesses, max_size=6))
def test_they_agree_when_they_hold_the_same_and_not_otherwise(
    one: list[tuple[int, int, bool, int, bool]], other: list[tuple[int, int, bool, int, bool]]
) -> None:
    fd = create_memory("test-control", ControlPage.size_bytes(1))
    page = ControlPage.create(fd, 1, 1)
    os.close(fd)
    for access in one:
        page.perform_access(0, *access)
    for access in other:
        page.issue_access(0)
        page.complete_access(0, *access)
    assert (difference(page, 0) == "") == (one == other)
