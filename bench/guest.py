# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest that measures: `guests/latency`, its machine and its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from allstop.deploy.outcome.verdict import Latency, Verdict
from allstop.machine import Machine
from allstop.vm.config.policies import BROKEN_DISCIPLINES

IMAGE = Path(__file__).resolve().parents[1] / "guests" / "images" / "latency.elf"

# The guest's operations, a bit each, as in its parameter.
MMIO_READ, MMIO_WRITE, FETCHED_READ, HYPERCALL, TLB_INVALIDATE, INTERRUPT = (1 << bit for bit in range(6))
BUSY = 1 << 7
MAX_SAMPLES = 65536
_PREFIX = "result: guest=latency operation="
_DEADLINE_S = 300.0


class MeasurementError(RuntimeError):
    """A machine did not do what was measured; the text says what it did."""


@dataclass(frozen=True)
class GuestResult:
    """What one machine measured: by operation, and with what the harness counted itself."""

    operations: dict[str, Latency]
    verdict: Verdict


def measure(
    operations: int,
    samples: int,
    vcpus: int = 1,
    fetch: str = "stop-world",
    tlb: str = "broadcast",
    fetch_handler: str | None = None,
) -> GuestResult:
    """Have a guest perform each of `operations` `samples` times.

    With BUSY all vCPUs but the first compute meanwhile, and each is in the guest when an operation begins. `fetch`
    and `tlb` are the machine's. Raises MeasurementError when the run did not pass.
    """
    with Machine(
        IMAGE,
        vcpus=vcpus,
        parameter=samples << 8 | operations,
        fetch=fetch,
        tlb=tlb,
        fetch_handler=fetch_handler,
        timeout=_DEADLINE_S,
        keep_going=tlb in BROKEN_DISCIPLINES,
    ) as machine:
        verdict = machine.wait()
        console = machine.console
    if verdict.verdict != "pass":
        raise MeasurementError(f"the machine that measures did not pass: {verdict.sentence}\n{console}")
    return GuestResult(parse(console), verdict)


def parse(console: str) -> dict[str, Latency]:
    """The `result:` lines of the guest."""
    results = {}
    for line in console.splitlines():
        if line.startswith(_PREFIX):
            fields = dict(field.split("=") for field in line.split()[1:])
            results[fields["operation"]] = Latency(
                int(fields["samples"]), int(fields["p50_ns"]) / 1000, int(fields["p99_ns"]) / 1000
            )
    return results
