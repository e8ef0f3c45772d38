# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that a user's device starts and leaves running: they end with the run.

PR_SET_PDEATHSIG, which ties the machine's own processes to the launcher, is not inherited. So the launcher becomes the
subreaper: a process that a member leaves behind becomes a child of the launcher, which kills it. A launcher that is
killed by SIGKILL cannot do that. Source: prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from types import TracebackType

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_ROUNDS = 1000  # against a device that starts processes faster than they are killed


class Subreaper:
    """While entered, this process adopts orphaned descendants; on exit it kills every child that is new."""

    def __enter__(self) -> Subreaper:
        self._libc = ctypes.CDLL(None)
        before = ctypes.c_int(0)
        self._libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        self._before = before.value
        self._known = _children()
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(_ROUNDS):  # each death may bring us more children
            left = _children() - self._known
            if not left:
                break
            for pid in left:  # not yet waited for, so the number cannot have been reused
                os.kill(pid, signal.SIGKILL)
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, self._before, 0, 0, 0)


def _children() -> set[int]:
    """The children of all threads of this process; a zombie counts until it is waited for. Source: proc(5)."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            pids.update(map(int, (task / "children").read_text().split()))
    return pids
