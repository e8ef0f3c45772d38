# SPDX-License-Identifier: GPL-2.0-or-later
"""The coordinator's part in injected events: it asks the processes that perform them, and passes on their answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from allstop.coordinator.events import dispatch
from allstop.coordinator.events.retransmit import EventRetransmit
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.events.scenario import Scenario
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import NO_VCPU, Telemetry
from allstop.vm.wire.channel import DEVICES, worker_identity
from allstop.vm.wire.messages import EventPerformed, EventTriggered, InjectEvent, Message, Refused


class Events:
    """Asks the processes that have to perform them. `send(identity, message)` sends."""

    def __init__(
        self,
        config: MachineConfig,
        control_page: ControlPage,
        send: Callable[[bytes, Message], None],
        telemetry: Telemetry,
    ) -> None:
        self._control_page = control_page
        self._send = send
        self._telemetry = telemetry
        self._dispatch = dispatch.EventDispatch(Scenario.from_json(config.scenario), config.seed, config.vcpus)
        self._retransmit = EventRetransmit(control_page)
        self._booted_s: float | None = None

    def boot(self) -> None:
        """The boot vCPU starts: times count from now on."""
        self._booted_s = time.monotonic()

    def wait_ms(self, idle_ms: int) -> int:
        """Perform the events whose time has come; how long the coordinator may sleep then, `idle_ms` at most."""
        if self._booted_s is None or self._dispatch.next_ms is None:
            return idle_ms
        now_ms = (time.monotonic() - self._booted_s) * 1000
        self._perform(self._dispatch.tick(now_ms))
        next_ms = self._dispatch.next_ms
        return idle_ms if next_ms is None else min(idle_ms, max(1, int(next_ms - now_ms)))

    def look(self) -> None:
        """Time has passed."""
        self._retransmit.look()

    def lost(self, vcpu: int) -> None:
        """The worker of `vcpu` is dead."""
        self._retransmit.forget(vcpu)
        self._perform(self._dispatch.lost(vcpu))

    def take(self, vcpu: int, message: EventTriggered | EventPerformed) -> None:
        """A worker, that of `vcpu`, or the device server says something."""
        if isinstance(message, EventTriggered):
            self._perform(self._dispatch.triggered(message.number, vcpu))
        else:
            self._retransmit.answered(vcpu, message.nonce)
            self._perform(self._dispatch.performed(message.nonce, message.sentence))

    def inject(self, operator: bytes, message: InjectEvent, is_up: bool, paused: bool) -> None:
        """An operator wants one now."""
        if is_up:
            self._perform(self._dispatch.injected(operator, message.vcpu, message.event, paused))
        else:
            self._send(operator, Refused("the machine is not yet up: ask again"))

    def _perform(self, effects: list[dispatch.Effect]) -> None:
        for effect in effects:
            match effect:
                case dispatch.AskWorker(vcpu, message):
                    self._retransmit.asked(vcpu, message.nonce)
                    self._send(worker_identity(vcpu), message)
                case dispatch.AskDevices(message):
                    self._send(DEVICES, message)
                case dispatch.Tell(operator, answer):
                    self._send(operator, answer)
                case dispatch.Impossible(index, sentence):
                    self._control_page.count_event(index, False)
                    self._telemetry.note(Recorder.EVENT_REFUSED, NO_VCPU, index, text=sentence)
