# SPDX-License-Identifier: GPL-2.0-or-later
"""A summary of a campaign's runs: a row for each cell, which is all runs that differ only in seed and repetition."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from allstop.campaign.combination import Value
from allstop.campaign.spec import AXES
from allstop.campaign.store import Row, Store
from allstop.conformance.interval import wilson_interval
from allstop.vm.wire.messages import VERDICTS

_SHOWN_VERDICTS = tuple(name for name in VERDICTS if name != "interrupted")
_TOLD = 5  # sentences of runs that did not pass, per cell


@dataclass
class Cell:
    """One row. `names` are the values of the columns that vary. `given_up` counts runs that were tried too often
    without a result. `sentences` has a few sentences of runs that did not pass."""

    names: tuple[str, ...]
    planned: int = 0
    given_up: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Runs with a result."""
        return self.verdicts.total()

    @property
    def violation_interval(self) -> tuple[float, float]:
        """95 % interval of the rate of runs that end with a violation."""
        return wilson_interval(self.verdicts["violation"], self.done)

    @property
    def median_took_s(self) -> float:
        """Of the runs as a whole."""
        return median(self.took_s) if self.took_s else 0.0

    @property
    def median_wall_s(self) -> float:
        """From the guest's first instruction to the verdict."""
        return median(self.wall_s) if self.wall_s else 0.0

    @property
    def is_good(self) -> bool:
        """Whether every run with a result passed."""
        return self.verdicts["pass"] == self.done and not self.given_up


@dataclass
class Summary:
    """`columns` are guest, scenario and the axes that vary. `hosts` are the runs by host."""

    name: str
    version: str
    columns: tuple[str, ...]
    cells: list[Cell]
    hosts: Counter[str]

    @property
    def planned(self) -> int:
        """All runs."""
        return sum(cell.planned for cell in self.cells)

    @property
    def done(self) -> int:
        """Runs with a result."""
        return sum(cell.done for cell in self.cells)

    @property
    def given_up(self) -> int:
        """Runs that were tried too often without a result."""
        return sum(cell.given_up for cell in self.cells)

    @property
    def all_passed(self) -> bool:
        """Whether all runs are done and passed."""
        return self.done == self.planned and all(cell.is_good for cell in self.cells)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdicts that occur, and `pass`, in the order of the command's exit statuses."""
        return tuple(
            name for name in _SHOWN_VERDICTS if name == "pass" or any(cell.verdicts[name] for cell in self.cells)
        )

    def table(self) -> list[tuple[str, ...]]:
        """Head and rows of the table, as text."""
        head = (
            *self.columns,
            "runs",
            *self.verdicts,
            *(["given up"] if self.given_up else []),
            "violations, 95 %",
            "median",
            "in guest",
        )
        rows = [head]
        for cell in self.cells:
            low, high = cell.violation_interval
            runs = f"{cell.done:,}" if cell.done == cell.planned else f"{cell.done:,}/{cell.planned:,}"
            rows.append(
                (
                    *cell.names,
                    runs,
                    *(f"{cell.verdicts[name]:,}" for name in self.verdicts),
                    *([f"{cell.given_up:,}"] if self.given_up else []),
                    f"{low:.2%} .. {high:.2%}" if cell.done else "-",
                    f"{cell.median_took_s:.2f} s" if cell.done else "-",
                    f"{cell.median_wall_s:.2f} s" if cell.done else "-",
                )
            )
        return rows

    def text(self) -> str:
        """The table for a terminal."""
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        names = len(self.columns)
        return "".join(
            "  ".join(
                text.ljust(width) if at < names else text.rjust(width)
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            + "\n"
            for row in rows
        )

    def record(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "allstop": self.version,
            "planned": self.planned,
            "done": self.done,
            "given_up": self.given_up,
            "hosts": dict(self.hosts),
            "cells": [
                {
                    "names": dict(zip(self.columns, cell.names, strict=True)),
                    "planned": cell.planned,
                    "verdicts": dict(cell.verdicts),
                    "given_up": cell.given_up,
                    "violation_low": cell.violation_interval[0],
                    "violation_high": cell.violation_interval[1],
                    "median_took_s": cell.median_took_s,
                    "median_wall_s": cell.median_wall_s,
                    "sentences": dict(cell.sentences),
                }
                for cell in self.cells
            ],
        }


def summarize(store: Store) -> Summary:
    """What a store holds. Raises StoreError."""
    keys = ("guest", "scenario", *(key for key in AXES if key != "seed"))
    cells: dict[tuple[Value, ...], Cell] = {}
    hosts: Counter[str] = Counter()
    for row in store.rows(brief=True):
        cell = cells.setdefault(tuple(_value(row, key) for key in keys), Cell(()))
        _count(cell, row)
        if row.result is not None:
            hosts[row.result.host] += 1
    varying = [at for at, key in enumerate(keys) if key == "guest" or len({values[at] for values in cells}) > 1]
    for values, cell in cells.items():
        cell.names = tuple(_shown(keys[at], values[at]) for at in varying)
    return Summary(store.name, store.version, tuple(keys[at] for at in varying), list(cells.values()), hosts)


def _count(cell: Cell, row: Row) -> None:
    cell.planned += 1
    sentence = ""
    if row.state == "given up":
        cell.given_up += 1
        sentence = f"given up: {row.lost}"
    if row.result is not None:
        cell.verdicts[row.result.verdict] += 1
        cell.took_s.append(row.result.took_s)
        cell.wall_s.append(row.result.wall_s)
        if row.result.verdict != "pass":
            sentence = f"{row.result.verdict}: {row.result.sentence}"
    if sentence and (sentence in cell.sentences or len(cell.sentences) < _TOLD):
        cell.sentences[sentence] += 1


def _value(row: Row, key: str) -> Value:
    found = row.combination
    return found.guest if key == "guest" else found.scenario if key == "scenario" else found.options[key]


def _shown(key: str, value: Value) -> str:
    if key == "memory":
        return f"{int(value) >> 20}M"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
