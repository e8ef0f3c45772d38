# SPDX-License-Identifier: GPL-2.0-or-later
"""The debugger's part of the coordinator's service: its commands to vCPUs, and what they answer."""

from __future__ import annotations

from collections.abc import Callable

from allstop.coordinator.events.retransmit import EventRetransmit
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import DEBUGGER, worker_identity
from allstop.vm.wire.messages import Boot, DebugDone, DebuggerReady, MembersReady, Message, RunEnded, VcpuHit


class Debugging:
    """Passes messages on. `send(identity, message)` sends; `boot(message)` boots the machine."""

    def __init__(
        self,
        config: MachineConfig,
        control_page: ControlPage,
        send: Callable[[bytes, Message], None],
        boot: Callable[[Boot], None],
    ) -> None:
        self._config = config
        self._send = send
        self._boot = boot
        self._is_here = False
        self._all_here = False
        self._ready = config.gdb is None or not config.gdb.waits
        self._boot_message: Boot | None = None
        self._retransmit = EventRetransmit(control_page)  # a vCPU has one command at a time

    def joined(self) -> None:
        """The gdb server has said Hello."""
        self._is_here = True
        self._announce()

    def all_here(self) -> None:
        """Every worker has."""
        self._all_here = True
        self._announce()

    def booted(self, message: Boot) -> None:
        """The launcher wants the machine to boot: now, or when the debugger is ready."""
        self._boot_message = message
        if self._ready:
            self._boot(message)

    def ended(self, message: RunEnded) -> None:
        """The run has a verdict."""
        if self._is_here:
            self._send(DEBUGGER, message)

    def take(self, message: Message, vcpu: int) -> bool:
        """A message of the debugger's, or of the worker of `vcpu` to it; False where it makes no sense."""
        match message:
            case DebuggerReady():
                if not self._ready and self._boot_message is not None:
                    self._boot(self._boot_message)
                self._ready = True
            case DebugDone() | VcpuHit():
                if message.vcpu != vcpu:
                    return False
                if isinstance(message, DebugDone):
                    self._retransmit.answered(vcpu, 0)
                self._send(DEBUGGER, message)
            case _:
                target: int = getattr(message, "vcpu", -1)
                if not 0 <= target < self._config.vcpus:
                    return False
                self._retransmit.asked(target, 0)
                self._send(worker_identity(target), message)
        return True

    def look(self) -> None:
        """Time has passed."""
        self._retransmit.look()

    def _announce(self) -> None:
        if self._is_here and self._all_here:
            self._send(DEBUGGER, MembersReady(self._config.vcpus))
