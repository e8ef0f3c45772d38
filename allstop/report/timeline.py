# SPDX-License-Identifier: GPL-2.0-or-later
"""Timelines for the report: what every process did over a stretch of time, small enough to draw in a page.

A lane is one process. It has three rows, each showing what the row above consists of: exits, the work in them, and its
waits. A bar is (lane, row, category, begin, duration, words, events, busy): records too close for the eye become one
bar, which stands for `events` records that took `busy` ns in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from allstop.report.event_text import details, title
from allstop.report.run import RecordedRun
from allstop.vm.journal.format import Event, Journal, Kind
from allstop.vm.wire.messages import ROLE_COORDINATOR, ROLE_WORKER

_MOST_ACROSS, _LEAST_ACROSS, _ALL_ACROSS = 1500, 150, 16000  # bars in a lane's row, and of all lanes together
_BEFORE_NS = 3_000_000
_AFTER_NS = 1_000_000
_MOST_EVENTS = 6000
_LISTED_BEFORE = 60
_LISTED_AFTER = 20

# For each kind: its category, which gives the colour, and its row; None: not drawn if space is short.
_ROWS: dict[Kind, tuple[str, int]] = {
    Kind.EXIT: ("exit", 0),
    Kind.SLEPT: ("sleep", 0),
    Kind.PARKED: ("parked", 0),
    Kind.TLBI: ("tlb", 0),
    Kind.FLIPPED: ("flip", 0),
    Kind.PAGED: ("paged", 0),
    Kind.SHOOTDOWN: ("tlb", 1),
    Kind.MMIO: ("mmio", 1),
    Kind.PSCI: ("psci", 1),
    Kind.FETCHED: ("fetch", 1),
    Kind.STOP_GRANTED: ("stop", 2),
    Kind.WORLD_HELD: ("held", 2),
    Kind.STOPPED: ("stop", 0),
    Kind.ACCESS: ("mmio", 0),
}
_MARKS: dict[Kind, str] = {
    Kind.VIOLATION: "bad",
    Kind.MMIO_WRONG: "bad",
    Kind.LOST: "bad",
    Kind.DEVICE_FAILED: "bad",
    Kind.FAILED: "bad",
    Kind.ENDED: "end",
    Kind.FINISHED: "end",
    Kind.POWERED_ON: "power",
    Kind.POWERED_OFF: "power",
    Kind.FETCH_RETRIED: "retry",
    Kind.FETCH_DISAGREED: "retry",
    Kind.FETCH_REFUSED: "retry",
    Kind.ABORTED: "abort",
    Kind.EVENT_DONE: "injected",
    Kind.EVENT_REFUSED: "injected",
    Kind.EVENT_DEFERRED: "injected",
}
_MOST_MARKS = 600


class Bar(NamedTuple):
    """See the module's documentation. `begin_ns` counts from the timeline's origin."""

    lane: int
    row: int
    category: str
    begin_ns: int
    took_ns: int
    words: str
    events: int
    busy_ns: int


class Mark(NamedTuple):
    """Something that took no time."""

    lane: int
    category: str
    at_ns: int
    words: str


@dataclass
class Timeline:
    """A stretch of time: `begin_ns` to `end_ns` from the origin, which is where the times shown count from. A lane is a
    process's name, and the times of its first and last record."""

    lanes: list[tuple[str, int, int]]
    begin_ns: int
    end_ns: int
    bars: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    left_out: int = 0

    def to_data(self) -> dict[str, Any]:
        """For the page's script: words and categories by number, since they repeat."""
        words: dict[str, int] = {}

        def number(text: str) -> int:
            return words.setdefault(text, len(words))

        bars = [
            [
                bar.lane,
                bar.row,
                number(bar.category),
                bar.begin_ns,
                bar.took_ns,
                number(bar.words),
                bar.events,
                bar.busy_ns,
            ]
            for bar in self.bars
        ]
        marks = [[mark.lane, number(mark.category), mark.at_ns, number(mark.words)] for mark in self.marks]
        return {
            "lanes": self.lanes,
            "begin": self.begin_ns,
            "end": self.end_ns,
            "bars": bars,
            "marks": marks,
            "words": list(words),
        }


class Listed(NamedTuple):
    """A record near a violation, for the list."""

    at_ns: int
    took_ns: int
    process: str
    title: str
    details: str
    is_violation: bool


@dataclass(frozen=True)
class Neighbourhood:
    """A violation and what happened around it. The origin of its timeline is the violation."""

    process: str
    event: Event
    timeline: Timeline
    listed: list[Listed]


def whole(run: RecordedRun) -> Timeline:
    """The whole run from the moment all processes were there, close records drawn as one. The origin is the start of
    the first journal."""
    origin_ns = run.began_ns
    end_ns = max((journal.ended_ns for journal in run.journals), default=origin_ns) - origin_ns
    ready_ns = next(
        (
            event.t_ns - origin_ns
            for journal in run.journals
            if journal.header.role == ROLE_COORDINATOR
            for event in journal.events()
            if event.kind is Kind.MEMBERS_READY
        ),
        0,
    )
    timeline = Timeline(_lanes(run, origin_ns), ready_ns, max(end_ns, ready_ns + 1))
    across = min(_MOST_ACROSS, max(_LEAST_ACROSS, _ALL_ACROSS // max(1, len(run.journals))))
    near_ns = max(1, (timeline.end_ns - timeline.begin_ns) // across)
    for lane, journal in enumerate(run.journals):
        _merge(timeline, lane, journal, origin_ns, near_ns)
    return timeline


def violations(run: RecordedRun, most: int) -> tuple[list[tuple[Journal, Event]], int]:
    """The first violations, at most this many, the TLB oracle's last, and how many there are."""
    found = [
        (journal, event)
        for journal in run.journals
        if journal.header.role == ROLE_WORKER
        for event in journal.events()
        if is_violation(event)
    ]
    found.sort(key=lambda pair: (pair[1].kind is Kind.TLBI, pair[1].t_ns))
    return found[:most], len(found)


def is_violation(event: Event) -> bool:
    """Whether an oracle fired: a fetch got wrong bytes, an access was not performed correctly, or an invalidation ended
    before all vCPUs had obeyed it."""
    return event.kind in (Kind.VIOLATION, Kind.MMIO_WRONG) or event.kind is Kind.TLBI and event.operand("stale") > 0


def around(
    run: RecordedRun, journal: Journal, violation: Event, before_ns: int = _BEFORE_NS, after_ns: int = _AFTER_NS
) -> Neighbourhood:
    """What every process did around a violation: some milliseconds by default."""
    origin_ns = violation.t_ns
    events: list[tuple[int, Event]] = []
    for lane, other in enumerate(run.journals):
        events += (
            (lane, event)
            for event in other.events(origin_ns - before_ns, origin_ns + after_ns + _AFTER_NS)
            if event.t_ns - event.took_ns <= origin_ns + after_ns
        )
    events.sort(key=lambda pair: abs(pair[1].t_ns - origin_ns))
    timeline = Timeline(_lanes(run, origin_ns), -before_ns, after_ns, left_out=max(0, len(events) - _MOST_EVENTS))
    del events[_MOST_EVENTS:]
    for lane, event in events:
        _draw(timeline, lane, event, origin_ns)
    timeline.bars.sort(key=lambda bar: (bar.lane, bar.row, bar.begin_ns))
    return Neighbourhood(journal.header.name, violation, timeline, _list(run, events, violation))


def _lanes(run: RecordedRun, origin_ns: int) -> list[tuple[str, int, int]]:
    return [
        (
            journal.header.name,
            next((event.t_ns for event in journal.events()), journal.ended_ns) - origin_ns,
            journal.ended_ns - origin_ns,
        )
        for journal in run.journals
    ]


def _draw(timeline: Timeline, lane: int, event: Event, origin_ns: int) -> None:
    took_ns = event.took_ns
    place = _ROWS.get(event.kind)
    if place is not None:
        timeline.bars.append(
            Bar(lane, place[1], place[0], event.t_ns - took_ns - origin_ns, took_ns, _words(event), 1, took_ns)
        )
        if is_violation(event):
            timeline.marks.append(Mark(lane, "bad", event.t_ns - origin_ns, _words(event)))
    else:
        timeline.marks.append(Mark(lane, _MARKS.get(event.kind, "other"), event.t_ns - origin_ns, _words(event)))


def _list(run: RecordedRun, events: list[tuple[int, Event]], violation: Event) -> list[Listed]:
    in_order = sorted(events, key=lambda pair: pair[1].t_ns)
    at = next((index for index, (_, event) in enumerate(in_order) if event == violation), 0)
    return [
        Listed(
            event.t_ns - violation.t_ns,
            event.took_ns,
            run.journals[lane].header.name,
            title(event),
            details(event),
            event == violation,
        )
        for lane, event in in_order[max(0, at - _LISTED_BEFORE) : at + _LISTED_AFTER + 1]
    ]


def _merge(timeline: Timeline, lane: int, journal: Journal, origin_ns: int, near_ns: int) -> None:
    """Bars of one lane; bars of one category closer than `near_ns` become one."""
    pending: dict[tuple[int, str], Bar] = {}
    marks = 0
    for event in _off_as_spans(journal):
        place = ("off", 0) if event.kind is Kind.POWERED_OFF else _ROWS.get(event.kind)
        took_ns = event.operands[0] if event.kind is Kind.POWERED_OFF else event.took_ns
        if place is None:
            category = _MARKS.get(event.kind)
            if category is not None and (marks < _MOST_MARKS or category in ("bad", "end")):
                timeline.marks.append(Mark(lane, category, event.t_ns - origin_ns, _words(event)))
                marks += 1
            elif category is not None:
                timeline.left_out += 1
            continue
        category, row = place
        begin_ns = event.t_ns - took_ns - origin_ns
        old = pending.get((row, category))
        if old is not None and begin_ns - (old.begin_ns + old.took_ns) <= near_ns:
            long_ns = max(old.took_ns, begin_ns + took_ns - old.begin_ns)
            pending[row, category] = Bar(
                lane, row, category, old.begin_ns, long_ns, title(event), old.events + 1, old.busy_ns + took_ns
            )
            continue
        if old is not None:
            timeline.bars.append(old)
        pending[row, category] = Bar(lane, row, category, begin_ns, took_ns, _words(event), 1, took_ns)
    timeline.bars += pending.values()
    timeline.bars.sort(key=lambda bar: (bar.lane, bar.row, bar.begin_ns))


def _off_as_spans(journal: Journal) -> Iterator[Event]:
    """The records; each POWERED_OFF comes when it is over, with its duration as operand."""
    off_since_ns: int | None = None
    for event in journal.events():
        if event.kind is Kind.POWERED_OFF:
            off_since_ns = event.t_ns
            continue
        if event.kind is Kind.POWERED_ON and off_since_ns is not None:
            yield Event(event.t_ns, Kind.POWERED_OFF, event.vcpu, (event.t_ns - off_since_ns,))
            off_since_ns = None
        yield event
    if off_since_ns is not None:
        yield Event(journal.ended_ns, Kind.POWERED_OFF, journal.header.vcpu, (journal.ended_ns - off_since_ns,))


def _words(event: Event) -> str:
    said = "switched off" if event.kind is Kind.POWERED_OFF else details(event)
    return f"{title(event)}: {said}" if said else title(event)
