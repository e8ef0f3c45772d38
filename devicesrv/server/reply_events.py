# SPDX-License-Identifier: GPL-2.0-or-later
"""A scenario's events at the device server: replies that come late, never or twice, interrupts that come or do not.

No socket and no clock: times come in as seconds, and what is to be sent comes out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from allstop.devicesrv.gicv2.state import Gic
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import DEVICE_STEP, DEVICES, Event

_PAGE = ~0xFFF
_NO_EVENT = 0xFFFF


@dataclass(frozen=True)
class Reply:
    """A reply on its way to the vCPU that goes by `identity`."""

    identity: bytes
    vcpu: int
    data: bytes


class ReplyEvents:
    """The events of one machine's devices. `happened(index, vcpu, sentence)` is told of each: "" is done.

    A vCPU has one access under way, so its requests are ignored while the reply to it is held back: the worker asks
    again, and gets that reply when it is due, once.
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
        """When something is to be done by `due`; None when nothing is."""
        return self._due[0][0] if self._due else None

    def replies(self, reply: Reply, ipa: int, now_s: float) -> int:
        """How often to send this reply to an access at `ipa` now: 1 where no event happens."""
        times = 1
        for index, wanted, selector in self._entries[reply.vcpu]:
            if wanted.device is not None and wanted.device != ipa & _PAGE or not selector.takes():
                continue
            match wanted.action:
                case "reply-drop":
                    times = 0
                case "reply-repeat":
                    times += times
                case "reply-delay":
                    times = 0
                    self.held.add(reply.vcpu)
                    self._at(now_s + wanted.for_ms / 1000, reply)
                case _:
                    self.perform(index, wanted, reply.vcpu, now_s)
                    continue
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
            if target >= len(self._gic.interfaces):
                continue
            if wanted.action == "irq-spurious":
                done |= self._gic.raise_spuriously(target)
            else:
                done = True
                self._gic.withheld.add(target)
                self._gic.update((self._gic.interfaces[target],))
                self._at(now_s + wanted.for_ms / 1000, target)
        sentence = "" if done else "the line is high already, or the vCPU has no CPU interface"
        if index != _NO_EVENT:
            self._happened(index, vcpu, sentence)
        return sentence

    def due(self, now_s: float) -> list[Reply]:
        """Replies whose time has come; interrupts that were withheld are let through."""
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
