# SPDX-License-Identifier: GPL-2.0-or-later
"""The fetch race, measured: how often each fetch policy decodes the wrong instruction under each TLB discipline.

The guest `swapper` makes accesses without syndrome from pages that it keeps swapping. A cell of the matrix is one
policy under one discipline; its trials differ in their seed. A policy's row in `vm/config/policies.py` says under which
disciplines it decodes wrong and under which it never does; the policies' classes say why.

A wrong decode needs an accessor and a swapper on two cores at once, and a busy host's scheduler may keep all vCPUs of a
short run on one of them. So every vCPU of a trial is pinned to a core, and the cell that must be wrong runs
sequentially: further whole trials while it shows fewer than two wrong decodes, until its time is up. A rate that is
stopped like that proves only that the race exists; compare only rates of cells that needed no further trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from allstop.conformance.interval import wilson_interval
from allstop.conformance.results import results
from allstop.deploy.outcome.verdict import Verdict
from allstop.machine import Machine
from allstop.vm.boot.bundled import IMAGES
from allstop.vm.config.policies import FETCH_ROWS, TLB_ROWS, fetch_row

_RACED = sorted((row for row in FETCH_ROWS if not row.needs_handler), key=lambda row: not row.wrong_under)
FETCHES = tuple(row.name for row in _RACED)  # those that the race must show first
DISCIPLINES = tuple(row.name for row in TLB_ROWS if row.architectural)
_SOUND = {(row.name, tlb) for row in FETCH_ROWS for tlb in row.sound_under}
RACE = next((row.name, tlb) for row in FETCH_ROWS for tlb in row.wrong_under)
SHOWN = 2  # wrong decodes in the race's cell: one could be an accident
PATIENCE_S = 45.0


@dataclass(frozen=True)
class Row:
    """One cell, its trials added up. `p50_us` is of a fetch, `invalidation_p50_us` of a TLB shootdown: the mean of
    the trials' medians. `guest_wrong` and `guest_aborts` are what the guest itself saw. `failures` has a sentence for
    each run that the guest did not end itself. `took_s` is the time of all trials, including their start. `apart` says
    that the vCPUs are on several hosts: there a page takes many times as long to change as a fetch, so the race shows
    only with the help of an event, and the cell does not require it."""

    fetch: str
    tlb: str
    trials: int = 0
    fetches: int = 0
    wrong: int = 0
    retries: int = 0
    aborts: int = 0
    guest_wrong: int = 0
    guest_aborts: int = 0
    p50_us: float = 0.0
    invalidation_p50_us: float = 0.0
    failures: tuple[str, ...] = ()
    took_s: float = 0.0
    apart: bool = False

    def has_enough(self, trials: int) -> bool:
        """Whether the cell needs no trial beyond these `trials`; the race's cell may need more."""
        if self.trials < trials:
            return False
        return self.apart or (self.fetch, self.tlb) != RACE or self.wrong >= SHOWN or self.took_s >= PATIENCE_S

    @property
    def theory(self) -> str:
        """What the theory predicts for the cell: `wrong`, `right`, or nothing."""
        cell = (self.fetch, self.tlb)
        return ("" if self.apart else "wrong") if cell == RACE else "right" if cell in _SOUND else ""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the rate of wrong decodes (Wilson's score interval)."""
        return wilson_interval(self.wrong, self.fetches)

    @property
    def complaint(self) -> str:
        """How the cell contradicts the theory; empty if it does not."""
        if self.failures:
            return self.failures[0]
        if self.theory == "wrong" and self.wrong < SHOWN:
            return (
                f"{self.fetch} x {self.tlb} decoded {self.wrong} wrong in {self.fetches:,} fetches, in "
                f"{self.trials} {'run' if self.trials == 1 else 'runs'}: the race did not show"
            )
        if self.theory == "right":
            if self.wrong or self.guest_wrong:
                return (
                    f"{self.fetch} x {self.tlb} decoded {self.wrong} wrong in {self.fetches:,} fetches, "
                    f"and the guest saw {self.guest_wrong}"
                )
            if not self.fetches:
                return f"{self.fetch} x {self.tlb} fetched nothing"
        return ""


@dataclass(frozen=True)
class Trial:
    """What one run of the guest adds to its row."""

    verdict: Verdict
    figures: dict[str, str]
    took_s: float = 0.0


def run_trial(
    fetch: str,
    tlb: str,
    vcpus: int,
    seed: int,
    parameter: int,
    timeout_s: float,
    run_dir: Path | None = None,
    hosts: Path | None = None,
) -> Trial:
    """Run the guest once, with journals if there is a `run_dir`, on the hosts of a hosts file if there is one.
    Violations are counted and do not end the run."""
    began_s = time.monotonic()
    with Machine(
        IMAGES / "swapper.elf",
        vcpus=vcpus,
        fetch=fetch,
        tlb=tlb,
        seed=seed,
        parameter=parameter,
        timeout=timeout_s,
        keep_going=True,
        pin=True,
        run_dir=run_dir,
        hosts=hosts,
        journal=run_dir is not None,
    ) as machine:
        verdict = machine.wait()
        figures = next((row for row in results(machine.console) if row.get("guest") == "swapper"), {})
    return Trial(verdict, figures, time.monotonic() - began_s)


def with_trial(row: Row, trial: Trial) -> Row:
    """The row with one more trial."""
    verdict, figures = trial.verdict, trial.figures
    failures = row.failures
    if verdict.verdict not in ("pass", "fail") or not figures:
        failures += (f"{row.fetch} x {row.tlb} ended with {verdict.verdict}: {verdict.sentence}",)
    fetches = verdict.fetches.count if fetch_row(row.fetch).fetches else verdict.exits["nisv"]
    return replace(
        row,
        trials=row.trials + 1,
        fetches=row.fetches + fetches,
        wrong=row.wrong + verdict.counters["fetch_wrong"],
        retries=row.retries + verdict.counters["fetch_retry"] + verdict.counters["fetch_disagreed"],
        aborts=row.aborts + verdict.counters["abort_injected"],
        guest_wrong=row.guest_wrong + int(figures.get("wrong", 0)),
        guest_aborts=row.guest_aborts + int(figures.get("aborts", 0)),
        p50_us=_mean(row.p50_us, verdict.fetches.p50_us, row.trials),
        invalidation_p50_us=_mean(row.invalidation_p50_us, verdict.shootdowns.p50_us, row.trials),
        failures=failures,
        took_s=row.took_s + trial.took_s,
    )


def _mean(old: float, new: float, trials: int) -> float:
    return round((old * trials + new) / (trials + 1), 3)


def matrix(
    fetches: Iterable[str],
    disciplines: Iterable[str],
    enough: Callable[[Row], bool],
    trial: Callable[[str, str, int], Trial],
    apart: bool = False,
) -> Iterator[Row]:
    """Each cell's row, when it has `enough`. `trial(fetch, tlb, number)` runs one; a failed trial ends its cell.
    `apart` is as in a row."""
    disciplines = tuple(disciplines)
    for fetch in fetches:
        for tlb in disciplines:
            row = Row(fetch, tlb, apart=apart)
            while not row.failures and not enough(row):
                row = with_trial(row, trial(fetch, tlb, row.trials))
            yield row
