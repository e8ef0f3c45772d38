# SPDX-License-Identifier: GPL-2.0-or-later
"""A measured step of a process: its activity, its duration, a counter, a histogram and a journal record in one place.

A step is declared once, where its owner is built, and used on every pass:

    telemetry = Telemetry(control_page, vcpu, journal)
    self._mmio = telemetry.step(activity=ACTIVITY_MMIO, histogram=HISTOGRAM_MMIO, record=Recorder.MMIO)
    ...
    began_ns = self._mmio.begin(ipa)
    reply = self._ask(request)
    self._mmio.end(began_ns, vcpu, ipa, size, is_write, value, reply.status)

The activity belongs to the process, which is why `Telemetry` knows its slot in the control page. Counters, histograms
and records belong to a vCPU, which a server names on each call. Without a journal a step costs one test of `None`.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from allstop.vm.journal.recorder import Recorder

NO_VCPU = -1
"""In a journal: a record of no vCPU."""


class Measures(Protocol):
    """What a step uses of the control page."""

    def set_activity(self, slot: int, code: int, detail: int = 0, pc: int = 0) -> object:
        """The process of this slot does this now."""

    def count(self, vcpu: int, counter: int, n: int = 1, /) -> object:
        """Count one more."""

    def record(self, vcpu: int, histogram: int, ns: int, /) -> object:
        """A step took this long."""


class Step:
    """One kind of work that takes time. `is_kept` is False when neither the control page nor a journal keeps anything
    of it, so that a hot path may skip the calls.
    """

    __slots__ = (
        "_activity",
        "_count",
        "_counter",
        "_histogram",
        "_kind",
        "_measure",
        "_say",
        "_slot",
        "_span",
        "is_kept",
    )

    def __init__(
        self,
        control_page: Measures,
        slot: int,
        journal: Recorder | None,
        activity: int | None,
        counter: int | None,
        histogram: int | None,
        record: int | None,
    ) -> None:
        self._slot = slot
        self._activity = activity
        self._counter = counter
        self._histogram = histogram
        self._say = control_page.set_activity
        self._count = control_page.count
        self._measure = control_page.record
        self._kind = record or 0
        self._span = None if journal is None or record is None else journal.span
        self.is_kept = self._span is not None or any(row is not None for row in (activity, counter, histogram))

    def begin(self, detail: int = 0) -> int:
        """The process begins it: the time for `end`. `detail` goes with the activity (an address, a number)."""
        began_ns = perf_counter_ns()
        if self._activity is not None:
            self._say(self._slot, self._activity, detail)
        return began_ns

    def end(self, began_ns: int, vcpu: int, *operands: int) -> None:
        """It is done, for `vcpu`: count and measure it, and write its record with these operands (at most five)."""
        if self._histogram is not None:
            self._measure(vcpu, self._histogram, perf_counter_ns() - began_ns)
        if self._counter is not None:
            self._count(vcpu, self._counter)
        if self._span is not None:
            self._span(self._kind, vcpu, began_ns, *operands)

    def measure(self, began_ns: int, vcpu: int) -> None:
        """It is done, but there is nothing to write about it: as `end`, without the record."""
        if self._histogram is not None:
            self._measure(vcpu, self._histogram, perf_counter_ns() - began_ns)
        if self._counter is not None:
            self._count(vcpu, self._counter)


class Telemetry:
    """What the process of `slot` (a vCPU's number, or COORDINATOR, DEVICES, NODE, DEBUGGER) says of its work.

    `journal` is the process's own, None where the machine keeps none.
    """

    __slots__ = ("_control_page", "_slot", "journal")

    def __init__(self, control_page: Measures, slot: int, journal: Recorder | None) -> None:
        self._control_page = control_page
        self._slot = slot
        self.journal = journal

    def step(
        self,
        *,
        activity: int | None = None,
        counter: int | None = None,
        histogram: int | None = None,
        record: int | None = None,
    ) -> Step:
        """A kind of step, to be kept: one each of ACTIVITY_*, COUNT_*, HISTOGRAM_* and Recorder.*, or None."""
        return Step(self._control_page, self._slot, self.journal, activity, counter, histogram, record)

    def activity(self, activity: int, detail: int = 0) -> None:
        """From now on the process does this."""
        self._control_page.set_activity(self._slot, activity, detail)

    def note(self, record: int, vcpu: int, *operands: int, text: str = "", counter: int | None = None) -> None:
        """Something without a duration happened to `vcpu`: count it, and write its record with these operands (at most
        six) and words."""
        if counter is not None:
            self._control_page.count(vcpu, counter)
        if (journal := self.journal) is not None:
            journal.event(record, vcpu, *operands)
            if text:
                journal.text(text)

    def close(self) -> None:
        """Close the journal."""
        if self.journal is not None:
            self.journal.close()
