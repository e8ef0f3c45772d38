# SPDX-License-Identifier: GPL-2.0-or-later
"""Side by side with its peers: `python -m bench.peers [--rounds N] [--rows N,...] [--results DIR]`.

Each round measures every row on both sides, in varying order, so that both see the same host. The median of the rounds'
ratios counts. The peer is Debian's `apt-get install qemu-system-arm`, or the bare echo of `bench.echo`. `--kernel` and
`--initrd` give row 6 its files, or `--fetch-kernel DIR` has apt-get download Debian's (see `bench.distribution`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import distribution, echo, environment, qemu
from bench.duels import Duel, Extent, Goal, NotMeasuredError, duels
from bench.guest import MeasurementError
from bench.running import PeerError


@dataclass
class Result:
    """A row over the rounds so far: both sides in order, or the reason why there is nothing."""

    duel: Duel
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def ratios(self) -> list[float]:
        """Of the rounds in which both were measured."""
        return [self.duel.ratio(*pair) for pair in zip(self.ours, self.theirs, strict=False)]

    @property
    def verdict(self) -> str:
        """Whether the goal was met; "" without a goal or a figure."""
        goal = self.duel.goal
        values = self.ours if goal is not None and goal.is_absolute else self.ratios
        if goal is None or not values:
            return ""
        value = median(values)
        return "aim met" if goal.aimed(value) else "met" if goal.met(value) else "missed"

    def to_json(self) -> dict[str, Any]:
        """Raw: all that was measured."""
        duel = self.duel
        return {
            "row": duel.number,
            "title": duel.title,
            "unit": duel.unit,
            "peer": duel.peer,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratios": self.ratios,
            "verdict": self.verdict,
            "not_measured": self.reason,
        }


def play_round(results: Sequence[Result], number: int) -> None:
    """Measure each row once on both sides."""
    for result in results:
        if result.reason:
            continue
        sides = [(result.duel.ours, result.ours)]
        if result.duel.theirs is not None:
            sides.append((result.duel.theirs, result.theirs))
        try:
            values = [(side(), kept) for side, kept in (sides if number % 2 else reversed(sides))]
        except (NotMeasuredError, PeerError, MeasurementError) as error:
            result.reason = " ".join(str(error).split())
            continue
        for value, kept in values:
            kept.append(value)


def markdown(results: Sequence[Result]) -> str:
    """The table. A ratio is times the peer's speed where that is the goal ("at least"), else times its time."""
    lines = ["| | | allstop | peer | ratio (rounds) | goal |", "|--:|---|--:|--:|--:|---|"]
    for result in results:
        duel = result.duel
        if not result.ours:
            lines.append(
                f"| {duel.number} | {duel.title} | not measured: {_short(result.reason)} | | | {_goal(duel.goal)} |"
            )
            continue
        theirs = f"{_figure(median(result.theirs), duel.unit)} ({duel.peer})" if result.theirs else ""
        ratios = result.ratios
        ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        verdict = {"": "", "missed": ": **missed**"}.get(result.verdict, f": {result.verdict}")
        lines.append(
            f"| {duel.number} | {duel.title} | {_figure(median(result.ours), duel.unit)} | {theirs} | {ratio} "
            f"| {_goal(duel.goal)}{verdict} |"
        )
    return "\n".join(lines)


def _figure(value: float, unit: str) -> str:
    if unit == "us" and value >= 10_000:
        value, unit = value / 1000, "ms"
    return f"{value:.{2 if value < 10 else 1 if value < 1000 else 0}f} {unit}"


def _goal(goal: Goal | None) -> str:
    if goal is None:
        return ""
    if goal.is_absolute:
        return f"at most {goal.bound:g}, aim {goal.aim:g}"
    return f"at {'least' if goal.is_speed else 'most'} {goal.bound:g}x, aim {goal.aim:g}x"


def _short(reason: str) -> str:
    return (reason if len(reason) <= 160 else reason[:157] + "...").replace("|", "/")


def _rows(text: str) -> set[int]:
    try:
        rows = set(map(int, text.split(",")))
    except ValueError:
        rows = set()
    if not rows or not rows <= set(range(1, 11)):
        raise argparse.ArgumentTypeError(f"rows are numbers from 1 to 10 with commas between, not {text!r}")
    return rows


def main() -> int:
    """The command; exit status 0 when everything was measured that can be here, whatever the figures."""
    parser = argparse.ArgumentParser(prog="bench.peers", description="Compare with QEMU and with a bare echo.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--rows", type=_rows, default=set(range(1, 11)), metavar="N,...", help="only these rows")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="F", help="multiply the usual counts by this (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="keep the raw results in a new file of this folder")
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="row 6: a distribution's zImage")
    parser.add_argument(
        "--initrd",
        type=Path,
        metavar="FILE",
        help=f"row 6: an initial RAM disk whose init says {distribution.SAID_BY_INIT!r}",
    )
    parser.add_argument("--fetch-kernel", type=Path, metavar="DIR", help="row 6: have apt-get download both into DIR")
    options = parser.parse_args()
    if options.rounds < 1 or not options.scale > 0:
        parser.error("there must be at least one round, and a scale above 0")
    if reason := qemu.missing():
        parser.error(reason)
    if options.fetch_kernel is not None:
        try:
            options.kernel, options.initrd = distribution.fetch(options.fetch_kernel)
        except (PeerError, OSError) as error:
            parser.error(str(error))
    before = environment.describe()
    rounds: list[dict[str, float]] = []
    with echo.echo() as link:
        extent = Extent(options.scale, options.kernel, options.initrd)
        results = [Result(duel) for duel in duels(extent, link) if duel.number in options.rows]
        for number in range(1, options.rounds + 1):
            if sys.stderr.isatty():
                print(f"round {number} of {options.rounds}", file=sys.stderr)
            began_s, load = time.time(), environment.load()
            play_round(results, number)
            rounds.append(
                {
                    "began": round(began_s, 3),
                    "took_s": round(time.time() - began_s, 3),
                    "load_before": load,
                    "load_after": environment.load(),
                }
            )
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / time.strftime("peers-%Y%m%d-%H%M%S.json")
        path.write_text(
            json.dumps(
                {
                    "environment": before,
                    "options": vars(options) | {"rows": sorted(options.rows)},
                    "rounds": rounds,
                    "rows": [result.to_json() for result in results],
                },
                indent=1,
                default=str,
            )
            + "\n"
        )
        print(f"raw results: {path}", file=sys.stderr)
    print(
        f"{options.rounds} round{'s' * (options.rounds > 1)} on {before['cores']} cores, load {before['load']} "
        f"before; {before['qemu']}\n"
    )
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
