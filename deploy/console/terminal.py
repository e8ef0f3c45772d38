# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's terminal as the guest's console: every key goes to the guest, except the escape key.

Ctrl-A x ends the run, Ctrl-A Ctrl-A sends one Ctrl-A. Ctrl-C and Ctrl-Z go to the guest. The terminal is restored when
the block ends, and while the launcher is stopped from outside (SIGTSTP); after SIGCONT it is the guest's again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from types import FrameType, TracebackType

from allstop.vm.errors import UsageError

ESCAPE = 0x01
LEAVE = ord("x")
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


class EscapeKey:
    """Looks for the escape sequence in the input. `left` is set by Ctrl-A x."""

    def __init__(self) -> None:
        self.left = False
        self._escaped = False

    def filter(self, data: bytes) -> bytes:
        """The part of `data` that is for the guest. Ctrl-A and an unknown key after it are both sent."""
        out = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == LEAVE:
                    self.left = True
                    break
                out += bytes((ESCAPE,)) if byte == ESCAPE else bytes((ESCAPE, byte))
            elif byte == ESCAPE:
                self._escaped = True
            else:
                out.append(byte)
        return bytes(out)


class Terminal:
    """While entered, the terminal at `fd` is in raw mode: it passes each key at once. Main thread only."""

    def __init__(self, fd: int) -> None:
        """Raises UsageError unless `fd` is a terminal, and this process is in its foreground."""
        if not os.isatty(fd):
            raise UsageError(
                "the console tty needs a terminal as standard input: use --console pty or socket:PATH, or --input"
            )
        self.fd = fd
        if not self._is_ours():
            raise UsageError("the console tty needs the terminal, which a background process cannot use")
        self._saved = termios.tcgetattr(fd)

    def __enter__(self) -> Terminal:
        self._old = {
            number: signal.signal(number, handler)
            for number, handler in ((signal.SIGTSTP, self._stop), (signal.SIGCONT, self._continue))
        }
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._give_back()

    def _take(self) -> None:
        raw = [*self._saved[:_CC], list(self._saved[_CC])]
        raw[_IFLAG] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[_OFLAG] |= termios.OPOST  # a guest that ends its lines with LF alone is readable
        raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[_CC][termios.VMIN] = 0  # a read never waits: another reader may have been quicker than poll
        raw[_CC][termios.VTIME] = 0
        self._set(raw)

    def _give_back(self) -> None:
        self._set(self._saved)

    def _set(self, attributes: list[int | list[bytes | int]]) -> None:
        """Set the attributes, unless another job has the terminal, or it is gone. The way back drops unread input."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            if self._is_ours():
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _continue(self, number: int, frame: FrameType | None) -> None:
        """Also after a SIGSTOP, which cannot be caught: the shell has set the terminal for itself meanwhile."""
        self._take()
