# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python API: the same powers and sentences as the command, and no harm done either way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allstop import HarnessError, Machine, UsageError, Verdict
from allstop.deploy.processes.processes import child_environment

pytestmark = pytest.mark.processes


def test_a_machine_is_run_to_its_verdict(guests: Path) -> None:
    with Machine(image=guests / "hello.elf", vcpus=4) as machine:
        verdict = machine.wait()
        assert isinstance(verdict, Verdict)
        assert (verdict.verdict, verdict.exit_code, verdict.vcpus) == ("pass", 0, 4)
        assert machine.verdict == verdict
    assert "hello from vCPU 3 of 4\n" in machine.console
    assert machine.wait() == verdict


def test_a_guest_that_fails_is_a_verdict_and_no_exception(guests: Path) -> None:
    with Machine(image=str(guests / "fail.elf")) as machine:
        assert machine.wait().exit_code == 1
        assert machine.wait().guest_status == 3


def test_waiting_has_a_limit_and_stopping_an_end(guests: Path) -> None:
    with Machine(image=guests / "spin.elf", vcpus=2) as machine:
        with pytest.raises(TimeoutError, match="still runs"):
            machine.wait(timeout=0.1)
        assert machine.verdict is None
        machine.stop()
        machine.stop()
        verdict = machine.wait(timeout=10)
    assert (verdict.verdict, verdict.exit_code) == ("error", 4)
    assert "stopped by the program" in verdict.sentence


def test_the_options_arrive(guests: Path, tmp_path: Path) -> None:
    with Machine(
        image=guests / "spin.elf",
        memory="2M",
        timeout=0.3,
        run_dir=tmp_path / "run",
        tlb="ipi",
        fetch="unprotected",
        decode="kvm",
        seed=5,
        parameter=7,
        pin=True,
    ) as machine:
        assert machine.wait().verdict == "timeout"
    record = (tmp_path / "run" / "run.json").read_text()
    for text in (
        '"memory_bytes": 2097152',
        '"tlb": "ipi"',
        '"fetch": "unprotected"',
        '"decode": "kvm"',
        '"seed": 5',
        '"parameter": 7',
        '"timeout_s": 0.3',
        '"pin": true',
    ):
        assert text in record


def test_pinned_vcpus_stay_on_their_cores(guests: Path, until: Callable[..., Any]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with Machine(image=guests / "spin.elf", vcpus=3, pin=True) as machine:
        launcher = machine.launcher_pid

        def pinned() -> dict[int, set[int]]:
            found = {}
            for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if "allstop.vcpu_worker" in words:
                    found[int(words[words.index("--vcpu") + 1])] = os.sched_getaffinity(int(pid))
            return found

        until(lambda: pinned() == {vcpu: {cores[vcpu % len(cores)]} for vcpu in range(3)}, "vCPUs are pinned")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"vcpus": 0}, "number of vCPUs must be 1 to 128, not 0"),
        ({"vcpus": 300}, "not 300"),
        ({"fetch": "hope"}, "'hope' is no fetch policy"),
        ({"memory": "7"}, "steps of 2M"),
        ({"memory": "lots"}, "size such as"),
        ({"timeout": -1.0}, "positive"),
        ({"devices": ["nothing"]}, "FILE.py:Class@ADDRESS"),
        ({"image": "no-such-image"}, "cannot be read"),
        ({"image": __file__}, "is not an ELF file"),
    ],
)
def test_what_can_not_be_is_refused_at_once(guests: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Machine(**({"image": guests / "hello.elf"} | arguments))


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": "a\0b"}, r"the image 'a\\x00b' holds a NUL"),
        ({"image": 5}, "the image must be a path, not 5"),
        ({"image": None}, "the image must be a path"),
        ({"run_dir": "r\0"}, "the run folder .* NUL"),
        ({"run_dir": 7}, "the run folder must be a path, not 7"),
        ({"run_dir": b"r"}, "must be a path"),
        ({"vcpus": True}, "number of vCPUs must be a whole number, not True"),
        ({"vcpus": None}, "not None"),
        ({"vcpus": 10**5000}, "number of vCPUs must be 1 to 128, not a int"),
        ({"vcpus": Odd()}, "whole number, not a Odd"),
        ({"timeout": "5"}, "the timeout must be a number of seconds, not '5'"),
        ({"timeout": True}, "not True"),
        ({"timeout": 10**400}, "positive number of seconds"),
        ({"timeout": [1]}, "number of seconds"),
        ({"load": "0x1"}, "the load address must be a whole number, not '0x1'"),
        ({"load": 1.5}, "not 1.5"),
        ({"memory": True}, "the memory must be a size"),
        ({"memory": 2.5}, "the memory must be a size"),
        ({"memory": None}, "the memory must be a size"),
        ({"memory": 10**5000}, "the memory must be"),
        ({"seed": "1"}, "the seed must be a whole number"),
        ({"parameter": False}, "the parameter must be a whole number"),
        ({"fetch": None}, "None is no fetch policy"),
        ({"tlb": ["ipi"]}, "is no TLB discipline"),
        ({"decode": "x" * 1000}, "is no decoder"),
        ({"journal": "yes"}, "journal must be True or False, not 'yes'"),
        ({"keep_going": 1}, "keep_going must be True"),
        ({"devices": "x.py:X@0x0c000000"}, "devices must be a list"),
        ({"devices": 5}, "devices must be a list"),
        ({"devices": [5]}, "FILE.py:Class@ADDRESS, not 5"),
        ({"devices": ["a\0.py:X@0"]}, "NUL"),
        ({"devices": None}, "devices must be a list"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_at_once(guests: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Machine(**({"image": guests / "hello.elf"} | arguments))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_run_folder_that_is_refused(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with Machine(image=guests / "hello.elf", run_dir=tmp_path) as machine, pytest.raises(UsageError, match="not empty"):
        machine.wait()


def test_a_launcher_that_is_killed_is_a_harness_error(guests: Path) -> None:
    with Machine(image=guests / "spin.elf") as machine:
        os.kill(machine.launcher_pid, signal.SIGKILL)
        with pytest.raises(HarnessError, match="the launcher was killed by SIGKILL"):
            machine.wait()
    with pytest.raises(HarnessError, match="the launcher was killed by SIGKILL"):
        machine.wait()


def test_a_machine_runs_once(guests: Path) -> None:
    machine = Machine(image=guests / "hello.elf")
    with pytest.raises(HarnessError, match="with statement"):
        machine.wait()
    with machine:
        machine.wait()
    with pytest.raises(HarnessError, match="started before"):
        machine.__enter__()


def test_leaving_the_block_ends_the_machine(guests: Path) -> None:
    with pytest.raises(KeyError), Machine(image=guests / "spin.elf", vcpus=2):
        raise KeyError("the user's own trouble")


def test_leaving_the_block_ends_the_machine_though_a_fork_holds_our_descriptors(guests: Path) -> None:
    with Machine(image=guests / "spin.elf") as machine:
        ours = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if int(fd.name) > 2 and fd.exists()]
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=ours):
            machine.stop()
            assert machine.wait(8.0).verdict == "error"


def test_a_machine_outlives_the_thread_that_started_it(guests: Path) -> None:
    machines: list[Machine] = []
    thread = threading.Thread(target=lambda: machines.append(Machine(image=guests / "hello.elf").__enter__()))
    thread.start()
    thread.join()
    assert machines[0].wait().verdict == "pass"
    machines[0].__exit__(None, None, None)


PROGRAM = """
import os, sys, time
from allstop import Machine
with Machine(image=sys.argv[1], vcpus=2) as machine:
    if sys.argv[2] == "forked" and os.fork() == 0:
        time.sleep(1.0)  # a copy of the program that lives on for a while, with copies of its descriptors
        os._exit(0)
    print(machine.launcher_pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["alone", "forked"])
def test_a_program_that_is_killed_takes_its_machine_along(guests: Path, until: Callable[..., Any], how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(guests / "spin.elf"), how], env=child_environment(), stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        launcher = int(program.stdout.readline())
        program.kill()
    until(
        lambda: not Path(f"/proc/{launcher}/fd").is_dir() or not os.listdir(f"/proc/{launcher}/fd"),
        "the launcher to leave",
        10.0,
    )


def test_importing_allstop_does_not_load_the_launcher() -> None:
    code = "import allstop.vm.wire.codec, sys; assert not any(m.split('.')[0] == 'deploy' for m in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=child_environment()).returncode == 0
