# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop report`: a run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from allstop.cli.speech import say, write_all

SUMMARY = "make a page of a run: verdict, timeline, costs, counters"
_STDOUT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `report`."""
    parser.add_argument("run_dir", metavar="RUN-DIR", type=Path, help="the folder of a run's --run-dir")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: report.html in RUN-DIR")


def execute(arguments: argparse.Namespace) -> int:
    """Write it; the exit status. Raises UsageError, OSError."""
    from allstop.report.report import write_report
    from allstop.report.run import RecordedRun

    out = arguments.output or arguments.run_dir / "report.html"
    with RecordedRun(arguments.run_dir) as run:
        for sentence in run.conditions:
            say(f"note: {sentence}")
        write_report(run, out)
    write_all(_STDOUT, f"{out}\n")
    return 0
