# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb server's one file with I/O: a TCP socket that listens, one client, the coordinator."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import zmq

from allstop.gdbserver.commands import Commands
from allstop.gdbserver.framing import Framing, Interrupt, Packet
from allstop.gdbserver.session import (
    Ask,
    Attached,
    Effect,
    Gone,
    HangUp,
    Input,
    Interrupted,
    NoAcks,
    Passed,
    Received,
    Reply,
    Say,
    Session,
    Told,
)
from allstop.vm.config.machine import GdbSpec, MachineConfig
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import DEBUGGER, Channel
from allstop.vm.wire.codec import MalformedError
from allstop.vm.wire.messages import ROLE_DEBUGGER, Message, Shutdown, WorldStopped

_BEAT_S = 0.2
_LAST_BYTES_S = 0.5
_READ_BYTES = 1 << 16
_MAX_UNSENT_BYTES = 1 << 20
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_WORDS = {control.ACTIVITY_OFF: "switched off", control.ACTIVITY_WFI: "asleep in WFI"}


class _Client:
    """A connection, with the bytes that wait to be sent."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.framing = Framing()
        self.unsent = bytearray()
        self.leaving = False
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def send(self) -> bool:
        """Send as much as the socket takes; False for a broken connection."""
        try:
            while self.unsent:
                del self.unsent[: self.connection.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return len(self.unsent) <= _MAX_UNSENT_BYTES


class Server:
    """The gdb server of one machine. `serve` returns when the machine ends. It raises OSError when another program
    has its port."""

    def __init__(self, config: MachineConfig, spec: GdbSpec, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Connect to the coordinator. Raises ChannelError."""
        self._control_page = ControlPage(config.fds.control)
        self._control_page.set_pid(control.DEBUGGER, os.getpid())
        self._control_page.set_activity(control.DEBUGGER, control.ACTIVITY_IDLE)
        self._notice_fd = spec.notice_fd
        self._listener = socket.socket(fileno=spec.fd)
        self._listener.setblocking(False)
        self._channel = Channel.open(context, config.coordinator_endpoint, DEBUGGER, config.token, ROLE_DEBUGGER)
        self._session = Session(config.vcpus, spec.waits, Commands)
        self._client: _Client | None = None
        self._listening = False
        self._over = False

    def serve(self) -> None:
        """Work until Shutdown."""
        poller = zmq.Poller()
        poller.register(self._channel.socket, zmq.POLLIN)
        while not self._over:
            self._control_page.beat(control.DEBUGGER)
            fds = self._watched()
            for fd, events in fds.items():
                poller.register(fd, events)
            wait_s = self._session.wait_s
            ready = dict(poller.poll(int(1000 * (_BEAT_S if wait_s is None else min(wait_s, _BEAT_S))) + 1))
            for fd in fds:
                poller.unregister(fd)
            if self._channel.socket in ready:
                self._hear()
            client = self._client
            if client is not None and client.connection.fileno() in ready:
                self._attend(client)
            if self._listener.fileno() in ready:
                self._accept()
            self._handle(Passed())
        self._say_good_bye()

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.connection.close()
        self._listener.close()
        self._channel.close()

    def _watched(self) -> dict[int, int]:
        """Descriptors to wait for. No client can connect before the machine is up: gdb retries a connection, but once
        connected it repeats a packet that has no answer within two seconds. A second client is refused."""
        fds: dict[int, int] = {}
        client = self._client
        if not self._listening and self._session.ready and self._is_booted():
            self._listener.listen(1)
            self._listening = True
        if client is not None:
            fds[client.connection.fileno()] = zmq.POLLIN | (zmq.POLLOUT if client.unsent else 0)
        if self._listening:
            fds[self._listener.fileno()] = zmq.POLLIN
        return fds

    def _is_booted(self) -> bool:
        return any(self._control_page.power(vcpu) == control.POWER_ON for vcpu in range(self._control_page.vcpus))

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if self._client is not None:
            connection.close()
            return
        self._client = _Client(connection)
        self._handle(Attached(self._doing()))

    def _attend(self, client: _Client) -> None:
        """Read from the client, and write the waiting bytes."""
        try:
            data = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"" or not client.send():
            self._drop(client)
            return
        for received in client.framing.receive(data or b""):
            if self._client is not client:
                return
            if isinstance(received, Packet):
                self._handle(Received(received.payload))
            elif isinstance(received, Interrupt):
                self._handle(Interrupted())
            else:
                client.unsent += received.data
        self._flush(client)

    def _flush(self, client: _Client) -> None:
        if self._client is client and (not client.send() or client.leaving and not client.unsent):
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        client.connection.close()
        self._client = None
        self._handle(Gone())

    def _hear(self) -> None:
        while True:
            try:
                message: Message | None = self._channel.receive(0)
            except MalformedError:
                continue
            if message is None:
                return
            self._handle(Told(message, self._doing() if isinstance(message, WorldStopped) else ()))
            if isinstance(message, Shutdown):
                self._over = True
                return

    def _doing(self) -> tuple[str, ...]:
        """What each vCPU is doing, or was doing when it was stopped, as text."""
        return tuple(
            _WORDS.get(self._control_page.activity(vcpu)[0], "running") for vcpu in range(self._control_page.vcpus)
        )

    def _handle(self, given: Input) -> None:
        for effect in self._session.handle(given, time.monotonic()):
            self._perform(effect)
        if self._client is not None:
            self._flush(self._client)

    def _perform(self, effect: Effect) -> None:
        client = self._client
        match effect:
            case Ask(message):
                self._channel.send(message)
            case Say(sentence):
                self._say(sentence)
            case Reply(payload) if client is not None:
                client.unsent += client.framing.encode(payload)
            case NoAcks() if client is not None:
                client.framing.acknowledges = False
            case HangUp() if client is not None:
                client.leaving = True

    def _say(self, sentence: str) -> None:
        """Print a line for the user, and to our log."""
        for fd, prefix in ((self._notice_fd, "allstop: "), (2, "")):
            with contextlib.suppress(OSError):
                os.write(fd, f"{prefix}{sentence}\n".encode())

    def _say_good_bye(self) -> None:
        """Give the client a moment to read how the machine has ended."""
        client = self._client
        if client is None:
            return
        client.connection.settimeout(_LAST_BYTES_S)
        with contextlib.suppress(OSError):
            client.connection.sendall(client.unsent)
            client.connection.shutdown(socket.SHUT_WR)
