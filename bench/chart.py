# SPDX-License-Identifier: GPL-2.0-or-later
"""A chart of a few lines over powers of two, both axes logarithmic, as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 780, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 30, 50
_COLOURS = ("#0b61a4", "#c8452c", "#2f8a3c", "#8a4fb3", "#b07d00", "#4a5560")


def svg(title: str, series: Mapping[str, Mapping[int, float]], x_title: str, y_title: str) -> str:
    """One line for each of `series`, from x to y, all above 0. Raises ValueError if there is nothing to draw."""
    xs = sorted({x for points in series.values() for x in points})
    ys = [y for points in series.values() for y in points.values()]
    if not ys:
        raise ValueError("there is nothing to draw")
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))
    high = max(high, low + 1)
    span = max(math.log2(xs[-1] / xs[0]), 1)

    def across(x: float) -> float:
        return _LEFT + math.log2(x / xs[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(y) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for exponent in range(low, high + 1):
        y = up(10.0**exponent)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**exponent:g}</text>'
        )
    for x in xs:
        parts.append(f'<text x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{x}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
        f'<text x="16" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {_HEIGHT / 2})">{escape(y_title)}</text>'
    )
    labels = _apart({name: up(points[max(points)]) for name, points in series.items() if points})
    for number, (name, points) in enumerate(series.items()):
        if points:
            parts += _line(
                name,
                [(across(x), up(y)) for x, y in sorted(points.items())],
                labels[name],
                _COLOURS[number % len(_COLOURS)],
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(name: str, points: Sequence[tuple[float, float]], label_y: float, colour: str) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        f'<text x="{_WIDTH - _RIGHT + 12}" y="{label_y + 4:.1f}" fill="{colour}">{escape(name)}</text>',
    ]


def _apart(wanted: Mapping[str, float], least: float = 16.0) -> dict[str, float]:
    """Heights for labels, in their order, at least this far apart."""
    placed: dict[str, float] = {}
    last = -math.inf
    for name, y in sorted(wanted.items(), key=lambda item: item[1]):
        last = placed[name] = max(y, last + least)
    return placed
