# SPDX-License-Identifier: GPL-2.0-or-later
"""Lost hosts, links and processes: the run ends in time, with one sentence that says what, and nothing stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop.vm.control.control import POWER_ON, ControlPage

DEADLINE_S = 2.0
IN_TIME_S = 10.0  # a deadline, and what a busy host takes for the rest
QUICK = f"[machine]\ndeadline_s = {DEADLINE_S}\nstart_s = 15"
Change = Callable[[Any, subprocess.Popen[bytes]], None]


def page_of(launcher: int) -> ControlPage | None:
    """The machine's control page on the first host, when there is one."""
    try:
        for name in os.listdir(f"/proc/{launcher}/fd"):
            if os.readlink(f"/proc/{launcher}/fd/{name}").startswith("/memfd:allstop-control "):
                fd = os.open(f"/proc/{launcher}/fd/{name}", os.O_RDWR)
                try:
                    return ControlPage(fd)
                finally:
                    os.close(fd)
    except (OSError, ValueError):
        pass
    return None


def await_running(hosts: Any, process: subprocess.Popen[bytes], until: Any) -> None:
    """Wait until the vCPUs of both hosts are on, and work."""

    def runs() -> bool:
        page = page_of(process.pid)
        return (
            page is not None
            and all(page.power(vcpu) == POWER_ON and page.heartbeat(vcpu) for vcpu in (0, 1))
            and "vcpu-1" in hosts.network.members(1)
        )

    until(lambda: process.poll() is not None or runs(), "both vCPUs to run")
    assert process.poll() is None, process.communicate()


def signalled(host: int, member: str, number: int) -> Change:
    def change(hosts: Any, process: subprocess.Popen[bytes]) -> None:
        os.kill(process.pid if member == "launcher" else hosts.network.members(host)[member], number)

    return change


def cut(hosts: Any, process: subprocess.Popen[bytes]) -> None:
    hosts.network.cut(1)


AGENT, NODE = "deploy.hosts.agent", "coordinator.node"
THERE = r"host there \(10\.77\.0\.2\)"
LOSSES = {
    "partition": (
        cut,
        rf"{THERE} has been silent for 2 s: it is dead, hangs or is cut off"
        r"|the agent of host there was cut off from this host, and has ended its part",
    ),
    "agent killed": (signalled(1, AGENT, signal.SIGKILL), r"the agent of host there was killed by SIGKILL"),
    "agent stopped": (signalled(1, AGENT, signal.SIGSTOP), rf"{THERE} has been silent for 2 s"),
    "its node killed": (signalled(1, NODE, signal.SIGKILL), rf"{THERE}: node \(process \d+\) was killed by SIGKILL"),
    "its node ended": (signalled(1, NODE, signal.SIGTERM), rf"{THERE}: node \(process \d+\) was killed by SIGTERM"),
    "our node ended": (signalled(0, NODE, signal.SIGTERM), r"node \(process \d+\) was killed by SIGTERM"),
    "its node stopped": (signalled(1, NODE, signal.SIGSTOP), r"there.*(is stopped|been silent|not been heard of)"),
    "its worker killed": (
        signalled(1, "vcpu-1", signal.SIGKILL),
        rf"{THERE}: vcpu-1 \(process \d+\) was killed by SIGKILL",
    ),
    "its worker stopped": (signalled(1, "vcpu-1", signal.SIGSTOP), rf"{THERE}: vcpu-1 \(process \d+\) is stopped"),
    "our node killed": (signalled(0, NODE, signal.SIGKILL), r"node \(process \d+\) was killed by SIGKILL"),
    "our node stopped": (signalled(0, NODE, signal.SIGSTOP), r"node \(process \d+\) is stopped"),
    "our worker stopped": (signalled(0, "vcpu-0", signal.SIGSTOP), r"vcpu-0 \(process \d+\) is stopped"),
    "our worker killed": (signalled(0, "vcpu-0", signal.SIGKILL), r"vcpu-0 \(process \d+\) was killed by SIGKILL"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_ends_the_run(hosts: Any, guests: Path, until: Any, loss: str) -> None:
    change, sentence = LOSSES[loss]
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--run-dir",
        hosts.folder / "run",
        "--hosts",
        hosts.file(2, extra=QUICK),
    )
    await_running(hosts, process, until)
    change(hosts, process)
    began_s = time.monotonic()
    done = hosts.finish(process, 30.0)
    assert time.monotonic() - began_s < IN_TIME_S
    assert (done.status, done.verdict["verdict"]) == (4, "lost"), done.err
    assert re.search(sentence, done.verdict["sentence"]), done.verdict["sentence"]
    assert "\n" not in done.verdict["sentence"]
    if loss == "partition":
        log = (hosts.folder / "run" / "host-there.log").read_text()
        assert log.count("\n") == 1 and log.startswith("the launcher has been silent for 2 s"), log
    assert not list((hosts.folder / "run").glob("control.json"))


def test_a_cut_between_two_other_hosts(hosts: Any, guests: Path, until: Any) -> None:
    """The first host still hears both; their nodes do not hear each other, and one of them says so."""
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        3,
        "--parameter",
        10_000_000,
        "--hosts",
        hosts.file(3, extra=QUICK),
    )
    await_running(hosts, process, until)
    with hosts.network.parted(1, 2):
        began_s = time.monotonic()
        done = hosts.finish(process, 30.0)
    assert time.monotonic() - began_s < IN_TIME_S
    assert (done.status, done.verdict["verdict"]) == (4, "lost"), done.err
    assert re.search(
        r"the node of host (there|yonder) has not been heard of by that of host (there|yonder) for 3 s",
        done.verdict["sentence"],
    ), done.verdict["sentence"]


def test_a_launcher_that_is_killed_leaves_no_host_behind(hosts: Any, guests: Path, until: Any) -> None:
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--hosts",
        hosts.file(2, extra=QUICK),
    )
    await_running(hosts, process, until)
    process.kill()
    process.communicate()
    hosts.network.await_empty(IN_TIME_S)


def test_a_cable_that_is_out_for_less_than_the_deadline_harms_nobody(hosts: Any, guests: Path, until: Any) -> None:
    """What was sent meanwhile comes later; the machine goes on until it is told to end."""
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--hosts",
        hosts.file(2, extra="[machine]\ndeadline_s = 20"),
    )
    await_running(hosts, process, until)
    hosts.network.cut(1)
    cut_s = time.monotonic()
    until(lambda: time.monotonic() > cut_s + 1.5 or process.poll() is not None, "time to pass")
    hosts.network.mend(1)
    page = page_of(process.pid)
    assert page is not None
    before = [sum(page.counters(vcpu)) for vcpu in (0, 1)]
    until(
        lambda: process.poll() is not None or all(sum(page.counters(vcpu)) > before[vcpu] + 50 for vcpu in (0, 1)),
        "both vCPUs to go on",
    )
    process.send_signal(signal.SIGINT)
    done = hosts.finish(process)
    assert (done.status, done.verdict["sentence"]) == (4, "interrupted by SIGINT"), done.err


def stub(step: str, act: str) -> tuple[str, ...]:
    return str(Path(__file__).parent / "stub_agent.py"), step, act


STEPS = ("call", "ready", "plan", "workers")


@pytest.mark.parametrize("act", ["exit", "kill", "stop"])
@pytest.mark.parametrize("step", STEPS)
def test_a_host_that_is_lost_at_each_step_of_the_start(hosts: Any, guests: Path, step: str, act: str) -> None:
    """Three hosts: one goes wrong, and the other must be left by the machine as well."""
    file = hosts.file(3, extra=QUICK.replace("15", "6"), agents={1: stub(step, act)})
    began_s = time.monotonic()
    done = hosts.run(guests / "hello.elf", "--vcpus", 3, hosts=file, deadline_s=30.0)
    assert time.monotonic() - began_s < 6 + 2 * IN_TIME_S
    assert done.status == 4 and done.verdict["verdict"] in ("error", "lost"), done.err
    assert re.search(r"host there\b", done.verdict["sentence"]) and "beyond" not in done.verdict["sentence"]
    assert "Traceback" not in done.err and "internal error" not in done.err
    wanted = {
        "exit": "exited with status 7",
        "kill": "killed by SIGKILL",
        "stop": r"did not answer within 6 s" if step == "call" else r"(has been silent|did not answer)",
    }
    assert re.search(wanted[act], done.verdict["sentence"]), done.verdict["sentence"]


def test_a_host_that_is_lost_when_all_is_over(hosts: Any, guests: Path) -> None:
    """The guest has passed. What the lost host's vCPU has done was not told, and so nothing was done without it."""
    done = hosts.run(
        guests / "ipi.elf",
        "--vcpus",
        2,
        "--parameter",
        3,
        deadline_s=60.0,
        hosts=hosts.file(2, agents={1: stub("end", "kill")}),
    )
    assert (done.status, done.verdict["verdict"]) == (0, "pass"), done.verdict["sentence"]
    assert "host there did not report in time what its vCPUs have done" in " ".join(done.verdict["notes"])


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_at_each_step_of_the_start(hosts: Any, guests: Path, until: Any, step: str) -> None:
    file = hosts.file(3, extra="[machine]\ndeadline_s = 8\nstart_s = 30", agents={1: stub(step, "stop")})
    process = hosts.start(
        "run", "--json", guests / "hello.elf", "--vcpus", 3, "--run-dir", hosts.folder / "run", "--hosts", file
    )
    log = hosts.folder / "run" / "host-there.log"
    until(lambda: log.exists() and f"at {step}" in log.read_text(), f"the agent to come to {step}")
    process.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    done = hosts.finish(process, 30.0)
    assert time.monotonic() - began_s < IN_TIME_S
    assert (done.status, done.verdict["verdict"]) == (4, "error") and "interrupted" in done.verdict["sentence"]
