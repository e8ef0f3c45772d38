# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs on the workers of a Dask cluster that the user has started.

The campaign itself decides which worker gets which attempt: each attempt is pinned to a worker, never retried by Dask,
and lost with that worker. So a run that takes its workers down does so a bounded number of times, and Dask's view of a
worker that is cut off does not matter: the next attempt has another epoch. A guest's files are separate tasks with
their digest as key: Dask keeps them where they are needed, and makes them again when the worker that had them is gone.

All communication with Dask happens in one thread with an asyncio loop, each question with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from allstop.campaign.combination import Combination
from allstop.campaign.result import ExecutorFailed, Finished, Lease, Lost, PlacesChanged, Report, Result
from allstop.campaign.trial import TrialLost, perform
from allstop.vm.config.paths import shown
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.version import __version__

_CONNECT_S = 10.0
_ANSWER_S = 20.0
_LOOKS_EVERY_S = 1.0
_ASKED_EVERY_S = 0.1
_LONGEST_START_S = 180.0  # longer than a trial waits for its machine
_ADDRESS = re.compile(r"(tcp|tls|ucx|wss?)://([^\s:/]+|\[[0-9a-fA-F:]+\]):\d{1,5}")


class DaskExecutor:
    """See `Executor`. The constructor returns after the scheduler's first answer and with at least one worker, or
    raises UsageError (the address, the extra `cluster` is not installed) or HarnessError (no scheduler, no worker
    within `wait_s`, workers without this version of allstop), in bounded time. A report meanwhile, such as Ctrl-C's,
    ends the wait, and then there are no places. `say` gets sentences for the user."""

    def __init__(
        self,
        address: str,
        contents: Mapping[str, bytes],
        wait_s: float,
        reports: SimpleQueue[Report],
        say: Callable[[str], None],
    ) -> None:
        if not _ADDRESS.fullmatch(address):
            raise UsageError(
                f"a cluster is named by its scheduler's address, such as tcp://head:8786, not {shown(address)}"
            )
        if importlib.util.find_spec("distributed") is None:
            raise UsageError("--cluster needs Dask distributed: install it with pip install 'allstop[cluster]'")
        self._address = address
        self._contents = contents
        self._wait_s = wait_s
        self._reports = reports
        self._say = say
        self._threads: dict[str, int] = {}
        self._refused: set[str] = set()
        self._busy: Counter[str] = Counter()
        self._attempts: dict[asyncio.Task[None], str] = {}
        self._failure: HarnessError | None = None
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._main_task = self._loop.create_task(self._main())
        self._thread = threading.Thread(target=self._loop_in_thread, name="allstop-dask", daemon=True)
        self._thread.start()
        while not self._ready.wait(_ASKED_EVERY_S):
            if not reports.empty():
                self.end()
                self._threads = {}
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def places(self) -> int:
        """See Executor: a worker's thread is a place."""
        return sum(self._threads.values())

    def start(self, lease: Lease) -> None:
        """As of Executor."""
        with contextlib.suppress(RuntimeError):  # the loop is over: ExecutorFailed is on its way, and the lease void
            self._loop.call_soon_threadsafe(self._start, lease)

    def end(self) -> None:
        """See Executor. Workers end their runs within a second."""
        with contextlib.suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def _end(self) -> None:
        self._ending.set()
        if not self._ready.is_set():
            self._main_task.cancel()

    def _loop_in_thread(self) -> None:
        try:
            self._loop.run_until_complete(self._main_task)
        except asyncio.CancelledError:
            pass
        except HarnessError as error:
            self._failure = error
        except Exception as error:
            self._failure = HarnessError(f"the cluster at {self._address} failed: {type(error).__name__}: {error}")
        finally:
            self._loop.close()
        if self._failure is not None and self._ready.is_set():
            self._reports.put(ExecutorFailed(str(self._failure)))
        self._ready.set()

    async def _main(self) -> None:
        from distributed import Client

        _silence()
        try:
            client = await asyncio.wait_for(
                Client(self._address, asynchronous=True, timeout=_CONNECT_S, set_as_default=False, name="allstop"),
                2 * _CONNECT_S,
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise HarnessError(f"there is no Dask scheduler at {self._address}: {_first_line(error)}") from None
        self._client = client
        try:
            await self._find_workers()
            self._files = {
                digest: client.submit(_content, content, key=f"allstop-file-{digest}", pure=True)
                for digest, content in self._contents.items()
            }
            self._ready.set()
            await self._watch()
        finally:
            attempts = list(self._attempts)
            for task in attempts:
                task.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(timeout=_ANSWER_S), 2 * _ANSWER_S)

    async def _find_workers(self) -> None:
        until_s = self._loop.time() + self._wait_s
        while True:
            await self._look()
            if self._threads:
                return
            if self._refused:
                raise HarnessError(
                    f"the workers of {self._address} do not have allstop {__version__}, as this host "
                    "does: install it there"
                )
            if self._loop.time() >= until_s:
                raise HarnessError(
                    f"the cluster at {self._address} has had no worker for {self._wait_s:g} s: start "
                    f"some with dask worker {self._address}"
                )
            await self._pause()

    async def _watch(self) -> None:
        """Watch workers come and go, until the end. Raises HarnessError when no run can start any more."""
        seen_s = self._loop.time()
        while not self._ending.is_set():
            await self._pause()
            before = dict(self._threads)
            await self._look()
            if self._threads:
                seen_s = self._loop.time()
            elif self._loop.time() - seen_s >= self._wait_s:
                raise HarnessError(f"the cluster at {self._address} has had no worker for {self._wait_s:g} s")
            for task, worker in list(self._attempts.items()):
                if worker not in self._threads:
                    task.cancel()
            if before != self._threads:
                self._reports.put(PlacesChanged())

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), _LOOKS_EVERY_S)

    async def _look(self) -> None:
        """The present workers. Raises HarnessError if the scheduler does not answer."""
        try:
            found: dict[str, int] = await asyncio.wait_for(self._client.scheduler.ncores(), _ANSWER_S)
            new = found.keys() - self._threads.keys() - self._refused
            if new:
                versions = await asyncio.wait_for(
                    self._client.run(_version_asked(), workers=list(new), on_error="return"), _ANSWER_S
                )
                found = {
                    worker: threads for worker, threads in found.items() if worker not in new or worker in versions
                }  # or it has left meanwhile
                bad = {worker for worker in new & versions.keys() if versions[worker] != __version__}
                for worker in sorted(bad):
                    has = versions[worker]
                    what = f"has allstop {has}" if isinstance(has, str) else "has no allstop that works"
                    self._say(f"the worker {worker} {what}, not {__version__} as here: it gets no runs")
                self._refused |= bad
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise HarnessError(f"the Dask scheduler at {self._address} is gone: {_first_line(error)}") from None
        self._refused &= found.keys()
        self._threads = {worker: threads for worker, threads in found.items() if worker not in self._refused}

    def _start(self, lease: Lease) -> None:
        free = {worker: threads - self._busy[worker] for worker, threads in self._threads.items()}
        worker = max(free, key=lambda name: free[name], default=None)
        if worker is None or free[worker] <= 0:  # it has gone since the lease was made
            self._reports.put(Lost(lease, "the worker for it is gone"))
            return
        self._busy[worker] += 1
        task = self._loop.create_task(self._attempt(lease, worker))
        self._attempts[task] = worker
        task.add_done_callback(self._attempts.pop)

    async def _attempt(self, lease: Lease, worker: str) -> None:
        from distributed import Future
        from distributed.scheduler import KilledWorker

        files = {digest: self._files[digest] for digest in lease.combination.files.values()}
        future: Future | None = None
        report: Report
        try:
            future = self._client.submit(
                _perform_there,
                lease.name,
                lease.combination.to_json(),
                files,
                key=lease.name,
                workers=[worker],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            async with asyncio.timeout(lease.combination.timeout_s + _LONGEST_START_S):
                report = Finished(lease, await future)
        except TrialLost as error:
            report = Lost(lease, f"{error} (on {worker})")
        except asyncio.CancelledError:  # by `_watch`, or by Dask, when it has lost the scheduler: is it back?
            while self._client.status == "connecting" and not self._ending.is_set():
                await asyncio.sleep(_ASKED_EVERY_S)
            if self._client.status != "running":
                return  # `_watch` says so, for all
            report = Lost(lease, f"the worker {worker} is gone")
        except TimeoutError:
            report = Lost(lease, f"the worker {worker} did not end it in time")
        except KilledWorker:
            self._threads.pop(worker, None)  # until it is seen again
            report = Lost(lease, f"the worker {worker} was killed")
        except Exception as error:
            report = Lost(lease, f"{type(error).__name__}: {_first_line(error)} (on {worker})")
        finally:
            self._busy[worker] -= 1
            if future is not None and not future.done():
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._client.cancel([future], force=True), _ANSWER_S)
        if not self._ending.is_set():
            self._reports.put(report)


def _content(content: bytes) -> bytes:
    """A guest's file, as a task's result."""
    return content


def _perform_there(key: str, combination: str, contents: dict[str, bytes]) -> Result:
    """An attempt, on a worker. It ends when the scheduler no longer wants the task `key`: the campaign was ended or
    killed."""
    from distributed import get_worker

    tasks = get_worker().state.tasks

    def is_wanted() -> bool:
        task = tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    return perform(Combination.from_json(combination), contents, is_wanted)


def _version_asked() -> Callable[[], Any]:
    """A function that returns a process's version of allstop. It is local, so it travels as code and works on a worker
    without allstop."""

    def version() -> Any:
        try:
            import allstop

            return allstop.__version__
        except ImportError:
            return None

    return version


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _silence() -> None:
    """Silence Dask's logging, which it sets up when it is imported: this module says everything in one sentence."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="distributed")  # such as that a kernel is large for a task
