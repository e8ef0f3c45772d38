# SPDX-License-Identifier: GPL-2.0-or-later
"""The histograms that each vCPU has in the control page, from their rows in vm/control/rows.h."""

from __future__ import annotations

from typing import NamedTuple

from allstop.vm.control import control


class HistogramRow(NamedTuple):
    """One histogram: `name` in figures.json, `verdict_name` in verdict.json, `title` and `meaning` in a report, and the
    kind of the journal's records from which a report recomputes it."""

    name: str
    verdict_name: str
    title: str
    meaning: str
    record: str


HISTOGRAMS = tuple(HistogramRow(*row) for row in control.HISTOGRAMS)
"""In the order of HISTOGRAM_*, so that a row's place is its number."""
