# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop campaign`: many runs, planned by a file, kept in a store, on this host or on a Dask cluster."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from allstop.cli.speech import say, write_all
from allstop.vm.config.kinds import number
from allstop.vm.errors import HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from allstop.campaign.result import Executor, Report
    from allstop.campaign.spec import Spec
    from allstop.campaign.store import Store

SUMMARY = "run many guests under many policies and events, and keep their results"
_STDOUT = 1
_STDERR = 2
_SHOWN_RUNS = 5
_MAX_JOBS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `campaign`."""
    parser.epilog = (
        "exit status: 0 every run passed, 1 one did not, 2 usage error, 4 some runs have no result: "
        "interrupted, a full disk, no cluster; the same command resumes. See docs/campaign.md"
    )
    parser.add_argument("spec", metavar="SPEC", nargs="?", type=Path, help="a TOML file with the runs")
    parser.add_argument(
        "--store",
        metavar="FILE",
        type=Path,
        help="keep results here; resume an existing store (default: SPEC's name with .store)",
    )
    parser.add_argument("--extend", action="store_true", help="add the runs of SPEC that the store lacks")
    parser.add_argument("--jobs", metavar="N", help="runs at the same time on this host (default: its cores)")
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="run on the workers of this Dask scheduler, such as tcp://head:8786"
    )
    parser.add_argument(
        "--cluster-wait",
        metavar="S",
        default="60",
        help="give up after S seconds without a worker (default %(default)s)",
    )
    parser.add_argument("--plan", action="store_true", help="print the runs, and run nothing")
    parser.add_argument("--page", metavar="FILE", type=Path, help="also write the summary as one HTML page")
    parser.add_argument("--summary", metavar="STORE", type=Path, help="print what a store holds, and run nothing")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object, and nothing else")


def execute(arguments: argparse.Namespace) -> int:
    """Run it; the exit status. Raises UsageError, HarnessError."""
    if arguments.page is not None and not arguments.page.absolute().parent.is_dir():
        raise UsageError(
            f"the page {arguments.page} cannot be written: there is no folder {arguments.page.absolute().parent}"
        )
    if (arguments.spec is None) == (arguments.summary is None):
        raise UsageError(
            "name either a spec to run, allstop campaign SPEC, or a store to look at, allstop campaign --summary STORE"
        )
    from allstop.campaign.store import Store

    if arguments.summary is not None:
        with Store.to_read(arguments.summary) as store:
            return _report(store, arguments)
    jobs = number("number of jobs", arguments.jobs) if arguments.jobs is not None else len(os.sched_getaffinity(0))
    if not 1 <= jobs <= _MAX_JOBS:
        raise UsageError(f"the number of jobs must be 1 to {_MAX_JOBS}, not {jobs}")
    if arguments.jobs is not None and arguments.cluster is not None:
        raise UsageError("--jobs is for this host; on a cluster each thread of a Dask worker runs one: leave it out")
    wait_s = _seconds(arguments.cluster_wait)
    from allstop.campaign.spec import read_spec

    spec = read_spec(arguments.spec)
    if arguments.plan:
        _show_plan(spec)
        return 0
    from queue import SimpleQueue

    from allstop.campaign.session import asked_by_signals

    reports: SimpleQueue[Report] = SimpleQueue()
    with Store.to_write(arguments.store or Path(f"{arguments.spec.stem}.store")) as store:
        store.plan(spec.name, spec.combinations, spec.files, arguments.extend)
        with asked_by_signals(reports):  # from here on Ctrl-C is a report, even in the middle of an import
            done = _run(store, arguments, jobs, wait_s, reports)
        status = _report(store, arguments)
        if not done:
            say(_how_to_go_on(store, arguments))
            return 4
        return status


def _run(store: Store, arguments: argparse.Namespace, jobs: int, wait_s: float, reports: SimpleQueue[Report]) -> bool:
    """Run the waiting runs; whether all are done."""
    from allstop.campaign.progress import Progress
    from allstop.campaign.session import Session
    from allstop.deploy.console.status_line import StatusLine

    counts = store.counts()
    progress = Progress(counts, time.monotonic())
    line = StatusLine(_STDERR) if os.isatty(_STDERR) else None

    def watch(now: Store) -> None:
        if line is not None:
            line.show(progress.text(now.counts(), time.monotonic()))

    def tell(sentence: str) -> None:
        if line is not None:
            line.clear()
        say(sentence)

    try:
        if counts.waiting:
            session = Session(store, _executor(store, arguments, jobs, wait_s, reports, tell), reports, watch, tell)
            counts = session.run()
    except HarnessError as error:
        raise HarnessError(f"{error}; {_how_to_go_on(store, arguments)}") from None
    finally:
        if line is not None:
            line.clear()
    return counts.done == counts.total


def _executor(
    store: Store,
    arguments: argparse.Namespace,
    jobs: int,
    wait_s: float,
    reports: SimpleQueue[Report],
    tell: Callable[[str], None],
) -> Executor:
    if arguments.cluster is None:
        from allstop.campaign.local import LocalExecutor

        return LocalExecutor(jobs, store.contents(), reports)
    from allstop.campaign.cluster import DaskExecutor

    return DaskExecutor(arguments.cluster, store.contents(), wait_s, reports, tell)


def _how_to_go_on(store: Store, arguments: argparse.Namespace) -> str:
    try:
        counts = store.counts()
        so_far = f"{counts.done:,} of {counts.total:,} runs are in {store.path}"
    except HarnessError:
        so_far = f"the results so far are in {store.path}"
    return f"{so_far}; the same command resumes from there"


def _report(store: Store, arguments: argparse.Namespace) -> int:
    """Print, and write the page; the exit status for what the store holds."""
    from allstop.campaign.summary import summarize

    summary = summarize(store)
    write_all(_STDOUT, json.dumps(summary.record()) + "\n" if arguments.json else summary.text())
    if arguments.page is not None:
        from allstop.campaign.page import campaign_page
        from allstop.report.html import write

        write(campaign_page(summary), arguments.page)
        if not arguments.json:
            write_all(_STDOUT, f"{arguments.page}\n")
    if summary.done < summary.planned:
        return 4
    return 0 if summary.all_passed else 1


def _show_plan(spec: Spec) -> None:
    count = len(spec.combinations)
    write_all(_STDOUT, f"{spec.name}: {count:,} {'run' if count == 1 else 'runs'}\n")
    for found in spec.combinations[:_SHOWN_RUNS]:
        write_all(_STDOUT, f"  {found.describe()}\n")
    if count > _SHOWN_RUNS:
        write_all(_STDOUT, f"  and {count - _SHOWN_RUNS:,} more\n")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        if not 0 <= seconds <= 86400:
            raise ValueError
    except ValueError:
        raise UsageError(f"--cluster-wait must be a number of seconds, 0 to 86400, not {text[:64]!r}") from None
    return seconds
