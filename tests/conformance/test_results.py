# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures that guests print: a line that is misread would turn the gate green, or red."""

from __future__ import annotations

from allstop.conformance.results import results


def test_lines_with_figures_are_read_and_others_are_not() -> None:
    console = 'hello\nresult: a=1 b="two words"\n result: c=3\nresult: d=4'
    assert list(results(console)) == [{"a": "1", "b": "two words"}]


def test_a_garbled_line_is_left_out() -> None:
    assert list(results('result: a="1\nresult: b=2\n')) == [{"b": "2"}]
