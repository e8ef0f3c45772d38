# SPDX-License-Identifier: GPL-2.0-or-later
"""The MMIO oracle in the worker: the accesses that the vCPU has seen done are those that the device server's bus has
done, in the same order. See `allstop.vm.control.ledger`."""

from __future__ import annotations

from collections.abc import Callable

from allstop.vm.control.control import COUNT_MMIO_WRONG, ControlPage
from allstop.vm.control.ledger import difference
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.messages import Message, Violated


class AccessOracle:
    """Watches the accesses of one vCPU. It ends the run at the first violation or, to `keep_going`, only counts.

    The bus writes to the control page of the device server's host. A worker `elsewhere` cannot compare; the launcher
    compares when the run is over.
    """

    def __init__(
        self,
        number: int,
        control_page: ControlPage,
        tell: Callable[[Message], None],
        telemetry: Telemetry,
        keep_going: bool,
        elsewhere: bool = False,
    ) -> None:
        self._number = number
        self._control_page = control_page
        self._tell = tell
        self._telemetry = telemetry
        self._keep_going = keep_going
        self._told = False
        self._elsewhere = elsewhere
        self._complete = control_page.complete_access

    def complete(self, ipa: int, size: int, is_write: bool, value: int, unassigned: bool) -> None:
        """The vCPU takes this access as done; it wrote or read `value`."""
        if not self._complete(self._number, ipa, size, is_write, value, unassigned) and not self._elsewhere:
            self._differ(ipa, size, is_write, value)

    def _differ(self, ipa: int, size: int, is_write: bool, value: int) -> None:
        control_page, number = self._control_page, self._number
        if self._told:
            return
        self._told = not self._keep_going
        story = difference(control_page, number)
        if self._keep_going:  # else the launcher has yet to see it, should the run have another verdict by now
            control_page.settle_accesses(number)
        self._telemetry.note(
            Recorder.MMIO_WRONG, number, ipa, size, is_write, value, counter=COUNT_MMIO_WRONG, text=story
        )
        if not self._keep_going:
            self._tell(Violated(number, story))
