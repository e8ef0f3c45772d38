# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes to an executor and what comes back from it. Plain data: it also travels between hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from allstop.campaign.combination import Combination


class Lease(NamedTuple):
    """One attempt of a run. `epoch` is 1 for the first attempt of this run in this store, and only grows: only the
    newest attempt's result counts."""

    combination: Combination
    epoch: int

    @property
    def name(self) -> str:
        """Different for each attempt."""
        return f"allstop-{self.combination.identity}-{self.epoch}"


@dataclass(frozen=True)
class Result:
    """The outcome of a run. `verdict_json` is that of `allstop run --json`, `console` its console's end. `started_at`
    is in seconds since 1970; `took_s` is the time of the whole run, including its start and end."""

    verdict: str
    sentence: str
    wall_s: float
    verdict_json: str
    console: str
    host: str
    started_at: float
    took_s: float


class Finished(NamedTuple):
    """An attempt has a result."""

    lease: Lease
    result: Result


class Lost(NamedTuple):
    """An attempt has no result: its process, its worker or its host is gone."""

    lease: Lease
    why: str


class PlacesChanged(NamedTuple):
    """There may be more places now."""


class Asked(NamedTuple):
    """A request to end the campaign: Ctrl-C, or with `at_once` a signal that does not wait."""

    at_once: bool


class ExecutorFailed(NamedTuple):
    """No run can start any more; the sentence says why."""

    sentence: str


Report = Finished | Lost | PlacesChanged | Asked | ExecutorFailed


class Executor(Protocol):
    """Performs runs. It puts each report into the queue that it was made with; every started lease gets one Finished or
    Lost, unless `end` came first."""

    @property
    def places(self) -> int:
        """How many runs may be under way at present."""

    def start(self, lease: Lease) -> None:
        """Start an attempt; at most `places` are under way. Returns at once."""

    def end(self) -> None:
        """End the attempts under way, without reports, and release everything. Nothing runs afterwards."""
