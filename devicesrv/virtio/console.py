# SPDX-License-Identifier: GPL-2.0-or-later
"""The console device, one port. Source: virtio 1.2 (OASIS), 5.3."""

from __future__ import annotations

from collections.abc import Callable

from allstop.devicesrv.virtio.function import Function
from allstop.devicesrv.virtio.queue import gather, scatter

RECEIVE, TRANSMIT = 0, 1
LONGEST_OUTPUT_BYTES = 1 << 20  # of one buffer; what goes beyond it is cut off
WAITING_BYTES = 4096


class VirtioConsole(Function):
    """Output goes to `output`; input comes by `receive`."""

    device_id = 3
    queue_sizes = (128, 128)

    def __init__(self, output: Callable[[bytes], None]) -> None:
        super().__init__()
        self._output = output
        self._waiting = bytearray()

    @property
    def listening(self) -> bool:
        """Whether the guest has a driver for it."""
        return self.port.driven

    def receive(self, data: bytes) -> int:
        """Characters arrive from outside. Returns how many were taken: the rest did not fit, and the sender should
        offer it again when the guest has read."""
        taken = min(len(data), WAITING_BYTES - len(self._waiting))
        self._waiting += data[:taken]
        if taken:
            self.port.guard(self._fill)
        return taken

    def notified(self, index: int) -> None:
        if index == RECEIVE:
            self._fill()
            return
        queue = self.port.queue(index)
        while (chain := queue.pop()) is not None:
            length = min(chain.readable_bytes, LONGEST_OUTPUT_BYTES)
            if length:
                self._output(gather(self.port.memory, chain.readable, 0, length))
            queue.push(chain, 0)
        self.port.signal(queue)

    def reset(self) -> None:
        self._waiting.clear()

    def _fill(self) -> None:
        """Put waiting input into the driver's buffers. Raises QueueBrokenError, AccessError."""
        queue = self.port.queue(RECEIVE)
        while self._waiting and (chain := queue.pop()) is not None:
            data = bytes(self._waiting[: chain.writable_bytes])
            scatter(self.port.memory, chain.writable, 0, data)
            del self._waiting[: len(data)]
            queue.push(chain, len(data))
        self.port.signal(queue)


class TestConsole(VirtioConsole):
    """A console whose output is commands, as QEMU's `testdev` character device takes them: a decimal number and the
    letter q end the run. 0 passes; QEMU would exit with twice the number plus one."""

    __test__ = False  # pytest takes a class of this name for a test

    def __init__(self, finish: Callable[[int, str], None]) -> None:
        super().__init__(self._obey)
        self._finish = finish
        self._number = 0

    def _obey(self, data: bytes) -> None:
        for character in data:
            if 0x30 <= character <= 0x39:
                self._number = (self._number * 10 + character - 0x30) & 0xFFFF_FFFF
                continue
            if character == ord("q"):
                self._finish(self._number, f"the guest wrote {self._number}q to the test console")
            self._number = 0
