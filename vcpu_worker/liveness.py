# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's heartbeat, and how it learns that the run is over."""

from __future__ import annotations

import time
from collections.abc import Sequence

from allstop.vm.control.control import QUIT, ControlPage
from allstop.vm.wire.channel import ChannelError
from allstop.vm.wire.security import Breaks

BEAT_S = 0.25
"""A worker that waits beats this often."""
_BREAK_S = 0.9


class RunIsOver(Exception):
    """The machine shuts down: the worker ends, cleanly."""


class Liveness:
    """The heartbeat of the worker of `vcpu`. `breaks` watch its connections to another host."""

    def __init__(self, control_page: ControlPage, vcpu: int, breaks: Sequence[Breaks] = ()) -> None:
        self._control_page = control_page
        self._vcpu = vcpu
        self._breaks = breaks

    def beat(self) -> None:
        """Tell the launcher that this worker is alive. Raises RunIsOver, and ChannelError for a broken connection."""
        self._control_page.beat(self._vcpu)
        if self._control_page.requests(self._vcpu) & QUIT:
            raise RunIsOver
        for breaks in self._breaks:
            if breaks.broken_s(time.monotonic()) > _BREAK_S:  # at the run's end the servers may leave first
                raise ChannelError("the connection to the first host was broken, and what was on its way is lost")
