# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop ctl` on a machine on two hosts reaches both of them. On loopback, but where a link is cut."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allstop.operator_link import OperatorLink
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.memory.stage2 import LEVEL3_OFFSET

COUNTERS = 0x40015000  # the page on which both vCPUs of smp-counter work
IN_TIME_S = 20.0


class Machine:
    """A machine whose vCPUs count, each on a host of its own."""

    def __init__(self, command: Any, run: Path, process: subprocess.Popen[bytes]) -> None:
        self._command = command
        self.run = run
        self.process = process

    def ctl(self, *words: object) -> Any:
        return self._command("ctl", self.run, *words)

    def verdict(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=30)
        found: dict[str, Any] = json.loads(out)
        return found

    def agent(self) -> int:
        """The process that is the other host's agent."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(
            int(child)
            for child in children
            if b"allstop.deploy.hosts.agent" in Path(f"/proc/{child}/cmdline").read_bytes()
        )

    def counts(self) -> bool:
        """Do all vCPUs count by now?"""
        if not (self.run / "control.json").exists():
            assert self.process.poll() is None, self.process.communicate()
            return False
        said = self.ctl("status", "--json").stdout
        return bool(said) and all(
            vcpu["power"] == "on" and vcpu["counters"]["stage2"] > 20 for vcpu in json.loads(said)["vcpus"]
        )

    def own_page(self) -> int:
        """A page that the other host's vCPU alone works on, and the first host never had: of its stack."""
        return (json.loads(self.ctl("registers", "--vcpu", 1, "--json").stdout)["1"]["sp"] - 1) & ~0xFFF

    def entry(self, page: int) -> int:
        """What the first host has of a page: 0 where it is the other's."""
        at = LEVEL3_OFFSET + (page - RAM_BASE) // 4096 * 8
        return int(struct.unpack("<Q", look_into(self.process.pid, "stage2", at, 8))[0])

    def frame(self, page: int, there: bool) -> bytes:
        """What is in a host's frame of a page, which is what the guest has where it is that host's."""
        return look_into(self.agent() if there else self.process.pid, "ram", page - RAM_BASE, 4096)


def look_into(pid: int, name: str, at: int, length_bytes: int) -> bytes:
    """Bytes of a memory file of a host, as its launcher or agent holds it."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(fd).startswith(f"/memfd:allstop-{name} "):
                with fd.open("rb") as file:
                    return os.pread(file.fileno(), length_bytes, at)
    raise AssertionError(f"process {pid} has no memory file {name}")


@pytest.fixture
def machine(command: Any, guests: Path, tmp_path: Path, until: Any) -> Iterator[Machine]:
    file = tmp_path / "hosts.toml"
    file.write_text("".join(f'[[host]]\nname = "{name}"\naddress = "127.0.0.1"\n' for name in ("here", "there")))
    run = tmp_path / "run"
    process: subprocess.Popen[bytes] = command.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--run-dir",
        run,
        "--hosts",
        file,
    )
    made = Machine(command, run, process)

    try:
        until(made.counts, "both vCPUs to count")
        yield made
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_an_operator_reaches_every_host(machine: Machine) -> None:
    ctl = machine.ctl
    assert ctl("pause").returncode == 0
    first, second = (ctl("registers", "--json").stdout for _ in range(2))
    assert first == second and len(json.loads(first)) == 2
    assert ctl("registers", "--vcpu", 1).stdout.startswith("vCPU 1\n")
    assert ctl("resume").returncode == 0
    assert ctl("tlb").stdout == "asked 2 vCPUs to flush\n"
    assert ctl("stop").returncode == 0
    assert machine.verdict()["verdict"] == "error"


def test_memory_of_a_stopped_machine_is_read_where_it_is_another_hosts(machine: Machine, until: Any) -> None:
    """What is shown is what the other host has: the test reads the page in that host's memory itself."""
    with OperatorLink(machine.run) as link:
        link.pause()
        page = machine.own_page()
        there = machine.frame(page, there=True)
        assert machine.entry(page) == 0 and there != machine.frame(page, there=False)
        assert b"".join(link.memory(page, 4096)) == there
        assert machine.entry(page) != 0  # it came here
        assert b"".join(link.memory(page - 16, 4096 + 32))[16:-16] == there
        link.resume()
    assert machine.ctl("stop").returncode == 0
    assert machine.verdict()["verdict"] == "error"


def test_a_page_that_two_hosts_fight_for_is_read_each_time(machine: Machine) -> None:
    """The count only grows: what is read is no less than what was read before, and than what the other host had then
    (or once had: the page may have been on its way there when its frame was looked into)."""
    pairs: list[tuple[bytes, bytes]] = []
    agent = machine.agent()
    with OperatorLink(machine.run) as link:
        end_s = time.monotonic() + IN_TIME_S
        while len(pairs) < 20 and time.monotonic() < end_s:
            had = look_into(agent, "ram", COUNTERS - RAM_BASE, 4096)
            if machine.entry(COUNTERS) == 0:  # what is here is older, most times
                pairs.append((had, b"".join(link.memory(COUNTERS, 4096))))
    assert len(pairs) == 20
    values = [struct.unpack("<1024I", data) for pair in pairs for data in pair]
    word = max(range(1024), key=lambda n: len({value[n] for value in values}))
    there, read = ([value[word] for value in values[first::2]] for first in (0, 1))
    assert read == sorted(read)
    assert all(before <= after for before, after in zip(there, read, strict=True))
    assert len({value[word] for value in values}) >= 10, "no vCPU counts"
    assert machine.ctl("stop").returncode == 0
    assert machine.verdict()["verdict"] == "error"


def test_a_vcpu_of_another_host_is_killed_as_one_of_this(machine: Machine) -> None:
    pid = json.loads(machine.ctl("status", "--json").stdout)["vcpus"][1]["pid"]
    done = machine.ctl("kill", "--vcpu", 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"killed vCPU 1, process {pid} of host there\n", "")
    verdict = machine.verdict()
    assert verdict["verdict"] == "lost"
    assert verdict["sentence"].startswith(
        f"host there (127.0.0.1): vcpu-1 (process {pid}) was killed by SIGKILL while "
    ), verdict["sentence"]
    assert not (machine.run / "control.json").exists() and not Path(f"/proc/{pid}").exists()


def test_a_host_that_does_not_answer_kills_later(machine: Machine) -> None:
    """The operator is told so in one sentence; what it wanted happens all the same, when the host comes round."""
    agent = machine.agent()
    os.kill(agent, signal.SIGSTOP)
    try:
        done = machine.ctl("kill", "--vcpu", 1)
    finally:
        os.kill(agent, signal.SIGCONT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "allstop: host there, which is to kill vCPU 1, has not answered within 3 s: it is slow or stopped\n"
    )
    verdict = machine.verdict()
    assert verdict["verdict"] == "lost" and "was killed by SIGKILL" in verdict["sentence"]


def test_a_page_of_a_host_that_is_cut_off_is_refused_in_time_and_read_when_the_link_is_back(
    hosts: Any, guests: Path, until: Any
) -> None:
    run = hosts.folder / "run"
    process = hosts.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--run-dir",
        run,
        "--hosts",
        hosts.file(2, extra="[machine]\ndeadline_s = 30"),
    )

    def command(*words: object) -> subprocess.CompletedProcess[str]:
        with hosts.start(*words) as asked:
            out, err = asked.communicate(timeout=30)
        return subprocess.CompletedProcess(words, asked.returncode, out.decode(), err.decode())

    machine = Machine(command, run, process)
    until(machine.counts, "both vCPUs to count")
    assert machine.ctl("pause").returncode == 0
    page = machine.own_page()
    assert machine.entry(page) == 0
    hosts.network.cut(1)
    began_s = time.monotonic()
    done = machine.ctl("memory", hex(page + 8), 16)
    assert time.monotonic() - began_s < 3 + 5
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"allstop: the page at {page:#010x} is on another host and did not come within 3 s: host "
        "there is slow or stopped\n"
    )
    assert machine.ctl("memory", "0x40010000", 16).returncode == 0  # what is here is read meanwhile
    hosts.network.mend(1)
    until(lambda: machine.ctl("memory", hex(page + 8), 16).returncode == 0, "the page to come")
    assert machine.ctl("stop").returncode == 0
    assert hosts.finish(process).verdict["verdict"] == "error"
