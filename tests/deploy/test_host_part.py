# SPDX-License-Identifier: GPL-2.0-or-later
"""One host's part of a machine: what its processes inherit, and how their deaths and hangs are told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.hosts.agents import gather
from allstop.deploy.processes import host_part
from allstop.deploy.processes.host_memory import HostMemory
from allstop.deploy.processes.host_part import Death, HostPart, NotStartedError, memory_log
from allstop.deploy.processes.members import Member, members_of
from allstop.vm.config.machine import GdbSpec, HostsSpec, MachineConfig, SharedFds
from allstop.vm.control import control
from allstop.vm.wire.messages import ROLE_COORDINATOR

HOSTS = HostsSpec(0, ("a", "b"), (0, 1), ("x", "y"), "secret", -1, (101, 102, 103), names=("here", "there"))
BEATS = """
import sys
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import COORDINATOR, ControlPage
ControlPage(MachineConfig.from_fd(int(sys.argv[2])).fds.control).beat(COORDINATOR)
"""


def plan(**changes: Any) -> MachineConfig:
    values = {"vcpus": 2, "fds": SharedFds(-1, -1, -1), "cores": 0} | changes
    return MachineConfig(
        **{"memory_bytes": 2 << 20, "token": "00"} | values, coordinator_endpoint="c", devices_endpoint="d"
    )


@pytest.fixture
def memory() -> Iterator[Callable[..., HostMemory]]:
    """Makes the memory of a plan's host."""
    with contextlib.ExitStack() as stack:
        yield lambda **changes: HostMemory(plan(**changes), stack)


def test_a_plan_is_completed_with_this_hosts_own_facts(memory: Callable[..., HostMemory]) -> None:
    made = memory(fds=SharedFds(-1, -1, -1, console=99))
    config = made.config
    assert MachineConfig.from_fd(made.config_fd) == config
    assert config.launcher_pid == os.getpid() and config.cores == len(os.sched_getaffinity(0))
    assert config.fds.console == 99 and config.hosts is None
    assert os.fstat(config.fds.ram).st_size == 2 << 20
    assert {config.fds.control, config.fds.ram, config.fds.stage2, config.fds.swap, 99} <= set(made.shared_fds)


def test_each_server_inherits_its_own_sockets_only(memory: Callable[..., HostMemory]) -> None:
    """Would break: a worker that keeps a server's port open, and a server without its port."""
    made = memory(hosts=HOSTS, gdb=GdbSpec(104, 105, False))
    own = {member.name: set(made.inherited_by(member)) - set(made.shared_fds) for member in members_of(made.config)}
    assert own == {
        "coordinator": {102},
        "devicesrv": {103},
        "node": {101},
        "host there": set(),
        "vcpu-0": set(),
        "gdbserver": {104, 105},
    }
    assert made.config.hosts is not None and made.config.hosts.doorbell_fd in made.shared_fds


def test_the_first_host_has_every_page_at_first_and_the_others_none(memory: Callable[..., HostMemory]) -> None:
    page = 0x4000_0000 >> 12
    assert memory(hosts=HOSTS).node_memory.is_here(page, True)
    assert not memory(hosts=replace(HOSTS, index=1)).node_memory.is_here(page, False)


def test_a_machine_on_one_host_opens_nothing_for_others() -> None:
    """Would break: a start that pays for other hosts where there are none."""
    before = sorted(os.listdir("/proc/self/fd"))
    others = gather(None, 2, memory_log, -1)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert others.this_host() is None and not others.sockets and not others.children
    assert others.serve(0.0) == () and others.notes(None, "pass") == [] and others.event_counts(0) == (0, 0)


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], HostPart]]:
    """Makes a part whose one process, a server, executes the given source."""
    with contextlib.ExitStack() as stack:

        def make(source: str) -> HostPart:
            (tmp_path / "stand_in.py").write_text(source)
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
            member = Member(ROLE_COORDINATOR, 0, control.COORDINATOR, "stand-in", "stand_in")
            monkeypatch.setattr(host_part, "members_of", lambda config: (member,))
            return stack.enter_context(HostPart(plan(), memory_log))

        yield make


@pytest.mark.processes
def test_a_death_is_told_once_with_what_the_process_did_and_said(part: Callable[[str], HostPart], until: Any) -> None:
    made = part(BEATS + "print('why'); sys.exit(3)")
    made.begin()
    assert until(made.deaths, "the death") == [Death(0, 3)]
    assert made.deaths() == []
    assert (
        made.story(0, "left") == f'stand-in (process {made.children[0].pid}) left while starting; its last words: "why"'
    )


@pytest.mark.processes
def test_the_start_goes_on_when_the_server_has_beaten(part: Callable[[str], HostPart], until: Any) -> None:
    made = part(BEATS + "import time; time.sleep(1000)")
    assert not made.is_starting
    made.begin()
    assert made.is_starting

    def goes_on() -> bool:
        beaten = made.control_page.heartbeat(control.COORDINATOR) > 0
        made.go_on()
        return beaten and not made.is_starting

    until(goes_on, "the start to be complete")


@pytest.mark.processes
def test_a_stopped_process_hangs_and_a_part_that_ends_leaves_none(part: Callable[[str], HostPart], until: Any) -> None:
    """Would break: a loop that polls a dead process forever, and a process that outlives the run."""
    made = part("import time; time.sleep(1000)")
    made.begin()
    pid = made.children[0].pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: made.children[0].state()[0] == "T", "the stop")
    found: list[tuple[int, str]] = []
    for look in range(1, 20):
        found += made.hangs(look * 0.25)
    assert found and "is stopped" in found[0][1]
    made.end()
    made.end()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.processes
def test_a_process_that_cannot_be_started_is_named(part: Callable[[str], HostPart], monkeypatch: Any) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no more processes")

    made = part("")
    monkeypatch.setattr(host_part, "ChildProcess", refuse)
    with pytest.raises(NotStartedError, match="^stand-in could not be started: no more processes$") as e:
        made.begin()
    assert not e.value.lost and made.children == []
