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


# The counters that count exits from the guest; the others count what was done about them, or what needs no exit.
# An exit without syndrome (nisv) adds the accesses that its instruction makes to mmio_read and mmio_write.
EXIT_KINDS = (
    "mmio_read",
    "mmio_write",
    "nisv",
    "hvc",
    "smc",
    "wfi",
    "tlbi",
    "cp15",
    "icache",
    "stage2",
    "semihosting",
    "other",
)


HISTOGRAMS = {
    "mmio": control.HISTOGRAM_MMIO,
    "stop": control.HISTOGRAM_STOP,
    "shootdown": control.HISTOGRAM_SHOOTDOWN,
    "fetch": control.HISTOGRAM_FETCH,
}


def counters(page: ControlPage) -> dict[str, int]:
    """Every counter by name, all vCPUs together."""
    columns = zip(*(page.counters(vcpu) for vcpu in range(page.vcpus)), strict=True)
    return dict(zip(control.COUNTER_NAMES, map(sum, columns), strict=True))


def audit(page: ControlPage, keep_going: bool, untold: Collection[int] = ()) -> list[str]:
    """The MMIO oracle's last look, when all processes are gone: what is wrong, a sentence for each vCPU.
    It is counted, too. To `keep_going`, workers have taken note of what was wrong before: this is more. Of `untold`
    vCPUs, on hosts that have not told what those have seen, nothing can be said."""
    stories = []
    for vcpu in range(page.vcpus):
        if vcpu not in untold and (story := difference(page, vcpu)):
            stories.append(story)
            if keep_going or not page.counters(vcpu)[control.COUNT_MMIO_WRONG]:  # else its worker has counted it
                page.count(vcpu, control.COUNT_MMIO_WRONG)
    return stories


def undefined_accesses(page: ControlPage) -> list[str]:
    """What the guest asked of CP14 and CP15 in vain, a sentence for each kind of access, all vCPUs together."""
    times: Counter[int] = Counter()
    for vcpu in range(page.vcpus):
        times.update(dict(page.undefined(vcpu)))
    sentences = [
        f"the guest {describe_access(access)} {n} {'time' if n == 1 else 'times'}: UNDEFINED"
        for access, n in times.most_common(_NAMED_ACCESSES)
    ]
    named = sum(n for _, n in times.most_common(_NAMED_ACCESSES))
    others = sum(page.counters(vcpu)[control.COUNT_UNDEFINED] for vcpu in range(page.vcpus)) - named
    if others:
        sentences.append(f"the guest had {others} more accesses to registers of CP14 and CP15 that were UNDEFINED")
    return sentences


def latency(page: ControlPage, histogram: int) -> Latency:
    """One histogram, all vCPUs together."""
    return Latency.of_histograms([page.histogram(vcpu, histogram) for vcpu in range(page.vcpus)], control.bucket_ns)


def figures(page: ControlPage) -> list[dict[str, dict[str, object]]]:
    """For each vCPU its counters by name, and its histograms: [middle in ns, how many] for each bucket in use."""
    return [
        {
            "counters": dict(zip(control.COUNTER_NAMES, page.counters(vcpu), strict=True)),
            "histograms": {
                name: [[control.bucket_ns(bucket), n] for bucket, n in enumerate(page.histogram(vcpu, histogram)) if n]
                for name, histogram in HISTOGRAMS.items()
            },
        }
        for vcpu in range(page.vcpus)
    ]


def activity(page: ControlPage) -> Activity:
    """The machine's totals now."""
    counts = counters(page)
    on = sum(page.power(vcpu) == control.POWER_ON for vcpu in range(page.vcpus))
    return Activity(
        time.monotonic(),
        page.vcpus,
        on,
        sum(counts[kind] for kind in EXIT_KINDS),
        counts["mmio_read"] + counts["mmio_write"],
        page.epochs()[0],
    )


def describe_vcpus(page: ControlPage) -> str:
    """What the vCPUs do, in one clause: "vCPU 0 in the guest, vCPUs 1 and 2 asleep in WFI"."""
    groups: dict[str, list[int]] = {}
    for vcpu in range(page.vcpus):
        groups.setdefault(page.describe(vcpu), []).append(vcpu)
    return ", ".join(f"{_name_vcpus(vcpus)} {doing}" for doing, vcpus in groups.items())


def _name_vcpus(vcpus: Sequence[int]) -> str:
    if len(vcpus) == 1:
        return f"vCPU {vcpus[0]}"
    if len(vcpus) > _NAMED_VCPUS:
        return f"{len(vcpus)} vCPUs"
    return f"vCPUs {', '.join(map(str, vcpus[:-1]))} and {vcpus[-1]}"
