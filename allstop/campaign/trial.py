# SPDX-License-Identifier: GPL-2.0-or-later
"""Performs one run of a campaign: what `allstop run` does, with unnamed files.

The machine's launcher is a separate process, which ends with this one however this one ends. So a crash harms only its
own run, and a killed campaign or Dask worker leaves no machine behind.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from allstop.campaign.combination import Combination
from allstop.campaign.result import Result
from allstop.deploy.processes.fork_server import ForkServer
from allstop.machine import Machine
from allstop.vm.errors import HarnessError, UsageError

CONSOLE_CHARACTERS = 4096
_LOOKS_EVERY_S = 0.2
_START_S = 120.0  # a host that starts a machine more slowly than that is too slow
_END_S = 15.0


class TrialLost(RuntimeError):
    """The run has no result; the text says why."""


def perform(
    combination: Combination,
    contents: Mapping[str, bytes],
    is_wanted: Callable[[], bool],
    fork_server: ForkServer | None = None,
) -> Result:
    """Run it. `contents` are its files by digest; the run ends when `is_wanted`, which is called several times a
    second, returns False. Raises TrialLost."""
    started_at, began_s = time.time(), time.monotonic()
    with contextlib.ExitStack() as stack:
        try:
            files: dict[str, Any] = {
                role: stack.enter_context(_published(role, contents[digest]))
                for role, digest in combination.files.items()
            }
            options: dict[str, Any] = combination.options
            machine = stack.enter_context(
                Machine(timeout=combination.timeout_s, fork_server=fork_server, **files, **options)
            )
            _wait(machine, combination.timeout_s + _START_S, is_wanted)
            verdict = machine.wait(_END_S)
        except (HarnessError, UsageError, TimeoutError, OSError, MemoryError) as error:
            raise TrialLost(str(error) or type(error).__name__) from None
        if verdict.verdict == "interrupted":
            raise TrialLost(verdict.sentence)
        console = machine.console[-CONSOLE_CHARACTERS:]
    return Result(
        verdict.verdict,
        verdict.sentence,
        verdict.wall_s,
        verdict.to_json(),
        console,
        socket.gethostname(),
        started_at,
        time.monotonic() - began_s,
    )


def _wait(machine: Machine, most_s: float, is_wanted: Callable[[], bool]) -> None:
    """Wait for the end of the run. Raises TrialLost if that takes longer, or the run is no longer wanted."""
    until_s = time.monotonic() + most_s
    while not machine.has_ended(_LOOKS_EVERY_S):
        if not is_wanted():
            raise TrialLost("the campaign has ended it")
        if time.monotonic() > until_s:
            raise TrialLost(f"it had not ended {most_s:.0f} s after its start")


@contextlib.contextmanager
def _published(role: str, content: bytes) -> Iterator[str]:
    """A path under which a child of this process finds `content`, without a file on a disk."""
    fd = os.memfd_create(f"allstop-{role}", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)
