# SPDX-License-Identifier: GPL-2.0-or-later
"""The operators' part of the coordinator's service: it performs what they ask of a machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from allstop.coordinator.events.retransmit import EventRetransmit
from allstop.coordinator.operators import pause
from allstop.coordinator.operators.memory_reads import MemoryReads
from allstop.coordinator.operators.remote_kills import RemoteKills
from allstop.coordinator.world.stops import Stops
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import worker_identity
from allstop.vm.wire.messages import (
    ALL_VCPUS,
    DumpState,
    FlushTlbs,
    KillVcpu,
    Message,
    PauseMachine,
    QueryStatus,
    ReadMemory,
    ReadRegisters,
    Refused,
    ResumeMachine,
    Status,
    TlbsFlushed,
    VcpuKilled,
)

PAUSE_OWNER = b"the operator pause"
"""An owner of the stopped world, and no identity of any peer."""
_POWER = {control.POWER_OFF: "off", control.POWER_PENDING: "pending", control.POWER_ON: "on"}
_REASON = "an operator's request"


class Operators:
    """Serves them. `awaited` are the vCPUs that have not come yet; `send(identity, message)` sends."""

    def __init__(
        self,
        config: MachineConfig,
        control_page: ControlPage,
        awaited: set[int],
        send: Callable[[bytes, Message], None],
        stops: Stops,
    ) -> None:
        self._config = config
        self._control_page = control_page
        self._awaited = awaited
        self._send = send
        self._stops = stops
        self._pause = pause.OperatorPause()
        self._answers_until_s = 0.0
        self._retransmit = EventRetransmit(control_page)
        self._reads = MemoryReads(config, control_page, send)
        self._kills = RemoteKills(config.hosts, config.vcpus, send)

    @property
    def paused(self) -> bool:
        """An operator has paused the machine."""
        return self._pause.paused

    @property
    def have_world(self) -> bool:
        """The world is stopped for operators."""
        return self._pause.has_world

    def obey(self, operator: bytes, message: Message) -> None:
        """Obey a message that only operators send, or the launcher's answer to a KillVcpu."""
        match message:
            case QueryStatus():
                self._send(operator, Status(_report(self._control_page, self._pause.paused)))
            case PauseMachine():
                self.handle(pause.PauseAsked(operator))
            case ResumeMachine():
                self.handle(pause.ResumeAsked(operator))
            case ReadRegisters(vcpu):
                self._read_registers(operator, vcpu)
            case ReadMemory(ipa, length_bytes):
                self._reads.ask(operator, ipa, length_bytes, time.monotonic())
            case KillVcpu(vcpu):
                self._kills.ask(operator, vcpu, time.monotonic())
            case VcpuKilled():
                self._kills.done(message)
            case FlushTlbs():
                for vcpu in range(self._config.vcpus):
                    self._control_page.post(vcpu, control.TLB_FLUSH)
                self._send(operator, TlbsFlushed())

    def handle(self, given: pause.Input) -> None:
        """Give the operator pause an input, and perform its effects."""
        match given:
            case pause.Dumped(vcpu, nonce):
                self._retransmit.answered(vcpu, nonce)
            case pause.Lost(vcpu):
                self._retransmit.forget(vcpu)
            case pause.Expired():
                self._retransmit.forget()
        for effect in self._pause.handle(given):
            match effect:
                case pause.AskWorld():
                    self._stops.ask(PAUSE_OWNER, None, False, _REASON)
                case pause.LeaveWorld():
                    self._stops.leave(PAUSE_OWNER)
                case pause.Dump(vcpu, nonce):
                    self._answers_until_s = time.monotonic() + self._config.stop_deadline_s
                    self._retransmit.asked(vcpu, nonce)
                    self._send(worker_identity(vcpu), DumpState(nonce))
                case pause.Tell(operator, message):
                    self._send(operator, message)

    def wait_ms(self, most_ms: int) -> int:
        """How long the coordinator may sleep, `most_ms` at most."""
        return self._reads.wait_ms(most_ms)

    def look(self) -> None:
        """Time has passed."""
        now_s = time.monotonic()
        self._retransmit.look()
        self._reads.look(now_s)
        self._kills.look(now_s)
        if self._pause.waits and now_s >= self._answers_until_s:
            self.handle(pause.Expired())

    def _read_registers(self, operator: bytes, vcpu: int) -> None:
        machine = range(self._config.vcpus)
        wanted = tuple(machine) if vcpu == ALL_VCPUS else (vcpu,)
        if vcpu not in machine and vcpu != ALL_VCPUS:
            self._send(operator, Refused(f"the machine has no vCPU {vcpu}"))
        elif self._awaited.intersection(wanted):
            self._send(operator, Refused("the machine is not yet up: ask again"))
        else:
            self.handle(pause.RegistersAsked(operator, wanted))


def _report(control_page: ControlPage, paused: bool) -> bytes:
    """The JSON object that `Status` describes."""
    vcpus = [
        {
            **_process(control_page, vcpu),
            "power": _POWER[control_page.power(vcpu)],
            "pc": control_page.activity(vcpu)[2],
            "counters": dict(zip(control.COUNTER_NAMES, control_page.counters(vcpu), strict=True)),
        }
        for vcpu in range(control_page.vcpus)
    ]
    return json.dumps(
        {
            "paused": paused,
            "stops": control_page.epochs()[0],
            "vcpus": vcpus,
            "coordinator": _process(control_page, control.COORDINATOR),
            "devices": _process(control_page, control.DEVICES),
        }
    ).encode()


def _process(control_page: ControlPage, slot: int) -> dict[str, object]:
    return {"pid": control_page.pid(slot), "doing": control_page.describe(slot)}
