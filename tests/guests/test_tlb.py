# SPDX-License-Identifier: GPL-2.0-or-later
"""The TLB oracle on whole runs of a guest that invalidates all the time: it fires where the discipline is broken, and
is silent where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from allstop import Machine

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("tlb", ["early", "local"])
def test_an_invalidation_that_is_not_waited_for_is_a_violation(guests: Path, tlb: str) -> None:
    """Whatever the guest itself makes of it."""
    with Machine(guests / "tlb.elf", vcpus=3, tlb=tlb, timeout=60) as machine:
        verdict = machine.wait()
    assert (verdict.verdict, verdict.exit_code) == ("violation", 3), verdict.sentence
    assert verdict.counters["stale_tlb"] > 0 and "a TLB invalidation was over while" in verdict.sentence


@pytest.mark.parametrize("tlb", ["broadcast", "ipi"])
def test_one_that_is_waited_for_is_none(guests: Path, tlb: str) -> None:
    with Machine(guests / "tlb.elf", vcpus=3, tlb=tlb, timeout=60) as machine:
        verdict = machine.wait()
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.exits["tlbi"] > 100 and verdict.counters["stale_tlb"] == 0
