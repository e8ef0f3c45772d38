# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPUs' interrupt lines, from the GIC to the control page."""

from __future__ import annotations

from allstop.devicesrv.gicv2.state import Gic
from allstop.vm.control.control import ControlPage
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import Telemetry


class InterruptLines:
    """Lines that changed and are in no reply: set in the control page, and their vCPUs asked to look."""

    def __init__(self, control_page: ControlPage, telemetry: Telemetry, gic: Gic) -> None:
        self._control_page = control_page
        self._telemetry = telemetry
        self._gic = gic

    def set(self) -> None:
        """Set those that have changed."""
        gic = self._gic
        if gic.changed:
            for vcpu in sorted(gic.changed):
                is_news = self._control_page.set_line(vcpu, gic.lines[vcpu])
                self._telemetry.note(Recorder.LINE_SET, vcpu, gic.lines[vcpu], is_news)
            gic.changed.clear()

    def of_reply(self, vcpu: int) -> int:
        """The line of a vCPU that gets it in the reply which is about to leave. Those of others are set before."""
        gic = self._gic
        if gic.changed:
            gic.changed.discard(vcpu)
            self.set()
        return gic.lines[vcpu]
