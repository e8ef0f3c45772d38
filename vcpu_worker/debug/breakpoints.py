# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints for events and for a debugger: the engine has one list for both."""

from __future__ import annotations

from collections.abc import Iterable

from allstop.vcpu_worker.engine import Vcpu


class Breakpoints:
    """The breakpoints of one vCPU."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._events: frozenset[int] = frozenset()
        self.debugger: frozenset[int] = frozenset()
        """Those of the debugger."""

    def set_events(self, addresses: Iterable[int]) -> None:
        """Replace those of events."""
        self._events = frozenset(addresses)
        self.renew()

    def set_debugger(self, addresses: Iterable[int]) -> None:
        """Replace the debugger's. Raises ValueError for more than the engine takes, and changes nothing then."""
        wanted = frozenset(addresses)
        self._vcpu.set_breakpoints(sorted(self._events | wanted))
        self.debugger = wanted

    def renew(self) -> None:
        """Have the vCPU stop again at the breakpoint that it hit last."""
        self._vcpu.set_breakpoints(sorted(self._events | self.debugger))
