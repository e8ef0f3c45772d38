# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of an exit: `python -m bench.latency [--rounds N] [--vcpus N] [--json]`.

Operations are timed by the guest itself, from one instruction to another, and compared with the echo of `bench.echo`.
One run alternates between the two, echo, machine, echo, machine, so that both see the same host; the ratio of a round
is that of the operation's median to the mean of the echo's medians just before and just after it, and the median of the
rounds' ratios counts. Figures in microseconds are medians over the rounds, too, and depend on the host and the hour.

The worker measures a stop: from sending StopWorld until it has received WorldStopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

import zmq

from allstop.deploy.outcome.verdict import Latency
from bench import echo, guest

_QUIET = guest.MMIO_READ | guest.MMIO_WRITE | guest.FETCHED_READ | guest.HYPERCALL | guest.INTERRUPT
_LOADED = guest.FETCHED_READ | guest.TLB_INVALIDATE | guest.BUSY


@dataclass(frozen=True)
class Goal:
    """What an operation's median should not exceed: microseconds, or multiples of the echo."""

    at_most: float
    aim: float
    is_ratio: bool

    def __str__(self) -> str:
        unit = "x" if self.is_ratio else " us"
        return f"{self.at_most:g}{unit}" + (f", aim {self.aim:g}{unit}" if self.aim != self.at_most else "")


GOALS = {
    "mmio_read": Goal(1.5, 1.2, True),
    "mmio_write": Goal(1.5, 1.2, True),
    "hypercall": Goal(10, 10, False),
    "stop_busy": Goal(4, 2, True),
    "tlb_invalidate_busy": Goal(100, 30, False),
}
_TITLES = {
    "mmio_read": "MMIO read, from guest instruction to guest instruction",
    "mmio_write": "MMIO write, likewise",
    "hypercall": "exit and resume without a device (HVC)",
    "stop_busy": "stop of the world, from request to all stopped, {others} busy vCPUs",
    "tlb_invalidate_busy": "TLB invalidation on {others} busy vCPUs",
    "stop": "stop of the world, no other vCPU runs",
    "fetched_read": "MMIO read without syndrome (stop, fetch, decode, emulate)",
    "fetched_read_busy": "MMIO read without syndrome, {others} busy vCPUs",
    "interrupt": "interrupt to self (three MMIO accesses: send, acknowledge, end)",
    "echo_loaded": "the echo itself, while {others} processes compute",
}


@dataclass(frozen=True)
class Row:
    """One operation over all rounds. `ratios` are those of the rounds to the echo, in order."""

    name: str
    title: str
    p50_us: float
    p99_us: float
    echo_p50_us: float
    ratio: float
    ratios: tuple[float, ...]
    goal: str
    met: bool | None


def summarise(times_ns: list[int]) -> Latency:
    """Count, median and 99th percentile of single measurements."""
    ordered = sorted(times_ns)
    return Latency(len(ordered), *(ordered[(len(ordered) * percent + 99) // 100 - 1] / 1000 for percent in (50, 99)))


def play_round(link: echo.Echo, vcpus: int, samples: int, busy_samples: int) -> dict[str, Any]:
    """Echo, a machine of one vCPU, echo, a machine of `vcpus` that are busy, echo, and the echo beside computing
    processes. Everything measured, by name, with the echoes as a list."""
    echoes = [summarise(link.measure(samples))]
    quiet = guest.measure(_QUIET, samples)
    echoes.append(summarise(link.measure(samples)))
    busy = guest.measure(_LOADED, busy_samples, vcpus)
    echoes.append(summarise(link.measure(samples)))
    with echo.spinning(vcpus - 1):
        loaded = summarise(link.measure(busy_samples))
    return {
        "echoes": echoes,
        "quiet": quiet.operations | {"stop": quiet.verdict.stops},
        "busy": {"stop_busy": busy.verdict.stops}
        | {f"{name}_busy": latency for name, latency in busy.operations.items()},
        "echo_loaded": loaded,
    }


def tabulate(rounds: list[dict[str, Any]], vcpus: int) -> list[Row]:
    """The rounds' medians, operation by operation."""
    series: dict[str, list[tuple[Latency, float]]] = {}
    for one in rounds:
        before, between, after = (latency.p50_us for latency in one["echoes"])
        for name, latency in one["quiet"].items():
            series.setdefault(name, []).append((latency, mean((before, between))))
        for name, latency in one["busy"].items():
            series.setdefault(name, []).append((latency, mean((between, after))))
        series.setdefault("echo_loaded", []).append((one["echo_loaded"], after))
    return [_row(name, series[name], vcpus) for name in _TITLES]


def _row(name: str, series: list[tuple[Latency, float]], vcpus: int) -> Row:
    ratios = tuple(latency.p50_us / yardstick for latency, yardstick in series)
    p50_us, ratio = median(latency.p50_us for latency, _ in series), median(ratios)
    goal = GOALS.get(name)
    return Row(
        name,
        _TITLES[name].format(others=vcpus - 1),
        p50_us,
        median(latency.p99_us for latency, _ in series),
        median(yardstick for _, yardstick in series),
        ratio,
        ratios,
        str(goal) if goal else "",
        (ratio if goal.is_ratio else p50_us) <= goal.at_most if goal else None,
    )


def markdown(rows: list[Row]) -> str:
    """The table as docs/performance.md quotes it."""
    lines = ["| operation | p50 | p99 | echo p50 | ratio (rounds) | target |", "|---|--:|--:|--:|--:|---|"]
    for row in rows:
        verdict = "" if row.met is None else ": met" if row.met else ": **missed**"
        lines.append(
            f"| {row.title} | {row.p50_us:.1f} us | {row.p99_us:.1f} us | {row.echo_p50_us:.1f} us | "
            f"{row.ratio:.2f} ({min(row.ratios):.2f} to {max(row.ratios):.2f}) | {row.goal}{verdict} |"
        )
    return "\n".join(lines)


def host() -> dict[str, object]:
    """What the figures depend on, for the record."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
    }


def main() -> int:
    """The command; exit status 0 when everything could be measured, whatever the figures."""
    parser = argparse.ArgumentParser(prog="bench.latency", description="Measure what exits from the guest cost.")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds to alternate (default: %(default)s)")
    parser.add_argument(
        "--vcpus",
        type=int,
        default=5,
        metavar="N",
        help="vCPUs where the others are busy, the one that measures included (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=1000,
        metavar="N",
        help="of each operation, and of the echo, in a round (default: %(default)s)",
    )
    parser.add_argument(
        "--busy-samples",
        type=int,
        default=100,
        metavar="N",
        help="the same where vCPUs are busy, which takes long (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, raw rounds included")
    options = parser.parse_args()
    if (
        options.rounds < 1
        or options.vcpus < 2
        or not all(1 <= n <= guest.MAX_SAMPLES for n in (options.samples, options.busy_samples))
    ):
        parser.error("there must be at least one round, two vCPUs and one sample")
    rounds = []
    with echo.echo() as link:
        for number in range(1, options.rounds + 1):
            if not options.json and sys.stderr.isatty():
                print(f"round {number} of {options.rounds}", file=sys.stderr)
            rounds.append(play_round(link, options.vcpus, options.samples, options.busy_samples))
    rows = tabulate(rounds, options.vcpus)
    if options.json:
        print(
            json.dumps(
                {"host": host(), "options": vars(options), "table": [asdict(row) for row in rows], "rounds": rounds},
                default=asdict,
            )
        )
    else:
        print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
