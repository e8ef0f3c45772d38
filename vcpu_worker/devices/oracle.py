# SPDX-License-Identifier: GPL-2.0-or-later
"""The MMIO oracle in the worker: what the vCPU has seen done is what the device server's bus has done, neither more nor
less nor in another order. See `allstop.vm.control.ledger`."""

from __future__ import annotations

from collections.abc import Callable

from allstop.vm.control.control import COUNT_MMIO_WRONG, ControlPage
from allstop.vm.control.ledger import difference
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.messages import Message, Violated


class AccessOracle:
    """Watches the accesses of one vCPU. It ends the run at the first violation, or, to `keep_going`, only counts. What
    the bus has done is in the control page of the device server's host: `elsewhere`, nobody compares before the
    launcher does, when the run is over."""

    def __init__(
        self,
        number: int,
        page: ControlPage,
        tell: Callable[[Message], None],
        journal: Recorder | None,
        keep_going: bool,
        elsewhere: bool = False,
    ) -> None:
        self._number = number
        self._page = page
        self._tell = tell
        self._journal = journal
        self._keep_going = keep_going
        self._told = False
        self._elsewhere = elsewhere
        self._complete = page.complete_access

    def complete(self, ipa: int, size: int, is_write: bool, value: int, unassigned: bool) -> None:
        """The vCPU takes this as done; `value` was written, or is what was read."""
        if not self._complete(self._number, ipa, size, is_write, value, unassigned) and not self._elsewhere:
            self._differ(ipa, size, is_write, value)

    def _differ(self, ipa: int, size: int, is_write: bool, value: int) -> None:
        page, number = self._page, self._number
        if self._told:
            return
        self._told = not self._keep_going
        story = difference(page, number)
        if self._keep_going:  # else the launcher has yet to see it, should the run have another verdict by now
            page.settle_accesses(number)
        page.count(number, COUNT_MMIO_WRONG)
        if (journal := self._journal) is not None:
            journal.event(journal.MMIO_WRONG, number, ipa, size, is_write, value)
            journal.text(story)
        if not self._keep_going:
            self._tell(Violated(number, story))
