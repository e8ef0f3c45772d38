# SPDX-License-Identifier: GPL-2.0-or-later
"""Launchers that start without loading their modules: the client's end of `allstop.cli.fork_server`.

A short run spends much of its CPU time on loading the launcher's modules. A program that makes many runs keeps one
process that has loaded them, and that forks a launcher for each run. A forked launcher depends on its lifelines only,
as any other launcher does: it goes on when its fork server is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from allstop.deploy.processes.processes import child_environment

MESSAGE_BYTES = 4096
MAX_FDS = 16
_FORK_S = 60.0  # for loading and forking, on a busy host
_STATUS_S = 5.0
_UNKNOWN_STATUS = 4  # of a launcher that outlived its fork server: its verdict is in its files


class Forked:
    """A launcher that a fork server has forked, with the interface of `subprocess.Popen`."""

    stdin = None

    def __init__(self, link: socket.socket) -> None:
        """Take `link` over. Raises OSError when the fork failed."""
        self._link = link
        self._status: int | None = None
        link.settimeout(_FORK_S)
        message, fds, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 1)
        if not message:
            raise ConnectionResetError("the process that forks launchers is gone")
        answer = json.loads(message)
        if "error" in answer:
            raise OSError(answer["error"])
        self.pid: int = answer["pid"]
        (self.pidfd,) = fds
        link.settimeout(_STATUS_S)

    def poll(self) -> int | None:
        """As of Popen."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """As of Popen."""
        if self._status is None:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("launcher", timeout or 0)
            try:  # it is dead, and the fork server is about to send its status
                message = self._link.recv(MESSAGE_BYTES)
            except OSError:
                message = b""
            self._status = int(json.loads(message)["status"]) if message else _UNKNOWN_STATUS
        return self._status

    def kill(self) -> None:
        """As of Popen."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Release the descriptors; the launcher goes on."""
        self._link.close()
        os.close(self.pidfd)


class ForkServer:
    """One process that forks launchers, until `close`; it also ends with this process, however that ends. Several
    threads may start launchers. Raises OSError."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    (sys.executable, "-P", "-m", "allstop.cli.fork_server", "--socket-fd", str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                    env=child_environment(),
                )
            except OSError:
                self._link.close()
                raise

    @property
    def is_alive(self) -> bool:
        """Whether it can fork launchers."""
        return self._process.poll() is None

    def start(self, arguments: Sequence[str], stdout: int, stderr: int, pass_fds: Sequence[int]) -> Forked:
        """Run `allstop` with these arguments in a process with a session of its own and an empty standard input. It
        inherits `pass_fds` under the same numbers. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = os.memfd_create("allstop-arguments", os.MFD_CLOEXEC)
        try:
            with theirs, os.fdopen(words, "w+b", buffering=0, closefd=False) as file:
                file.write(json.dumps(list(arguments)).encode())
                socket.send_fds(
                    self._link,
                    [json.dumps({"numbers": [1, 2, *pass_fds]}).encode()],
                    [theirs.fileno(), words, stdout, stderr, *pass_fds],
                )
            return Forked(ours)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(words)

    def close(self) -> None:
        """End it; the launchers that it has forked go on."""
        self._link.close()
        self._process.kill()
        self._process.wait()
