# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's idea of when the guest's counters were 0."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allstop.coordinator.node.clock_sync import ASKED, HostClock

SECONDS_NS = st.integers(0, 10**9)


@given(st.integers(10**12, 10**13), st.lists(st.tuples(SECONDS_NS, SECONDS_NS), min_size=1, max_size=ASKED))
def test_it_is_off_by_half_of_the_quickest_round_trip_at_most(ahead_ns: int, ways: list[tuple[int, int]]) -> None:
    """Would break: an answer that was slow, taken for better than one that was quick."""
    clock, base_ns, now_ns, found = HostClock(), 10**12, 2 * 10**13, None
    for there_ns, back_ns in ways:
        nonce = clock.ask(now_ns)
        their_now_ns = now_ns + there_ns - ahead_ns  # this host's clock is ahead of the first one's
        now_ns += there_ns + back_ns
        told = clock.answered(nonce, their_now_ns, base_ns - ahead_ns, now_ns)
        found = told if told is not None else found
    assert found is not None and clock.is_set == (len(ways) == ASKED) and clock.asks_more == (len(ways) < ASKED)
    assert abs(found - base_ns) <= clock.error_ns <= min(there + back for there, back in ways) // 2 + 1


def test_what_was_not_asked_is_no_answer() -> None:
    clock = HostClock()
    nonce = clock.ask(100)
    assert clock.answered(nonce + 1, 50, 10, 120) is None and not clock.is_set
    assert clock.answered(nonce, 10, 50, 120) is None and not clock.is_set  # counters that were 0 in the future
    assert clock.answered(nonce, 50, 10, 120) is None  # each question has one answer


def test_one_question_at_a_time_and_not_one_more() -> None:
    clock = HostClock()
    for number in range(ASKED):
        assert clock.asks_more and not clock.is_set
        nonce = clock.ask(number)
        clock.answered(7, 50, 10, 120)
        assert not clock.asks_more, "what answers another question is no reason to ask the next one"
        clock.answered(nonce, 50, 10, 120)
    assert clock.is_set and not clock.asks_more


def test_questions_have_nonces_of_their_own() -> None:
    clock = HostClock()
    assert len({clock.ask(number) for number in range(ASKED)}) == ASKED
