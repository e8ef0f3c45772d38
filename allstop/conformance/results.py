# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines in which a guest reports figures: `result: key=value key="two words"`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

_PREFIX = "result: "


def results(console: str) -> Iterator[dict[str, str]]:
    """Each result line of a console, in order. A line that the end of the run cut off is left out."""
    for line in console.splitlines(keepends=True):
        if not line.startswith(_PREFIX) or not line.endswith("\n"):
            continue
        try:
            words = shlex.split(line.removeprefix(_PREFIX))
        except ValueError:
            continue
        yield dict(word.partition("=")[::2] for word in words)
