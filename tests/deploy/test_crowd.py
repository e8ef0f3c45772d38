# SPDX-License-Identifier: GPL-2.0-or-later
"""Many vCPUs on few cores: docs/adr/0008-many-vcpus.md. The guest is guests/crowd."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop.vm.control.control import ACTIVITY_GUEST, ACTIVITY_WFI

_HOW = {"plain": 0, "yield": 1, "event": 2, "asleep": 3}


def _cpu_s(pid: int) -> float:
    """utime and stime of the process: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("how", ["plain", "yield", "event"])
def test_who_spins_does_not_starve_the_one_it_waits_for(command: Any, guests: Path, how: str) -> None:
    """A relay through 64 vCPUs, three times. Its CPU time does not depend on the host's other load: a relay that spins
    without a hint takes some 5 s, and 18 s with the scheduler's own turns."""
    rounds = 3
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("run", guests / "crowd.elf", "--vcpus", 64, "--timeout", 50, "--parameter", 10 * rounds + _HOW[how])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert f"how={how} vcpus=64 rounds={rounds} failed=0" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10.0


def test_who_sleeps_in_wfi_costs_the_host_nothing(machine: Callable[..., Any], until: Any) -> None:
    vcpus, work_s = 32, 0.5
    with machine("crowd.elf", "--vcpus", vcpus, "--quiet", "--parameter", 10 * 100_000_000 + _HOW["asleep"]) as running:
        until(lambda: running.page() is not None, "the machine")
        page = running.page()
        until(lambda: all(page.activity(vcpu)[0] == ACTIVITY_WFI for vcpu in range(1, vcpus)), "the sleepers")
        pids = [page.pid(vcpu) for vcpu in range(vcpus)]
        before = [_cpu_s(pid) for pid in pids]
        until(lambda: _cpu_s(pids[0]) - before[0] >= work_s, "the one that computes")
        spent = [_cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]
        assert page.activity(0)[0] == ACTIVITY_GUEST
    assert sum(spent[1:]) <= work_s / 5  # 31 of them; a beat each quarter of a second, and the kernel counts in ticks
