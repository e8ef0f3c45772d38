# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's end of the console: standard output, a terminal, a pseudo-terminal, a file, a Unix socket.

An end has descriptors, -1 where there is none at the moment, and never blocks: poll says when to read and to write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
import tty
from collections.abc import Callable

from allstop.deploy.console.terminal import EscapeKey, Terminal
from allstop.deploy.options.console_place import FILE, PTY, SOCKET, TTY, ConsolePlace
from allstop.vm.errors import UsageError

READ_BYTES = 1 << 12


class ConsoleEnd:
    """Standard output, and input from wherever `in_fd` is.

    out_fd      where output goes
    in_fd       where input comes from; `read` it when poll says so
    listen_fd   where somebody asks to be connected: `accept` him
    returns     whether output is kept while there is no out_fd, for whoever comes
    reads_ahead whether input should be read although the guest has not taken what was read before
    on_terminal whether the launcher itself writes to the same place
    left        why the user wants the run to end; "" while he does not
    """

    returns = False
    reads_ahead = False
    on_terminal = True

    def __init__(self, out_fd: int = -1, in_fd: int = -1) -> None:
        self.out_fd = out_fd
        self.in_fd = in_fd
        self.listen_fd = -1
        self.left = ""

    def read(self) -> bytes:
        """What has come, b"" for nothing; at its end `in_fd` becomes -1."""
        try:
            data = os.read(self.in_fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.in_fd = -1
        return data

    def accept(self) -> None:
        """Somebody wants to be connected."""

    def hang_up(self) -> bytes:
        """Poll says that nobody is at the other end any more: what he has sent before."""
        return self.read() if self.in_fd >= 0 else b""

    def unread_bytes(self) -> int:
        """How much of what was written would be lost by `close`."""
        return 0

    def close(self) -> None:
        """Release what is ours."""


class FileEnd(ConsoleEnd):
    """A file that gets the output; input is as with standard output."""

    on_terminal = False

    def __init__(self, path: str, in_fd: int) -> None:
        try:
            out_fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666
            )
        except OSError as error:
            raise UsageError(f"the console's file {path} cannot be written: {error.strerror}") from None
        super().__init__(out_fd, in_fd)

    def close(self) -> None:
        os.close(self.out_fd)


class TerminalEnd(ConsoleEnd):
    """The user's terminal, in raw mode."""

    reads_ahead = True  # for the escape key

    def __init__(self, out_fd: int, terminal: Terminal) -> None:
        super().__init__(out_fd, terminal.fd)
        self._key = EscapeKey()

    def read(self) -> bytes:
        try:
            data = self._key.filter(os.read(self.in_fd, READ_BYTES))
        except OSError:
            self.in_fd = -1  # it has gone, and SIGHUP is about to come
            return b""
        if self._key.left:
            self.left = "the user left by Ctrl-A x"
        return data

    def hang_up(self) -> bytes:
        self.in_fd = -1
        return b""


class PtyEnd(ConsoleEnd):
    """The master of a pseudo-terminal. The slave is kept open here, so that nobody's coming and going is seen."""

    on_terminal = False

    def __init__(self) -> None:
        try:
            master, self._slave = os.openpty()
        except OSError as error:
            raise UsageError(f"the host has no pseudo-terminal for the console: {error.strerror}") from None
        tty.setraw(self._slave)  # an echo would be the guest's input
        os.set_blocking(master, False)
        super().__init__(master, master)
        self.path = os.ttyname(self._slave)

    def read(self) -> bytes:
        try:
            return os.read(self.in_fd, READ_BYTES)
        except OSError:
            return b""

    def unread_bytes(self) -> int:
        try:
            count: int = struct.unpack("i", fcntl.ioctl(self._slave, termios.TIOCINQ, bytes(4)))[0]
        except OSError:
            return 0
        return count

    def close(self) -> None:
        os.close(self.out_fd)
        os.close(self._slave)


class SocketEnd(ConsoleEnd):
    """A Unix socket that listens at `path`. One client at a time: the next waits until that one has gone."""

    returns = True
    on_terminal = False

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._client: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind()
        except OSError as error:
            self._listener.close()
            raise UsageError(f"the console's socket {path} cannot be made: {error.strerror or error}") from None
        self.listen_fd = self._listener.fileno()

    def _bind(self) -> None:
        _remove_stale(self._path)
        mask = os.umask(0o177)  # the user's own
        try:
            self._listener.bind(self._path)
        finally:
            os.umask(mask)
        status = os.lstat(self._path)
        self._identity = (status.st_dev, status.st_ino)
        self._listener.listen(8)
        self._listener.setblocking(False)

    def accept(self) -> None:
        try:
            self._client, _ = self._listener.accept()
        except OSError:
            return
        self._client.setblocking(False)
        self.in_fd = self.out_fd = self._client.fileno()
        self.listen_fd = -1

    def hang_up(self) -> bytes:
        if self._client is None:
            return b""
        data = b""
        while self.in_fd >= 0 and (part := self.read()):  # no more than a socket's buffer holds
            data += part
        self._client.close()
        self._client = None
        self.in_fd = self.out_fd = -1
        self.listen_fd = self._listener.fileno()
        return data

    def close(self) -> None:
        self.hang_up()
        self._listener.close()
        with contextlib.suppress(OSError):
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self._path)


def _remove_stale(path: str) -> None:
    """Take away a socket that nobody listens at any more: that of a launcher that was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return


def open_end(
    place: ConsolePlace, console_fd: int, input_fd: int, enter: Callable[[Terminal], Terminal], terminal_fd: int = 0
) -> ConsoleEnd:
    """The end at `place`. `console_fd` is the standard one's output, `input_fd` where its input comes from, -1 for
    none; `enter` enters a context that lasts until the end. Raises UsageError."""
    if place.kind == TTY:
        return TerminalEnd(console_fd, enter(Terminal(terminal_fd)))
    if place.kind == PTY:
        return PtyEnd()
    if place.kind == SOCKET:
        return SocketEnd(place.path)
    if place.kind == FILE:
        return FileEnd(place.path, input_fd)
    return ConsoleEnd(console_fd, input_fd)
