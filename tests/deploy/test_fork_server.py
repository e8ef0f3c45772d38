# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose launchers a fork server forks: all is as with launchers of their own, however either of them ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allstop import HarnessError, Machine
from allstop.deploy.processes.fork_server import ForkServer
from allstop.deploy.processes.processes import child_environment
from allstop.vm.errors import UsageError

pytestmark = pytest.mark.processes


@pytest.fixture
def server() -> Iterator[ForkServer]:
    """A fork server, which is gone after the test."""
    made = ForkServer()
    yield made
    made.close()


def sockets(pid: int) -> set[str]:
    """Those that a process has open."""
    paths = set()
    for each in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            paths.add(os.readlink(each.path))
    return {path for path in paths if path.startswith("socket:")}


def test_machines_run_at_the_same_time_and_one_after_the_other(server: ForkServer, guests: Path) -> None:
    found: list[str] = []

    def run() -> None:
        for name in ("hello", "fail"):
            with Machine(guests / f"{name}.elf", vcpus=2, fork_server=server) as machine:
                verdict = machine.wait(60)
                found.append(f"{name} {verdict.verdict} {verdict.guest_status} {'hello from' in machine.console}")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["fail fail 3 False"] * 3 + ["hello pass 0 True"] * 3


def test_a_usage_error_comes_through(server: ForkServer, guests: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    with (
        pytest.raises(UsageError, match="not empty"),
        Machine(guests / "hello.elf", run_dir=tmp_path / "run", fork_server=server) as machine,
    ):
        machine.wait(60)


def test_a_launcher_that_is_killed_is_told_so(server: ForkServer, guests: Path, until: Callable[..., Any]) -> None:
    with Machine(guests / "spin.elf", fork_server=server) as machine:
        assert not machine.has_ended(0)
        os.kill(machine.launcher_pid, signal.SIGKILL)
        assert machine.has_ended(10)
        with pytest.raises(HarnessError, match="killed by SIGKILL"):
            machine.wait(10)


def test_a_run_is_stopped(server: ForkServer, guests: Path) -> None:
    with Machine(guests / "spin.elf", fork_server=server) as machine:
        with pytest.raises(TimeoutError):
            machine.wait(0.1)
        assert machine.verdict is None
        machine.stop()
        assert "stopped by the program" in machine.wait(10).sentence


def test_a_machine_survives_its_fork_server(server: ForkServer, guests: Path) -> None:
    with Machine(guests / "smp-counter.elf", vcpus=2, parameter=2000, fork_server=server) as machine:
        server.close()
        assert machine.wait(60).verdict == "pass"
    assert not server.is_alive
    with pytest.raises(HarnessError, match="could not be started"), Machine(guests / "hello.elf", fork_server=server):
        pass


def test_a_launcher_has_no_descriptors_of_the_fork_servers(
    server: ForkServer, guests: Path, until: Callable[..., Any]
) -> None:
    """Would break: a socket that stays open in a launcher, so that the death of another launcher goes unnoticed."""
    with (
        Machine(guests / "spin.elf", fork_server=server) as first,
        Machine(guests / "spin.elf", fork_server=server) as second,
    ):
        for pid in (first.launcher_pid, second.launcher_pid):
            until(lambda pid=pid: has_begun(pid), "a launcher")
        assert not sockets(first.launcher_pid) & sockets(second.launcher_pid)
        assert not sockets(server._process.pid) & (sockets(first.launcher_pid) | sockets(second.launcher_pid))


AFTER_MANY = """
import contextlib, os, sys, time
from allstop import Machine
from allstop.deploy.processes.fork_server import ForkServer
from allstop.deploy.processes.processes import child_environment
from tests.deploy.test_fork_server import has_begun, sockets

server, image = ForkServer(), sys.argv[1]
with contextlib.ExitStack() as stack:
    with contextlib.ExitStack() as first:
        for _ in range(6):
            first.enter_context(Machine(image, fork_server=server))
        early = [stack.enter_context(Machine(image, fork_server=server)) for _ in range(2)]
    late = stack.enter_context(Machine(image, fork_server=server))
    until_s = time.monotonic() + 20
    while not has_begun(late.launcher_pid) and time.monotonic() < until_s:
        pass
    print(sockets(late.launcher_pid) & sockets(server._process.pid))
server.close()
"""


def has_begun(pid: int) -> bool:
    """Whether a forked process is a launcher by now."""
    return b"allstop.cli.main\0run\0" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_launcher_that_is_started_after_many_has_none_either(guests: Path) -> None:
    """Would break: descriptors in the holes that earlier launchers have left, above those that a request brings. Then a
    client waits on for its launcher when the fork server is killed, for others hold its end of the answers. In a
    process of its own: one that has many descriptors open would hide it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_MANY, str(guests / "spin.elf")],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(),
        cwd=Path(__file__).parents[2],
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_nobody_waits_long_for_a_fork_server_that_is_dead(server: ForkServer, guests: Path) -> None:
    with Machine(guests / "spin.elf", fork_server=server) as machine, Machine(guests / "spin.elf", fork_server=server):
        server._process.kill()
        os.kill(machine.launcher_pid, signal.SIGKILL)
        began_s = time.monotonic()
        with pytest.raises(HarnessError):
            machine.wait(20)
        assert time.monotonic() - began_s < 4, "it waited for an answer that could not come"
