# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's input on its way to the device server: no more is sent than the devices are known to take soon.

The rest waits here. Whoever can be made to wait (a pipe, a file, a socket) is not read while something waits; a
terminal is, for its escape key must work, and then MAX_WAITING_BYTES are kept, and what comes on top is dropped and
counted.
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
        """What to poll; `receive` when something has come."""
        return None if self._channel is None else self._channel.socket

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and more could be sent."""
        return self._credit > 0 and not self._waiting

    def open(self, context: zmq.Context[zmq.Socket[bytes]], config: MachineConfig) -> None:
        """Connect; what is added before the server is there waits for it."""
        self._channel = Channel.connect(context, config.devices_endpoint, LAUNCHER, config.token, ROLE_LAUNCHER)
        self._channel.socket.sndtimeo = 0  # the launcher waits for nobody

    def add(self, data: bytes) -> None:
        """More has been typed."""
        room = max(0, MAX_WAITING_BYTES - len(self._waiting))
        self.dropped_bytes += max(0, len(data) - room)
        self._waiting += data[:room]
        self._send()

    def receive(self) -> None:
        """Take what the device server says."""
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
                return  # a server that reads nothing is about to be found out; `add` and `receive` try again
            self._credit -= len(data)
            del self._waiting[: len(data)]
