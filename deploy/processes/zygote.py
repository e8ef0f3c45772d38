# SPDX-License-Identifier: GPL-2.0-or-later
"""The starter's end of `allstop.vcpu_worker.zygote`: one process that loads what all workers need, and forks them.

The workers become children of this process when the zygote exits, because this process is their subreaper
(`allstop.deploy.processes.subreaper`). The zygote is not a member of the machine: it exits before the guest's first
instruction.
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
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from allstop.deploy.processes.members import Member
from allstop.deploy.processes.processes import ChildProcess, child_environment, describe_exit, last_line

_FORK_S = 60.0  # for all workers, on a busy host
_LEAVE_S = 2.0
_MESSAGE_BYTES = 4096


class ZygoteEndedError(OSError):
    """The zygote exited before it had forked a worker; one sentence says how. `killed`: by a signal."""

    def __init__(self, sentence: str, killed: bool) -> None:
        super().__init__(sentence)
        self.killed = killed


class Zygote:
    """Forks workers, once. `create_log` makes each worker's log."""

    def __init__(self, config_fd: int, pass_fds: Sequence[int], create_log: Callable[[Member], BinaryIO]) -> None:
        self._config_fd = config_fd
        self._pass_fds = pass_fds
        self._create_log = create_log
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._log = os.fdopen(os.memfd_create("allstop-zygote.log", os.MFD_CLOEXEC), "r+b", buffering=0)

    def open(self) -> None:
        """Start it. Raises OSError."""
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.setblocking(False)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as for every child
        try:
            with theirs:
                self._process = subprocess.Popen(
                    (
                        sys.executable,
                        "-P",
                        "-m",
                        "allstop.vcpu_worker.zygote",
                        "--config-fd",
                        str(self._config_fd),
                        "--socket-fd",
                        str(theirs.fileno()),
                    ),
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(self._config_fd, theirs.fileno(), *self._pass_fds),
                    env=child_environment(),
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def is_ready(self) -> bool:
        """Whether it has loaded everything, so that `bear` does not wait. True once. Raises ZygoteEndedError."""
        assert self._link is not None
        try:
            return bool(self._receive())
        except BlockingIOError:
            return False

    def bear(self, team: Sequence[Member]) -> Iterator[ChildProcess]:
        """Have it fork these workers, once, when it is ready.

        Raises ZygoteEndedError, and OSError after the workers that could be forked.
        """
        assert self._link is not None and self._process is not None
        with contextlib.ExitStack() as stack:
            logs = [stack.enter_context(self._create_log(member)) for member in team]
            numbers = json.dumps([member.vcpu for member in team]).encode()
            try:
                socket.send_fds(self._link, [numbers], [log.fileno() for log in logs])
                self._wait_for_answer()
                answer = json.loads(self._receive())
            except (BrokenPipeError, BlockingIOError):
                raise self._ended() from None
            try:
                self._process.wait(_FORK_S)  # then the workers are our children
            except subprocess.TimeoutExpired:
                raise OSError("the zygote does not exit") from None
            stack.pop_all()
        self._link.close()  # the workers wait for that
        pids: list[int] = answer["pids"]
        for log in logs[len(pids) :]:
            log.close()
        for member, pid, log in zip(team, pids, logs, strict=False):
            yield ChildProcess.adopted(member, pid, log)
        if answer["error"]:
            raise OSError(answer["error"])

    def close(self) -> None:
        """Make sure that it is gone."""
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait_for_answer(self) -> None:
        """Wait for the answer, or for the zygote's death: workers may hold its end of the socket open."""
        assert self._link is not None and self._process is not None
        pidfd = os.pidfd_open(self._process.pid)
        try:
            select.select([self._link.fileno(), pidfd], [], [], _FORK_S)
        finally:
            os.close(pidfd)

    def _receive(self) -> bytes:
        assert self._link is not None
        try:
            data = self._link.recv(_MESSAGE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._ended()
        return data

    def _ended(self) -> ZygoteEndedError:
        assert self._process is not None
        try:
            status = self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:  # it closed the socket, and hangs
            self._process.kill()
            status = self._process.wait()
        words = last_line(self._log)
        said = f'; its last words: "{words}"' if words else ""
        return ZygoteEndedError(
            f"zygote (process {self._process.pid}) {describe_exit(status)} while it loaded what workers need{said}",
            status < 0,
        )
