# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's connection to the coordinator.

The worker looks at the coordinator's messages only outside the guest: while it waits for one, and when the control page
says that there is one. Whatever it waits for, it also answers requests for its registers, performs events and obeys a
debugger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from allstop.vcpu_worker.liveness import BEAT_S, Liveness, RunIsOver
from allstop.vcpu_worker.polling import poll
from allstop.vm.control.control import EVENT, ControlPage
from allstop.vm.wire.channel import Channel
from allstop.vm.wire.codec import MalformedError
from allstop.vm.wire.messages import (
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_WORKER,
    ROUTES,
    DumpState,
    Message,
    PerformEvent,
    Shutdown,
    StateDumped,
    StopWorld,
    WorldStopped,
)

M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)
_DEBUGGING = frozenset(
    kind
    for kind in ROUTES
    if (ROLE_DEBUGGER, ROLE_COORDINATOR) in ROUTES[kind]
    and (ROLE_COORDINATOR, ROLE_WORKER) in ROUTES[kind]
    and "vcpu" in kind._fields
)


class CoordinatorLink:
    """The connection of the worker of `vcpu`.

    `dump` gives the vCPU's registers as in StateDumped, `perform` performs an event, and `debug` a debugger's command:
    their owners set them.
    """

    def __init__(self, channel: Channel, vcpu: int, control_page: ControlPage, liveness: Liveness) -> None:
        self._channel = channel
        self._option = channel.socket.getsockopt
        self._vcpu = vcpu
        self._control_page = control_page
        self._liveness = liveness
        self.dump: Callable[[], bytes] = bytes
        self.perform: Callable[[PerformEvent], None] = lambda message: None
        self.debug: Callable[[Message], None] = lambda message: None

    def tell(self, message: Message) -> None:
        """Send a message."""
        self._channel.send(message)

    def stop_world(self, reason: str, may_share: bool) -> WorldStopped:
        """Ask for the stopped world, and wait for the grant. Raises RunIsOver."""
        polls = self._control_page.may_poll(self._vcpu)  # before the others leave: while they do, they need the cores
        self._control_page.head_start(self._vcpu)
        self._channel.send(StopWorld(reason, may_share))
        if polls:
            poll(self._option)
        return self.wait(WorldStopped)

    def wait(self, kind: type[M]) -> M:
        """The next message of this kind; others are attended to. Raises RunIsOver."""
        return self.wait_either(kind, kind)

    def wait_either(self, kind: type[M], other: type[N]) -> M | N:
        """The next message of one of two kinds; others are attended to. Raises RunIsOver."""
        while True:
            try:
                message = self._channel.receive(BEAT_S)
            except MalformedError:
                continue
            if isinstance(message, (kind, other)):
                return message
            self._liveness.beat()  # also under a flood of requests
            if message is not None:
                self._attend(message)

    def drain(self) -> None:
        """Attend to every message that is here. The control page's request may be here before the message: wait a beat
        for the first one. Raises RunIsOver."""
        timeout_s = BEAT_S
        with contextlib.suppress(MalformedError):
            while (message := self._channel.receive(timeout_s)) is not None:
                self._liveness.beat()
                self._attend(message)
                timeout_s = 0.0

    def attend(self) -> None:
        """Wait a beat for a message, and do what it says. Raises RunIsOver."""
        with contextlib.suppress(MalformedError):
            message = self._channel.receive(BEAT_S)
            self._liveness.beat()
            if message is not None:
                self._attend(message)

    def _attend(self, message: Message) -> None:
        if isinstance(message, DumpState):
            self._control_page.clear(self._vcpu, EVENT)
            self._channel.send(StateDumped(message.nonce, self.dump()))
        elif isinstance(message, PerformEvent):
            self._control_page.clear(self._vcpu, EVENT)
            self.perform(message)
        elif message.__class__ in _DEBUGGING:
            self._control_page.clear(self._vcpu, EVENT)  # the next one is not sent before this one is answered
            self.debug(message)
        elif message.__class__ is Shutdown:
            raise RunIsOver
