# SPDX-License-Identifier: GPL-2.0-or-later
"""A server: one ROUTER, the peers that it admits, and the messages that it takes from them.

The coordinator, the device server, a host's node and the launcher's end of the agents are each one `Server` with a
function that obeys. This is where their common I/O is; `admission` decides which peers are admitted. Nothing that a
peer sends may raise out of `take`: what is refused is counted by its reason and forgotten.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Generic, NamedTuple

import zmq

from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.wire.admission import MALFORMED, SEVERAL_FRAMES, WITHOUT_KEY, Admission, P, RefusedError
from allstop.vm.wire.channel import ChannelError, call, listen
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import PROTOCOL_VERSION, Hello, Message, Ping, Pong, Welcome
from allstop.vm.wire.security import Guard, KeyPair, key_of, open_to_hosts

MESSAGES_AT_ONCE = 64
"""How many messages `take_waiting` takes at most: then it is the turn of whatever else the process has to do."""
_REASONS_TOLD = 10
_ANSWERED = frozenset({Hello, Ping})


class HostsListener(NamedTuple):
    """A server's door for the machine's other hosts: TCP on `fd`, which is bound to `endpoint` and listens, with CURVE
    under `keys`, for the public keys `admitted`. A connection is given up when nothing has come for `silence_s`."""

    endpoint: str
    fd: int
    keys: KeyPair
    admitted: tuple[str, ...]
    silence_s: float

    @classmethod
    def of(cls, hosts: HostsSpec | None, place: int) -> HostsListener | None:
        """None where there are no other hosts. `place` is that of the server's descriptor in `listen_fds`: 0 the
        node's, 1 the coordinator's, 2 the device server's."""
        if hosts is None:
            return None
        endpoint = (hosts.endpoints[hosts.index], hosts.coordinator_endpoint, hosts.devices_endpoint)[place]
        keys = KeyPair(hosts.public_keys[hosts.index], hosts.secret_key)
        return cls(endpoint, hosts.listen_fds[place], keys, hosts.public_keys, 2 * hosts.deadline_s)


class Callee(NamedTuple):
    """Another server, which this one connects to with the socket on which it listens, and greets with `hello`. It goes
    by `name` here, and this server by `own_name` there."""

    endpoint: str
    name: bytes
    own_name: bytes
    hello: Hello


class Server(Generic[P]):
    """Listens at `endpoint` (None: for other hosts only) and at `hosts`. Raises ChannelError.

    `obey(identity, peer, message)` does what an admitted peer says, a greeting that was accepted included; it may raise
    RefusedError. Hello is answered with Welcome, and Ping with Pong, before it is called. A limit of 0 lets as
    many messages wait as come.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        admission: Admission[P],
        obey: Callable[[bytes, P, Message], None],
        endpoint: str | None = None,
        hosts: HostsListener | None = None,
        callee: Callee | None = None,
        send_limit: int | None = None,
        receive_limit: int | None = None,
    ) -> None:
        self.socket = listen(context, endpoint, None if callee is None else callee.own_name, send_limit, receive_limit)
        if callee is not None:  # before `_open`: what is connected later would be so with CURVE
            call(self.socket, callee.endpoint, callee.name, callee.hello)
        self.peers = admission.peers
        self._admission = admission
        self._obey = obey
        self._receive, self._emit, self._option = self.socket.recv, self.socket.send, self.socket.getsockopt
        self._guard: Guard | None = None
        self._connections = 0
        self._wait_ms = -1
        if hosts is not None:
            self._open(context, hosts)

    def _open(self, context: zmq.Context[zmq.Socket[bytes]], hosts: HostsListener) -> None:
        self._guard = Guard(context, hosts.admitted)
        try:
            open_to_hosts(self.socket, hosts.endpoint, hosts.fd, hosts.keys, hosts.silence_s)
        except zmq.ZMQError as error:
            self._guard.close()
            self.socket.close()
            raise ChannelError(f"cannot listen on {hosts.endpoint}: {error}") from None
        self._guard.watch(self.socket)

    @property
    def refused(self) -> Counter[str]:
        """How many messages were refused, by reason, and connections."""
        refused = self._admission.refused
        refused[WITHOUT_KEY] = 0 if self._guard is None else self._guard.refused
        return +refused

    def wait_at_most(self, wait_ms: int) -> None:
        """How long `take` waits from now on."""
        if wait_ms != self._wait_ms:
            self.socket.rcvtimeo = self._wait_ms = wait_ms

    def take(self, flags: int = 0) -> bool:
        """Take one message, and have it obeyed or count it as refused; False when none came in time."""
        receive = self._receive
        try:
            identity = receive(flags)
        except zmq.Again:
            return False
        guard, admission = self._guard, self._admission
        if guard is not None and guard.admitted != self._connections:
            self._connections = guard.admitted
            admission.connected()
        # A ROUTER never yields an identity alone. The frame of a name that is not sure is kept: it knows its key.
        frame = None if identity in admission.sure else receive(copy=False)
        data = receive() if frame is None else frame.bytes
        if self._option(zmq.RCVMORE):
            self._skip_rest()
            return True
        try:
            message = decode(data)
        except MalformedError:
            admission.refused[MALFORMED] += 1
            return True
        try:
            peer = admission.judge(identity, message, None if frame is None else key_of(frame))
            if message.__class__ in _ANSWERED:
                self._answer(identity, message)
            self._obey(identity, peer, message)
        except RefusedError as error:
            admission.refused[str(error)] += 1
        return True

    def take_waiting(self, most: int = MESSAGES_AT_ONCE) -> bool:
        """Take what is here already, `most` messages at most; True when there may be more."""
        return all(self.take(zmq.NOBLOCK) for _ in range(most))

    def send(self, identity: bytes, message: Message) -> None:
        """To one peer. A peer that is gone, or takes nothing, does not get it: a ROUTER drops."""
        self._emit(identity, zmq.SNDMORE)
        self._emit(encode(message))

    def send_encoded(self, identity: bytes, data: bytes) -> None:
        """The same, of what `encode` made."""
        self._emit(identity, zmq.SNDMORE)
        self._emit(data)

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket, after giving the last messages time to leave."""
        self.socket.close(linger_ms)
        if self._guard is not None:
            self._guard.close()

    def refusals(self, who: str) -> list[str]:
        """What the process `who` has refused, in sentences, the most frequent first."""
        return [f"{who}: refused {count} x {reason}" for reason, count in self.refused.most_common(_REASONS_TOLD)]

    def report_refusals(self, config: MachineConfig, who: str) -> None:
        """Say in the process's log what was refused and, where the machine is on several hosts and strangers may call,
        in the verdict's notes, too."""
        for refusal in self.refusals(who):
            line = refusal + "\n"
            sys.stderr.write(line)
            if config.hosts is not None and config.fds.notes >= 0:
                os.write(config.fds.notes, line.encode(errors="replace"))

    def _answer(self, identity: bytes, message: Message) -> None:
        if isinstance(message, Ping):
            self.send(identity, Pong(message.nonce))
        else:
            self.send(identity, Welcome(PROTOCOL_VERSION, os.getpid()))

    def _skip_rest(self) -> None:
        """Drop the frames of a message that has too many: left there, the next would pass for an identity."""
        while self._option(zmq.RCVMORE):
            self._receive()
        self._admission.refused[SEVERAL_FRAMES] += 1
