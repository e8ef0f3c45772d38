# SPDX-License-Identifier: GPL-2.0-or-later
"""A launcher as a process of its own, as a Python program starts one.

Threads, signals and crashes of the program do the machine no harm, and the other way round. Two descriptors are its
lifelines: a socket that `stop` shuts down, and a pidfd of the program, which tells of its death however it dies. Both
work although a fork of the program may have inherited them. Nothing else is shared but three memory files that the
launcher writes: verdict, messages, console.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO

from allstop.deploy.outcome.verdict import USAGE_EXIT_CODE, Verdict
from allstop.deploy.processes.fork_server import Forked, ForkServer
from allstop.deploy.processes.processes import child_environment, describe_exit
from allstop.vm.errors import HarnessError, UsageError

_PTY_LINE = "allstop: the console is "


class LauncherProcess:
    """Runs `allstop run` with `arguments`. `typed` gives it a pipe to be typed to. `fork_server`, where there is one,
    forks the process. Raises HarnessError when the host has no process or memory left."""

    def __init__(self, arguments: Sequence[str], typed: bool, fork_server: ForkServer | None) -> None:
        self._outcome: Verdict | HarnessError | UsageError | None = None
        self._last_console = ""
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as until_started:
            try:
                self._out, self._errors, self._console_file = (
                    stack.enter_context(_memory_file(name)) for name in ("verdict", "errors", "console")
                )
                lifeline, self._lifeline = socket.socketpair()
                until_started.enter_context(lifeline)
                stack.enter_context(self._lifeline)
                ourselves = os.pidfd_open(os.getpid())
                until_started.callback(os.close, ourselves)
                console_fd = self._console_file.fileno()
                words = (
                    "run",
                    "--json",
                    f"--console-fd={console_fd}",
                    f"--lifeline-fd={lifeline.fileno()}",
                    f"--lifeline-fd={ourselves}",
                    *arguments,
                )
                pass_fds = (console_fd, lifeline.fileno(), ourselves)
                self._process: subprocess.Popen[bytes] | Forked
                if fork_server is not None and not typed:
                    self._process = fork_server.start(words, self._out.fileno(), self._errors.fileno(), pass_fds)
                    stack.callback(self._process.close)
                else:
                    self._process = subprocess.Popen(
                        (sys.executable, "-P", "-m", "allstop.cli.main", *words),
                        stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
                        bufsize=0,
                        stdout=self._out,
                        stderr=self._errors,
                        start_new_session=True,
                        pass_fds=pass_fds,
                        env=child_environment(),
                    )
                self._ended_fd = (
                    os.dup(self._process.pidfd)
                    if isinstance(self._process, Forked)
                    else os.pidfd_open(self._process.pid)
                )
                stack.callback(os.close, self._ended_fd)
            except OSError as error:
                raise HarnessError(f"the launcher could not be started: {error}") from None
            if self._process.stdin is not None:
                stack.callback(self._process.stdin.close)
            self._files = stack.pop_all()

    @property
    def pid(self) -> int:
        """The process number; the machine's processes are its children."""
        return self._process.pid

    @property
    def console(self) -> str:
        """What the guest has written on its console so far."""
        return self._last_console if self._console_file.closed else _text_of(self._console_file)

    @property
    def console_path(self) -> str:
        """The pseudo-terminal of the console, "" until there is one."""
        said = "" if self._errors.closed else _text_of(self._errors)
        return next((line.removeprefix(_PTY_LINE) for line in said.splitlines() if line.startswith(_PTY_LINE)), "")

    def send(self, data: bytes) -> None:
        """Type on the console. Raises UsageError when it was not `typed`, HarnessError when the run is over."""
        stdin = self._process.stdin
        if stdin is None:
            raise UsageError('only a machine with input="-" can be typed to')
        left = memoryview(data)
        try:
            while left:
                left = left[stdin.write(left) or 0 :]
        except (OSError, ValueError):
            raise HarnessError("the run is over: nothing reads what is typed") from None

    def has_ended(self, timeout_s: float) -> bool:
        """Whether the process has ended, or does so within `timeout_s`."""
        if self._outcome is None and self._process.poll() is None:
            poller = select.poll()
            poller.register(self._ended_fd, select.POLLIN)
            return bool(poller.poll(timeout_s * 1000))
        return True

    def wait(self, timeout_s: float | None) -> Verdict:
        """The verdict, when the run is over. Raises TimeoutError, UsageError, HarnessError as `Machine.wait` does."""
        if self._outcome is None:
            try:
                status = self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"the machine still runs after {timeout_s:g} s") from None
            self._outcome = self._read_outcome(status)
        if isinstance(self._outcome, Verdict):
            return self._outcome
        raise self._outcome

    def stop(self) -> None:
        """Have it end the run, as Ctrl-C would."""
        with contextlib.suppress(OSError):  # it is over, or has been stopped before
            self._lifeline.shutdown(socket.SHUT_RDWR)
        self._lifeline.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """Forget it; the console's text is kept."""
        self._last_console = self.console
        self._files.close()

    def _read_outcome(self, status: int) -> Verdict | HarnessError | UsageError:
        sentence = _text_of(self._errors).strip().rpartition("\n")[2].removeprefix("allstop: ")
        if status == USAGE_EXIT_CODE:
            return UsageError(sentence)
        try:
            return Verdict.from_json(_text_of(self._out))
        except (ValueError, KeyError, TypeError):
            return HarnessError(sentence or f"the launcher {describe_exit(status)}")


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(f"allstop-{name}", os.MFD_CLOEXEC), "r+b", buffering=0)


def _text_of(file: BinaryIO) -> str:
    """All of a memory file that another process writes to, without moving the position that both share."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
