# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on one vCPU: which of a scenario's triggers fire here, and when their actions are performed.

The worker stands in for an actor beside its vCPU: another vCPU's kernel, or the host's swapper. It does only what that
actor could have done at this moment:

* in the middle of an exit, under `ipi`: the actor's invalidation would wait for this vCPU. It comes when the exit is
  over.
* while this vCPU holds the world: the actor is stopped. It goes on when the exit, and so the stop, is over.
* in a world that another vCPU holds: the actor waits for the end of the stop (engine/guest_memory/swap.c).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.debug.breakpoints import Breakpoints
from allstop.vcpu_worker.engine import EXIT_BREAKPOINT, Exit
from allstop.vcpu_worker.events.actions import NO_INDEX, Actions
from allstop.vcpu_worker.last_words import say_last_words
from allstop.vm.events.scenario import Scenario
from allstop.vm.events.selector import Selector
from allstop.vm.events.vocabulary import DEVICE_STEP, EXITS, WORKER, Event, event
from allstop.vm.journal.format import EXIT_NAMES
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.messages import EventPerformed, EventTriggered, PerformEvent

_EXITS = {kind: name.lower() for kind, name in enumerate(EXIT_NAMES) if name.lower() in EXITS}

_Entry: TypeAlias = tuple[int, Event, Selector]


@dataclass
class _Counted:
    """An event that fires when the vCPU has executed `left` more instructions."""

    entry: _Entry
    left: int


class EventPerformer:
    """The events of one vCPU. `world_is_ours` is to be true while this vCPU's worker holds the stopped world."""

    def __init__(self, context: VcpuContext) -> None:
        config, number = context.config, context.number
        self._number = number
        self._control_page = context.control_page
        self._coordinator = context.coordinator
        self._telemetry = context.telemetry
        self._ipi = config.tlb == "ipi"
        self._actions = Actions(context)
        self.world_is_ours = False
        self._in_exit = False
        self._deferred: list[Callable[[], None]] = []
        self._complained: set[int] = set()
        scenario = Scenario.from_json(config.scenario)
        seed = config.seed if scenario.seed is None else scenario.seed
        ours = [
            (index, found, Selector(found, seed, index, number))
            for index, found in enumerate(scenario.events)
            if found.vcpu in (None, number)
        ]
        self._exits = [entry for entry in ours if entry[1].exit]
        self._steps: dict[str, list[_Entry]] = {}
        for entry in ours:
            if entry[1].step and entry[1].step != DEVICE_STEP:
                self._steps.setdefault(entry[1].step, []).append(entry)
        self._counted = [_Counted(entry, left) for entry in ours if (left := entry[1].instructions)]
        self._executed: dict[int, list[_Entry]] = {}
        for entry in ours:
            if isinstance(entry[1].executes, int):
                self._executed.setdefault(entry[1].executes & ~1, []).append(entry)
        self.breakpoints = Breakpoints(context.vcpu)
        if self._executed:
            self.breakpoints.set_events(self._executed)
        context.coordinator.perform = self.obey

    @property
    def budget(self) -> int:
        """How many instructions the vCPU may execute until the next event that counts them; 0 without limit."""
        return min((counted.left for counted in self._counted if not counted.entry[2].is_over), default=0)

    def left(self, leave: Exit) -> None:
        """The vCPU has left the guest."""
        self._in_exit = True
        for counted in self._counted:
            counted.left -= leave.executed
            if counted.left <= 0:
                counted.left = counted.entry[1].instructions or 0
                self._occasion(counted.entry, leave)
        if leave.kind == EXIT_BREAKPOINT and (here := self._executed.get(leave.pc)):
            for entry in here:
                self._occasion(entry, leave)
            if all(entry[2].is_over for entry in here):
                del self._executed[leave.pc]
                self.breakpoints.set_events(self._executed)
        if self._exits and (name := _EXITS.get(leave.kind)):
            for entry in self._exits:
                if entry[1].exit == name:
                    self._occasion(entry, leave)

    def step(self, name: str, trap: Exit) -> None:
        """The hypervisor has reached this step with the instruction that trapped."""
        for entry in self._steps.get(name, ()):
            self._occasion(entry, trap)

    def over(self) -> None:
        """The exit is over: do what was deferred until then."""
        self._in_exit = False
        while self._deferred:
            self._deferred.pop(0)()

    def obey(self, message: PerformEvent) -> None:
        """Perform the event that the coordinator sends, when the exit under way is over."""
        if self._in_exit:
            self._deferred.append(lambda: self._answer(message))
        else:
            self._answer(message)

    def _answer(self, message: PerformEvent) -> None:
        wanted = event(json.loads(message.event), immediate=True)
        sentence = self._actions.perform(wanted, None)
        self._tell(message.number, wanted, sentence)
        self._coordinator.tell(EventPerformed(message.nonce, sentence))

    def _occasion(self, entry: _Entry, leave: Exit) -> None:
        index, wanted, selector = entry
        if not selector.takes():
            return
        if wanted.performer != WORKER:
            self._coordinator.tell(EventTriggered(index))
        elif wanted.row.changes_page and (self.world_is_ours or self._ipi):
            self._telemetry.note(Recorder.EVENT_DEFERRED, self._number, index, leave.pc, text=wanted.name)
            self._deferred.append(lambda: self._tell(index, wanted, self._actions.perform(wanted, leave)))
        else:
            self._tell(index, wanted, self._actions.perform(wanted, leave))

    def _tell(self, index: int, wanted: Event, sentence: str) -> None:
        if index != NO_INDEX:
            self._control_page.count_event(index, not sentence)
        if sentence:
            self._telemetry.note(Recorder.EVENT_REFUSED, self._number, index, text=f"{wanted.name}: {sentence}")
        else:
            self._telemetry.note(Recorder.EVENT_DONE, self._number, index, text=wanted.name)
        if sentence and index not in self._complained:
            self._complained.add(index)
            say_last_words(f"event {wanted.name} did not happen on vCPU {self._number}: {sentence}")
