# SPDX-License-Identifier: GPL-2.0-or-later
"""One session of a campaign: it leases runs to an executor and stores their results. Only this loop writes the store
while a campaign runs.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from types import FrameType

from allstop.campaign.result import Asked, Executor, ExecutorFailed, Finished, Lease, Lost, Report
from allstop.campaign.store import Counts, Store
from allstop.vm.errors import HarnessError

_TELLS_EVERY_S = 0.25


class Session:
    """Call `run` once. `watch` gets the store from time to time; `say` gets a sentence for the user."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        reports: SimpleQueue[Report],
        watch: Callable[[Store], None],
        say: Callable[[str], None],
    ) -> None:
        self._store = store
        self._executor = executor
        self._reports = reports
        self._watch = watch
        self._say = say
        self._under_way: dict[str, Lease] = {}
        self._draining = False
        self._ended = False
        self._told_s = 0.0
        self._failure = ""
        self.late = 0
        """Results that came too late to count."""

    def run(self) -> Counts:
        """Run until no run waits, or the user asks for the end. Raises StoreError, HarnessError."""
        try:
            self._start()
            while self._under_way or not self._draining and self._store.has_waiting():
                with contextlib.suppress(Empty):
                    self._take(self._reports.get(timeout=_TELLS_EVERY_S))
                if self._ended:
                    break
                self._start()
                self._tell()
        finally:
            self._executor.end()
        with self._store.transaction():  # an ended attempt costs its run no try, and the store shows the run as waiting
            self._store.take_back(list(self._under_way.values()))
        return self._store.counts()

    def _start(self) -> None:
        """Lease a run for each free place."""
        if self._draining:
            return
        for lease in self._store.lease(self._executor.places - len(self._under_way)):
            self._under_way[lease.name] = lease
            self._executor.start(lease)

    def _tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELLS_EVERY_S:
            self._told_s = now_s
            self._watch(self._store)

    def _take(self, first: Report) -> None:
        """Store everything that was reported by now, in one transaction."""
        with self._store.transaction():
            report: Report | None = first
            while report is not None:
                self._take_one(report)
                try:
                    report = self._reports.get_nowait()
                except Empty:
                    report = None
        if self._failure:
            raise HarnessError(self._failure)

    def _take_one(self, report: Report) -> None:
        match report:
            case Finished(lease, result):
                self._under_way.pop(lease.name, None)
                if not self._store.complete(lease, result):
                    self.late += 1
            case Lost(lease, why):
                self._under_way.pop(lease.name, None)
                self._store.lose(lease, why)
            case Asked(at_once):
                self._ask(at_once)
            case ExecutorFailed(sentence):
                self._failure = sentence  # raised after the reports beside it are stored

    def _ask(self, at_once: bool) -> None:
        if at_once or self._draining:
            self._draining = self._ended = True
            return
        self._draining = True
        if self._under_way:
            count = len(self._under_way)
            self._say(
                f"waiting for {count} {'run' if count == 1 else 'runs'} under way; Ctrl-C again ends "
                f"{'it' if count == 1 else 'them'} at once"
            )


@contextlib.contextmanager
def asked_by_signals(reports: SimpleQueue[Report]) -> Iterator[None]:
    """While entered, Ctrl-C, SIGTERM and SIGHUP are reports, unless they are ignored. Main thread only."""

    def note(number: int, frame: FrameType | None) -> None:
        reports.put(Asked(number != signal.SIGINT))  # a SimpleQueue can be put to from a signal's handler

    before = {
        number: signal.signal(number, note)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
