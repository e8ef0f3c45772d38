# SPDX-License-Identifier: GPL-2.0-or-later
"""Reminders for workers that looked for a message before it had arrived.

EVENT has a vCPU leave the guest, and its worker waits a beat for the message behind it. On a busy host that may come
later: the vCPU is in the guest again then, and would not look before its next exit. So as long as a message has no
answer, its worker is told to look once more.
"""

from __future__ import annotations

import time

from allstop.vm.control.control import EVENT, ControlPage

_REMIND_S = 0.5


class EventRetransmit:
    """The reminders of one kind of message; a number tells messages to the same vCPU apart."""

    def __init__(self, control_page: ControlPage) -> None:
        self._control_page = control_page
        self._unanswered: dict[tuple[int, int], float] = {}  # when it is reminded

    def asked(self, vcpu: int, number: int) -> None:
        """A message is about to go to the worker of `vcpu`, which clears the bit when it takes the message: so the bit
        is set first."""
        self._control_page.post(vcpu, EVENT)
        self._unanswered[vcpu, number] = time.monotonic() + _REMIND_S

    def answered(self, vcpu: int, number: int) -> None:
        """This message needs no reminder any more."""
        self._unanswered.pop((vcpu, number), None)

    def forget(self, vcpu: int | None = None) -> None:
        """No message to `vcpu`, or to any vCPU, needs one any more."""
        self._unanswered = {key: when for key, when in self._unanswered.items() if vcpu not in (None, key[0])}

    def look(self) -> None:
        """Time has passed."""
        if not self._unanswered:
            return
        now_s = time.monotonic()
        for key, remind_s in self._unanswered.items():
            if now_s >= remind_s:
                self._unanswered[key] = now_s + _REMIND_S
                self._control_page.post(key[0], EVENT)
