# SPDX-License-Identifier: GPL-2.0-or-later
"""Hold the stopped world, from the coordinator's grant to the release."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.events.performer import EventPerformer
from allstop.vm.control.control import ACTIVITY_OWN_WORLD, ACTIVITY_WAIT_WORLD, HISTOGRAM_STOP
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.messages import ReleaseWorld


class StoppedWorld:
    """The stops that one vCPU asks for."""

    def __init__(self, context: VcpuContext, performer: EventPerformer) -> None:
        self._number = context.number
        self._coordinator = context.coordinator
        self._telemetry = telemetry = context.telemetry
        self._performer = performer
        self._wait = telemetry.step(
            activity=ACTIVITY_WAIT_WORLD, histogram=HISTOGRAM_STOP, record=Recorder.STOP_GRANTED
        )
        self._hold = telemetry.step(activity=ACTIVITY_OWN_WORLD, record=Recorder.WORLD_HELD)

    @contextlib.contextmanager
    def held(self, may_share: bool) -> Iterator[None]:
        """Inside, every other vCPU is outside the guest, except readers that share the stop. Raises RunIsOver."""
        number = self._number
        began_ns = self._wait.begin()
        self._telemetry.note(Recorder.STOP_ASKED, number, may_share)
        stopped = self._coordinator.stop_world("fetch without syndrome", may_share)
        self._wait.end(began_ns, number, stopped.epoch, may_share)
        began_ns = self._hold.begin()
        self._performer.world_is_ours = True
        try:
            yield
        finally:
            self._performer.world_is_ours = False
            self._coordinator.tell(ReleaseWorld(stopped.epoch))
            self._hold.end(began_ns, number, stopped.epoch)
