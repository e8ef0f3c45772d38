# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's end of the console: standard output, a terminal, a pseudo-terminal, a file, a Unix socket.

An end has descriptors, -1 for one that is not open at the moment, and never blocks: poll says when to read and write.
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
    """Standard output, and input from `in_fd`.

    out_fd      where output goes
    in_fd       where input comes from; call `read` when poll says so
    listen_fd   where a client connects; call `accept` then
    returns     whether output is kept while out_fd is -1, for the next client
    reads_ahead whether input is read before the guest has taken what was read earlier
    on_terminal whether the launcher itself writes to the same place
    left        why the user ends the run; "" until then
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
        """The input that has come, b"" for none; at its end `in_fd` becomes -1."""
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
        """Connect the client that waits."""

    def hang_up(self) -> bytes:
        """The other end was closed, as poll says; the input that it had sent before."""
        return self.read() if self.in_fd >= 0 else b""

    def unread_bytes(self) -> int:
        """How much of the output `close` would discard."""
        return 0

    def close(self) -> None:
        """Release the descriptors that this end has opened."""


class FileEnd(ConsoleEnd):
    """Output goes to a file; input comes from `in_fd`."""

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
            self.in_fd = -1  # the terminal is gone, and SIGHUP is about to come
            return b""
        if self._key.left:
            self.left = "the user left by Ctrl-A x"
        return data

    def hang_up(self) -> bytes:
        self.in_fd = -1
        return b""


class PtyEnd(ConsoleEnd):
    """The master of a pseudo-terminal. The slave stays open here, so that readers may come and go unseen."""

    on_terminal = False

    def __init__(self) -> None:
        try:
            master, self._slave = os.openpty()
        except OSError as error:
            raise UsageError(f"this host has no pseudo-terminal for the console: {error.strerror}") from None
        tty.setraw(self._slave)  # an echo would become the guest's input
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
    """A Unix socket that listens at `path`. It serves one client at a time; the next one waits."""

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
        mask = os.umask(0o177)  # only the user may connect
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
    """Remove a socket without a listener, which a killed launcher has left."""
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
    """The end at `place`. `console_fd` is the output of the standard end, `input_fd` its input, -1 for none; `enter`
    enters a context that lasts as long as the end. Raises UsageError."""
    if place.kind == TTY:
        return TerminalEnd(console_fd, enter(Terminal(terminal_fd)))
    if place.kind == PTY:
        return PtyEnd()
    if place.kind == SOCKET:
        return SocketEnd(place.path)
    if place.kind == FILE:
        return FileEnd(place.path, input_fd)
    return ConsoleEnd(console_fd, input_fd)
