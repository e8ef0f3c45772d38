# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes to an executor and what comes back from it. Plain data: it also travels between hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from allstop.campaign.combination import Combination


class Lease(NamedTuple):
    """One attempt of a run. `epoch` is 1 for the first attempt of this run in this store, and only grows: a result is
    taken from the newest attempt alone."""

    combination: Combination
    epoch: int

    @property
    def name(self) -> str:
        """Different for each attempt."""
        return f"allstop-{self.combination.identity}-{self.epoch}"


@dataclass(frozen=True)
class Result:
    """How a run went. `verdict_json` is that of `allstop run --json`, `console` its console's end. `started_at` is in
    seconds since 1970, `took_s` is the run as a whole, its start and end included."""

    verdict: str
    sentence: str
    wall_s: float
    verdict_json: str
    console: str
    host: str
    started_at: float
    took_s: float


class Finished(NamedTuple):
    """An attempt came to its result."""

    lease: Lease
    result: Result


class Lost(NamedTuple):
    """An attempt came to no result: its process, its worker or its host is gone."""

    lease: Lease
    why: str


class PlacesChanged(NamedTuple):
    """There may be more places to run at now."""


class Asked(NamedTuple):
    """Somebody wants the campaign to end: Ctrl-C, or `at_once` a signal that does not wait."""

    at_once: bool


class ExecutorFailed(NamedTuple):
    """Nothing can be run any more; the sentence says why."""

    sentence: str


Report = Finished | Lost | PlacesChanged | Asked | ExecutorFailed


class Executor(Protocol):
    """Where runs are run. It puts each report into the queue that it was made with; every lease that was started gets
    one Finished or Lost, unless `end` came first."""

    @property
    def places(self) -> int:
        """How many runs may be under way at once, now."""

    def start(self, lease: Lease) -> None:
        """Start an attempt; at most `places` are under way. Comes back at once."""

    def end(self) -> None:
        """End what is under way, without reports, and release everything. Nothing of it runs afterwards."""
