# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators ask of a machine, performed: the part of the coordinator's service that is theirs alone."""
from __future__ import annotations

import json
import time
from collections.abc import Callable

from allstop.machine import control
from allstop.machine.configuration import RAM_BASE, MachineConfig
from allstop.machine.control import ControlPage
from allstop.machine.stage2 import first_away, read_guest
from allstop.wire.channel import worker_identity
from allstop.wire.messages import (
    ALL_VCPUS,
    MAX_MEMORY_READ_BYTES,
    DumpState,
    FlushTlbs,
    Memory,
    Message,
    PauseMachine,
    QueryStatus,
    ReadMemory,
    ReadRegisters,
    Refused,
    ResumeMachine,
    Status,
    TlbsFlushed,
)
from coordinator import barrier, desk
from coordinator.reminders import Reminders

DESK = b"the operators' desk"
"""An owner of the stopped world, and no identity of any peer."""
_POWER = {control.POWER_OFF: "off", control.POWER_PENDING: "pending", control.POWER_ON: "on"}
_REASON = "an operator's request"


class Operators:
    """Serves them. `awaited` are the vCPUs that have not come yet; `send(identity, message)` sends, `stop(event)` hands
    an event to the barrier."""

    def __init__(self, config: MachineConfig, page: ControlPage, awaited: set[int],
                 send: Callable[[bytes, Message], None], stop: Callable[[barrier.Event], None]) -> None:
        self._config = config
        self._page = page
        self._awaited = awaited
        self._send = send
        self._stop = stop
        self._desk = desk.Desk()
        self._answers_until_s = 0.0
        self._reminders = Reminders(page)

    @property
    def paused(self) -> bool:
        """An operator has paused the machine."""
        return self._desk.paused

    @property
    def have_world(self) -> bool:
        """The world is stopped for operators."""
        return self._desk.has_world

    def obey(self, operator: bytes, message: Message) -> None:
        """Do what `operator` asks for by one of the messages that are an operator's alone."""
        match message:
            case QueryStatus():
                self._send(operator, Status(_report(self._page, self._desk.paused)))
            case PauseMachine():
                self.handle(desk.PauseAsked(operator))
            case ResumeMachine():
                self.handle(desk.ResumeAsked(operator))
            case ReadRegisters(vcpu):
                self._read_registers(operator, vcpu)
            case ReadMemory(ipa, length_bytes):
                self._send(operator, self._read_memory(ipa, length_bytes))
            case FlushTlbs():
                for vcpu in range(self._config.vcpus):
                    self._page.post(vcpu, control.TLB_FLUSH)
                self._send(operator, TlbsFlushed())

    def handle(self, event: desk.Event) -> None:
        """Something has happened that the desk has to know."""
        match event:
            case desk.Dumped(vcpu, nonce):
                self._reminders.answered(vcpu, nonce)
            case desk.Lost(vcpu):
                self._reminders.forget(vcpu)
            case desk.Expired():
                self._reminders.forget()
        for effect in self._desk.handle(event):
            match effect:
                case desk.AskWorld():
                    self._stop(barrier.Asked(DESK, None, False, _REASON))
                case desk.LeaveWorld():
                    self._stop(barrier.OwnerLost(DESK))
                case desk.Dump(vcpu, nonce):
                    self._answers_until_s = time.monotonic() + self._config.stop_deadline_s
                    self._reminders.asked(vcpu, nonce)
                    self._send(worker_identity(vcpu), DumpState(nonce))
                case desk.Tell(operator, message):
                    self._send(operator, message)

    def look(self) -> None:
        """Time has passed."""
        self._reminders.look()
        if self._desk.waits and time.monotonic() >= self._answers_until_s:
            self.handle(desk.Expired())

    def _read_registers(self, operator: bytes, vcpu: int) -> None:
        machine = range(self._config.vcpus)
        wanted = tuple(machine) if vcpu == ALL_VCPUS else (vcpu,)
        if vcpu not in machine and vcpu != ALL_VCPUS:
            self._send(operator, Refused(f"the machine has no vCPU {vcpu}"))
        elif self._awaited.intersection(wanted):
            self._send(operator, Refused("the machine is not yet up: ask again"))
        else:
            self.handle(desk.RegistersAsked(operator, wanted))

    def _read_memory(self, ipa: int, length_bytes: int) -> Memory | Refused:
        size_bytes = self._config.memory_bytes
        if not 0 < length_bytes <= MAX_MEMORY_READ_BYTES:
            return Refused(f"1 to {MAX_MEMORY_READ_BYTES} bytes can be read at once, not {length_bytes}")
        if not RAM_BASE <= ipa <= RAM_BASE + size_bytes - length_bytes:
            return Refused(f"{length_bytes} bytes at {ipa:#010x} are not all in the guest's memory, which is "
                           f"{RAM_BASE:#010x} to {RAM_BASE + size_bytes - 1:#010x}")
        if self._config.hosts is not None and (away := first_away(self._config, ipa, length_bytes)) is not None:
            return Refused(f"the page at {away:#010x} is on another host, and what this one has of it is old: it can "
                           "be read when a vCPU or a device of the first host has used it")
        # To read, not to map: a hole that is read through a mapping costs memory.
        return Memory(ipa, read_guest(self._config, ipa, length_bytes))


def _report(page: ControlPage, paused: bool) -> bytes:
    """The JSON object that `Status` describes."""
    vcpus = [{**_process(page, vcpu), "power": _POWER[page.power(vcpu)], "pc": page.activity(vcpu)[2],
              "counters": dict(zip(control.COUNTER_NAMES, page.counters(vcpu), strict=True))}
             for vcpu in range(page.vcpus)]
    return json.dumps({"paused": paused, "stops": page.epochs()[0], "vcpus": vcpus,
                       "coordinator": _process(page, control.COORDINATOR),
                       "devices": _process(page, control.DEVICES)}).encode()


def _process(page: ControlPage, slot: int) -> dict[str, object]:
    return {"pid": page.pid(slot), "doing": page.describe(slot)}
