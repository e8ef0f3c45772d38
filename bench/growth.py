# SPDX-License-Identifier: GPL-2.0-or-later
"""How costs grow with the number of vCPUs: `python -m bench.growth [--rounds N] [--vcpus N,...] [--write DOCS]`.

The figures are medians over the rounds; each round measures every size once. `--write` puts the table and the chart
into the folder, as growth.md (between its two marks) and growth.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import chart, environment, peer_guest
from bench.duels import stop_ours
from bench.running import PeerError

SIZES = (1, 2, 4, 8, 16, 32, 64)
_BEGIN, _END = "<!-- table: written by python -m bench.growth -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class Cost:
    """One line of the chart: microseconds on machines of `least` to `most` vCPUs."""

    name: str
    measure: Callable[[int], float]
    least: int = 1
    most: int = 64


def costs(samples: int) -> tuple[Cost, ...]:
    """What grows. If all vCPUs compute, fewer samples suffice: each waits until all vCPUs have had a core."""
    few = max(1, samples // 10)

    def of(operation: str, count: int) -> Callable[[int], float]:
        return lambda vcpus: peer_guest.ours(vcpus, operation, count).us

    return (
        Cost("stop, all busy", lambda vcpus: stop_ours(vcpus, few)[0]),
        Cost("stop and resume, all busy", lambda vcpus: stop_ours(vcpus, few)[2]),
        Cost("TLBI broadcast, others busy", of("tlbi", few)),
        Cost("MMIO, others off", of("mmio", samples)),
        Cost("MMIO, all at once", of("mmio_all", samples)),
        Cost("SGI to all others, idle", of("sgi_all", few), least=2, most=8),
    )


def measure(rounds: int, sizes: Sequence[int], samples: int) -> dict[str, dict[int, list[float]]]:
    """By cost and size, a figure for each round. Raises PeerError."""
    found: dict[str, dict[int, list[float]]] = {}
    for number in range(1, rounds + 1):
        for vcpus in sizes:
            if sys.stderr.isatty():
                print(f"round {number} of {rounds}, {vcpus} vCPUs", file=sys.stderr)
            for cost in costs(samples):
                if cost.least <= vcpus <= cost.most:
                    found.setdefault(cost.name, {}).setdefault(vcpus, []).append(cost.measure(vcpus))
    return found


def medians(found: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, dict[int, float]]:
    """Of the rounds."""
    return {name: {vcpus: median(figures) for vcpus, figures in by_size.items()} for name, by_size in found.items()}


def markdown(figures: Mapping[str, Mapping[int, float]], sizes: Sequence[int]) -> str:
    """The table: a row for each cost, microseconds."""
    lines = ["| us | " + " | ".join(map(str, sizes)) + " |", "|---|" + "--:|" * len(sizes)]
    for name, by_size in figures.items():
        cells = [_figure(by_size[vcpus]) if vcpus in by_size else "" for vcpus in sizes]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _figure(us: float) -> str:
    return f"{us:,.{1 if us < 100 else 0}f}"


def write(folder: Path, table: str, drawing: str) -> None:
    """Put both into the folder; growth.md keeps what is around its marks."""
    (folder / "growth.svg").write_text(drawing)
    path = folder / "growth.md"
    text = path.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{path} lacks the marks {_BEGIN!r} and {_END!r}")
    path.write_text(f"{before}{_BEGIN}\n{table}\n{_END}{after}")


def main() -> int:
    """The command; exit status 0 when everything could be measured."""
    parser = argparse.ArgumentParser(prog="bench.growth", description="Measure what more vCPUs cost.")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument(
        "--vcpus", default=",".join(map(str, SIZES)), metavar="N,...", help="sizes (default: %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=300, metavar="N", help="in a machine (default: %(default)s)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="keep the raw results in a new file of this folder")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="write growth.md and growth.svg in this folder")
    options = parser.parse_args()
    try:
        sizes = sorted(set(map(int, options.vcpus.split(","))))
    except ValueError:
        sizes = []
    if not sizes or options.rounds < 1 or options.samples < 1 or not all(1 <= vcpus <= 64 for vcpus in sizes):
        parser.error("give sizes of 1 to 64 vCPUs, one round and one sample at least")
    before = environment.describe()
    try:
        found = measure(options.rounds, sizes, options.samples)
    except PeerError as error:
        print(f"bench.growth: {error}", file=sys.stderr)
        return 1
    if options.results is not None:
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / time.strftime("growth-%Y%m%d-%H%M%S.json")).write_text(
            json.dumps(
                {"environment": before, "load_after": environment.load(), "options": vars(options), "figures": found},
                indent=1,
                default=str,
            )
            + "\n"
        )
    figures = medians(found)
    count = f"{options.rounds} round{'s' * (options.rounds > 1)}"
    table = (
        f"{markdown(figures, sizes)}\n\nMedians of {count} on {before['cores']} cores, load {before['load']} "
        f"before and {environment.load()} after."
    )
    print(table)
    if options.write is not None:
        write(options.write, table, chart.svg("What more vCPUs cost", figures, "vCPUs", "microseconds"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
