# SPDX-License-Identifier: GPL-2.0-or-later
"""The run folder: what a run leaves to be read, and nobody else's.

    run.json       what was asked for and what was started
    control.json   how an operator finds the run, while it lasts
    NAME.log       what each process said (stderr)
    console.log    the guest's console
    journal/       what each process did, where journals are kept
    HOST/          the same of another host's processes: NAME.log, and journals
    figures.json   counters and histograms of each vCPU
    verdict.json   how it ended; it appears whole, or not at all

A folder is one run's. The folder itself is locked while the run lasts; the lock dies with the launcher.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from allstop.vm.config.paths import absolute
from allstop.vm.errors import UsageError

VERDICT_NAME = "verdict.json"


class RunFolder:
    """An empty folder that is ours until `close`."""

    def __init__(self, path: Path) -> None:
        """Make the folder if need be, and take it. Raises UsageError when it is in use, or holds anything."""
        self.path = absolute("run folder", path)
        self._made: set[str] = set()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"the run folder {path} cannot be made: {error.strerror}") from None
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"the run folder {self.path} is in use by another run") from None
        except OSError as error:
            raise UsageError(f"the run folder {self.path} cannot be locked: {error.strerror}") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(f"the run folder {self.path} cannot be written to")
        held = os.listdir(self.path)
        if VERDICT_NAME in held:
            raise UsageError(f"the run folder {self.path} holds the verdict of an earlier run: name another folder")
        if held:
            raise UsageError(f"the run folder {self.path} is not empty: name another folder")

    def create(self, name: str) -> BinaryIO:
        """A new file of the run, unbuffered, for writing and reading back. Raises OSError."""
        self._made.add(name)
        return open(self.path / name, "x+b", buffering=0)

    def write_text(self, name: str, text: str, mode: int = 0o666) -> None:
        """Write a whole file: it appears under its name complete, or not at all. Raises OSError."""
        temporary = self.path / f"{name}.new"
        temporary = temporary.with_name(f".{temporary.name}")
        try:
            with open(temporary, "w", opener=lambda path, flags: os.open(path, flags, mode)) as file:
                file.write(text)
            temporary.replace(self.path / name)
            self._made.add(name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Take a file away, if it is there and can be."""
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    def make_folder(self, name: str) -> None:
        """A folder of the run, unless it is there. Raises OSError."""
        (self.path / name).mkdir(exist_ok=True)
        self._made.add(name)

    def empty(self) -> None:
        """Take away again what we made, for there was no run. What cannot go stays."""
        for name in self._made:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                self.remove(name)

    def close(self) -> None:
        """Give the folder up; what is in it stays."""
        os.close(self._lock_fd)
