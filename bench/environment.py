# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures depend on, for the record."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import zmq

from bench import qemu


def describe() -> dict[str, object]:
    """The host and the versions of everything that is measured."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": load(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "unicorn": version("unicorn"),
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "qemu": qemu.missing() or qemu.version(),
    }


def load() -> float:
    """The mean number of threads that wanted a core in the last minute, including the measured ones."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
