# SPDX-License-Identifier: GPL-2.0-or-later
"""Any process of a run may die or hang at any moment: one verdict, one sentence, soon, and nothing left behind.

That nothing is left behind is asserted around every test, by tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from allstop.vm.config.machine import MachineConfig
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_LAUNCHER,
    ROLE_WORKER,
    Hello,
    ProcessLost,
    RunEnded,
    Shutdown,
)

pytestmark = pytest.mark.processes

MEMBERS = ("coordinator", "devicesrv", "vcpu-0", "vcpu-1")


def ends_s() -> float:
    """What a run may take to end after a loss: 2 s, and as much again; more on a host that has better things to do, by
    what an interpreter takes to come and go on it, which is 0.05 s where it is quiet."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-I", "-c", ""], check=True)
    return 4.0 * max(1.0, (time.monotonic() - begun) / 0.1)


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_killed_process_ends_the_run_with_its_name(machine: Callable[..., Any], until: Any, member: str) -> None:
    with machine("spin.elf", "--vcpus", 2, "--quiet") as running:
        until(running.in_guest, "the guest")
        pid = running.members()[member]
        begun = time.monotonic()
        kill(pid, signal.SIGKILL)
        status, _, err = running.finish(30.0)
        assert time.monotonic() - begun < ends_s()
    assert status == 4
    assert re.fullmatch(rf"allstop: lost: {member} \(process {pid}\) was killed by SIGKILL while [^\n]+\n", err), err


@pytest.mark.parametrize("member", MEMBERS)
def test_a_stopped_process_ends_the_run_with_its_name(machine: Callable[..., Any], until: Any, member: str) -> None:
    with machine("spin.elf", "--vcpus", 2, "--quiet") as running:
        until(running.in_guest, "the guest")
        pid = running.members()[member]
        begun = time.monotonic()
        kill(pid, signal.SIGSTOP)
        status, _, err = running.finish(30.0)
        assert time.monotonic() - begun < ends_s()
    assert status == 4
    assert re.fullmatch(rf"allstop: lost: {member} \(process {pid}\) is stopped while [^\n]+\n", err), err


def test_a_process_that_is_stopped_for_a_moment_only_is_forgiven(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 2, "--quiet", "--timeout", 2) as running:
        until(running.in_guest, "the guest")
        for pid in running.members().values():
            kill(pid, signal.SIGSTOP)
            time.sleep(0.1)  # the time that it takes, not a wait for something
            kill(pid, signal.SIGCONT)
        assert running.finish()[0] == 5


def test_a_machine_that_is_suspended_as_a_whole_goes_on(machine: Callable[..., Any], until: Any) -> None:
    """Ctrl-Z at the terminal stops the launcher too: it accuses no process for the time in which it did not watch."""
    with machine("spin.elf", "--vcpus", 2, "--quiet", "--timeout", 4, process_group=0) as running:
        until(running.in_guest, "the guest")
        os.killpg(running.launcher.pid, signal.SIGSTOP)
        time.sleep(2.0)  # longer than any process may sleep unseen
        os.killpg(running.launcher.pid, signal.SIGCONT)
        assert running.finish()[0] == 5


def test_a_device_that_hangs_is_found_and_named(command: Any, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom allstop.devicesrv.device import Device\n"
        "class Slow(Device):\n    def write(self, offset, size, value, vcpu):\n        time.sleep(1000)\n"
    )
    (tmp_path / "stores.bin").write_bytes(bytes.fromhex("0c14a0e3000081e5feffffea"))  # str r0, [0x0c000000]
    done = command("run", tmp_path / "stores.bin", "--quiet", "--device", f"{tmp_path}/slow.py:Slow@0x0c000000")
    assert done.returncode == 4
    assert re.match(r"allstop: lost: devicesrv \(process \d+\) hangs: .* in the device at 0x0c000000", done.stderr)


def test_a_launcher_that_is_killed_takes_everything_along(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 2) as running:
        until(running.in_guest, "the guest")
        kill(running.launcher.pid, signal.SIGKILL)
        assert running.finish()[0] == -signal.SIGKILL


@pytest.mark.parametrize("seed", range(6))
def test_a_launcher_that_is_killed_while_starting_takes_everything_along(
    machine: Callable[..., Any], until: Any, seed: int
) -> None:
    with machine("spin.elf", "--vcpus", 3) as running:
        until(lambda: running.memory("control"), "the launcher to begin")
        time.sleep(random.Random(seed).uniform(0.0, 0.4))  # a random moment
        kill(running.launcher.pid, signal.SIGKILL)
        assert running.finish()[0] == -signal.SIGKILL


@pytest.mark.parametrize("seed", range(12))
def test_a_process_that_is_killed_at_a_random_moment(machine: Callable[..., Any], until: Any, seed: int) -> None:
    """From the first process's start on; the guest stops the world for each of its fetches, so often in a stop."""
    chance = random.Random(seed)
    with machine("mmio.elf", "--vcpus", 3, "--quiet", "--fetch", "stop-world", "--timeout", 60) as running:
        until(running.members, "the first process")
        time.sleep(chance.uniform(0.0, 0.8))  # a random moment
        members = running.members()
        if members:
            kill(members[chance.choice(sorted(members))], signal.SIGKILL)
        begun = time.monotonic()
        status, _, err = running.finish(30.0)
        if status == 4:
            assert time.monotonic() - begun < ends_s()
            assert re.fullmatch(
                r"allstop: lost: [a-z0-9-]+ \(process \d+\) was killed by SIGKILL while [^\n]+\n", err
            ), err
        else:
            assert status == 0, err  # the guest was faster


def test_a_process_that_is_killed_in_the_middle_of_a_stop(machine: Callable[..., Any], until: Any) -> None:
    """A vCPU that cannot leave the guest holds the stop up: it is killed while all others wait for it."""
    with machine("mmio.elf", "--vcpus", 3, "--quiet", "--fetch", "stop-world", "--timeout", 60) as running:
        until(running.in_guest, "the guest")
        page = until(running.page, "the control page")
        victim = running.members()["vcpu-2"]
        until(lambda: page.power(2) == page.POWER_ON, "vCPU 2")
        kill(victim, signal.SIGSTOP)
        with contextlib.suppress(AssertionError):  # stopped outside the guest, it holds up no stop
            until(lambda: page.activity(page.COORDINATOR)[0] == page.ACTIVITY_STOPPING, "a stop", 0.5)
        kill(victim, signal.SIGKILL)
        begun = time.monotonic()
        status, _, err = running.finish(30.0)
        assert time.monotonic() - begun < ends_s()
    assert status == 4 and "vcpu-2" in err and "was killed by SIGKILL" in err


def config_of(running: Any) -> MachineConfig:
    return MachineConfig.from_json(running.memory("config").read_text())


def test_strangers_and_nonsense_do_not_disturb_a_run(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 2, "--quiet", "--timeout", 3) as running:
        until(running.in_guest, "the guest")
        config = config_of(running)
        token = bytes.fromhex(config.token)
        nonsense = [
            b"",
            b"\xc1",
            b"\x91",
            os.urandom(500),
            b"\x90" * 5000,
            encode(Shutdown()),
            encode(RunEnded(0, 0, "lies")),
            encode(ProcessLost(ROLE_WORKER, 0, "lies")),
            encode(Hello(PROTOCOL_VERSION, bytes(16), ROLE_LAUNCHER, 0, 1)),
            encode(Hello(PROTOCOL_VERSION + 1, token, ROLE_LAUNCHER, 0, 1)),
            encode(Hello(PROTOCOL_VERSION, token, ROLE_WORKER, 999, 1)),
        ]
        with zmq.Context() as context:
            for endpoint in (config.coordinator_endpoint, config.devices_endpoint):
                for identity in (b"op-stranger", b"launcher", b"w0", b"x"):
                    with context.socket(zmq.DEALER) as socket:
                        socket.setsockopt(zmq.IDENTITY, identity)
                        socket.setsockopt(zmq.LINGER, 500)
                        socket.connect(endpoint)
                        for data in nonsense:
                            socket.send(data)
                            socket.send_multipart([data, b"", data])
        status, _, err = running.finish()
    assert status == 5, err
