# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that runs, looked at from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allstop.vm.control.control import POWER_ON, ControlPage


class RunningMachine:
    """A launcher and its processes, found by what the kernel says about them."""

    def __init__(self, launcher: subprocess.Popen[bytes]) -> None:
        self.launcher = launcher

    def members(self) -> dict[str, int]:
        """Process numbers by the members' names, as far as they run now."""
        found = {}
        try:
            children = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text().split()
        except OSError:
            return found
        for pid in map(int, children):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "--config-fd" in words:
                module = words[words.index("-m") + 1].removeprefix("allstop.")
                found[f"vcpu-{words[words.index('--vcpu') + 1]}" if "--vcpu" in words else module] = pid
        return found

    def memory(self, name: str) -> Path | None:
        """A memory file that the launcher holds, by its name."""
        try:
            for fd in Path(f"/proc/{self.launcher.pid}/fd").iterdir():
                if os.readlink(fd).startswith(f"/memfd:allstop-{name} "):
                    return fd
        except OSError:
            return None
        return None

    def page(self) -> ControlPage | None:
        """The machine's control page, when there is one."""
        path = self.memory("control")
        if path is None:
            return None
        fd = os.open(path, os.O_RDWR)
        try:
            return ControlPage(fd)
        except ValueError:
            return None  # not yet initialised
        finally:
            os.close(fd)

    def in_guest(self) -> bool:
        """Whether the boot vCPU runs guest code."""
        page = self.page()
        return page is not None and page.power(0) == POWER_ON and page.heartbeat(0) > 0

    def finish(self, deadline_s: float = 30.0) -> tuple[int, str, str]:
        """Wait for the end: exit status, stdout, stderr."""
        out, err = self.launcher.communicate(timeout=deadline_s)
        return self.launcher.returncode, (out or b"").decode(), (err or b"").decode()


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = 30.0) -> Any:
    """Poll until the condition holds, and return what it gave."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.005)
    return value


@pytest.fixture
def machine(command: Any, guests: Path) -> Callable[..., Any]:
    """`with machine("spin.elf", "--vcpus", 2) as m`: started, and killed at the end if it still runs."""

    @contextmanager
    def start(image: str | Path, *arguments: object, **options: Any) -> Iterator[RunningMachine]:
        with command.start("run", guests / image, *arguments, **options) as launcher:
            try:
                yield RunningMachine(launcher)
            finally:
                if launcher.poll() is None:
                    launcher.send_signal(signal.SIGKILL)

    return start


@pytest.fixture
def until() -> Callable[..., Any]:
    """`wait_for`, for tests."""
    return wait_for
