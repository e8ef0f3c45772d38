# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's two connections, and the one way in which it waits for an answer.

While it waits, a worker is outside the guest, beats, and leaves when the run is over. A device's answer that does not
come is asked for again with the same sequence number, which the device server does not perform twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import zmq

from allstop.vcpu_worker.devices.oracle import AccessOracle
from allstop.vm import board
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import (
    ACTIVITY_MMIO,
    ACTIVITY_SEMIHOSTING,
    COUNT_RESENT,
    COUNT_STALE,
    EVENT,
    HISTOGRAM_MMIO,
    QUIT,
    ControlPage,
)
from allstop.vm.wire.channel import Channel, ChannelError, worker_identity
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    MMIO_OK,
    MMIO_UNASSIGNED,
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_WORKER,
    ROUTES,
    DumpState,
    HostCall,
    HostReturn,
    Message,
    MmioReply,
    MmioRequest,
    PerformEvent,
    PpiLevel,
    PpiReply,
    Shutdown,
    StateDumped,
    StopWorld,
    WorldStopped,
)
from allstop.vm.wire.security import Breaks, KeyPair

if TYPE_CHECKING:
    from allstop.vm.journal.recorder import Recorder

BEAT_S = 0.25
RESEND_BEATS = 2
_BREAK_S = 0.9
_POLL_NS = 200_000  # some answers' time; after that, waking up costs little beside the wait
M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)
R = TypeVar("R", MmioReply, PpiReply, HostReturn)
_POLLIN = int(zmq.POLLIN)
_DEBUGGING = frozenset(
    kind
    for kind, route in ROUTES.items()
    if (ROLE_DEBUGGER, ROLE_COORDINATOR) in route
    and (ROLE_COORDINATOR, ROLE_WORKER) in route
    and "vcpu" in kind._fields
)
_now_ns = time.perf_counter_ns


class RunIsOver(Exception):
    """The machine shuts down: leave, cleanly."""


class Links:
    """The connections of the worker of `vcpu`.

    `dump` gives the vCPU's registers as in StateDumped: whenever the worker looks at the coordinator's messages, and so
    is outside the guest, it answers to who asks for them. `perform` takes an event, likewise, and `debug` a debugger's
    command.
    """

    def __init__(self, config: MachineConfig, page: ControlPage, vcpu: int, journal: Recorder | None = None) -> None:
        self._page = page
        self.journal = journal
        self.dump: Callable[[], bytes] = bytes
        self.perform: Callable[[PerformEvent], None] = lambda message: None
        self.debug: Callable[[Message], None] = lambda message: None
        self._vcpu = vcpu
        self._context = zmq.Context(1)
        identity = worker_identity(vcpu)
        hosts = config.hosts
        keys = None if hosts is None or hosts.index == 0 else KeyPair(hosts.public_keys[hosts.index], hosts.secret_key)
        server = "" if hosts is None else hosts.public_keys[0]
        self._devices = Channel.open(
            self._context, config.devices_endpoint, identity, config.token, ROLE_WORKER, vcpu, server=server, keys=keys
        )
        self._coordinator = Channel.open(
            self._context,
            config.coordinator_endpoint,
            identity,
            config.token,
            ROLE_WORKER,
            vcpu,
            server=server,
            keys=keys,
        )
        far = (self._devices, self._coordinator) if keys is not None else ()
        self._breaks = [Breaks(channel.socket) for channel in far]
        self._devices.socket.rcvtimeo = int(BEAT_S * 1000)
        self._send = self._devices.socket.send
        self._receive = self._devices.socket.recv
        self._device_option = self._devices.socket.getsockopt
        self._coordinator_option = self._coordinator.socket.getsockopt
        self._sequence = 0
        self._ppis = 0
        self._calls = 0
        self._oracle = AccessOracle(vcpu, page, self.tell, journal, config.keep_going, keys is not None)

    def close(self) -> None:
        """Disconnect; what the coordinator has yet to read gets a moment."""
        for breaks in self._breaks:
            breaks.close()
        self._coordinator.close(linger_s=0.2)
        self._devices.close()
        self._context.term()

    def mmio(self, ipa: int, size: int, is_write: bool, value: int) -> MmioReply:
        """One access to a device, performed exactly once. Raises RunIsOver."""
        started = _now_ns()
        self._sequence = sequence = self._sequence + 1
        page = self._page
        page.set_activity(self._vcpu, ACTIVITY_MMIO, ipa)
        page.issue_access(self._vcpu)
        reply = self._ask(MmioRequest(sequence, ipa, size, is_write, value), MmioReply, sequence)
        page.record(self._vcpu, HISTOGRAM_MMIO, _now_ns() - started)
        if reply.status == MMIO_OK or reply.status == MMIO_UNASSIGNED:  # else the run ends
            self._oracle.complete(
                ipa, size, is_write, value if is_write else reply.value, reply.status == MMIO_UNASSIGNED
            )
        if (journal := self.journal) is not None:
            journal.span(
                journal.MMIO, self._vcpu, started, ipa, size, is_write, value if is_write else reply.value, reply.status
            )
        return reply

    def tell_ppi(self, intid: int, level: bool) -> int:
        """The level of a private interrupt is this; the vCPU's line, as in MmioReply. Raises RunIsOver."""
        self._ppis += 1
        self._page.set_activity(self._vcpu, ACTIVITY_MMIO, board.GICD_BASE)
        return self._ask(PpiLevel(intid, level, self._ppis), PpiReply, self._ppis).line

    def ask_host(self, operation: int, handle: int, number: int, data: bytes, more: bytes) -> HostReturn:
        """Have the device server perform a semihosting call, exactly once. Raises RunIsOver."""
        self._calls += 1
        self._page.set_activity(self._vcpu, ACTIVITY_SEMIHOSTING, operation)
        return self._ask(HostCall(self._calls, operation, handle, number, data, more), HostReturn, self._calls)

    def _ask(self, message: MmioRequest | PpiLevel | HostCall, kind: type[R], sequence: int) -> R:
        """The device server's answer to a message that it may be sent again."""
        page = self._page
        request = encode(message)
        self._send(request)
        if page.may_poll(self._vcpu):
            self._poll(self._device_option)
        beats = 0
        while True:
            try:
                data = self._receive()
            except zmq.Again:
                self.idle()
                beats += 1
                if beats % RESEND_BEATS == 0:
                    page.count(self._vcpu, COUNT_RESENT)
                    self._send(request)
                continue
            try:
                reply = decode(data)
            except MalformedError:
                reply = None
            if isinstance(reply, kind) and reply.seq == sequence:
                return reply
            page.count(self._vcpu, COUNT_STALE)

    def tell(self, message: Message) -> None:
        """Send to the coordinator."""
        self._coordinator.send(message)

    def stop_world(self, reason: str, may_share: bool) -> WorldStopped:
        """Ask for the stopped world, and have it. Raises RunIsOver."""
        poll = self._page.may_poll(self._vcpu)  # before the others leave: while they do, they need the cores
        self._page.head_start(self._vcpu)
        self._coordinator.send(StopWorld(reason, may_share))
        if poll:
            self._poll(self._coordinator_option)
        return self.wait(WorldStopped)

    def wait(self, kind: type[M]) -> M:
        """The coordinator's next message of this kind; others are dropped. Raises RunIsOver."""
        return self.wait_either(kind, kind)

    def wait_either(self, kind: type[M], other: type[N]) -> M | N:
        """The coordinator's next message of one of two kinds; others are dropped. Raises RunIsOver."""
        while True:
            try:
                message = self._coordinator.receive(BEAT_S)
            except MalformedError:
                continue
            if message is None:
                self.idle()
            elif isinstance(message, (kind, other)):
                return message
            else:
                self.idle()  # who is asked for much all the time lives, too
                self._attend(message)

    def _poll(self, option: Callable[[int], Any]) -> None:
        """Look for a message a short while rather than be woken up by it."""
        until_ns = _now_ns() + _POLL_NS
        while not option(zmq.EVENTS) & _POLLIN and _now_ns() < until_ns:
            pass

    def drain(self) -> None:
        """Look at what the coordinator sends: the request that says so may be here before it. Raises RunIsOver."""
        timeout_s = BEAT_S
        with contextlib.suppress(MalformedError):
            while (message := self._coordinator.receive(timeout_s)) is not None:
                self.idle()
                self._attend(message)
                timeout_s = 0.0

    def attend(self) -> None:
        """Wait a beat for a message, and do what it says. Raises RunIsOver."""
        with contextlib.suppress(MalformedError):
            message = self._coordinator.receive(BEAT_S)
            self.idle()
            if message is not None:
                self._attend(message)

    def _attend(self, message: Message) -> None:
        if isinstance(message, DumpState):
            self._page.clear(self._vcpu, EVENT)
            self._coordinator.send(StateDumped(message.nonce, self.dump()))
        elif isinstance(message, PerformEvent):
            self._page.clear(self._vcpu, EVENT)
            self.perform(message)
        elif message.__class__ in _DEBUGGING:
            self._page.clear(self._vcpu, EVENT)  # the next one is not sent before this one is answered
            self.debug(message)
        elif message.__class__ is Shutdown:
            raise RunIsOver

    def idle(self) -> None:
        """Beat. Raises RunIsOver."""
        self._page.beat(self._vcpu)
        if self._page.requests(self._vcpu) & QUIT:
            raise RunIsOver
        for breaks in self._breaks:
            if breaks.broken_s(time.monotonic()) > _BREAK_S:  # at the run's end the servers may leave first
                raise ChannelError("the connection to the first host was broken, and what was on its way is lost")


def say_last_words(sentence: str) -> None:
    """One line on standard error, which is the process's log."""
    os.write(2, (sentence.rstrip() + "\n").encode())
