# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole path of instructions without syndrome: what the worker emulates is what the engine executes."""

from __future__ import annotations

import pytest

from allstop.conformance import decoder as decoding
from allstop.conformance.decoder import campaign
from allstop.vm.arm import execution

CASES = 2500
SEED = 20130611


def test_emulated_and_native_execution_leave_the_same() -> None:
    *_, report = campaign(CASES, SEED)
    assert not report.failures, "\n".join(report.failures)
    assert report.by_class.total() == CASES
    assert report.trapped.total() > 0.95 * CASES, "too few traps: the device is not being used"
    assert len(report.unseen) < 30, report.unseen


def test_a_wrong_emulation_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: one bit of each loaded register is wrong."""
    finish = execution.finish

    def wrong(planned: execution.Plan, values: list[int]) -> execution.Effects:
        effects = finish(planned, values)
        return execution.Effects(
            effects.pc,
            {n: value ^ 1 for n, value in effects.registers.items()},
            effects.user_registers,
            effects.stack_pointers,
            effects.vfp,
            effects.cpsr,
            effects.exclusive,
        )

    monkeypatch.setattr("allstop.vcpu_worker.exits.emulation.finish", wrong)
    *_, report = campaign(400, SEED)
    assert report.failures


def test_nothing_stays_open() -> None:
    """A second comparison in one process: the first has given its vCPU back."""
    for seed in (1, 2):
        with decoding.Comparison(decoding.Random(seed)):
            pass
