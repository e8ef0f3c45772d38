# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs on this host: a thread each, which waits for the machine's own processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from allstop.campaign.result import Finished, Lease, Lost, Report
from allstop.campaign.trial import TrialLost, perform
from allstop.deploy.processes.fork_server import ForkServer


class LocalExecutor:
    """See `Executor`. A machine has its own processes, so a thread that waits for it is enough. One process that has
    loaded what launchers need forks them. If that process is lost, so are the runs that it was to start, and the next
    run gets a new one.
    """

    def __init__(self, jobs: int, contents: Mapping[str, bytes], reports: SimpleQueue[Report]) -> None:
        self._jobs = jobs
        self._contents = contents
        self._reports = reports
        self._ending = threading.Event()
        self._threads = ThreadPoolExecutor(jobs, "allstop-run")
        self._fork_servers: list[ForkServer] = []

    @property
    def places(self) -> int:
        """As of Executor."""
        return self._jobs

    def start(self, lease: Lease) -> None:
        """As of Executor."""
        try:
            if not self._fork_servers or not self._fork_servers[-1].is_alive:
                self._fork_servers.append(ForkServer())
        except OSError as error:
            self._reports.put(Lost(lease, f"its launcher could not be started: {error}"))
            return
        self._threads.submit(self._run, lease, self._fork_servers[-1])

    def end(self) -> None:
        """As of Executor."""
        self._ending.set()
        self._threads.shutdown(cancel_futures=True)
        for server in self._fork_servers:
            server.close()

    def _run(self, lease: Lease, fork_server: ForkServer) -> None:
        try:
            report: Report = Finished(lease, perform(lease.combination, self._contents, self._is_wanted, fork_server))
        except TrialLost as error:
            report = Lost(lease, str(error))
        except BaseException as error:  # otherwise this lease would never be reported
            report = Lost(lease, f"{type(error).__name__}: {error}")
        if not self._ending.is_set():
            self._reports.put(report)

    def _is_wanted(self) -> bool:
        return not self._ending.is_set()
