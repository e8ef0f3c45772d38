# SPDX-License-Identifier: GPL-2.0-or-later
"""The run folder: what one run writes for its readers.

    run.json       what was asked for and what was started
    control.json   how an operator finds the run, while it lasts
    NAME.log       each process's output (stderr)
    console.log    the guest's console
    journal/       what each process did, if journals are kept
    HOST/          another host's processes: NAME.log, and journals
    figures.json   counters and histograms of each vCPU
    verdict.json   how the run ended; it appears complete, or not at all

A folder belongs to one run. The launcher locks it while the run lasts; the lock dies with the launcher.
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
    """An empty folder that this run holds until `close`."""

    def __init__(self, path: Path) -> None:
        """Make the folder unless it exists, and lock it. Raises UsageError when it is in use, or not empty."""
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
        """Write a file, which appears under its name complete, or not at all. Raises OSError."""
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
        """Remove a file, if it exists and can be removed."""
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    def make_folder(self, name: str) -> None:
        """Make a folder in the run folder, unless it exists. Raises OSError."""
        (self.path / name).mkdir(exist_ok=True)
        self._made.add(name)

    def empty(self) -> None:
        """Remove what this run has made, because there was no run. What cannot be removed stays."""
        for name in self._made:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                self.remove(name)

    def close(self) -> None:
        """Unlock the folder; its contents stay."""
        os.close(self._lock_fd)
