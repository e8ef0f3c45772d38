# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a process of a machine: it ends with the launcher, however the launcher ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SYS_SCHED_SETATTR = 314  # x86-64
SHORT_SLICE_NS = 100_000
USUAL_SLICE_NS = 0


class _SchedAttr(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("util_min", ctypes.c_uint32),
        ("util_max", ctypes.c_uint32),
    )


def ask_for_slice(slice_ns: int) -> None:
    """Have the scheduler give this thread, and those that it will make, time slices of `slice_ns` (0: as usual).

    Shares stay the same. But a thread with short slices runs at once when it wakes, although a computing vCPU has not
    used up its own slice: so processes that answer vCPUs do not wait for vCPUs. Linux 6.12 and newer; elsewhere nothing
    changes. Source: Linux, Documentation/scheduler/sched-eevdf.rst.
    """
    attributes = _SchedAttr(size=ctypes.sizeof(_SchedAttr), runtime=slice_ns)
    ctypes.CDLL(None).syscall(_SYS_SCHED_SETATTR, 0, ctypes.byref(attributes), 0)


def pin_to_core(number: int) -> None:
    """Run this thread, and those that it will make, on one of the cores that it may use: by number, round and round."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def tie_to_parent(expected_ppid: int) -> None:
    """Have the kernel kill this process when its parent, process `expected_ppid`, dies; leave Ctrl-C to the parent.

    Call it first thing, from the main thread. The parent may have died before this call: then no signal ever comes,
    this process is already another one's child, and it exits at once. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused PR_SET_PDEATHSIG")
    if os.getppid() != expected_ppid:
        os._exit(1)


def show_command_line(words: Sequence[str]) -> None:
    """Have /proc and ps show these words as this process's command line, cut where they are longer than the real one.

    For a process that was forked to be what that command would start. Source: proc(5), stat, arg_start.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # fields 48 and 49; the first behind the name is field 3
    if 0 < start < end:
        text = b"".join(word.encode() + b"\0" for word in words)[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
