# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's input on its way to the device server: the window of input that the devices accept limits what is sent.

The rest waits here. A pipe, a file or a socket is not read while input waits. A terminal is, because its escape key
must work; then at most MAX_WAITING_BYTES are kept, and the rest is dropped and counted.
"""

from __future__ import annotations

import zmq

from allstop.vm.config.machine import MachineConfig
from allstop.vm.wire.channel import LAUNCHER, Channel, ChannelError
from allstop.vm.wire.codec import MalformedError
from allstop.vm.wire.messages import INPUT_WINDOW_BYTES, ROLE_LAUNCHER, ConsoleInput, ConsoleInputTaken, Welcome

MAX_WAITING_BYTES = 1 << 18


class ConsoleFeed:
    """One connection to the device server, from `open` to `close`."""

    def __init__(self) -> None:
        self.dropped_bytes = 0
        self._waiting = bytearray()
        self._credit = 0
        self._channel: Channel | None = None

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """What to poll; call `receive` when a message has come."""
        return None if self._channel is None else self._channel.socket

    @property
    def is_idle(self) -> bool:
        """Whether no input waits, and more could be sent."""
        return self._credit > 0 and not self._waiting

    def open(self, context: zmq.Context[zmq.Socket[bytes]], config: MachineConfig) -> None:
        """Connect; input that is added before the server is up waits."""
        self._channel = Channel.connect(context, config.devices_endpoint, LAUNCHER, config.token, ROLE_LAUNCHER)
        self._channel.socket.sndtimeo = 0  # the launcher never blocks

    def add(self, data: bytes) -> None:
        """Send more input."""
        room = max(0, MAX_WAITING_BYTES - len(self._waiting))
        self.dropped_bytes += max(0, len(data) - room)
        self._waiting += data[:room]
        self._send()

    def receive(self) -> None:
        """Take the device server's messages."""
        while self._channel is not None:
            try:
                message = self._channel.receive(0)
            except MalformedError:
                continue
            if message is None:
                return
            if isinstance(message, Welcome):
                self._credit = INPUT_WINDOW_BYTES
            elif isinstance(message, ConsoleInputTaken):
                self._credit += message.taken_bytes
            self._send()

    def close(self) -> None:
        """Disconnect."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _send(self) -> None:
        while self._waiting and self._credit > 0 and self._channel is not None:
            data = bytes(self._waiting[: self._credit])
            try:
                self._channel.send(ConsoleInput(data))
            except ChannelError:
                return  # a server that reads nothing hangs, which the watchdog finds; `add` and `receive` try again
            self._credit -= len(data)
            del self._waiting[: len(data)]
