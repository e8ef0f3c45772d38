# SPDX-License-Identifier: GPL-2.0-or-later
"""What a control page says, in words and figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from allstop.deploy.console.status_line import StatusLine, status_text
from allstop.deploy.outcome.telemetry import (
    EXIT_KINDS,
    Activity,
    activity,
    counters,
    describe_vcpus,
    figures,
    latencies,
    latency,
)
from allstop.deploy.outcome.verdict import LATENCIES, Verdict
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.memory.memory import create_memory
from allstop.vm.telemetry.histograms import HISTOGRAMS, HistogramRow


@pytest.fixture
def page() -> Iterator[ControlPage]:
    fd = create_memory("test-control", ControlPage.size_bytes(12))
    yield ControlPage.create(fd, 12, 2)
    os.close(fd)


def test_counters_are_added_up(page: ControlPage) -> None:
    page.count(0, control.COUNT_HVC, 2)
    page.count(11, control.COUNT_HVC, 3)
    assert counters(page)["hvc"] == 5
    assert set(EXIT_KINDS) <= set(counters(page))


def test_latencies_are_added_up_within_the_width_of_a_bucket(page: ControlPage) -> None:
    for vcpu in range(12):
        page.record(vcpu, control.HISTOGRAM_STOP, 1000 * (vcpu + 1))
    found = latency(page, control.HISTOGRAM_STOP)
    assert found.count == 12
    assert found.p50_us == pytest.approx(6, rel=0.07) and found.p99_us == pytest.approx(12, rel=0.07)
    assert latency(page, control.HISTOGRAM_MMIO).count == 0


@pytest.mark.parametrize("row", HISTOGRAMS, ids=lambda row: row.name)
def test_every_histogram_is_in_the_figures_and_in_the_verdict(page: ControlPage, row: HistogramRow) -> None:
    """Waits for pages were in the verdict alone once."""
    page.record(3, HISTOGRAMS.index(row), 7000)
    (bucket,) = figures(page)[3]["histograms"].pop(row.name)  # type: ignore[misc]
    assert bucket[0] == pytest.approx(7000, rel=0.07) and bucket[1] == 1
    assert latencies(page)[row.verdict_name].count == 1
    verdict = json.loads(Verdict("pass", "so", 12, latencies=latencies(page)).to_json())
    assert [name for name in LATENCIES if verdict[name]["count"]] == [row.verdict_name]


def test_every_counter_is_an_exit_or_a_step(page: ControlPage) -> None:
    assert list(counters(page)) == list(control.COUNTER_NAMES) and set(EXIT_KINDS) < set(counters(page))
    assert "hvc" in EXIT_KINDS and "kick" not in EXIT_KINDS


def test_vcpus_are_described_in_groups(page: ControlPage) -> None:
    for vcpu in range(12):
        page.set_activity(vcpu, control.ACTIVITY_OFF)
    page.set_activity(3, control.ACTIVITY_MMIO, 0x0900_0000)
    page.set_activity(0, control.ACTIVITY_WFI)
    page.set_activity(5, control.ACTIVITY_WFI)
    text = describe_vcpus(page)
    assert "vCPUs 0 and 5 asleep in WFI" in text
    assert "vCPU 3 waiting for the device at 0x09000000" in text
    assert "9 vCPUs switched off" in text
    page.set_activity(7, control.ACTIVITY_SEMIHOSTING, 5)
    page.set_activity(8, control.ACTIVITY_STOPPING, 2)
    assert page.describe(7).endswith("operation 5") and page.describe(8).endswith("missing: 2")


def test_activity_counts_vcpus_that_are_on(page: ControlPage) -> None:
    page.set_power(0, control.POWER_ON)
    page.set_power(1, control.POWER_PENDING)
    page.count(0, control.COUNT_MMIO_READ, 4)
    now = activity(page)
    assert (now.vcpus, now.vcpus_on, now.exits, now.mmio) == (12, 1, 4, 4)


def test_the_status_line_shows_rates() -> None:
    before, now = Activity(1.0, 4, 1, 100, 10, 0), Activity(3.0, 4, 3, 2100, 1010, 7)
    assert status_text(12.34, before, now) == "  12.3 s  3/4 vCPUs on  1,000 exits/s  500 MMIO/s  7 stops"


def test_the_status_line_is_drawn_over_itself_and_taken_away() -> None:
    reader, writer = os.pipe()
    try:
        line = StatusLine(writer)
        line.clear()
        line.show("one")
        line.show("x" * 1000)
        line.clear()
        line.clear()
        seen = os.read(reader, 65536)
    finally:
        os.close(reader)
        os.close(writer)
    assert seen == b"\r\x1b[Kone" + b"\r\x1b[K" + b"x" * 79 + b"\r\x1b[K"
