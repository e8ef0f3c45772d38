# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m allstop.cli.generated`: write what follows from the table of options: README's table, the axes in
docs/campaign.md, and the types of `Machine`'s arguments. A test compares all three with the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from allstop.campaign.spec import AXES
from allstop.cli.run import add_arguments
from allstop.deploy.options.options import RunOptions
from allstop.vm.config.options import rows

BEGIN = "<!-- options: written by `python -m allstop.cli.generated` -->\n"
END = "<!-- end of options -->\n"
TYPES = Path("allstop/machine_arguments.py")
README = Path("README.md")
CAMPAIGN = Path("docs/campaign.md")
_AXES = "| `[axes]` |"


def readme_table() -> str:
    """Every option of `allstop run` that its help shows, a line each."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    lines = ["| option | |", "|---|---|"]
    for action in parser._actions:
        if action.option_strings and action.help is not argparse.SUPPRESS:
            flag = f"{action.option_strings[0]} {action.metavar or ''}".strip()
            text = (action.help or "").replace("|", "\\|")
            lines.append(f"| `{flag}` | {text} |")
    return "\n".join(lines) + "\n"


def readme_with(text: str, table: str) -> str:
    """README's text with `table` between its markers. Raises ValueError where they are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError("README.md lacks the markers of the table of options")
    return f"{head}{BEGIN}{table}{END}{tail}"


def campaign_with_axes(text: str) -> str:
    """docs/campaign.md with a current row of axes."""
    names = [f"`{word}` (not `user`)" if word == "fetch" else f"`{word}`" for word in AXES]
    row = f"{_AXES} {', '.join(names)} |"
    return "".join(row + "\n" if line.startswith(_AXES) else line for line in text.splitlines(keepends=True))


def machine_arguments() -> str:
    """The source of `allstop/machine_arguments.py`."""
    lines = [
        "# SPDX-License-Identifier: GPL-2.0-or-later",
        '"""The keyword arguments of `Machine`, for type checkers: written by `python -m allstop.cli.generated`."""',
        "",
        "import os",
        "from collections.abc import Mapping, Sequence",
        "from typing import Any, TypedDict",
        "",
        "",
        "class MachineArguments(TypedDict, total=False):",
        '    """Each option of `allstop run`; README.md says what it means."""',
        "",
    ]
    for row in rows(RunOptions):
        optional = " | None" if row.default is None else ""
        lines.append(f"    {row.word}: {row.kind.annotation}{optional}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the three files, from the top of the repository."""
    TYPES.write_text(machine_arguments())
    README.write_text(readme_with(README.read_text(), readme_table()))
    CAMPAIGN.write_text(campaign_with_axes(CAMPAIGN.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
