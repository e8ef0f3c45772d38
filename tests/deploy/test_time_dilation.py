# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest whose clock goes slower than its hosts': it says itself how long it took."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from allstop.machine import Machine

pytestmark = pytest.mark.processes

TIMEOUT_S = 120.0


def fields(console: str, operation: str) -> dict[str, int]:
    line = next(line for line in console.splitlines() if f" operation={operation} " in line)
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}


@pytest.mark.parametrize(("dilation", "least_ns", "most_ns"), [(1, 10_000, 10**9), (1000, 0, 10_000)])
def test_an_access_to_a_device_takes_as_much_less(guests: Path, dilation: int, least_ns: int, most_ns: int) -> None:
    """It takes some 100 us by the host's clock: two processes that call each other."""
    with Machine(guests / "latency.elf", timeout=TIMEOUT_S, time_dilation=dilation) as machine:
        verdict, console = machine.wait(), machine.console
    assert verdict.verdict == "pass", verdict.sentence
    assert least_ns <= fields(console, "mmio_read")["p50_ns"] <= most_ns


def test_time_goes_alike_on_all_hosts(guests: Path, tmp_path: Path) -> None:
    """Both vCPUs compute as much. By a clock that is not slowed down it would be a hundred times as long."""
    file = tmp_path / "hosts.toml"
    file.write_text("".join(f'[[host]]\nname = "{name}"\naddress = "127.0.0.1"\n' for name in ("here", "there")))
    with Machine(guests / "pages.elf", vcpus=2, timeout=TIMEOUT_S, hosts=file, time_dilation=100) as machine:
        verdict, console = machine.wait(), machine.console
    assert verdict.verdict == "pass", verdict.sentence
    private = fields(console, "private")
    assert 0.1 < private["first_ns"] / private["last_ns"] < 10
    assert private["first_ns"] + private["last_ns"] < verdict.wall_s * 1e9 / 100 * 2
