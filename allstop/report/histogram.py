# SPDX-License-Identifier: GPL-2.0-or-later
"""Histograms of durations, drawn as SVG over a logarithmic axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from html import escape

_PER_DECADE = 12
_MOST_LABELS = 5
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 150, 8, 22, 16


class Histogram:
    """How often each duration was seen."""

    def __init__(self, name: str, meaning: str) -> None:
        self.name = name
        self.meaning = meaning
        self._counts: Counter[float] = Counter()

    def add(self, ns: float, times: int = 1) -> None:
        """Add this many values of `ns`."""
        self._counts[ns] += times

    def add_all(self, buckets: Iterable[tuple[float, int]]) -> None:
        """(ns, how many) pairs."""
        for ns, times in buckets:
            self._counts[ns] += times

    @property
    def count(self) -> int:
        """All values."""
        return self._counts.total()

    def percentile_ns(self, percent: float) -> float:
        """The least duration that this percentage of values does not exceed; 0 if there is none."""
        rank = max(1, math.ceil(self.count * percent / 100))
        for ns in sorted(self._counts):
            rank -= self._counts[ns]
            if rank <= 0:
                return ns
        return 0.0

    def to_svg(self) -> str:
        """An SVG element; durations below 10 ns are drawn at 10 ns."""
        bars: Counter[int] = Counter()
        for ns, times in self._counts.items():
            bars[int(math.log10(max(ns, 10.0)) * _PER_DECADE)] += times
        first = min(bars) // _PER_DECADE * _PER_DECADE
        last = -(-(max(bars) + 1) // _PER_DECADE) * _PER_DECADE
        step = (_WIDTH - 2 * _LEFT) / (last - first)
        most = max(bars.values())
        ground = _HEIGHT - _BOTTOM
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of {escape(self.name)}: '
            f'{self.count} values, median {duration(self.percentile_ns(50))}">'
        ]
        every = 1 if last - first <= _MOST_LABELS * _PER_DECADE else 2
        for decade in range(first, last + 1, _PER_DECADE):
            x = _LEFT + (decade - first) * step
            anchor = "start" if decade == first else "end" if decade == last else "middle"
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{ground}"/>'
                + (
                    ""
                    if (decade - first) // _PER_DECADE % every
                    else f'<text x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">'
                    f"{duration(10.0 ** (decade // _PER_DECADE))}</text>"
                )
            )
        for bar, times in sorted(bars.items()):
            high = max(1.0, (ground - _TOP) * times / most)
            low_ns, high_ns = 10 ** (bar / _PER_DECADE), 10 ** ((bar + 1) / _PER_DECADE)
            parts.append(
                f'<rect class="bar" x="{_LEFT + (bar - first) * step + 0.5:.1f}" y="{ground - high:.1f}" '
                f'width="{max(step - 1, 1):.1f}" height="{high:.1f}"><title>{duration(low_ns)} to '
                f"{duration(high_ns)}: {times:,}</title></rect>"
            )
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{ground}" y2="{ground}"/>'
            f'<text x="{_LEFT}" y="{_TOP - 5}">{most:,}</text></svg>'
        )
        return "".join(parts)


def duration(ns: float) -> str:
    """A duration for people, with three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size * 0.9995:
            return f"{_digits(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def _digits(value: float) -> str:
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
