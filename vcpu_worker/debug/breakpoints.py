# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a vCPU stops before an instruction, for events and for a debugger: the engine has one list."""

from __future__ import annotations

from collections.abc import Iterable

from allstop.vcpu_worker.engine import Vcpu


class Breakpoints:
    """Those of one vCPU."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._events: frozenset[int] = frozenset()
        self.debugger: frozenset[int] = frozenset()
        """The debugger's."""

    def set_events(self, addresses: Iterable[int]) -> None:
        """The events' are these."""
        self._events = frozenset(addresses)
        self.renew()

    def set_debugger(self, addresses: Iterable[int]) -> None:
        """The debugger's are these. Raises ValueError when there are more than the engine takes, and keeps what was."""
        wanted = frozenset(addresses)
        self._vcpu.set_breakpoints(sorted(self._events | wanted))
        self.debugger = wanted

    def renew(self) -> None:
        """The one that was hit last is hit again."""
        self._vcpu.set_breakpoints(sorted(self._events | self.debugger))
