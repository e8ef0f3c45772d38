# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of policies and disciplines: `python -m bench.policies [--rounds N] [--vcpus N,...] [--json]`.

The guest times an MMIO read without syndrome under each policy, and a TLB invalidation under each discipline, on
machines of some sizes: once while the other vCPUs are off, once while all of them compute. As in `bench.latency`, every
machine runs between two echoes, and the ratio to those counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from allstop.vm.config.policies import FETCH_ROWS, TLB_DISCIPLINES, fetch_row
from bench import echo, guest
from bench.latency import host, summarise

POLICIES = tuple(row.name for row in FETCH_ROWS if row.fetches)
DISCIPLINES = TLB_DISCIPLINES
HANDLER = f"{Path(__file__).resolve().parents[1] / 'examples' / 'fetch_handler.py'}:fetch"


@dataclass(frozen=True)
class Cell:
    """One machine of one round: microseconds, and the mean of the echoes beside it."""

    kind: str
    name: str
    vcpus: int
    busy: bool
    p50_us: float
    echo_us: float

    @property
    def ratio(self) -> float:
        """To the echo."""
        return self.p50_us / self.echo_us


def play_round(link: echo.Echo, sizes: Sequence[int], samples: int, busy_samples: int) -> list[Cell]:
    """Every policy and discipline on every size, once."""
    cells = []
    before_us = summarise(link.measure(samples)).p50_us
    for vcpus in sizes:
        for busy in (False, True):
            for kind, names, operation, key in (
                ("fetch", POLICIES, guest.FETCHED_READ, "fetched_read"),
                ("tlb", DISCIPLINES, guest.TLB_INVALIDATE, "tlb_invalidate"),
            ):
                for name in names:
                    choice = {kind: name}
                    result = guest.measure(
                        operation | (guest.BUSY if busy else 0),
                        busy_samples if busy else samples,
                        vcpus,
                        fetch_handler=HANDLER if kind == "fetch" and fetch_row(name).needs_handler else None,
                        **choice,
                    )
                    after_us = summarise(link.measure(samples)).p50_us
                    cells.append(
                        Cell(kind, name, vcpus, busy, result.operations[key].p50_us, mean((before_us, after_us)))
                    )
                    before_us = after_us
    return cells


def markdown(cells: Sequence[Cell], sizes: Sequence[int]) -> str:
    """A table: a row for each policy and discipline, medians of the rounds: microseconds, and the ratio to the echo."""
    lines = []
    for busy in (False, True):
        lines += [
            "",
            f"The other vCPUs {'compute' if busy else 'are off'}:",
            "",
            "| | " + " | ".join(f"{vcpus} vCPUs" for vcpus in sizes) + " |",
            "|---|" + "--:|" * len(sizes),
        ]
        for kind, names in (("fetch", POLICIES), ("tlb", DISCIPLINES)):
            for name in names:
                found = []
                for vcpus in sizes:
                    mine = [
                        cell
                        for cell in cells
                        if (cell.kind, cell.name, cell.vcpus, cell.busy) == (kind, name, vcpus, busy)
                    ]
                    found.append(
                        f"{median(cell.p50_us for cell in mine):.0f} us ({median(cell.ratio for cell in mine):.2f}x)"
                    )
                lines.append(f"| `--{kind} {name}` | " + " | ".join(found) + " |")
    return "\n".join(lines[1:])


def main() -> int:
    """The command; exit status 0 when everything could be measured, whatever the figures."""
    parser = argparse.ArgumentParser(
        prog="bench.policies", description="Measure what fetch policies and TLB disciplines cost."
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--vcpus", default="2,4,8,16", metavar="N,...", help="sizes (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=500, metavar="N", help="in a machine (default: %(default)s)")
    parser.add_argument(
        "--busy-samples",
        type=int,
        default=40,
        metavar="N",
        help="the same where vCPUs are busy, which takes long (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every cell")
    options = parser.parse_args()
    try:
        sizes = [int(text) for text in options.vcpus.split(",")]
    except ValueError:
        sizes = []
    if (
        not sizes
        or options.rounds < 1
        or not all(2 <= vcpus <= 64 for vcpus in sizes)
        or not all(1 <= n <= guest.MAX_SAMPLES for n in (options.samples, options.busy_samples))
    ):
        parser.error("give sizes of 2 to 64 vCPUs, one round and one sample at least")
    cells: list[Cell] = []
    with echo.echo() as link:
        for number in range(1, options.rounds + 1):
            if sys.stderr.isatty():
                print(f"round {number} of {options.rounds}", file=sys.stderr)
            cells += play_round(link, sizes, options.samples, options.busy_samples)
    if options.json:
        print(json.dumps({"host": host(), "options": vars(options), "cells": [asdict(cell) for cell in cells]}))
    else:
        print(markdown(cells, sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
