# SPDX-License-Identifier: GPL-2.0-or-later
"""The `allstop` command: one subcommand per module of this package.

A subcommand's module has SUMMARY (a line of help), `add_arguments(parser)` and `execute(arguments) -> exit status`.
Any failure is one sentence on stderr and an exit status; ALLSTOP_DEBUG=1 shows the traceback instead.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from allstop.cli.speech import say
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.version import __version__

COMMANDS = ("run", "conformance", "race", "campaign", "report", "trace", "ctl", "guests")
USAGE = 2
HARNESS_FAILURE = 4


class _Parser(argparse.ArgumentParser):
    """Reports an error in one sentence, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def load(word: str | None) -> None:
    """Load the subcommand that a command line's first word names, or all of them if it names none. `main` does that,
    too; a caller can do it earlier, before anything handles Ctrl-C."""
    for name in _needed(word):
        importlib.import_module(f"allstop.cli.{name}")


def _needed(word: str | None) -> Sequence[str]:
    return (word,) if word in COMMANDS else COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    _open_standard_files()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        parsed = _parser(words[0] if words else None).parse_args(words)
        return int(parsed.execute(parsed))
    except UsageError as error:
        say(" ".join(str(error).splitlines()))  # a file's name may have several lines
        return USAGE
    except KeyboardInterrupt:
        say("interrupted")
    except (HarnessError, OSError, MemoryError) as error:
        if os.environ.get("ALLSTOP_DEBUG"):
            raise
        say(str(error) or "out of memory")
    except Exception as error:
        if os.environ.get("ALLSTOP_DEBUG"):
            raise
        say(f"internal error, please report it: {type(error).__name__}: {error}")
    return HARNESS_FAILURE


def _parser(word: str | None = None) -> argparse.ArgumentParser:
    """The parser for a command line with this first word."""
    parser = _Parser(
        prog="allstop", allow_abbrev=False, description="Run an SMP guest whose every vCPU is a process of its own."
    )
    parser.add_argument("--version", action="version", version=f"allstop {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    for name in _needed(word):
        module = importlib.import_module(f"allstop.cli.{name}")
        subparser = subparsers.add_parser(name, help=module.SUMMARY, description=module.SUMMARY, allow_abbrev=False)
        subparser.set_defaults(execute=module.execute)
        module.add_arguments(subparser)
    return parser


def _open_standard_files() -> None:
    """Open descriptors 0 to 2, so that none of our files takes their place; writing to a closed one still fails."""
    while (fd := os.open(os.devnull, os.O_RDONLY)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
