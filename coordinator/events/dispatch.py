# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that the coordinator asks another process to perform: timed ones, an operator's, and those whose trigger fires
in one process and whose performer is another.

What may live here: decisions; calls in, effects out, no I/O and no clock. The process that is asked answers by a
number, so an operator gets an answer even when that process dies.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vm.events.scenario import Scenario
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import WORKER, Event, EventError, event
from allstop.vm.wire.messages import ALL_VCPUS, EventInjected, Message, PerformEvent, Refused

_NOT_OF_THE_SCENARIO = 0xFFFF


@dataclass(frozen=True, slots=True)
class AskWorker:
    """Have the worker of `vcpu` perform it."""

    vcpu: int
    message: PerformEvent


@dataclass(frozen=True, slots=True)
class AskDevices:
    """Have the device server perform it."""

    message: PerformEvent


@dataclass(frozen=True, slots=True)
class Tell:
    """Answer an operator."""

    operator: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Impossible:
    """Event `index` of the scenario could not happen, for the reason that the sentence gives."""

    index: int
    sentence: str


Effect: TypeAlias = AskWorker | AskDevices | Tell | Impossible


@dataclass(frozen=True, slots=True)
class _Asked:
    operator: bytes | None
    vcpu: int | None  # None: the device server
    index: int


class EventDispatch:
    """The events of one machine that the coordinator has a part in. Times are in milliseconds since the boot.

    A timed event skips an occasion while the one before is unanswered: no process is asked for more than it can do.
    """

    def __init__(self, scenario: Scenario, seed: int, vcpus: int) -> None:
        self._vcpus = vcpus
        self._events: Sequence[Event] = scenario.events
        self._lost: set[int] = set()
        self._asked: dict[int, _Asked] = {}
        self._nonce = 0
        seed = seed if scenario.seed is None else scenario.seed
        self._selectors = {
            index: Selector(found, seed, index, vcpus)
            for index, found in enumerate(scenario.events)
            if found.at_ms is not None
        }
        self._times = [(self._events[index].at_ms or 0.0, index) for index in self._selectors]
        heapq.heapify(self._times)

    @property
    def next_ms(self) -> float | None:
        """When `tick` has something to do; None when never."""
        return self._times[0][0] if self._times else None

    def tick(self, now_ms: float) -> list[Effect]:
        """Time has passed: it is `now_ms`."""
        effects: list[Effect] = []
        while self._times and self._times[0][0] <= now_ms:
            at_ms, index = heapq.heappop(self._times)
            wanted, selector = self._events[index], self._selectors[index]
            under_way = any(asked.index == index for asked in self._asked.values())
            if not under_way and selector.takes():
                effects.append(self._ask(wanted, index, wanted.vcpu, None))
            if wanted.every_ms is not None and not selector.is_over:
                heapq.heappush(self._times, (max(at_ms + wanted.every_ms, now_ms - wanted.every_ms), index))
        return effects

    def triggered(self, index: int, vcpu: int) -> list[Effect]:
        """A trigger on `vcpu` fired for event `index`, which the device server performs."""
        if index >= len(self._events) or self._events[index].performer == WORKER:
            return []
        return [self._ask(self._events[index], index, vcpu, None)]

    def injected(self, operator: bytes, vcpu: int, text: str, paused: bool) -> list[Effect]:
        """`operator` wants an event now, on `vcpu` or, with ALL_VCPUS, on any."""
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict):
                raise EventError("an event is an object of keys and values")
            wanted = event(raw, immediate=True)
        except (EventError, ValueError, RecursionError) as error:
            return [Tell(operator, Refused(f"the event cannot be as it is: {error}"))]
        for number in (vcpu if vcpu != ALL_VCPUS else None, wanted.vcpu, wanted.target):
            if isinstance(number, int) and number >= self._vcpus:
                return [Tell(operator, Refused(f"the machine has vCPUs 0 to {self._vcpus - 1}, not {number}"))]
        if paused and wanted.performer == WORKER:
            return [Tell(operator, Refused("the machine is paused, and its events with it: resume it first"))]
        effect = self._ask(wanted, _NOT_OF_THE_SCENARIO, wanted.vcpu if vcpu == ALL_VCPUS else vcpu, operator)
        return [Tell(operator, Refused(effect.sentence)) if isinstance(effect, Impossible) else effect]

    def performed(self, nonce: int, sentence: str) -> list[Effect]:
        """Question `nonce` has been answered."""
        asked = self._asked.pop(nonce, None)
        if asked is None or asked.operator is None:
            return []
        return [Tell(asked.operator, Refused(sentence) if sentence else EventInjected())]

    def lost(self, vcpu: int) -> list[Effect]:
        """The worker of `vcpu` is dead: it will not answer."""
        self._lost.add(vcpu)
        gone = [nonce for nonce, asked in self._asked.items() if asked.vcpu == vcpu]
        return [effect for nonce in gone for effect in self.performed(nonce, _dead(vcpu))]

    def _ask(self, wanted: Event, index: int, vcpu: int | None, operator: bytes | None) -> Effect:
        alive = [candidate for candidate in range(self._vcpus) if candidate not in self._lost]
        if wanted.performer == WORKER:
            vcpu = vcpu if vcpu is not None else next(iter(alive), 0)
            if vcpu in self._lost:
                return Impossible(index, _dead(vcpu))
        self._nonce = self._nonce + 1 & 0xFFFF_FFFF
        message = PerformEvent(
            self._nonce, index, ALL_VCPUS if vcpu is None else vcpu, json.dumps(wanted.immediate_record())
        )
        self._asked[self._nonce] = _Asked(operator, vcpu if wanted.performer == WORKER else None, index)
        if wanted.performer == WORKER:
            assert vcpu is not None
            return AskWorker(vcpu, message)
        return AskDevices(message)


def _dead(vcpu: int) -> str:
    return f"the process of vCPU {vcpu} is lost"
