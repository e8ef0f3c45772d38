# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ends of a connection: a server's ROUTER (`listen`) and a peer's DEALER (`Channel`).

A server (the coordinator, the device server) has one ROUTER; every peer connects one DEALER under an identity of its
own. A frame is one encoded message. The first message of a peer is Hello, with the run's token, and the server's
first answer is Welcome: before that nothing is answered, so a peer that is refused learns it from its deadline.

Two things keep strangers out beside the token: an ipc endpoint accepts processes of the same user only, and an
identity that is connected cannot be taken over by another connection (ROUTER_HANDOVER stays off), or the second
connection would inherit the Hello of the first.
"""

from __future__ import annotations

import os
from types import TracebackType

import zmq

from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    MAX_BLOB,
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_NODE,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
    Message,
    Welcome,
)
from allstop.vm.wire.security import KeyPair, secure

LAUNCHER = b"launcher"
COORDINATOR = b"coordinator"
DEVICES = b"devicesrv"
DEBUGGER = b"gdbserver"
OPERATOR_PREFIX = b"op-"
HELLO_DEADLINE_S = 10.0
_SEND_DEADLINE_MS = 2000
_RECONNECT_MS = 5
MAX_FRAME_BYTES = MAX_BLOB + 65536


class ChannelError(RuntimeError):
    """A peer could not be reached, or does not speak our protocol; the text is one sentence."""


def node_identity(host: int) -> bytes:
    """The identity under which the node of `host` connects to others."""
    return b"n%d" % host


def worker_identity(vcpu: int) -> bytes:
    """The identity under which the worker of `vcpu` connects."""
    return b"w%d" % vcpu


def identity_fits(identity: bytes, hello: Hello) -> bool:
    """Whether a peer that says `hello` may call itself `identity`."""
    if hello.role == ROLE_WORKER:
        return identity == worker_identity(hello.vcpu)
    if hello.role == ROLE_NODE:
        return identity == node_identity(hello.vcpu)
    if hello.role == ROLE_OPERATOR:
        return identity.startswith(OPERATOR_PREFIX)
    return identity == {
        ROLE_LAUNCHER: LAUNCHER,
        ROLE_COORDINATOR: COORDINATOR,
        ROLE_DEVICES: DEVICES,
        ROLE_DEBUGGER: DEBUGGER,
    }.get(hello.role)


def listen(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str | None,
    identity: bytes | None = None,
    send_limit: int | None = None,
    receive_limit: int | None = None,
) -> zmq.Socket[bytes]:
    """A ROUTER bound to `endpoint`, if any; it drops what it cannot deliver. `identity` is its name where it connects
    (see `call`). The limits are of the messages that may wait for each peer, 0 for as many as come. Raises ChannelError
    when the address is taken or wrong."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    for option, value in ((zmq.IDENTITY, identity), (zmq.SNDHWM, send_limit), (zmq.RCVHWM, receive_limit)):
        if value is not None:
            socket.setsockopt(option, value)
    if endpoint is None:
        return socket
    if endpoint.startswith("ipc:"):
        socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ChannelError(f"cannot listen on {endpoint}: {error}") from None
    return socket


def call(router: zmq.Socket[bytes], endpoint: str, name: bytes, hello: Hello) -> None:
    """Connect a server's ROUTER to another server, which goes by `name` there from now on, and say Hello to it.

    A server that has one socket can wait in one plain receive, which is quicker than to poll several. The other server
    need not be there yet. Raises ChannelError when the address is wrong."""
    router.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    router.setsockopt(zmq.CONNECT_ROUTING_ID, name)
    try:
        router.connect(endpoint)
    except zmq.ZMQError as error:
        raise ChannelError(f"cannot connect to {endpoint}: {error}") from None
    router.send_multipart((name, encode(hello)))


class Channel:
    """A peer's connection to a server, after a successful handshake. Use from one thread."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.socket = socket
        self.endpoint = endpoint
        self._send = socket.send
        self._receive = socket.recv
        self._timeout_ms: int | None = None

    @classmethod
    def connect(
        cls,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        token: str,
        role: int,
        vcpu: int = 0,
        server: str = "",
        keys: KeyPair | None = None,
    ) -> Channel:
        """Connect as `identity` and say Hello with `token` (hex), without waiting: Welcome is the first message to
        come, if one comes. The server need not be there yet. On another host, it is the one with the public key
        `server`, and `keys` are ours. Raises ChannelError when the address is wrong."""
        socket = context.socket(zmq.DEALER)
        if keys is not None:
            secure(socket, keys, server, endpoint)
        socket.linger = 0
        socket.setsockopt(zmq.IDENTITY, identity)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.SNDTIMEO, _SEND_DEADLINE_MS)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise ChannelError(f"cannot connect to {endpoint}: {error}") from None
        channel = cls(socket, endpoint)
        channel.send(Hello(PROTOCOL_VERSION, bytes.fromhex(token), role, vcpu, os.getpid()))
        return channel

    @classmethod
    def open(
        cls,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        token: str,
        role: int,
        vcpu: int = 0,
        deadline_s: float = HELLO_DEADLINE_S,
        server: str = "",
        keys: KeyPair | None = None,
    ) -> Channel:
        """`connect`, and wait for Welcome at most `deadline_s`.

        Raises ChannelError without a Welcome in time, which is also what a wrong token looks like."""
        channel = cls.connect(context, endpoint, identity, token, role, vcpu, server, keys)
        try:
            reply = channel.receive(deadline_s)
            if reply is None:
                raise ChannelError(
                    f"no server at {endpoint} welcomed us within {deadline_s:g} s: it is not there, or it has another "
                    f"token or protocol version than {PROTOCOL_VERSION}"
                )
            if reply.__class__ is not Welcome:
                raise ChannelError(f"{endpoint} answered our Hello with {reply.__class__.__name__}, not Welcome")
        except BaseException:
            channel.close()
            raise
        return channel

    def send(self, message: Message) -> None:
        """Queue one message. Raises ChannelError when the queue is full and does not move."""
        try:
            self._send(encode(message))
        except zmq.Again:
            raise ChannelError(f"{self.endpoint} takes no more messages") from None

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None when none came within `timeout_s` (0: only what is here already).

        Raises MalformedError when it does not decode."""
        timeout_ms = int(timeout_s * 1000) if timeout_s > 0 else 0
        if timeout_ms != self._timeout_ms:
            self.socket.rcvtimeo = timeout_ms
            self._timeout_ms = timeout_ms
        try:
            data = self._receive()
        except zmq.Again:
            return None
        return decode(data)

    def close(self, linger_s: float = 0.0) -> None:
        """Disconnect; what was sent but not yet taken over by the kernel gets `linger_s` to leave. Idempotent."""
        self.socket.close(int(linger_s * 1000))

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
