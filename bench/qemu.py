# SPDX-License-Identifier: GPL-2.0-or-later
"""The peer: QEMU's virt board, a thread for each vCPU. From Debian: `apt-get install qemu-system-arm`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

PROGRAM = "qemu-system-arm"
_ANSWER_S = 10.0


def missing() -> str | None:
    """Why there is no peer, as one sentence; None if there is one."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed: apt-get install {PROGRAM}"
    return None


def version() -> str:
    """Its own line."""
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def command(kernel: Path, vcpus: int, more: Sequence[str] = (), memory: str = "128M") -> list[str]:
    """A machine like ours, its console on stdout."""
    return [
        PROGRAM,
        "-M",
        "virt,gic-version=2",
        "-cpu",
        "cortex-a15",
        "-smp",
        str(vcpus),
        "-m",
        memory,
        "-accel",
        "tcg,thread=multi",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-monitor",
        "none",
        "-nic",
        "none",
        "-no-reboot",
        "-kernel",
        str(kernel),
        *more,
    ]


class Qmp:
    """A connection to a machine that was started with `-qmp unix:PATH,server=on,wait=off`."""

    def __init__(self, path: Path) -> None:
        """Connect and leave negotiation. The machine's console must have printed before: then its socket exists."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, name: str) -> None:
        """Do it, and wait until it is confirmed; events in between are passed over."""
        self._socket.sendall(b'{"execute": "%s"}\n' % name.encode())
        while "return" not in (answer := json.loads(self._lines.readline())):
            if "error" in answer:
                raise RuntimeError(f"QEMU refuses {name}: {answer['error']}")
