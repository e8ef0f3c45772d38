# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop run`: run one guest to its verdict."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from allstop.cli.speech import say, write_all
from allstop.deploy.options.console_place import STDIO
from allstop.deploy.options.kinds import add_events_json
from allstop.deploy.options.options import RAW_SUFFIXES, RunOptions
from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.run.launcher import Surroundings, run
from allstop.vm.config import options as table
from allstop.vm.errors import HarnessError

SUMMARY = "run a guest, every vCPU in a process of its own"
_STDOUT = 1
_STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The image, the table's options, and what is the command's alone."""
    parser.epilog = (
        "exit status: 0 the guest passed, 1 it failed, 2 usage error, 3 an oracle was violated, "
        "4 the harness failed or was interrupted, 5 timeout"
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=Path,
        help=f"32-bit ARM ELF executable, zImage, or raw image ({', '.join(RAW_SUFFIXES)}, or with --load)",
    )
    table.add_arguments(parser, RunOptions)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the verdict as one JSON object on stdout, and nothing else there; the console goes to stderr",
    )
    parser.add_argument("--quiet", action="store_true", help="no status line, no figures; a sentence unless it passes")
    add_events_json(parser)
    parser.add_argument("--console-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lifeline-fd", type=int, action="append", default=[], help=argparse.SUPPRESS)


def execute(arguments: argparse.Namespace) -> int:
    """Run it; the exit status. Raises UsageError, HarnessError."""
    options = RunOptions(arguments.image, **table.of_arguments(RunOptions, arguments))
    console_fd = arguments.console_fd
    if console_fd is None:
        console_fd = _STDERR if arguments.json else _STDOUT
    watched = os.isatty(_STDERR) and not arguments.quiet
    verdict = run(
        options,
        Surroundings(
            console_fd,
            _STDERR if watched else None,
            arguments.console_fd if options.console.kind != STDIO else None,
            say,
            tuple(arguments.lifeline_fd),
        ),
    )
    _report(verdict, arguments.json, arguments.quiet)
    return verdict.exit_code


def _report(verdict: Verdict, as_json: bool, quiet: bool) -> None:
    if as_json:
        try:
            write_all(_STDOUT, verdict.to_json() + "\n")
        except OSError as error:
            raise HarnessError(f"the verdict ({verdict.verdict}) could not be written: {error.strerror}") from None
    if not (as_json or quiet):
        say(verdict.summary())
    elif verdict.exit_code:
        say(f"{verdict.verdict}: {verdict.sentence}")
    for note in verdict.notes:
        say(f"note: {note}")
