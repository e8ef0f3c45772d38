# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts: the exit status of each, JSON there and back, and percentiles that are right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.outcome.verdict import Latency, Verdict


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("pass", 0),
        ("fail", 1),
        ("violation", 3),
        ("lost", 4),
        ("error", 4),
        ("timeout", 5),
    ],
)
def test_exit_status(verdict: str, status: int) -> None:
    assert Verdict(verdict, "so", 1).exit_code == status


def test_json_there_and_back() -> None:
    verdict = Verdict(
        "fail",
        'it said "no"\n',
        4,
        1.5,
        7,
        {"hvc": 3},
        {"mmio": Latency(2, 1.0, 2.0)},
        counters={"ping": 1},
        notes=("odd",),
    )
    assert Verdict.from_json(verdict.to_json()) == verdict
    raw = json.loads(verdict.to_json())
    assert raw["exit_code"] == 1 and raw["mmio"] == {"count": 2, "p50_us": 1.0, "p99_us": 2.0}
    assert "\n" not in verdict.to_json()


@pytest.mark.parametrize("text", ["", "7", "{}", "[]", '{"exit_code": 0}', "null"])
def test_what_is_no_verdict_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Verdict.from_json(text)


def test_percentiles_of_a_known_histogram() -> None:
    histogram = [0] * 101
    for value in range(1, 101):
        histogram[value] = 1
    assert Latency.of_histograms([histogram], lambda bucket: bucket * 1000) == Latency(100, 50.0, 99.0)
    assert Latency.of_histograms([[1], [0]], lambda bucket: 5000) == Latency(1, 5.0, 5.0)


def test_nothing_counted_is_zero() -> None:
    assert Latency.of_histograms([[0, 0], [0, 0]], lambda bucket: 1) == Latency(0, 0.0, 0.0)


@given(st.lists(st.lists(st.integers(0, 5), min_size=8, max_size=8), min_size=1, max_size=4))
def test_percentiles_agree_with_sorting(histograms: list[list[int]]) -> None:
    values = sorted(bucket for histogram in histograms for bucket, n in enumerate(histogram) for _ in range(n))
    latency = Latency.of_histograms(histograms, lambda bucket: bucket * 1000)
    assert latency.count == len(values)
    if values:
        assert latency.p50_us == values[(len(values) * 50 + 99) // 100 - 1]
        assert latency.p99_us == values[(len(values) * 99 + 99) // 100 - 1]


def test_the_summary_names_what_happened_and_leaves_out_what_did_not() -> None:
    text = Verdict(
        "pass", "the guest passed", 1, 2.0, 0, {"hvc": 3, "wfi": 0}, {"mmio": Latency(2, 1.0, 2.0)}
    ).summary()
    assert text.splitlines()[0] == "pass: the guest passed"
    assert "1 vCPU," in text and "hvc 3" in text and "mmio: 2, p50 1.0 us" in text
    assert "wfi" not in text and "stops" not in text


def test_one_of_a_kind_is_not_spoken_of_as_many() -> None:
    assert "  1 vCPU, 2.00 s in the guest, 1 exit\n" in Verdict("timeout", "late", 1, 2.0, exits={"wfi": 1}).summary()
