# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals as bytes in a pipe, so that one loop can wait for them together with everything else."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Python writes to the wakeup descriptor only for signals that have a handler."""


class SignalPipe:
    """While entered, SIGINT, SIGTERM and SIGHUP only appear in `take`. Main thread only.

    A SIGHUP or SIGINT that was ignored before (nohup, a script's background job) stays ignored.
    """

    def __enter__(self) -> SignalPipe:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._old = {
            number: signal.signal(number, _ignore)
            for number in _ENDING
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
        }
        return self

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call."""
        try:
            return [signal.Signals(number) for number in os.read(self.fd, 64) if number in _ENDING]
        except BlockingIOError:
            return []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self.fd)
        os.close(self._write_fd)
