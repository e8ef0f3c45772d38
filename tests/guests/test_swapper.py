# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest of the fetch race: where fetches are sound, every call does what one version of its routine does; where
they are not, the guest counts what it saw and comes to its end all the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop import Machine, Verdict
from allstop.conformance.results import results

pytestmark = pytest.mark.processes

CALLS = 150
TIMEOUT_S = 60.0
ARM, THUMB, STRADDLING, USER = 1, 2, 3, 4


def play(
    guests: Path,
    vcpus: int,
    fetch: str = "stop-world",
    tlb: str = "broadcast",
    what: int = 0,
    swappers: int = 1,
) -> tuple[Verdict, dict[str, int]]:
    """One run of CALLS calls by accessor, and its figures. Violations are counted and do not end it."""
    with Machine(
        image=guests / "swapper.elf",
        vcpus=vcpus,
        fetch=fetch,
        tlb=tlb,
        timeout=TIMEOUT_S,
        keep_going=True,
        parameter=swappers << 20 | what << 16 | CALLS,
    ) as machine:
        verdict = machine.wait()
        rows = list(results(machine.console))
    assert len(rows) == 1, verdict.sentence
    assert rows[0].pop("guest") == "swapper"
    figures = {key: int(value) for key, value in rows[0].items()}
    assert (figures["vcpus"], figures["swappers"]) == (vcpus, swappers)
    return verdict, figures


def assert_sound(verdict: Verdict, figures: dict[str, int], calls: int) -> None:
    """All calls were made, pages were swapped and came back on faults, and nothing was decoded wrong."""
    assert verdict.verdict == "pass", verdict.sentence
    assert figures["accesses"] == calls
    assert figures["swaps"] > 1 and figures["faults"] > 0
    assert (figures["wrong"], figures["aborts"]) == (0, 0)
    assert verdict.counters["fetch_wrong"] == verdict.counters["fetch_refused"] == 0


@pytest.mark.parametrize(
    ("fetch", "tlb"), [("stop-world", "broadcast"), ("validate", "broadcast"), ("unprotected", "ipi")]
)
def test_sound_fetches_decode_what_was_executed(guests: Path, fetch: str, tlb: str) -> None:
    """Would break: a page that is read after its invalidation, a vCPU that keeps the world stopped while it waits for
    another one, an access that is done twice or not at all."""
    verdict, figures = play(guests, 4, fetch, tlb)
    assert_sound(verdict, figures, 3 * CALLS)
    assert verdict.exits["nisv"] >= 3 * CALLS


def test_the_race_harms_nobody_but_the_one_who_lost_it(guests: Path) -> None:
    """Would break: a guest that hangs, or ends in an exception, after a wrong decode. How often is not this test's."""
    verdict, figures = play(guests, 4, "unprotected")
    assert figures["accesses"] == 3 * CALLS
    assert verdict.verdict == ("fail" if figures["wrong"] or figures["aborts"] else "pass"), verdict.sentence


def test_aborts_are_counted_one_by_one(guests: Path) -> None:
    """Would break: a guest that takes a refused access for a good one."""
    verdict, figures = play(guests, 2, "abort")
    assert verdict.verdict == "fail"
    assert (figures["accesses"], figures["aborts"], figures["wrong"]) == (CALLS, CALLS, 0)


@pytest.mark.parametrize("what", [ARM, THUMB, STRADDLING, USER])
def test_each_kind_of_routine_by_itself(guests: Path, what: int) -> None:
    """Would break: one instruction set, an instruction across two pages, translation with User mode's rights."""
    assert_sound(*play(guests, 2, what=what), CALLS)


def test_two_swappers_have_their_own_pages(guests: Path) -> None:
    """Would break: invalidations of several vCPUs that wait for each other."""
    assert_sound(*play(guests, 4, swappers=2), 2 * CALLS)


def test_a_vcpu_alone_swaps_and_calls_in_turn(guests: Path) -> None:
    """Would break: the guest on one vCPU."""
    verdict, figures = play(guests, 1, what=USER)
    assert_sound(verdict, figures, CALLS)
    assert figures["swaps"] == CALLS + 1


def test_what_is_not_there_is_refused(guests: Path) -> None:
    """Would break: more swappers than half of the vCPUs, which would leave some without a victim."""
    with Machine(image=guests / "swapper.elf", vcpus=4, parameter=3 << 20, timeout=TIMEOUT_S) as machine:
        assert machine.wait().exit_code == 1
        assert "parameter 00300000 asks for what is not there\n" in machine.console
