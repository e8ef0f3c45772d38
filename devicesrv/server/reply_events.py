# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario's events at the device server: it delays, drops or repeats replies, raises or withholds interrupts.

No socket and no clock: times come in as seconds, and the replies to send come out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.devicesrv.gicv2.state import Gic
from allstop.vm.events.performers import Performers, rows_of
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import DEVICE_STEP, DEVICES, Event

_PAGE = ~0xFFF
_NO_EVENT = 0xFFFF


@dataclass(frozen=True)
class Reply:
    """A reply on its way to the worker of `vcpu`, whose peer is `identity`."""

    identity: bytes
    vcpu: int
    data: bytes


_OnReply: TypeAlias = Callable[["ReplyEvents", Event, Reply, float, int], int]
_OnInterrupt: TypeAlias = Callable[["ReplyEvents", Event, int, float], bool]
performs_reply: Performers[_OnReply] = Performers(rows_of(DEVICES, on_reply=True))
"""How often to send the reply, which would be sent so many times without the event."""
performs: Performers[_OnInterrupt] = Performers(rows_of(DEVICES))
"""Whether the event was done to the interrupt line of a vCPU that has a CPU interface."""


class ReplyEvents:
    """The events of one machine's devices. It calls `happened(index, vcpu, sentence)` for each; "" means done.

    A vCPU has one access under way. While its reply is held back, the device server ignores its requests: the worker
    asks again, and gets that reply once, when it is due.
    """

    def __init__(
        self, scenario: Scenario, seed: int, vcpus: int, gic: Gic, happened: Callable[[int, int, str], None]
    ) -> None:
        self._gic = gic
        self._happened = happened
        seed = seed if scenario.seed is None else scenario.seed
        self._entries = [
            [
                (index, found, Selector(found, seed, index, vcpu))
                for index, found in enumerate(scenario.events)
                if found.step == DEVICE_STEP and found.performer == DEVICES and found.vcpu in (None, vcpu)
            ]
            for vcpu in range(vcpus)
        ]
        self._due: list[tuple[float, int, Reply | int]] = []
        self._order = 0
        self.held: set[int] = set()
        """vCPUs whose reply is held back."""

    @property
    def next_due_s(self) -> float | None:
        """When `due` has something to do; None when nothing waits."""
        return self._due[0][0] if self._due else None

    def replies(self, reply: Reply, ipa: int, now_s: float) -> int:
        """How often to send this reply to an access at `ipa` now; 1 when no event happens."""
        times = 1
        for index, wanted, selector in self._entries[reply.vcpu]:
            if wanted.device is not None and wanted.device != ipa & _PAGE or not selector.takes():
                continue
            if not wanted.row.on_reply:
                self.perform(index, wanted, reply.vcpu, now_s)
                continue
            times = performs_reply[wanted.action](self, wanted, reply, now_s, times)
            self._happened(index, reply.vcpu, "")
        return times

    def perform(self, index: int, wanted: Event, vcpu: int, now_s: float) -> str:
        """Perform an interrupt's event now, for a trigger on `vcpu`; "" or what is in the way."""
        targets = (
            range(len(self._gic.lines))
            if wanted.target == "all"
            else (vcpu if wanted.target == "self" else int(wanted.target),)
        )
        done = False
        for target in targets:
            if target < len(self._gic.interfaces):
                done |= performs[wanted.action](self, wanted, target, now_s)
        sentence = "" if done else "the line is high already, or the vCPU has no CPU interface"
        if index != _NO_EVENT:
            self._happened(index, vcpu, sentence)
        return sentence

    @performs_reply("reply-drop")
    def _drop(self, wanted: Event, reply: Reply, now_s: float, times: int) -> int:
        return 0

    @performs_reply("reply-repeat")
    def _repeat(self, wanted: Event, reply: Reply, now_s: float, times: int) -> int:
        return 2 * times

    @performs_reply("reply-delay")
    def _delay(self, wanted: Event, reply: Reply, now_s: float, times: int) -> int:
        self.held.add(reply.vcpu)
        self._at(now_s + wanted.for_ms / 1000, reply)
        return 0

    @performs("irq-spurious")
    def _raise_spuriously(self, wanted: Event, target: int, now_s: float) -> bool:
        return self._gic.raise_spuriously(target)

    @performs("irq-withhold")
    def _withhold(self, wanted: Event, target: int, now_s: float) -> bool:
        self._gic.withheld.add(target)
        self._gic.update((self._gic.interfaces[target],))
        self._at(now_s + wanted.for_ms / 1000, target)
        return True

    def due(self, now_s: float) -> list[Reply]:
        """Replies whose time has come. Interrupts whose time has come are no longer withheld."""
        replies = []
        while self._due and self._due[0][0] <= now_s:
            _, _, what = heapq.heappop(self._due)
            if isinstance(what, Reply):
                self.held.discard(what.vcpu)
                replies.append(what)
            elif not any(other == what for _, _, other in self._due):
                self._gic.withheld.discard(what)
                self._gic.update((self._gic.interfaces[what],))
        return replies

    def _at(self, when_s: float, what: Reply | int) -> None:
        self._order += 1
        heapq.heappush(self._due, (when_s, self._order, what))
