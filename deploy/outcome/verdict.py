# SPDX-License-Identifier: GPL-2.0-or-later
"""How a run ended, in figures and in one sentence: what `verdict.json` and `--json` hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from allstop.vm.telemetry.histograms import HISTOGRAMS
from allstop.vm.wire.messages import VERDICTS

# The exit status of the command for each verdict; 2 is a usage error, which has no verdict.
EXIT_CODES = dict(zip(VERDICTS, (0, 1, 3, 4, 5, 4), strict=True))
USAGE_EXIT_CODE = 2
HARNESS_EXIT_CODE = 4
LATENCIES = tuple(row.verdict_name for row in HISTOGRAMS)
_SHOWN_BOUNCES = 3


@dataclass(frozen=True)
class Latency:
    """How often an action happened, and how long it took: median and 99th percentile in microseconds, 0 if never."""

    count: int = 0
    p50_us: float = 0.0
    p99_us: float = 0.0

    @classmethod
    def of_histograms(cls, histograms: Sequence[Sequence[int]], bucket_ns: Callable[[int], float]) -> Latency:
        """From the sum of histograms with the same buckets; `bucket_ns(i)` is the value of bucket i."""
        total = [sum(column) for column in zip(*histograms, strict=True)]
        count = sum(total)
        if not count:
            return cls()
        return cls(
            count, *(round(bucket_ns(_bucket_at(total, _rank(count, percent))) / 1000, 3) for percent in (50, 99))
        )


@dataclass(frozen=True)
class Verdict:
    """How a run ended.

    `verdict` is one of `allstop.vm.wire.messages.VERDICTS`, `sentence` says why in words, `guest_status` is
    what the guest gave as its own exit status (None where it gave none), `wall_s` the time from the guest's
    first instruction to the verdict, `exits` the exits from the guest by kind, `latencies` what is measured, by the
    names in LATENCIES, `counters` what else was counted, all vCPUs together. `notes` are oddities that did not
    decide the verdict, a sentence each. `events` are the scenario's: `name`, `action`, and how often each was `done`
    and `refused`. Across hosts `bounces` are the pages that moved most: `ipa`, `moves`, `between` (from, to, times),
    `touched` (host, address or symbol, times).
    """

    verdict: str
    sentence: str
    vcpus: int
    wall_s: float = 0.0
    guest_status: int | None = None
    exits: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, Latency] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    bounces: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        every = {name: self.latencies.get(name, Latency()) for name in LATENCIES}
        object.__setattr__(self, "latencies", every)

    @property
    def mmio(self) -> Latency:
        """Accesses to devices."""
        return self.latencies["mmio"]

    @property
    def stops(self) -> Latency:
        """Stops of the world that a vCPU asked for."""
        return self.latencies["stops"]

    @property
    def shootdowns(self) -> Latency:
        """Shootdowns: other vCPUs were asked to flush, and waited for."""
        return self.latencies["shootdowns"]

    @property
    def fetches(self) -> Latency:
        """Fetches of instructions without syndrome."""
        return self.latencies["fetches"]

    @property
    def pages(self) -> Latency:
        """Waits for another host's page."""
        return self.latencies["pages"]

    def overruled(self, audit: Sequence[str] = ()) -> Verdict:
        """The verdict after the oracles that count, and those that look when the run is over, which give the sentences
        `audit`: a violation that they found overrules the guest's own verdict."""
        wrong, stale, written = (self.counters.get(name, 0) for name in ("mmio_wrong", "stale_tlb", "swap_written"))
        if self.verdict not in ("pass", "fail") or not (wrong or stale or written):
            return self
        if audit:
            sentence = audit[0]
        elif wrong:
            sentence = f"a device was not accessed once, in order and as a vCPU had asked for, counted {wrong} x"
        elif stale:
            sentence = (
                f"{stale} times a TLB invalidation was over while another vCPU, in the guest ever since, could "
                "still use what it invalidated"
            )
        else:
            sentence = (
                f"{written} times the frame of a page that was swapped out was written to, through a "
                "translation that had been invalidated"
            )
        sentence += f" (the guest's own verdict was {self.verdict})"
        return replace(self, verdict="violation", sentence=sentence)

    @property
    def exit_code(self) -> int:
        """The exit status of the command for this verdict."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> str:
        """One JSON object on one line."""
        raw = asdict(self)
        head = ("verdict", "sentence")
        ordered = {name: raw.pop(name) for name in head} | {"exit_code": self.exit_code}
        for name, value in raw.items():
            ordered |= value if name == "latencies" else {name: value}
        return json.dumps(ordered)

    @classmethod
    def from_json(cls, text: str) -> Verdict:
        """Inverse of `to_json`. Raises ValueError, KeyError or TypeError on anything else."""
        raw: dict[str, Any] = json.loads(text)
        del raw["exit_code"]
        raw["latencies"] = {name: Latency(**raw.pop(name)) for name in LATENCIES}
        raw["notes"] = tuple(raw["notes"])
        raw["events"] = tuple(raw["events"])
        raw["bounces"] = tuple(raw["bounces"])
        return cls(**raw)

    def summary(self) -> str:
        """A few lines for a human reader."""
        total = sum(self.exits.values())
        lines = [
            f"{self.verdict}: {self.sentence}",
            f"  {self.vcpus} {'vCPU' if self.vcpus == 1 else 'vCPUs'}, {self.wall_s:.2f} s in the guest, "
            f"{total} {'exit' if total == 1 else 'exits'}",
        ]
        exits = sorted(((n, kind) for kind, n in self.exits.items() if n), reverse=True)
        if exits:
            lines.append("  exits: " + ", ".join(f"{kind} {n}" for n, kind in exits))
        for name, latency in self.latencies.items():
            if latency.count:
                lines.append(f"  {name}: {latency.count}, p50 {latency.p50_us:.1f} us, p99 {latency.p99_us:.1f} us")
        for bounce in self.bounces[:_SHOWN_BOUNCES]:
            lines.append(
                f"  page {bounce['ipa']:#010x} moved {bounce['moves']} times: "
                + ", ".join(f"{times} x {host} at {where}" for host, where, times in bounce["touched"])
            )
        if self.events:
            lines.append("  events: " + ", ".join(f"{event['name']} {event['done']}" for event in self.events))
        return "\n".join(lines)


def _rank(count: int, percent: int) -> int:
    """The rank, from 1, of the smallest of `count` values that `percent` % of them do not exceed."""
    return max(1, -(-count * percent // 100))


def _bucket_at(histogram: Sequence[int], rank: int) -> int:
    """The bucket of the value of this rank (from 1) in the histogram."""
    for bucket, n in enumerate(histogram):
        rank -= n
        if rank <= 0:
            return bucket
    raise ValueError("the histogram counts fewer values")
