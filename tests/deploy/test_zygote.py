# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers are forked from one process that has loaded what they need, and are the launcher's children all the same."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from allstop.deploy.processes.members import Member, members
from allstop.deploy.processes.zygote import Zygote, ZygoteEndedError
from allstop.vm.config.machine import MachineConfig, SharedFds

pytestmark = pytest.mark.processes


def parent_of(pid: int) -> int:
    """Source: proc(5), stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def zygote_of(launcher_pid: int) -> int:
    """Its process number while it lives, else 0."""
    for child in Path(f"/proc/{launcher_pid}/task/{launcher_pid}/children").read_text().split():
        try:
            if "allstop.vcpu_worker.zygote" in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                return int(child)
        except OSError:
            continue
    return 0


def test_workers_are_the_launchers_children_and_show_what_they_are(machine: Callable[..., Any], until: Any) -> None:
    """Would break: workers whose parent is another process, which would not reap them; one that ps shows as the
    zygote; a zygote that stays; a worker that keeps the others' logs or the way to the launcher open."""
    with machine("spin.elf", "--vcpus", 3) as m:
        until(m.in_guest, "the guest runs")
        members = m.members()
        assert set(members) == {"coordinator", "devicesrv", "vcpu-0", "vcpu-1", "vcpu-2"}
        assert zygote_of(m.launcher.pid) == 0
        for vcpu in range(3):
            pid = members[f"vcpu-{vcpu}"]
            assert parent_of(pid) == m.launcher.pid
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            logs = {link for link in links if "log" in link}
            assert logs == {f"/memfd:allstop-vcpu-{vcpu}.log (deleted)"}, links
        m.launcher.send_signal(signal.SIGINT)
        assert m.finish()[0] == 4


def test_a_worker_that_is_killed_is_told_of_as_one(machine: Callable[..., Any], until: Any) -> None:
    """Would break: exit statuses of processes that the launcher has not started itself."""
    with machine("spin.elf", "--vcpus", 2) as m:
        until(m.in_guest, "the guest runs")
        os.kill(m.members()["vcpu-1"], signal.SIGKILL)
        status, _, errors = m.finish()
    assert status == 4
    assert "vcpu-1 (process" in errors and "was killed by SIGKILL" in errors


def test_a_zygote_that_dies_is_one_sentence(machine: Callable[..., Any], until: Any) -> None:
    """Would break: a launcher that waits for workers that no zygote will fork."""
    with machine("spin.elf", "--vcpus", 2) as m:
        os.kill(until(lambda: zygote_of(m.launcher.pid), "there is a zygote"), signal.SIGKILL)
        status, _, errors = m.finish()
    assert status == 4
    assert re.match(r"allstop: lost: zygote \(process \d+\) was killed by SIGKILL while it loaded ", errors), errors


def test_a_zygote_that_hangs_does_not_keep_ctrl_c_out(machine: Callable[..., Any], until: Any) -> None:
    """Would break: a launcher that waits for its zygote and for nothing else."""
    with machine("spin.elf", "--vcpus", 2) as m:
        zygote = until(lambda: zygote_of(m.launcher.pid), "there is a zygote")
        os.kill(zygote, signal.SIGSTOP)
        until(
            lambda: (
                m.page() is not None
                and all(m.page().heartbeat(slot) for slot in (m.page().COORDINATOR, m.page().DEVICES))
            ),
            "servers",
        )
        m.launcher.send_signal(signal.SIGINT)
        status, _, errors = m.finish()
    assert status == 4
    assert "interrupted by SIGINT" in errors
    assert not Path(f"/proc/{zygote}").exists()


class Log:
    """What a zygote of no machine would give its workers to write to."""

    def __init__(self, die: Callable[[], object]) -> None:
        self._die = die

    def __call__(self, member: Member) -> BinaryIO:
        self._die()
        return os.fdopen(os.memfd_create("test-log"), "r+b", buffering=0)


def test_a_zygote_that_dies_when_it_was_ready_is_one_that_died(until: Any) -> None:
    """Would break: a launcher that meets a broken pipe, or waits for an answer, and says so instead of naming the lost
    process."""
    config = MachineConfig(
        memory_bytes=1 << 21,
        token="00",
        coordinator_endpoint="ipc://@none-c",
        devices_endpoint="ipc://@none-d",
        fds=SharedFds(-1, -1, -1),
        cores=1,
        launcher_pid=os.getpid(),
    )
    config_fd = os.memfd_create("test-config")
    os.write(config_fd, config.to_json().encode())
    pids: list[int] = []

    def kill() -> None:
        pid = zygote_of(os.getpid())
        assert pid
        pids.append(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped

    zygote = Zygote(config_fd, (), Log(kill))
    try:
        zygote.open()
        until(zygote.is_ready, "the zygote is ready")
        with pytest.raises(ZygoteEndedError, match=r"zygote \(process \d+\) was killed by SIGKILL") as e:
            list(zygote.bear(members(1)[2:]))
        assert e.value.killed
    finally:
        zygote.close()
        os.close(config_fd)
    assert not Path(f"/proc/{pids[0]}").exists()
