# SPDX-License-Identifier: GPL-2.0-or-later
"""`allstop ctl` on machines that run: what an operator sees and does, and that no operator can leave a mess."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allstop.deploy.outcome.control_file import CONTROL_NAME
from allstop.operator_link import OperatorLink, RefusedError
from allstop.vm.boot.images import parse_elf
from allstop.vm.errors import HarnessError, UsageError

PATIENCE_S = 30.0
Start = Callable[..., contextlib.AbstractContextManager[Any]]


class Run:
    """A machine that runs, and its folder."""

    def __init__(self, command: Any, launcher: Any, folder: Path) -> None:
        self.command = command
        self.launcher = launcher
        self.folder = folder

    def ctl(self, *arguments: object) -> Any:
        return self.command("ctl", self.folder, *arguments)

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """Wait for a status that satisfies the condition."""
        end = time.monotonic() + PATIENCE_S
        with OperatorLink(self.folder) as link:
            while not condition(status := link.status()):
                assert time.monotonic() < end, f"timed out waiting for {what}: {status}"
                time.sleep(0.005)
        return status

    def finish(self) -> tuple[int, str]:
        """The launcher's exit status and what it said."""
        _, err = self.launcher.communicate(timeout=PATIENCE_S)
        return self.launcher.returncode, err.decode()


@pytest.fixture
def start(command: Any, guests: Path, tmp_path: Path) -> Start:
    """`with start("spin.elf") as run`: a machine of two vCPUs that has begun."""

    @contextmanager
    def begin(image: str, *arguments: object) -> Iterator[Run]:
        folder = tmp_path / "run"
        with command.start(
            "run", guests / image, "--vcpus", 2, "--quiet", "--run-dir", folder, "--timeout", 60, *arguments
        ) as launcher:
            try:
                end = time.monotonic() + PATIENCE_S
                while not (folder / CONTROL_NAME).exists():
                    assert time.monotonic() < end and launcher.poll() is None, "the run did not begin"
                    time.sleep(0.005)
                yield Run(command, launcher, folder)
            finally:
                if launcher.poll() is None:
                    launcher.send_signal(signal.SIGKILL)

    return begin


def sentence(done: Any, status: int) -> str:
    """What a command said that failed: one line, without a traceback."""
    assert done.returncode == status and done.stdout == "", (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("allstop: ") and done.stderr.count("\n") == 1, done.stderr
    return str(done.stderr)


def in_guest(status: dict[str, Any]) -> bool:
    return bool(status["vcpus"][0]["power"] == "on" and status["vcpus"][0]["doing"] == "in the guest")


def test_status_says_what_each_process_does(start: Start) -> None:
    with start("spin.elf") as run:
        report = run.until(in_guest, "the guest")
        assert not report["paused"] and report["vcpus"][1]["power"] == "off"
        children = Path(f"/proc/{run.launcher.pid}/task/{run.launcher.pid}/children").read_text().split()
        pids = [report["coordinator"]["pid"], report["devices"]["pid"], *(vcpu["pid"] for vcpu in report["vcpus"])]
        assert sorted(map(int, children)) == sorted(pids)
        done = run.ctl("status")
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and len(lines) == 5 and lines[0].startswith("running, 2 vCPUs")
        assert "in the guest" in lines[1] and "switched off" in lines[2]
        assert lines[3].startswith("coordinator, process ") and lines[4].startswith("device server, process ")
        assert json.loads(run.ctl("status", "--json").stdout).keys() == report.keys()


def test_a_paused_machine_stands_still_until_it_is_resumed_by_anybody(start: Start) -> None:
    with start("smp-counter.elf", "--parameter", 2_000_000) as run:
        run.until(lambda status: all(vcpu["power"] == "on" for vcpu in status["vcpus"]), "both vCPUs")
        assert run.ctl("pause").returncode == 0
        with OperatorLink(run.folder) as link:
            before = link.status()
            first = link.registers()
            ram = b"".join(link.memory(0x4000_0000, 1 << 20))
            assert before["paused"]
            assert link.registers() == first and b"".join(link.memory(0x4000_0000, 1 << 20)) == ram
            assert all(
                a["counters"]["kick"] == b["counters"]["kick"]
                for a, b in zip(before["vcpus"], link.status()["vcpus"], strict=True)
            )
            with pytest.raises(RefusedError, match="paused already"):
                link.pause()
        assert run.ctl("resume").returncode == 0
        assert "not paused" in sentence(run.ctl("resume"), 1)
        with OperatorLink(run.folder) as link:
            end = time.monotonic() + PATIENCE_S
            while b"".join(link.memory(0x4000_0000, 1 << 20)) == ram:
                assert time.monotonic() < end, "the machine did not go on"
        run.ctl("stop")
        run.finish()


def test_a_machine_that_was_paused_and_looked_into_still_passes(start: Start) -> None:
    """Accesses without syndrome stop the world too: their stops and the operators' queue for each other."""
    with start("mmio.elf") as run:
        run.until(lambda status: status["vcpus"][0]["power"] == "on", "the guest")
        with contextlib.suppress(UsageError), OperatorLink(run.folder) as link:  # it may end meanwhile
            for _ in range(20):
                link.pause()
                first = link.registers()
                link.flush_tlbs()
                assert link.registers() == first
                link.resume()
                link.registers(1)
        assert run.finish() == (0, "")


def test_a_sleeping_vcpu_and_one_that_is_off_tell_their_registers(start: Start) -> None:
    with start("wfi-forever.elf") as run:
        run.until(lambda status: status["vcpus"][0]["doing"] == "asleep in WFI", "the sleep")
        for pause in (False, True):
            if pause:
                assert run.ctl("pause").returncode == 0
            found = json.loads(run.ctl("registers", "--json").stdout)
            assert found["0"]["pc"] >> 28 == 4 and found["0"]["cpsr"] & 0x1F in (0x13, 0x1F)
            assert found["1"]["pc"] == 0
        one = run.ctl("registers", "--vcpu", 0)
        assert one.returncode == 0 and one.stdout.startswith("vCPU 0\n") and "vCPU 1" not in one.stdout
        assert f"pc {found['0']['pc']:08x}" in one.stdout


def test_the_timeout_counts_while_the_machine_is_paused(start: Start) -> None:
    with start("spin.elf", "--timeout", 3) as run:
        run.until(in_guest, "the guest")
        with OperatorLink(run.folder) as link:
            link.pause()
        status, err = run.finish()
        assert status == 5 and err.startswith("allstop: timeout: ")


def test_memory_is_what_the_image_put_there(start: Start, guests: Path) -> None:
    image = parse_elf((guests / "spin.elf").read_bytes(), 64 << 20)
    segment = next(segment for segment in image.segments if segment.data)
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        with run.command.start("ctl", run.folder, "memory", hex(segment.ipa), len(segment.data), "--raw") as raw:
            assert raw.communicate(timeout=PATIENCE_S) == (segment.data, b"")
        shown = run.ctl("memory", hex(segment.ipa), len(segment.data)).stdout
        assert shown.startswith(f"{segment.ipa:08x}  {segment.data[:16].hex(' ')}")
        with OperatorLink(run.folder) as link:
            assert b"".join(link.memory(segment.ipa, len(segment.data))) == segment.data
            pieces = list(link.memory(0x4000_0000, 200_000))
            assert len(pieces) == 4 and sum(map(len, pieces)) == 200_000
        for arguments in (("0x3fffffff", 2), ("0x43ffffff", 2), ("0x0", 4)):
            assert "guest's memory" in sentence(run.ctl("memory", *arguments), 1)
        for arguments in (("here", 4), ("0x40000000", 0), ("0x40000000", -1), ("-1", 4), ("0x140000000", 4)):
            sentence(run.ctl("memory", *arguments), 2)


def test_a_tlb_flush_reaches_the_vcpus(start: Start) -> None:
    with start("spin.elf") as run:
        flushed = run.until(in_guest, "the guest")["vcpus"][0]["counters"]["tlb_flush"]
        assert run.ctl("tlb").returncode == 0
        run.until(lambda status: status["vcpus"][0]["counters"]["tlb_flush"] > flushed, "the flush")


def test_a_page_goes_to_the_swap_file_and_comes_back(start: Start, guests: Path) -> None:
    image = parse_elf((guests / "spin.elf").read_bytes(), 64 << 20)
    segment = next(segment for segment in image.segments if segment.data)
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        done = run.ctl("swap", "out", hex(segment.ipa + 4), "--fill", "0x12345678")
        assert (done.returncode, done.stdout) == (0, f"the page at {segment.ipa:#010x} is out\n")
        status = run.until(lambda status: sum(vcpu["counters"]["swap_in"] for vcpu in status["vcpus"]), "its return")
        assert sum(vcpu["counters"]["swap_out"] for vcpu in status["vcpus"]) == 1
        with OperatorLink(run.folder) as link:
            assert b"".join(link.memory(segment.ipa, len(segment.data))) == segment.data
        assert "not in use" in sentence(run.ctl("swap", "out", "0x43fff000"), 1)
        assert run.ctl("pause").returncode == 0
        assert "resume it first" in sentence(run.ctl("swap", "out", hex(segment.ipa)), 1)


def test_a_page_that_is_out_is_shown_as_it_is(start: Start, guests: Path) -> None:
    """No vCPU uses the first page of the image once vCPU 0 sleeps."""
    with start("wfi-forever.elf") as run:
        run.until(lambda status: status["vcpus"][0]["doing"] == "asleep in WFI", "the guest")
        with OperatorLink(run.folder) as link:
            before = b"".join(link.memory(0x4001_0000, 64))
            link.inject({"action": "swap-out", "ipa": 0x4001_0000}, 1)
            assert b"".join(link.memory(0x4001_0000, 64)) == before


def test_events_are_injected(start: Start) -> None:
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        done = run.ctl("inject", "--vcpu", 0, "action=stall", "for_ms=1.5")
        assert (done.returncode, done.stdout) == (0, "it has happened\n")
        assert run.ctl("inject", "action=irq-spurious", "target=all").returncode == 0
        assert "is no action" in sentence(run.ctl("inject", "action=fly"), 1)
        assert "has no trigger" in sentence(run.ctl("inject", "action=kill", "at_ms=1"), 1)
        assert "KEY=VALUE" in sentence(run.ctl("inject", "kill"), 2)
        assert run.ctl("inject", "action=kill", "--vcpu", 1).returncode in (0, 1)
        assert run.finish()[0] == 4
    assert "over" in sentence(run.ctl("inject", "action=kill"), 2)


def test_a_killed_vcpu_is_a_lost_run(start: Start) -> None:
    with start("spin.elf") as run:
        pid = run.until(in_guest, "the guest")["vcpus"][1]["pid"]
        assert "vCPUs 0 to 1" in sentence(run.ctl("kill", "--vcpu", 2), 2)
        done = run.ctl("kill", "--vcpu", 1)
        assert (done.returncode, done.stdout) == (0, f"killed vCPU 1, process {pid}\n")
        status, err = run.finish()
        assert status == 4 and err.startswith(f"allstop: lost: vcpu-1 (process {pid}) was killed by SIGKILL")


def test_a_stopped_run_is_over_and_says_so(start: Start) -> None:
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        run.ctl("pause")  # also a paused machine can be stopped
        assert run.ctl("stop").returncode == 0
        assert run.finish() == (4, "allstop: error: stopped by an operator\n")
        for what in ("status", "pause", "stop"):
            assert "is over: error: stopped by an operator" in sentence(run.ctl(what), 2)
        assert not (run.folder / CONTROL_NAME).exists()


def test_a_launcher_that_was_killed_has_no_run_any_more(start: Start) -> None:
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        run.launcher.send_signal(signal.SIGKILL)
        run.launcher.wait()
        assert (run.folder / CONTROL_NAME).exists()
        assert f"is gone: its launcher (process {run.launcher.pid})" in sentence(run.ctl("status"), 2)


def test_a_folder_of_something_else_is_no_run(command: Any, tmp_path: Path) -> None:
    assert "is not a run folder" in sentence(command("ctl", tmp_path, "status"), 2)
    assert "is not a folder" in sentence(command("ctl", tmp_path / "none", "status"), 2)
    for text in ("", "[]", '{"endpoint": 1}', '{"endpoint": "x", "token": "no hex", "pid": 1, "vcpus": 1}'):
        (tmp_path / CONTROL_NAME).write_text(text)
        assert "not a control file of a run" in sentence(command("ctl", tmp_path, "status"), 2)


def test_the_control_file_is_its_owners_alone_and_its_token_counts(start: Start) -> None:
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        path = run.folder / CONTROL_NAME
        assert os.stat(path).st_mode & 0o777 == 0o600
        whole = path.read_text()
        control = json.loads(whole)
        path.write_text(json.dumps(control | {"token": "00" * 16}))
        with pytest.raises(HarnessError, match="token"):
            OperatorLink(run.folder, deadline_s=0.3)
        path.write_text(whole)
        assert run.ctl("status").returncode == 0


def test_an_operator_that_is_killed_in_the_middle_harms_nobody(start: Start) -> None:
    with start("spin.elf") as run:
        run.until(in_guest, "the guest")
        for what in ("pause", "registers", "resume", "registers", "memory"):
            extra = ("0x40000000", 1 << 26) if what == "memory" else ()
            with run.command.start("ctl", run.folder, what, *extra) as operator:
                operator.stdout.read(1)  # it is at work, or done
                operator.kill()
        with OperatorLink(run.folder) as link, contextlib.suppress(RefusedError):
            link.resume()
        run.until(in_guest, "the guest to go on")
        run.ctl("stop")
        assert run.finish()[0] == 4


def test_operators_do_not_disturb_each_other(start: Start) -> None:
    with start("smp-counter.elf", "--parameter", 2_000_000) as run:
        run.until(lambda status: all(vcpu["power"] == "on" for vcpu in status["vcpus"]), "both vCPUs")

        def operate(number: int) -> int:
            paused = 0
            with OperatorLink(run.folder) as link:
                for _ in range(10):
                    with contextlib.suppress(RefusedError):
                        link.pause()
                        paused += 1
                        link.resume()
                    assert set(link.registers()) == {0, 1}
            return paused

        with ThreadPoolExecutor(2) as pool:
            assert sum(pool.map(operate, range(2))) > 0
        with OperatorLink(run.folder) as link:
            assert not link.status()["paused"]
        run.ctl("stop")
        assert run.finish()[0] == 4
