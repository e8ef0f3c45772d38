# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a process of a machine: it ends with the launcher, however the launcher ends."""
from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def tie_to_parent(expected_ppid: int) -> None:
    """Have the kernel kill this process when its parent, process `expected_ppid`, dies; leave Ctrl-C to the parent.

    Call it first thing, from the main thread. The parent may have died before the kernel was told, and then no
    signal ever comes: this process is somebody else's child by then, and exits at once. Source: prctl(2),
    PR_SET_PDEATHSIG.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused PR_SET_PDEATHSIG")
    if os.getppid() != expected_ppid:
        os._exit(1)
