# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of journals for a device access: `python -m bench.journal [--blocks N]`.

Two device servers run side by side, one with a journal and one without, and this process plays the worker to both, with
the worker's own `Links` and, for the one, the records that a worker makes of an access: the exit and the access. Blocks
of accesses alternate between the two, in an order that changes each time, so both see the same host. Exit and entry of
the guest are not part of it, so the journals' share is larger than in a machine. Figures in microseconds depend on the
host and the hour; the ratio counts, at the tenth percentile of the blocks, where the host disturbs least.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from allstop.deploy.processes.processes import child_environment
from allstop.vcpu_worker.links import Links
from allstop.vm.board import RAMDEV_BASE
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.control.control import ControlPage
from allstop.vm.journal.open import open_journal
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.messages import ROLE_WORKER

ACCESSES = 10
_GOAL = 1.10


class Side:
    """One device server and the worker's end of it."""

    def __init__(self, folder: Path, journal: bool, stack: contextlib.ExitStack) -> None:
        run_dir = folder / ("on" if journal else "off")
        (run_dir / "journal").mkdir(parents=True)
        control_fd = os.memfd_create("bench-control")
        config_fd = os.memfd_create("bench-config")
        stack.callback(os.close, control_fd)
        os.ftruncate(control_fd, ControlPage.size_bytes(1))
        page = ControlPage.create(control_fd, 1, 2)
        name = f"ipc://@allstop-bench-{secrets.token_hex(8)}"
        config = MachineConfig(
            vcpus=1,
            memory_bytes=1 << 21,
            token=secrets.token_hex(16),
            coordinator_endpoint=f"{name}-c",
            devices_endpoint=f"{name}-d",
            fds=SharedFds(control_fd, -1, -1),
            cores=2,
            launcher_pid=os.getpid(),
            run_dir=str(run_dir),
            journal=journal,
        )
        os.write(config_fd, config.to_json().encode())
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "allstop.devicesrv", "--config-fd", str(config_fd)],
            env=child_environment(),
            pass_fds=(config_fd, control_fd),
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
        os.close(config_fd)
        self._journal = open_journal(config, "vcpu-0", ROLE_WORKER)
        with _coordinator(config):
            self._links = Links(config, page, 0, Telemetry(page, 0, self._journal))
        stack.callback(self._links.close)
        self._sequence = 0

    def block(self) -> float:
        """Microseconds of an access, over a block of them."""
        journal, devices, clock = self._journal, self._links.devices, time.perf_counter_ns
        before_ns = clock()
        for _ in range(ACCESSES):
            if journal is None:
                devices.mmio(RAMDEV_BASE, 4, False, 0)
                continue
            began_ns = clock()
            devices.mmio(RAMDEV_BASE, 4, False, 0)
            journal.span(journal.EXIT, 0, began_ns, 0, 0x4000_0000, 0x9380_0006, RAMDEV_BASE, 0xE591_0000)
        return (clock() - before_ns) / ACCESSES / 1000


@contextlib.contextmanager
def _coordinator(config: MachineConfig) -> Iterator[None]:
    """A stand-in that welcomes the worker: `Links` connects to two servers, and only one of them is measured."""
    code = (
        "import sys, zmq; from allstop.vm.wire.channel import listen; from allstop.vm.wire.codec import encode; "
        "from allstop.vm.wire.messages import PROTOCOL_VERSION, Welcome\n"
        "s = listen(zmq.Context(), sys.argv[1])\n"
        "i, _ = s.recv_multipart()\n"
        "s.send_multipart((i, encode(Welcome(PROTOCOL_VERSION, 1))))\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, config.coordinator_endpoint], stdin=subprocess.PIPE, env=child_environment()
    ):
        yield


def measure(blocks: int) -> tuple[list[float], list[float]]:
    """Microseconds of an access without and with journals, block by block."""
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as name, contextlib.ExitStack() as stack:
        off, on = Side(Path(name), False, stack), Side(Path(name), True, stack)
        off.block(), on.block()
        results: tuple[list[float], list[float]] = ([], [])
        for number in range(blocks):
            for which in (0, 1) if number % 2 else (1, 0):
                results[which].append((off, on)[which].block())
    return results


def main() -> int:
    """Print the figures; 0 when the goal is met."""
    parser = argparse.ArgumentParser(prog="bench.journal", description="what journals cost a device access")
    parser.add_argument("--blocks", type=int, default=2000, help=f"of {ACCESSES} accesses each (default %(default)s)")
    off, on = measure(parser.parse_args().blocks)
    off_quiet, on_quiet = (quantiles(times, n=10)[0] for times in (off, on))
    ratio = on_quiet / off_quiet
    print(
        f"an access takes {off_quiet:.1f} us without and {on_quiet:.1f} us with journals (the tenth percentile of "
        f"{len(off)} blocks of {ACCESSES}): {ratio:.3f} times as long; at most {_GOAL:g} is the goal. "
        f"Medians: {median(off):.1f} and {median(on):.1f} us, {median(on) / median(off):.3f}"
    )
    return 0 if ratio <= _GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
