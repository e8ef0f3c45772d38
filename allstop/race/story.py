# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong decode of a journalled run of `guests/swapper`, step by step: which vCPU trapped, unmapped and read.

Journals hold neither stores of the guest nor its page table entries. What the swapper does around its invalidations is
known from its program: it clears the entry, TLBIMVAIS, DSB, and then fills the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from allstop.report.event_text import details, instruction_text, title
from allstop.report.histogram import duration
from allstop.report.run import RecordedRun
from allstop.report.timeline import Neighbourhood, around, violations
from allstop.vm.journal.format import Event, Journal, Kind
from allstop.vm.wire.messages import ROLE_WORKER

_LOOKED_AT = 200  # violations from which the story is chosen
_LONGEST_EXIT_NS = 100_000_000
_LOOKED_BACK_NS = 1_000_000
_TOLD = 4  # invalidations one by one
_LEAST_MARGIN_NS = 20_000


class Step(NamedTuple):
    """One step; `at_ns` counts from the vCPU's exit. None: the journals do not say when."""

    at_ns: int | None
    who: str
    words: str


class Story(NamedTuple):
    """The wrong decode, its steps in order, and what every process did around it."""

    process: str
    pc: int
    executed: str
    fetched: str
    steps: tuple[Step, ...]
    near: Neighbourhood


class _Scene(NamedTuple):
    journal: Journal
    violation: Event
    exit: Event
    fetch: Event
    invalidations: list[tuple[str, Event]]

    @property
    def began_ns(self) -> int:
        """When the vCPU left the guest."""
        return self.exit.t_ns - self.exit.took_ns

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The lower, the simpler the story."""
        return not self.invalidations, len(self.invalidations), self.violation.t_ns - self.began_ns


def best_story(run: RecordedRun) -> Story | None:
    """The wrong decode that is easiest to follow: few invalidations, close to each other; None where there is none."""
    found, _ = violations(run, _LOOKED_AT)
    scenes = [
        scene
        for journal, event in found
        if event.kind is Kind.VIOLATION and (scene := _scene(run, journal, event)) is not None
    ]
    if not scenes:
        return None
    scene = min(scenes, key=lambda scene: scene.rank)
    violation, began_ns = scene.violation, scene.began_ns
    margin_ns = max(_LEAST_MARGIN_NS, (violation.t_ns - began_ns) // 2)
    thumb = bool(violation.operand("thumb"))
    return Story(
        scene.journal.header.name,
        violation.operand("pc"),
        instruction_text(violation.operand("executed"), thumb),
        instruction_text(violation.operand("fetched"), thumb),
        tuple(_steps(scene)),
        around(run, scene.journal, violation, violation.t_ns - began_ns + margin_ns, margin_ns),
    )


def _scene(run: RecordedRun, journal: Journal, violation: Event) -> _Scene | None:
    """The exit and the fetch that the violation belongs to; None if a journal was cut between them."""
    at_ns = violation.t_ns
    fetch = exit_ = None
    for event in journal.events(at_ns - _LONGEST_EXIT_NS, at_ns + _LONGEST_EXIT_NS):
        if event.kind is Kind.FETCHED and event.t_ns <= at_ns:
            fetch = event
        elif event.kind is Kind.EXIT and event.t_ns >= at_ns:
            exit_ = event
            break
    if fetch is None or exit_ is None or exit_.t_ns - exit_.took_ns > fetch.t_ns:
        return None
    workers = [other for other in run.journals if other.header.role == ROLE_WORKER]
    since_ns = exit_.t_ns - exit_.took_ns - _LOOKED_BACK_NS
    # The trap took its host's count of invalidations begun; the violation says how many have begun since.
    here = journal.header.host
    begun = max(
        (
            event.operand("invalidation")
            for other in workers
            if other.header.host == here
            for event in other.events(since_ns, at_ns)
            if event.kind is Kind.SHOOTDOWN
        ),
        default=0,
    )
    epoch = begun - violation.operand("invalidations")
    trapped_ns = exit_.t_ns - exit_.took_ns
    others = [
        (other.header.name, event)
        for other in workers
        if other.header.vcpu != journal.header.vcpu
        for event in other.events(since_ns, fetch.t_ns)
        if event.kind is Kind.TLBI
        and (
            event.operand("invalidation") > epoch
            if other.header.host == here
            else event.t_ns - event.took_ns >= trapped_ns
        )
    ]
    others.sort(key=lambda pair: pair[1].t_ns)
    return _Scene(journal, violation, exit_, fetch, others)


def _steps(scene: _Scene) -> Iterator[Step]:
    victim, violation, fetch = scene.journal.header.name, scene.violation, scene.fetch
    origin_ns, invalidations = scene.began_ns, scene.invalidations
    thumb = bool(violation.operand("thumb"))
    steps = [
        Step(
            0,
            victim,
            f"executes {instruction_text(violation.operand('executed'), thumb)} at "
            f"{violation.operand('pc'):#010x}. Its access to {violation.operand('hdfar'):#010x} "
            "traps, without a syndrome: its hypervisor has to fetch the instruction itself.",
        ),
        Step(fetch.t_ns - fetch.took_ns - origin_ns, victim, "translates PC, and is going to read there."),
    ]
    steps += (
        Step(
            event.t_ns - event.took_ns - origin_ns,
            who,
            f"has cleared a page's entry, and invalidates: TLBIMVAIS, over after {duration(event.took_ns)}. "
            f"{victim} has left the guest, so the invalidation does not wait for it.",
        )
        for who, event in invalidations[:_TOLD]
    )
    steps.sort(key=lambda step: step.at_ns or 0)
    yield from steps
    if len(invalidations) > _TOLD:
        yield Step(None, invalidations[-1][0], f"invalidates {len(invalidations) - _TOLD} times more.")
    if invalidations:
        yield Step(
            None,
            " and ".join(sorted({who for who, _ in invalidations})),
            "fills the frame, which no vCPU should use any more, with other instructions.",
        )
    yield Step(
        fetch.t_ns - origin_ns,
        victim,
        f"has read {instruction_text(violation.operand('fetched'), thumb)}, which it never executed.",
    )
    yield Step(
        violation.t_ns - origin_ns,
        "oracle",
        f"what is about to be emulated is not what was executed, "
        f"{violation.operand('invalidations')} invalidations after the trap.",
    )
    after = next(
        (
            event
            for event in scene.journal.events(violation.t_ns, scene.exit.t_ns)
            if event.kind in (Kind.MMIO, Kind.ABORTED)
        ),
        None,
    )
    if after is not None:
        yield Step(
            after.t_ns - after.took_ns - origin_ns,
            victim,
            f"emulates it all the same: {title(after)}, {details(after)}.",
        )
