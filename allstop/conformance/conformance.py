# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance gate: what an SMP machine of several processes must and must not do, each check one record.

A check is a guest that provokes an outcome many times, and a judge that looks at what it counted. The outcomes that
the architecture forbids must not appear; those that show that the test can fail must. Source for SB and MP: ARM ARM
(DDI 0406C) A3.8, and the litmus tests of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from allstop.conformance.results import results
from allstop.deploy.outcome.verdict import Verdict
from allstop.machine import Machine
from allstop.vm.boot.bundled import IMAGES

FULL_RUNS = 10_000_000
QUICK_RUNS = 200_000
HOSTS_RUNS = 2_000  # a page's way to another host and back takes about a millisecond
ATTEMPTS = 40
Rows = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Finding:
    """A judge's finding: whether the check holds, over how many cases, and what was seen. A finding that is not
    `conclusive` saw nothing wrong, but could not have: two vCPUs that never run at the same time do not race."""

    holds: bool
    cases: int
    seen: str
    conclusive: bool = True


@dataclass(frozen=True)
class Check:
    """One record of the gate. `runs` is the guest's parameter, 0 for the guest's own default."""

    name: str
    claim: str
    image: str
    vcpus: int
    judge: Callable[[Rows], Finding]
    scaled: bool = False


def _sum(rows: Rows, key: str) -> int:
    return sum(int(row[key]) for row in rows)


def _nothing_lost(rows: Rows) -> Finding:
    lost = {row["field"]: int(row["expected"]) - int(row["count"]) for row in rows if row["count"] != row["expected"]}
    seen = "lost: " + ", ".join(f"{name} {count:,}" for name, count in lost.items()) if lost else "none lost"
    return Finding(not lost, _sum(rows, "expected"), seen)


def _store_buffering(rows: Rows) -> Finding:
    bare = [row for row in rows if row["fence"] == "none"]
    fenced = [row for row in rows if row["fence"] != "none"]  # DMB, and ARMv6's
    shown, forbidden = _sum(bare, "o00"), _sum(fenced, "o00")
    return Finding(
        shown > 0 and forbidden == 0,
        _sum(fenced, "runs"),
        f"both loads old: {forbidden:,} with DMB, {shown:,} without",
        shown > 0 or forbidden > 0,
    )


def _message_passing(rows: Rows) -> Finding:
    by_fence = {fence: _sum([row for row in rows if row["fence"] == fence], "o10") for fence in ("dmb", "none")}
    return Finding(
        by_fence["dmb"] == 0,
        _sum(rows, "runs"),
        f"flag new and data old: {by_fence['dmb']:,} with DMB, {by_fence['none']:,} without",
    )


def _invalidated(rows: Rows) -> Finding:
    stale = _sum(rows, "stale") + _sum(rows, "spoiled")
    return Finding(stale == 0, _sum(rows, "moves"), f"stale translations used: {stale:,}")


def _code_seen(rows: Rows) -> Finding:
    wrong = {row["variant"]: int(row["wrong"]) for row in rows}
    return Finding(
        not any(wrong.values()),
        _sum(rows, "rounds"),
        "old code executed: " + ", ".join(f"{name} {count:,}" for name, count in wrong.items()),
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "atomics", "contended LDREX/STREX of bytes, halves, words and doubles lose nothing", "atomics", 2, _nothing_lost
    ),
    Check("SB", "store buffering is forbidden with DMB, and shows without it", "sb", 2, _store_buffering, scaled=True),
    Check("MP", "message passing is in order with DMB", "mp", 2, _message_passing, scaled=True),
    Check("TLBI", "TLBIMVAIS and DSB are obeyed by the other vCPU", "tlbi", 2, _invalidated),
    Check("code", "code that one vCPU wrote runs on another after the maintenance sequence", "code", 2, _code_seen),
)


def run_check(
    check: Check,
    runs: int,
    timeout_s: float,
    as_shipped: bool = False,
    hosts: Path | None = None,
) -> Finding:
    """Run one check with `runs` cases if it scales, and again if that was not conclusive: a busy host may run two vCPUs
    one after the other. Each vCPU is pinned to a core, because one other busy process is enough for a scheduler to
    leave both on one core for a whole run. A guest that hangs or reports nothing does not hold.

    `hosts` is a hosts file. Between hosts a writable page is on one host only, so all vCPUs see stores in one order:
    what shows without a barrier on one host cannot show there, and is not required."""
    for _ in range(ATTEMPTS):
        finding = _run_once(check, runs, timeout_s, as_shipped, hosts)
        if finding.conclusive or hosts is not None:
            break
    if hosts is not None and not finding.conclusive:
        return replace(finding, holds=True, seen=f"{finding.seen}, which cannot show between hosts", conclusive=True)
    return finding


def _run_once(check: Check, runs: int, timeout_s: float, as_shipped: bool, hosts: Path | None) -> Finding:
    with Machine(
        IMAGES / f"{check.image}.elf",
        vcpus=check.vcpus,
        timeout=timeout_s,
        parameter=runs if check.scaled else 0,
        as_shipped=as_shipped,
        hosts=hosts,
        pin=True,
    ) as machine:
        verdict = machine.wait()
        rows = list(results(machine.console))
    return judged(check, verdict, rows)


def judged(check: Check, verdict: Verdict, rows: Rows) -> Finding:
    """What the guest's figures and the run's verdict say together."""
    if not rows or verdict.verdict not in ("pass", "fail"):
        return Finding(False, 0, f"{verdict.verdict}: {verdict.sentence}")
    finding = check.judge(rows)
    if verdict.verdict == "fail" and finding.holds:
        return Finding(False, finding.cases, f"{finding.seen}; the guest itself failed: {verdict.sentence}")
    return finding
