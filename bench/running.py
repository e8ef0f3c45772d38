# SPDX-License-Identifier: GPL-2.0-or-later
"""A command whose output is read while it runs, and which ends with the block that it was started in."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

_LEAVE_S = 10.0
_QUOTED_CHARACTERS = 600


class PeerError(RuntimeError):
    """A command did not do what was measured; the text says what it did."""


class Running:
    """`with Running(command) as running: running.until("ready", 10)`.

    stdout and stderr are read together. `started_s` is the time, of the monotonic clock, just before it was started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self._environment = environment
        self._output = bytearray()

    def __enter__(self) -> Running:
        self.started_s = time.monotonic()
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            bufsize=0,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._output.decode(errors="replace")

    def until(self, text: str, deadline_s: float) -> float:
        """Read until `text` was written; the seconds from the start until it was read.

        Raises PeerError when the command ends, or `deadline_s` seconds from the start pass, before that.
        """
        wanted = text.encode()
        while wanted not in self._output:
            if not self._read(deadline_s):
                raise PeerError(f"{self.command[0]} ended without {text!r}: {self._quoted()}")
        return time.monotonic() - self.started_s

    def to_end(self, deadline_s: float) -> str:
        """Read until it ends; all of its output. Raises PeerError as `until` does, and for an exit status but 0."""
        while self._read(deadline_s):
            pass
        if status := self._process.wait():
            raise PeerError(f"{self.command[0]} left with exit status {status}: {self._quoted()}")
        return self.output

    def _read(self, deadline_s: float) -> bool:
        left_s = self.started_s + deadline_s - time.monotonic()
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise PeerError(f"{self.command[0]} took longer than {deadline_s:g} s: {self._quoted()}")
        data = os.read(fd, 65536)
        self._output += data
        return bool(data)

    def _quoted(self) -> str:
        return repr(self.output[-_QUOTED_CHARACTERS:])
