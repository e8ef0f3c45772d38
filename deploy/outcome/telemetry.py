# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine is doing, in words and in figures, read from its control page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from allstop.deploy.outcome.verdict import Latency
from allstop.vm.arm.coprocessor import describe_access
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.control.ledger import difference
from allstop.vm.telemetry.histograms import HISTOGRAMS

_NAMED_VCPUS = 8
_NAMED_ACCESSES = 16


@dataclass(frozen=True)
class Activity:
    """Totals of a machine at one moment, for a status line."""

    at_s: float
    vcpus: int
    vcpus_on: int
    exits: int
    mmio: int
    stops: int


EXIT_KINDS = control.EXIT_COUNTERS
"""The counters that count exits from the guest; the others count what was done about them, or what needs no exit."""


def counters(control_page: ControlPage) -> dict[str, int]:
    """Every counter by name, all vCPUs together."""
    columns = zip(*(control_page.counters(vcpu) for vcpu in range(control_page.vcpus)), strict=True)
    return dict(zip(control.COUNTER_NAMES, map(sum, columns), strict=True))


def audit(control_page: ControlPage, keep_going: bool, untold: Collection[int] = ()) -> list[str]:
    """The MMIO oracle's last look, when all processes have ended: what is wrong, one sentence for each vCPU, and
    counted. With `keep_going` the workers have settled earlier differences, so this one is new. `untold` vCPUs are left
    out: their host has not reported what they saw."""
    stories = []
    for vcpu in range(control_page.vcpus):
        if vcpu not in untold and (story := difference(control_page, vcpu)):
            stories.append(story)
            was_counted = control_page.counters(vcpu)[control.COUNT_MMIO_WRONG]  # by its worker
            if keep_going or not was_counted:
                control_page.count(vcpu, control.COUNT_MMIO_WRONG)
    return stories


def undefined_accesses(control_page: ControlPage) -> list[str]:
    """The guest's accesses to CP14 and CP15 that were UNDEFINED, one sentence for each kind, all vCPUs together."""
    times: Counter[int] = Counter()
    for vcpu in range(control_page.vcpus):
        times.update(dict(control_page.undefined(vcpu)))
    sentences = [
        f"the guest {describe_access(access)} {n} {'time' if n == 1 else 'times'}: UNDEFINED"
        for access, n in times.most_common(_NAMED_ACCESSES)
    ]
    named = sum(n for _, n in times.most_common(_NAMED_ACCESSES))
    others = sum(control_page.counters(vcpu)[control.COUNT_UNDEFINED] for vcpu in range(control_page.vcpus)) - named
    if others:
        sentences.append(f"the guest had {others} more accesses to registers of CP14 and CP15 that were UNDEFINED")
    return sentences


def latency(control_page: ControlPage, histogram: int) -> Latency:
    """One histogram, all vCPUs together."""
    return Latency.of_histograms(
        [control_page.histogram(vcpu, histogram) for vcpu in range(control_page.vcpus)], control.bucket_ns
    )


def latencies(control_page: ControlPage) -> dict[str, Latency]:
    """Every histogram by its name in verdict.json, all vCPUs together."""
    return {row.verdict_name: latency(control_page, number) for number, row in enumerate(HISTOGRAMS)}


def figures(control_page: ControlPage) -> list[dict[str, dict[str, object]]]:
    """For each vCPU its counters by name, and its histograms: [middle in ns, how many] for each bucket in use."""
    return [
        {
            "counters": dict(zip(control.COUNTER_NAMES, control_page.counters(vcpu), strict=True)),
            "histograms": {
                row.name: _in_use(control_page.histogram(vcpu, number)) for number, row in enumerate(HISTOGRAMS)
            },
        }
        for vcpu in range(control_page.vcpus)
    ]


def _in_use(histogram: Sequence[int]) -> list[list[float]]:
    return [[control.bucket_ns(bucket), n] for bucket, n in enumerate(histogram) if n]


def activity(control_page: ControlPage) -> Activity:
    """The machine's totals now."""
    counts = counters(control_page)
    on = sum(control_page.power(vcpu) == control.POWER_ON for vcpu in range(control_page.vcpus))
    return Activity(
        time.monotonic(),
        control_page.vcpus,
        on,
        sum(counts[kind] for kind in EXIT_KINDS),
        counts["mmio_read"] + counts["mmio_write"],
        control_page.epochs()[0],
    )


def describe_vcpus(control_page: ControlPage) -> str:
    """What the vCPUs do, in one clause: "vCPU 0 in the guest, vCPUs 1 and 2 asleep in WFI"."""
    groups: dict[str, list[int]] = {}
    for vcpu in range(control_page.vcpus):
        groups.setdefault(control_page.describe(vcpu), []).append(vcpu)
    return ", ".join(f"{_name_vcpus(vcpus)} {doing}" for doing, vcpus in groups.items())


def _name_vcpus(vcpus: Sequence[int]) -> str:
    if len(vcpus) == 1:
        return f"vCPU {vcpus[0]}"
    if len(vcpus) > _NAMED_VCPUS:
        return f"{len(vcpus)} vCPUs"
    return f"vCPUs {', '.join(map(str, vcpus[:-1]))} and {vcpus[-1]}"
