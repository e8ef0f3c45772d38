# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark runs, and what it prints can be used. How long anything takes is not judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from allstop.deploy.outcome.verdict import Latency
from bench import guest, latency

pytestmark = [pytest.mark.bench, pytest.mark.processes]

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m bench.latency` as a user calls it, in the repository."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-m", "bench.latency", *map(str, arguments)],
        cwd=ROOT,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_one_small_round_measures_every_operation() -> None:
    """Would break: an operation that the guest and the table name differently, a machine that does not pass, a JSON
    that cannot be read, or a process that is left behind."""
    done = command("--rounds", 1, "--samples", 5, "--busy-samples", 3, "--vcpus", 2, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["options"]["vcpus"] == 2
    rows = {row["name"]: row for row in report["table"]}
    assert set(latency.GOALS) <= set(rows)
    for row in rows.values():
        assert 0 < row["p50_us"] <= row["p99_us"], row
        assert row["ratio"] == pytest.approx(row["p50_us"] / row["echo_p50_us"], rel=0.01), row
    [only] = report["rounds"]
    assert [echo["count"] for echo in only["echoes"]] == [5, 5, 5]
    assert only["quiet"]["mmio_read"]["count"] == 5
    assert only["busy"]["tlb_invalidate_busy"]["count"] == 3


def test_impossible_counts_are_refused() -> None:
    """Would break: a run of no rounds, whose median does not exist, or a machine without a vCPU to be busy."""
    for wrong in (("--rounds", 0), ("--vcpus", 1), ("--samples", guest.MAX_SAMPLES + 1)):
        done = command(*wrong)
        assert done.returncode == 2
        assert "at least one round" in done.stderr


def test_a_round_is_compared_with_the_echoes_around_it() -> None:
    """Would break: ratios to the echo of another time, or to all of them."""
    quiet_names = ("mmio_read", "mmio_write", "hypercall", "fetched_read", "interrupt", "stop")
    busy_names = ("stop_busy", "tlb_invalidate_busy", "fetched_read_busy")
    one = {
        "echoes": [Latency(1, p50_us, 0.0) for p50_us in (10.0, 20.0, 40.0)],
        "quiet": dict.fromkeys(quiet_names, Latency(1, 30.0, 40.0)),
        "busy": dict.fromkeys(busy_names, Latency(1, 90.0, 95.0)),
        "echo_loaded": Latency(1, 80.0, 0.0),
    }
    rows = {row.name: row for row in latency.tabulate([one], 5)}
    assert rows["mmio_read"].ratio == 2.0
    assert rows["mmio_read"].met is False
    assert rows["stop_busy"].ratio == 3.0
    assert rows["stop_busy"].met is True
    assert rows["echo_loaded"].ratio == 2.0
    assert rows["echo_loaded"].met is None
    assert rows["tlb_invalidate_busy"].met is True


def test_percentiles_are_values_that_were_measured() -> None:
    """Would break: a median off by one rank."""
    assert latency.summarise([5000, 1000, 3000, 2000, 4000]) == Latency(5, 3.0, 5.0)
    assert latency.summarise([7000]) == Latency(1, 7.0, 7.0)


def test_only_result_lines_are_read() -> None:
    """Would break: a console with anything else on it."""
    console = (
        "hello\nresult: guest=latency operation=mmio_read samples=9 min_ns=1 p50_ns=1500 p99_ns=2500 "
        "overhead_ns=32\nresult: guest=latency wrong=1\n"
    )
    assert guest.parse(console) == {"mmio_read": Latency(9, 1.5, 2.5)}
