# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's console on its way out: from the device server's pipe to the user, and to the run folder.

The launcher must go on watching while nobody reads its output (a pager, a full pipe), so it never blocks here: what
cannot be written yet is kept, up to MAX_PENDING_BYTES; what comes on top of that is dropped and counted. The output's
descriptor is shared with others and stays in blocking mode, hence the rule to write no more at once than what poll
promises to take.
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

    `returns`: whether somebody may come again after an `out_fd` that fails. There is nobody while it is -1: then what
    arrives is kept for whoever comes.
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
        """Whether something waits for `out_fd` to take it."""
        return bool(self._pending) and self.out_fd >= 0

    def read(self) -> bool:
        """Take some of what has arrived; False when there is nothing."""
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
        """Pass on as much as the output takes now. An output that is closed gets nothing more."""
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
        """Pass on the rest. `wait(fd)` waits until fd may be written to; it says False to give up."""
        while self.read():
            pass
        self.write()
        while self.pending and wait(self.out_fd):
            self.write()
        if not self.at_line_start and self._out_open and os.isatty(self.out_fd):
            with contextlib.suppress(OSError):
                os.write(self.out_fd, b"\n")  # what is said of the run begins on a line of its own

    def drop_rest(self, unread_bytes: int) -> None:
        """Nobody will read what waits, nor the last `unread_bytes` of what was written."""
        self.dropped_bytes += len(self._pending) + unread_bytes
        self._pending.clear()

    def _writable(self) -> bool:
        poll = select.poll()
        poll.register(self.out_fd, select.POLLOUT)
        return bool(poll.poll(0))
