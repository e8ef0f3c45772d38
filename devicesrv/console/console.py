# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's pipe: the guest's output reaches the reader whole and in order, and never stops the devices.

A slow reader lets the pipe fill up. The rest waits here until the next `drain`; no call blocks.
"""

from __future__ import annotations

import os
import select
import time


class Console:
    """The writing end of a pipe, or nothing (`fd` -1: the output is dropped).

    `lost_bytes` counts the bytes that were lost because the reader has closed its end.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting = bytearray()
        self.lost_bytes = 0
        if fd >= 0:
            os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        """Print `data`, now or as soon as the pipe takes it."""
        if self._fd < 0:
            return
        if self._waiting:
            self._waiting += data
            return
        written = self._try(data)
        if written < len(data):
            self._waiting += data[written:]

    def drain(self) -> bool:
        """Write as much of the waiting output as the pipe takes. Whether nothing waits any more."""
        while self._waiting:
            written = self._try(self._waiting)
            if not written:
                return False
            del self._waiting[:written]
        return True

    def close(self, deadline_s: float) -> int:
        """Drain for at most `deadline_s` seconds and close. Returns the number of bytes that the reader did
        not take."""
        end = time.monotonic() + deadline_s
        while not self.drain() and (left_s := end - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(left_s * 1000)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        unread = len(self._waiting)
        self._waiting.clear()
        return unread

    def _try(self, data: bytes | bytearray) -> int:
        """How many bytes are dealt with; 0 if the pipe is full."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            self.lost_bytes += len(data)
            return len(data)
