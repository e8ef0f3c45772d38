# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths as users give them, and values in sentences about what they gave."""

from __future__ import annotations

import os
from pathlib import Path

from allstop.vm.errors import UsageError

LONGEST_SHOWN = 64
"""How much of a value a sentence shows, in characters."""


def absolute(what: str, path: Path) -> Path:
    """`path` from the root on; `what` names it in the sentence. Raises UsageError where there is no current folder."""
    try:
        return path.absolute()
    except OSError:
        raise UsageError(
            f"the {what} {path} is named from the current folder, which does not exist any more: change "
            "to another folder, or name it from / on"
        ) from None


def path_of(what: str, value: str | os.PathLike[str]) -> Path:
    """A path as a Python caller gives it. Raises UsageError."""
    try:
        path = Path(value)
        os.fsencode(path)
    except (TypeError, ValueError):
        raise UsageError(f"the {what} must be a path, not {shown(value)}") from None
    if "\0" in str(path):
        raise UsageError(f"the {what} {shown(str(path))} holds a NUL character, which no path can")
    return path


def shown(value: object) -> str:
    """A value in a sentence: on one line, and not all of it when there is much."""
    try:
        text = repr(value)
    except Exception:  # an integer of too many digits, or a caller's own class
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
