# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop guests`: list the bundled guests."""

from __future__ import annotations

import argparse

from allstop.cli.speech import write_all
from allstop.vm.boot.bundled import GUESTS

SUMMARY = "list the bundled guests: allstop run NAME runs one"
_STDOUT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def execute(arguments: argparse.Namespace) -> int:
    """Print a line for each; the exit status."""
    width = max(map(len, GUESTS))
    write_all(_STDOUT, "".join(f"{name:{width}}  {summary}\n" for name, summary in GUESTS.items()))
    return 0
