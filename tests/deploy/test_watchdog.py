# SPDX-License-Identifier: GPL-2.0-or-later
"""The watchdog: each way to hang is seen in time, and a process that only waits for a core is never accused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.processes.watchdog import (
    MAX_GAP_S,
    NODE_PATIENCE,
    SLEPT_S,
    SPUN_S,
    START_FACTOR,
    STOPPED_S,
    Watchdog,
)


def watch(looks: list[tuple[float, int, str, float]]) -> tuple[float, str] | None:
    """Feed (time, heartbeat, state, CPU time) from time 0; when and how the process was found to hang."""
    watchdog = Watchdog(0.0)
    for now_s, heartbeat, state, cpu_s in looks:
        if watchdog.is_silent(now_s, heartbeat) and (phrase := watchdog.judge(state, cpu_s)):
            return now_s, phrase
    return None


def steady(
    state: str,
    cpu_per_s: float = 0.0,
    seconds: float = 60.0,
    heartbeat: int = 1,
    step: float = 0.25,
) -> list[tuple[float, int, str, float]]:
    """A process that beat once at the first look and then only does this."""
    count = int(seconds / step)
    return [(i * step, heartbeat, state, i * step * cpu_per_s) for i in range(1, count + 1)]


def test_a_stopped_process_is_found_within_its_limit() -> None:
    found = watch(steady("T"))
    assert found is not None and found[1] == "is stopped"
    assert STOPPED_S <= found[0] <= STOPPED_S + 3 * 0.25


def test_a_traced_and_an_unreaped_process_count_as_stopped() -> None:
    assert watch(steady("t")) and watch(steady("Z"))


def test_a_sleeping_process_is_found_within_its_limit() -> None:
    found = watch(steady("S"))
    assert found is not None and "sleeps" in found[1]
    assert SLEPT_S <= found[0] <= SLEPT_S + 2 * 0.25


def test_a_spinning_process_is_found_by_the_cpu_time_it_used() -> None:
    found = watch(steady("R", cpu_per_s=1.0))
    assert found is not None and "spins" in found[1]
    assert SPUN_S <= found[0] <= SPUN_S + 3 * 0.25
    slow = watch(steady("R", cpu_per_s=0.1))
    assert slow is not None and slow[0] >= SPUN_S / 0.1


def test_waiting_for_a_core_is_not_hanging() -> None:
    assert watch(steady("R", cpu_per_s=0.0, seconds=3600, step=1.0)) is None


def test_waking_up_now_and_then_ends_a_sleep() -> None:
    looks = [(t, b, "R" if i % 5 == 4 else s, c) for i, (t, b, s, c) in enumerate(steady("S"))]
    assert watch(looks) is None


def test_a_short_stop_is_forgiven() -> None:
    looks = [(t, b, "T" if i % 4 else "R", c) for i, (t, b, s, c) in enumerate(steady("R"))]
    assert watch(looks) is None


def test_a_beat_clears_everything() -> None:
    for state in "TSR":
        looks = [(t, 1 + i // 4, s, c) for i, (t, _, s, c) in enumerate(steady(state, cpu_per_s=1.0))]
        assert watch(looks) is None, state


def test_a_launcher_that_was_away_accuses_nobody() -> None:
    watchdog = Watchdog(0.0)
    assert not watchdog.is_silent(0.25, 1)
    assert watchdog.is_silent(100.0, 1)
    assert watchdog.judge("S", 0.0) is None
    assert watchdog.is_silent(100.0 + 2 * MAX_GAP_S, 1)
    assert watchdog.judge("S", 0.0) is None


def test_a_starting_process_gets_more_patience_but_not_for_ever() -> None:
    asleep = watch(steady("S", heartbeat=0))
    spinning = watch(steady("R", cpu_per_s=1.0, heartbeat=0))
    assert asleep is not None and asleep[0] >= SLEPT_S * START_FACTOR
    assert spinning is not None and spinning[0] >= SPUN_S * START_FACTOR


@given(st.lists(st.tuples(st.floats(0.01, 1.0), st.sampled_from("RSDTZ"), st.floats(0.0, 0.3)), max_size=40))
def test_who_beats_at_every_look_is_never_accused(steps: list[tuple[float, str, float]]) -> None:
    now_s, looks, cpu_s = 0.0, [], 0.0
    for beat, (gap_s, state, used_s) in enumerate(steps, start=1):
        now_s += gap_s
        cpu_s += used_s
        looks.append((now_s, beat, state, cpu_s))
    assert watch(looks) is None


def test_who_waits_for_others_is_found_after_them() -> None:
    """Both fall silent at once, one because the other is stopped: it is not the one that is accused."""
    waits, stopped = Watchdog(0.0, NODE_PATIENCE), Watchdog(0.0)
    for now_s, heartbeat, _, cpu_s in steady("S"):
        assert not (waits.is_silent(now_s, heartbeat) and waits.judge("S", cpu_s)), "the one that waits was accused"
        if stopped.is_silent(now_s, heartbeat) and stopped.judge("T", cpu_s):
            return
    raise AssertionError("no process was found")
