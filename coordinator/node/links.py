# SPDX-License-Identifier: GPL-2.0-or-later
"""The connections between nodes: a DEALER to each other host's node, and which nodes may connect to this one."""

from __future__ import annotations

import hmac
import time

import zmq

from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.admission import Peer, RefusedError, may_send
from allstop.vm.wire.channel import ChannelError, node_identity
from allstop.vm.wire.codec import encode
from allstop.vm.wire.message import Message
from allstop.vm.wire.messages import PROTOCOL_VERSION, ROLE_NODE, NodeHello, NodePing
from allstop.vm.wire.security import Breaks, KeyPair, secure

_BREAK_S = 0.9
_RECONNECT_MS = 20
_LINGER_MS = 100
_NONCES = 0x7FFF_FFFF


class NodeError(RuntimeError):
    """The node cannot go on; one sentence."""


class NodeGate:
    """Admits the other hosts' nodes to that of `hosts.index`; `token` is the run's. A Peer's `vcpu` is its host."""

    greeting: type[Message] = NodeHello

    def __init__(self, hosts: HostsSpec, token: bytes) -> None:
        self._hosts = hosts
        self._token = token

    def admit(self, identity: bytes, key: str | None, message: Message, known: Peer | None) -> Peer:
        """See allstop.vm.wire.admission.Gate."""
        assert isinstance(message, NodeHello)
        hosts, host = self._hosts, message.host
        if known is not None:
            raise RefusedError("a NodeHello of a node that is known")
        fits = (
            host < len(hosts.endpoints)
            and host != hosts.index
            and identity == node_identity(host)
            and key == hosts.public_keys[host]
        )
        is_ours = message.version == PROTOCOL_VERSION and hmac.compare_digest(message.token, self._token)
        if not fits or not is_ours:
            raise RefusedError("a NodeHello of another run or version")
        return Peer(ROLE_NODE, host, 0, may_send(ROLE_NODE, ROLE_NODE) - {NodeHello})


class NodeLinks:
    """Of the node of `hosts.index`; `token` is the run's. Raises ChannelError where an address cannot be called."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], hosts: HostsSpec, token: bytes) -> None:
        self._hosts = hosts
        self._breaks: dict[int, Breaks] = {}
        others = [host for host in range(len(hosts.endpoints)) if host != hosts.index]
        self._sockets = {host: self._call(context, host, token) for host in others}
        self._heard_s = dict.fromkeys(others, time.monotonic())
        self._ping = 0

    def send(self, host: int, message: Message) -> None:
        """To this host's node."""
        self._sockets[host].send(encode(message))

    def heard(self, host: int) -> None:
        """It has sent a message."""
        self._heard_s[host] = time.monotonic()

    def beat(self, now_s: float) -> None:
        """Ping all of them. Raises NodeError when one has been silent for too long, or its connection has lost
        messages."""
        hosts, own = self._hosts, self._hosts.names[self._hosts.index]
        self._ping += 1
        for host, heard_s in self._heard_s.items():
            if now_s - heard_s > hosts.deadline_s:
                raise NodeError(
                    f"the node of host {hosts.names[host]} has not been heard of by that of host {own} for "
                    f"{hosts.deadline_s:g} s"
                )
            if self._breaks[host].broken_s(now_s) > _BREAK_S:  # at the run's end the others may leave first
                raise NodeError(
                    f"the connection from the node of host {own} to that of host {hosts.names[host]} was "
                    "broken, and what was on its way is lost"
                )
            self.send(host, NodePing(self._ping & _NONCES))

    def close(self) -> None:
        """Close the sockets."""
        for host, socket in self._sockets.items():
            self._breaks[host].close()
            socket.close(_LINGER_MS)

    def _call(self, context: zmq.Context[zmq.Socket[bytes]], host: int, token: bytes) -> zmq.Socket[bytes]:
        hosts = self._hosts
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.IDENTITY, node_identity(hosts.index))
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        secure(
            socket,
            KeyPair(hosts.public_keys[hosts.index], hosts.secret_key),
            hosts.public_keys[host],
            hosts.endpoints[host],
        )
        self._breaks[host] = Breaks(socket)
        try:
            socket.connect(hosts.endpoints[host])
        except zmq.ZMQError as error:
            raise ChannelError(f"cannot connect to {hosts.endpoints[host]}: {error}") from None
        socket.send(encode(NodeHello(PROTOCOL_VERSION, token, hosts.index)))
        return socket
