# SPDX-License-Identifier: GPL-2.0-or-later
"""A process of a machine ends with the launcher: killed by the kernel, or by itself when it was born too late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from allstop.vm.process.lifetime import pin_to_core

pytestmark = pytest.mark.processes

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"tied\\n"
print(child.pid, flush=True)
time.sleep(60)
"""
CHILD = """
import os, sys, time
from allstop.vm.process.lifetime import tie_to_parent
tie_to_parent(int(sys.argv[1]))
print("tied", flush=True)
time.sleep(60)
"""
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[3]))


def test_the_kernel_kills_it_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, env=ENVIRONMENT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        pidfd = os.pidfd_open(child)
        try:
            parent.kill()
            parent.wait()
            assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED).si_status == signal.SIGKILL  # adopted by this subreaper
        finally:
            os.close(pidfd)


def test_it_leaves_at_once_when_its_parent_is_gone_already() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], env=ENVIRONMENT, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, b"")


def test_ctrl_c_is_left_to_the_launcher() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(os.getpid())], stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"tied\n"
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGSTOP)  # once it has stopped, it has had its chance to die of the first
        end = time.monotonic() + 30
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < end
        assert child.poll() is None
        child.kill()


def test_vcpus_are_pinned_to_cores_round_and_round() -> None:
    """Would break: a pin that forgets which cores the process may use, or all vCPUs on one."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        for number in range(len(cores) + 1):
            os.sched_setaffinity(0, cores)
            pin_to_core(number)
            assert os.sched_getaffinity(0) == {cores[number % len(cores)]}
    finally:
        os.sched_setaffinity(0, cores)
