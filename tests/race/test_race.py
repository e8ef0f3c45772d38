# SPDX-License-Identifier: GPL-2.0-or-later
"""What the matrix says of a world that is not as the theory says."""

from __future__ import annotations

import pytest

from allstop.deploy.outcome.verdict import Latency, Verdict
from allstop.race.race import RACE, Row, Trial, matrix, with_trial

pytestmark = pytest.mark.processes


def trial(wrong: int = 0, verdict: str = "pass", fetches: int = 100, guest_wrong: int = 0) -> Trial:
    counters = {"fetch_wrong": wrong, "fetch_retry": 3, "fetch_disagreed": 1, "abort_injected": 0}
    figures = {"guest": "swapper", "wrong": str(guest_wrong), "aborts": "0"}
    return Trial(
        Verdict(
            verdict,
            "because",
            4,
            exits={"nisv": fetches},
            counters=counters,
            latencies={"fetches": Latency(fetches, 20.0, 90.0)},
        ),
        figures,
    )


@pytest.mark.parametrize(
    ("fetch", "tlb", "wrong", "right"),
    [
        ("unprotected", "broadcast", 0, False),
        ("unprotected", "broadcast", 1, False),
        ("unprotected", "broadcast", 2, True),
        ("unprotected", "ipi", 0, True),
        ("unprotected", "ipi", 1, False),
        ("stop-world", "broadcast", 0, True),
        ("stop-world", "broadcast", 1, False),
        ("validate", "ipi", 0, True),
        ("validate", "broadcast", 1, False),
        ("abort", "broadcast", 0, True),
    ],
)
def test_a_cell_is_held_against_the_theory(fetch: str, tlb: str, wrong: int, right: bool) -> None:
    row = with_trial(Row(fetch, tlb), trial(wrong))
    assert (row.complaint == "") is right, row.complaint


def test_what_the_guest_saw_counts_too() -> None:
    assert with_trial(Row("stop-world", "broadcast"), trial(guest_wrong=1)).complaint
    assert with_trial(Row("stop-world", "broadcast"), trial(fetches=0)).complaint


def test_a_run_that_did_not_finish_is_a_complaint_and_ends_its_cell() -> None:
    rows = list(matrix(["validate"], ["ipi"], lambda row: row.trials >= 5, lambda *_: trial(verdict="timeout")))
    assert [row.trials for row in rows] == [1]
    assert "timeout" in rows[0].complaint


def test_trials_add_up() -> None:
    row = with_trial(with_trial(Row("unprotected", "broadcast"), trial(4)), trial(6))
    assert (row.trials, row.fetches, row.wrong, row.retries, row.p50_us) == (2, 200, 10, 8, 20.0)
    low, high = row.interval
    assert low < 0.05 < high


@pytest.mark.parametrize(
    ("fetch", "wrong", "took_s", "enough"),
    [
        ("unprotected", 1, 44.0, False),
        ("unprotected", 2, 1.0, True),
        ("unprotected", 0, 46.0, True),
        ("validate", 0, 1.0, True),
    ],
)
def test_only_the_cell_of_the_race_is_run_on_and_not_for_ever(
    fetch: str, wrong: int, took_s: float, enough: bool
) -> None:
    row = Row(fetch, "broadcast", trials=1, fetches=100, wrong=wrong, took_s=took_s)
    assert row.has_enough(1) is enough
    assert not row.has_enough(2)


def test_the_interval_never_claims_certainty() -> None:
    low, high = with_trial(Row("stop-world", "ipi"), trial(0)).interval
    assert low == 0.0 and 0.0 < high < 0.05


def test_between_hosts_the_race_is_not_asked_for() -> None:
    """And a wrong decode under a sound policy is wrong there, too."""
    assert not Row(*RACE, trials=1, fetches=100, apart=True).complaint
    assert Row(*RACE, trials=1, fetches=100, apart=True).has_enough(1)
    assert Row(*RACE, trials=1, fetches=100).complaint
    assert Row("validate", "broadcast", trials=1, fetches=100, wrong=1, apart=True).complaint
