# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign's progress, in one line."""

from __future__ import annotations

from allstop.campaign.store import Counts

_BAR = 24


class Progress:
    """The rate excludes what was done before `began_s`, a monotonic time."""

    def __init__(self, counts: Counts, began_s: float) -> None:
        self._done_before = counts.done + counts.given_up
        self._began_s = began_s

    def text(self, counts: Counts, now_s: float) -> str:
        """The line: a bar, the number of runs done and in all, the rate, and the remaining time at that rate."""
        over = counts.done + counts.given_up
        filled = _BAR * over // max(1, counts.total)
        words = [f"[{'#' * filled}{'.' * (_BAR - filled)}] {over:,}/{counts.total:,}", f"{counts.leased} under way"]
        here, elapsed_s = over - self._done_before, now_s - self._began_s
        if here > 0 and elapsed_s > 0:
            rate = here / elapsed_s
            words.append(f"{rate:.1f} runs/s" if rate >= 1 else f"{rate * 60:.1f} runs/min")
            words.append(f"{duration((counts.total - over) / rate)} left")
        if counts.given_up:
            words.append(f"{counts.given_up:,} given up")
        return "  ".join(words)


def duration(seconds: float) -> str:
    """Such as 42 s, 3:05 min or 2:10 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02} h"
