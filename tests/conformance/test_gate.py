# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance gate holds on the engine, and is red on the library as it is shipped."""

from __future__ import annotations

import subprocess
import sys

import pytest

from allstop.conformance.conformance import CHECKS, Check, judged, run_check
from allstop.deploy.outcome.verdict import Verdict

pytestmark = pytest.mark.processes

RUNS = 50_000
TIMEOUT_S = 60.0
BY_NAME = {check.name: check for check in CHECKS}
PASS = Verdict("pass", "the guest passed", 2)


@pytest.mark.parametrize("check", CHECKS, ids=BY_NAME)
def test_the_gate_holds(check: Check) -> None:
    finding = run_check(check, RUNS, TIMEOUT_S)
    assert finding.holds, finding.seen
    assert finding.cases > 0


@pytest.mark.parametrize("name", ["atomics", "SB", "TLBI", "code"])
def test_the_gate_is_red_without_the_interposer(name: str) -> None:
    """A guest that waits for what never comes may hang: that is red too. MP is in order on x86 hosts anyway.

    What a race forbids shows when two vCPUs run at the same time: on a busy host that takes more than one try."""
    findings = []
    while len(findings) < 20 and (not findings or findings[-1].holds):
        findings.append(run_check(BY_NAME[name], RUNS, 5.0, as_shipped=True))
    assert not findings[-1].holds, [finding.seen for finding in findings]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("atomics", [{"field": "word", "count": "9", "expected": "10"}]),
        ("SB", [{"fence": "none", "o00": "5", "runs": "10"}, {"fence": "dmb", "o00": "1", "runs": "10"}]),
        (
            "SB",
            [
                {"fence": "none", "o00": "5", "runs": "10"},
                {"fence": "dmb", "o00": "0", "runs": "10"},
                {"fence": "cp15dmb", "o00": "1", "runs": "10"},
            ],
        ),
        ("SB", [{"fence": "none", "o00": "0", "runs": "10"}, {"fence": "dmb", "o00": "0", "runs": "10"}]),
        ("MP", [{"fence": "dmb", "o10": "1", "runs": "10"}]),
        ("TLBI", [{"stale": "1", "spoiled": "0", "moves": "5"}]),
        ("code", [{"variant": "cross", "wrong": "1", "rounds": "5"}]),
    ],
)
def test_a_judge_sees_what_is_forbidden(name: str, rows: list[dict[str, str]]) -> None:
    assert not judged(BY_NAME[name], PASS, rows).holds


def test_a_guest_that_says_nothing_does_not_hold() -> None:
    assert not judged(BY_NAME["SB"], PASS, []).holds
    assert not judged(BY_NAME["SB"], Verdict("timeout", "too late", 2), [{"fence": "dmb"}]).holds


def test_one_busy_process_beside_it_leaves_it_conclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break: both vCPUs on one core for a whole run, which is where a scheduler leaves them that may choose."""
    monkeypatch.setattr("allstop.conformance.conformance.ATTEMPTS", 3)
    with subprocess.Popen((sys.executable, "-c", "while True: pass")) as busy:
        try:
            assert run_check(BY_NAME["SB"], RUNS, TIMEOUT_S).conclusive
        finally:
            busy.kill()
