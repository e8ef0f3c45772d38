# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes: started, watched, waited for, never left behind.

A child is held by a pidfd, so that no signal can reach an unrelated process that was given its number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from allstop.deploy.processes.members import Member

_TICK_HZ = os.sysconf("SC_CLK_TCK")
_LAST_WORDS_BYTES = 4096
_LAST_WORDS_CHARACTERS = 400
_ROOT = Path(__file__).parents[3]


class Adopted:
    """A child that this process has not started itself, with the interface of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """As of Popen."""
        return self._collect(os.WNOHANG)

    def wait(self) -> int | None:
        """As of Popen."""
        return self._collect(0)

    def kill(self) -> None:
        """As of Popen."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def _collect(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


class ChildProcess:
    """A started member of the machine. `log` is the file of its stderr and stdout; this process reads it."""

    def __init__(self, member: Member, config_fd: int, pass_fds: Sequence[int], log: BinaryIO) -> None:
        """Start it. Raises OSError.

        SIGINT stays blocked in the child: a Ctrl-C at the terminal reaches the whole process group, and only the
        launcher handles it, even before the child has had time to ignore it.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                (sys.executable, *member.arguments(config_fd)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(config_fd, *pass_fds),
                env=child_environment(),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._hold(member, process, log)

    @classmethod
    def leading(
        cls, member: Member, command: Sequence[str], log: BinaryIO, environment: dict[str, str]
    ) -> ChildProcess:
        """A child with a command line of its own, such as ssh, and a pipe as standard input. Raises OSError."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(tuple(command), stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        child = cls.__new__(cls)
        child._hold(member, process, log)
        return child

    def say(self, text: str) -> None:
        """Write to its standard input; for `leading` ones. Raises OSError."""
        assert isinstance(self._process, subprocess.Popen) and self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    @classmethod
    def adopted(cls, member: Member, pid: int, log: BinaryIO) -> ChildProcess:
        """A child that the zygote has forked, and that has become ours. Raises OSError."""
        child = cls.__new__(cls)
        child._hold(member, Adopted(pid), log)
        return child

    def _hold(self, member: Member, process: subprocess.Popen[bytes] | Adopted, log: BinaryIO) -> None:
        self.member = member
        self.log = log
        self._process = process
        self.pid = process.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    def exit_status(self) -> int | None:
        """None while it runs; then its exit status, or the negative number of the signal that killed it."""
        return self._process.poll()

    def state(self) -> tuple[str, float]:
        """Its state, one letter, and the CPU time in seconds that it has used. Source: proc(5), stat."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / _TICK_HZ

    def kill(self) -> None:
        """Kill it, unless it has exited or is closed."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, unless it has exited."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def last_words(self) -> str:
        """The last line that it wrote, "" if it wrote none."""
        return last_line(self.log)

    def close(self) -> None:
        """Make sure that it is gone, and release its descriptors. Idempotent."""
        if self.pidfd < 0:
            return
        self.kill()
        self._process.wait()
        if isinstance(self._process, subprocess.Popen) and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        os.close(self.pidfd)
        self.pidfd = -1
        self.log.close()


def last_line(log: BinaryIO) -> str:
    """The last line of a log, made printable, without moving the position that its writers share."""
    fd = log.fileno()
    size = os.fstat(fd).st_size
    tail = os.pread(fd, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES)).decode(errors="replace")
    line = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
    return printable(line)


def printable(words: str) -> str:
    """Text from another process, fit to be part of one sentence."""
    return "".join(c if c.isprintable() else "?" for c in words[:_LAST_WORDS_CHARACTERS])


def child_environment() -> dict[str, str]:
    """The environment in which a child finds our modules where this process found them, installed or not."""
    environment = dict(os.environ)
    inherited = environment.get("PYTHONPATH", "").split(os.pathsep)
    if _ROOT.name not in ("site-packages", "dist-packages") and inherited[0] != str(_ROOT):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), *inherited)))
    return environment


def words_of_the_named(sentence: str, children: Iterable[ChildProcess]) -> str:
    """The last words of each child that `sentence` names as "(process N, ...", to be appended to it; "" for none. The
    coordinator writes such sentences, and cannot read logs."""
    named = (child for child in children if f"(process {child.pid}," in sentence)
    return "".join(
        f'; the last words of {child.member.name}: "{words}"' for child in named if (words := child.last_words())
    )


def describe_exit(status: int) -> str:
    """A phrase for "PROCESS ...": how a process ended, from its status as `ChildProcess` gives it."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
