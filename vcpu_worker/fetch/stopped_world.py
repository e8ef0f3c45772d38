# SPDX-License-Identifier: GPL-2.0-or-later
"""Hold the stopped world, from the coordinator's grant to the release."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vcpu_worker.links import Links
from allstop.vm.control.control import ACTIVITY_OWN_WORLD, ACTIVITY_WAIT_WORLD, HISTOGRAM_STOP, ControlPage
from allstop.vm.wire.messages import ReleaseWorld


class StoppedWorld:
    """The stops that one vCPU asks for."""

    def __init__(self, number: int, control_page: ControlPage, links: Links, performer: EventPerformer) -> None:
        self._number = number
        self._control_page = control_page
        self._links = links
        self._performer = performer

    @contextlib.contextmanager
    def held(self, may_share: bool) -> Iterator[None]:
        """Inside, every other vCPU is outside the guest, but for readers that share the stop. Raises RunIsOver."""
        control_page, number = self._control_page, self._number
        started = time.perf_counter_ns()
        control_page.set_activity(number, ACTIVITY_WAIT_WORLD)
        if (journal := self._links.journal) is not None:
            journal.event(journal.STOP_ASKED, number, may_share)
        stopped = self._links.stop_world("fetch without syndrome", may_share)
        control_page.record(number, HISTOGRAM_STOP, time.perf_counter_ns() - started)
        control_page.set_activity(number, ACTIVITY_OWN_WORLD)
        if journal is not None:
            journal.span(journal.STOP_GRANTED, number, started, stopped.epoch, may_share)
            started = time.perf_counter_ns()
        self._performer.world_is_ours = True
        try:
            yield
        finally:
            self._performer.world_is_ours = False
            self._links.tell(ReleaseWorld(stopped.epoch))
            if journal is not None:
                journal.span(journal.WORLD_HELD, number, started, stopped.epoch)
