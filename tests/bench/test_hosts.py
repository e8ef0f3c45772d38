# SPDX-License-Identifier: GPL-2.0-or-later
"""What measures hosts: the guest's figures, the yardstick, the table. No speed is judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import hosts

pytestmark = [pytest.mark.bench, pytest.mark.processes]


def test_the_guest_tells_every_figure(tmp_path: Path) -> None:
    """Would break: an operation that the table wants and the guest does not perform."""
    found, verdict = hosts.run(hosts.IMAGE, 2, 4, hosts.hosts_file(tmp_path, 2))
    assert set(found) == {"read", "write", "fetch", "pingpong", "private"}
    assert all(int(found[name]["min_ns"]) > 0 for name in ("read", "write", "fetch"))
    assert verdict.pages.count >= 4 * 3  # each page is fetched to be read, then written to here, and again there
    assert verdict.bounces[0]["moves"] > 4


def test_the_yardstick_answers() -> None:
    """Would break: an echo without CURVE's keys, or one that another client could ask."""
    with hosts.echo() as echo:
        assert echo.p50_us(hosts._PAGE[0], 5) > 0 and echo.p50_us(hosts._STOP_HOST[0], 5) > 0


def test_a_ratio_is_judged_by_its_median() -> None:
    """Would break: a row that is called met where its median is not."""
    row = hosts.Row("a row", 3, 1.5, [100.0, 200.0, 900.0], [100.0, 100.0, 100.0])
    assert "2.00 (1.00 to 9.00)" in row.line() and row.line().endswith("aim 1.5x: met |")
    assert hosts.Row("a row", 3, 1.5, [400.0], [100.0]).line().endswith("**missed** |")
