# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict of a run whose processes are all gone: what the lifecycle decided, with what was measured and noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allstop.deploy.console.port import ConsolePort
from allstop.deploy.hosts.other_hosts import OtherHosts
from allstop.deploy.outcome.run_folder import RunFolder
from allstop.deploy.outcome.telemetry import EXIT_KINDS, audit, counters, latencies, undefined_accesses
from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.processes.host_memory import HostMemory
from allstop.deploy.run.lifecycle import Lifecycle
from allstop.vm.events.scenario import Scenario


def conclude(
    lifecycle: Lifecycle,
    memory: HostMemory,
    others: OtherHosts,
    console: ConsolePort,
    folder: RunFolder | None,
    symbols: Callable[[], dict[str, int]],
) -> Verdict:
    """The verdict. The logs of other hosts go to `folder`; `symbols` are the guest's, for the pages that moved."""
    control_page, config = memory.control_page, memory.config
    of_others = others.notes(folder, lifecycle.verdict)
    wrong = audit(control_page, config.keep_going, others.silent_vcpus)
    events = _events(memory, others)
    counts = counters(control_page)
    notes = [
        *lifecycle.notes,
        *memory.notes().decode(errors="replace").splitlines(),
        *of_others,
        *map(_never, (event for event in events if not event["done"])),
        *undefined_accesses(control_page),
        *console.notes,
    ]
    verdict = Verdict(
        verdict=lifecycle.verdict,
        sentence=lifecycle.sentence,
        vcpus=control_page.vcpus,
        wall_s=round(lifecycle.guest_s, 6),
        guest_status=lifecycle.guest_status,
        exits={kind: counts.pop(kind) for kind in EXIT_KINDS},
        latencies=latencies(control_page),
        counters=counts,
        notes=tuple(notes),
        events=tuple(events),
        bounces=tuple(others.bounces(memory.moved_pages(), symbols)),
    )
    return verdict if config.keep_going else verdict.overruled(wrong)


def _events(memory: HostMemory, others: OtherHosts) -> list[dict[str, Any]]:
    """How often each event of the scenario happened or was refused, on all hosts together."""
    rows = []
    scenario = Scenario.from_json(memory.config.scenario)
    for index, (event, (done, refused)) in enumerate(zip(scenario.events, memory.event_counts(), strict=True)):
        elsewhere_done, elsewhere_refused = others.event_counts(index)
        rows.append(
            {
                "name": event.name,
                "action": event.action,
                "done": done + elsewhere_done,
                "refused": refused + elsewhere_refused,
            }
        )
    return rows


def _never(event: dict[str, Any]) -> str:
    refused = event["refused"]
    why = f"it was refused {refused} times: the logs say why" if refused else "its trigger never fired"
    return f"event {event['name']} ({event['action']}) never happened: {why}"
