# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop trace`: a run's journals for ui.perfetto.dev and chrome://tracing."""

from __future__ import annotations

import argparse
from pathlib import Path

from allstop.cli.speech import say, write_all

SUMMARY = "make a trace of a run with journals, for ui.perfetto.dev"
_STDOUT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `trace`."""
    parser.add_argument("run_dir", metavar="RUN-DIR", type=Path, help="the folder of a --run-dir with --journal")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: trace.json in RUN-DIR")


def execute(arguments: argparse.Namespace) -> int:
    """Write it; the exit status. Raises UsageError, OSError."""
    from allstop.report.run import RecordedRun
    from allstop.report.trace import write_trace

    out = arguments.output or arguments.run_dir / "trace.json"
    with RecordedRun(arguments.run_dir) as run:
        for sentence in run.conditions:
            say(f"note: {sentence}")
        count = write_trace(run, out)
    write_all(_STDOUT, f"{out}: {count:,} events; open it in https://ui.perfetto.dev\n")
    return 0
