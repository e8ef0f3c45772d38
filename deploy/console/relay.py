# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's console on its way out: from the device server's pipe to the user, and to the run folder.

The launcher must keep watching when its output is not read (a pager, a full pipe), so it never blocks here: up to
MAX_PENDING_BYTES wait, and the rest is dropped and counted. Other processes share the output's descriptor, which stays
in blocking mode; hence no write is longer than what poll guarantees to accept.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Sequence
from typing import BinaryIO

MAX_PENDING_BYTES = 16 << 20
_CHUNK_BYTES = select.PIPE_BUF
_READ_BYTES = 1 << 16


class ConsoleRelay:
    """Copies what arrives on `source_fd`, which must not block, to `logs` and to descriptor `out_fd`.

    `returns`: whether a client may come again after `out_fd` has failed. While `out_fd` is -1, output is kept for the
    next client.
    """

    def __init__(
        self,
        source_fd: int,
        out_fd: int,
        logs: Sequence[BinaryIO],
        before_write: Callable[[], None],
        returns: bool = False,
    ) -> None:
        self.source_fd = source_fd
        self.out_fd = out_fd
        self.dropped_bytes = 0
        self.failure = ""  # why an output was given up
        self.at_line_start = True
        self._logs = logs
        self._returns = returns
        self._before_write = before_write
        self._pending = bytearray()
        self._out_open = True

    @property
    def pending(self) -> bool:
        """Whether output waits for `out_fd`."""
        return bool(self._pending) and self.out_fd >= 0

    def read(self) -> bool:
        """Read some of the output; False when there is none."""
        try:
            data = os.read(self.source_fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            return False
        for log in self._logs:
            log.write(data)
        if self._out_open:
            room = MAX_PENDING_BYTES - len(self._pending)
            self.dropped_bytes += max(0, len(data) - room)
            self._pending += data[:room]
        return True

    def write(self) -> None:
        """Pass on as much as `out_fd` accepts now. One that has failed gets nothing more."""
        while self.pending and self._writable():
            self._before_write()
            try:
                written = os.write(self.out_fd, self._pending[:_CHUNK_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                if self._returns:
                    self.out_fd = -1
                else:
                    self.failure = error.strerror or str(error)
                    self._out_open = False
                    self._pending.clear()
                return
            self.at_line_start = self._pending[written - 1] == ord("\n")
            del self._pending[:written]

    def finish(self, wait: Callable[[int], bool]) -> None:
        """Pass on the rest. `wait(fd)` waits until fd may be written to, and returns False to give up."""
        while self.read():
            pass
        self.write()
        while self.pending and wait(self.out_fd):
            self.write()
        if not self.at_line_start and self._out_open and os.isatty(self.out_fd):
            with contextlib.suppress(OSError):
                os.write(self.out_fd, b"\n")  # the summary begins on a line of its own

    def drop_rest(self, unread_bytes: int) -> None:
        """Drop and count what waits, and the last `unread_bytes` that were written but not read."""
        self.dropped_bytes += len(self._pending) + unread_bytes
        self._pending.clear()

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self.out_fd, select.POLLOUT)
        return bool(poll.poll(0))
