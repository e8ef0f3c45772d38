# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole runs: what a user sees of a guest that passes, fails, hangs, or was given wrongly."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LATENCIES = ("mmio", "stops", "shootdowns", "fetches", "pages")


def one_sentence(err: str) -> str:
    """stderr of a run that failed: one line, ours, without a traceback."""
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("allstop: "), err
    return lines[0].removeprefix("allstop: ")


def test_a_guest_that_passes(command: Any, guests: Path) -> None:
    done = command("run", guests / "hello.elf", "--vcpus", 2)
    assert done.returncode == 0, done.stderr
    assert "hello from vCPU 0 of 2\n" in done.stdout and "hello from vCPU 1 of 2\n" in done.stdout
    assert done.stderr.startswith("allstop: pass: ") and "2 vCPUs" in done.stderr


def test_json_is_one_object_and_nothing_else(command: Any, guests: Path) -> None:
    done = command("run", "--json", guests / "smp-counter.elf", "--vcpus", 4, "--parameter", 200)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (verdict["verdict"], verdict["exit_code"], verdict["vcpus"]) == ("pass", 0, 4)
    assert verdict["wall_s"] > 0
    assert verdict["exits"]["hvc"] >= 4 and verdict["exits"]["mmio_write"] > 0
    for name in LATENCIES:
        assert set(verdict[name]) == {"count", "p50_us", "p99_us"}
    assert verdict["mmio"]["count"] >= verdict["exits"]["mmio_write"]
    assert 0 < verdict["mmio"]["p50_us"] <= verdict["mmio"]["p99_us"]
    assert re.search(r"counter=exclusive count=(\d+) expected=\1$", done.stderr, re.MULTILINE)


def test_quiet_says_nothing_but_the_console(command: Any, guests: Path) -> None:
    done = command("run", guests / "silent.elf", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "no newline", "")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("fail.elf", "3"),
        ("nowhere.elf", "prefetch abort"),
        ("undefined.elf", "undefined"),
    ],
)
def test_a_guest_that_fails(command: Any, guests: Path, image: str, words: str) -> None:
    done = command("run", guests / image, "--quiet", "--timeout", 30)
    assert done.returncode == 1, done.stderr
    sentence = one_sentence(done.stderr)
    assert sentence.startswith("fail: ") and words in sentence


@pytest.mark.parametrize("image", ["spin.elf", "wfi-forever.elf"])
def test_a_guest_that_never_ends_meets_its_timeout(command: Any, guests: Path, image: str) -> None:
    done = command("run", "--json", guests / image, "--vcpus", 2, "--timeout", 0.5)
    verdict = json.loads(done.stdout)
    assert done.returncode == verdict["exit_code"] == 5
    assert verdict["verdict"] == "timeout" and "vCPU 0" in one_sentence(done.stderr)
    assert 0.5 <= verdict["wall_s"] < 3.0


def test_a_run_folder_holds_the_whole_story(command: Any, guests: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    done = command("run", "--json", guests / "hello.elf", "--vcpus", 2, "--run-dir", folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "verdict.json").read_text()) == json.loads(done.stdout)
    assert "hello from vCPU 1 of 2" in (folder / "console.log").read_text()
    record = (folder / "run.json").read_text()
    assert set(json.loads(record)["commands"]) == {"coordinator", "devicesrv", "vcpu-0", "vcpu-1"}
    assert "token" not in json.loads(record)["config"]
    for name in ("coordinator", "devicesrv", "vcpu-0", "vcpu-1"):
        assert (folder / f"{name}.log").exists()


def test_a_run_folder_is_one_runs_alone(
    machine: Callable[..., Any], command: Any, guests: Path, until: Any, tmp_path: Path
) -> None:
    again = ("run", guests / "hello.elf", "--run-dir", tmp_path / "run")
    with machine("spin.elf", "--run-dir", tmp_path / "run") as running:
        until(running.in_guest, "the guest")
        done = command(*again)
        assert done.returncode == 2 and "in use by another run" in one_sentence(done.stderr)
        running.launcher.send_signal(signal.SIGINT)
        assert running.finish()[0] == 4
    done = command(*again)
    assert done.returncode == 2 and "earlier run" in one_sentence(done.stderr)


def test_a_gigabyte_of_guest_memory_costs_what_is_touched(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--memory", "1G", "--timeout", 60) as running:
        until(running.in_guest, "the guest")
        taken = {name: os.stat(running.memory(name)).st_blocks * 512 for name in ("ram", "stage2", "control")}
        assert os.stat(running.memory("ram")).st_size == 1 << 30
        running.launcher.send_signal(signal.SIGTERM)
        running.finish()
    assert taken["ram"] <= 64 << 10 and taken["stage2"] <= 64 << 10 and taken["control"] <= 64 << 10


RAISING = """
from allstop.devicesrv.device import Device
class Raises(Device):
    def read(self, offset, size, vcpu):
        raise ValueError("out of paper")
    def write(self, offset, size, value, vcpu):
        raise ValueError("out of paper")
"""
# mov r1, #0x0c000000; str r0, [r1]; b .
STORES = bytes.fromhex("0c14a0e3000081e5feffffea")


def test_a_device_that_raises_ends_the_run_with_its_words(command: Any, tmp_path: Path) -> None:
    (tmp_path / "printer.py").write_text(RAISING)
    (tmp_path / "stores.bin").write_bytes(STORES)
    done = command("run", tmp_path / "stores.bin", "--quiet", "--device", f"{tmp_path}/printer.py:Raises@0x0c000000")
    assert done.returncode == 4
    sentence = one_sentence(done.stderr)
    assert sentence.startswith("error: ") and "out of paper" in sentence and "Raises" in sentence


def test_a_current_folder_that_is_gone_is_a_sentence(command: Any, guests: Path, tmp_path: Path) -> None:
    def leave() -> None:
        os.mkdir(tmp_path / "gone")
        os.chdir(tmp_path / "gone")
        os.rmdir(tmp_path / "gone")

    for arguments in (("--run-dir", "run"), ("--device", "thing.py:Thing@0x0c000000")):
        done = command("run", guests / "hello.elf", *arguments, preexec_fn=leave)
        assert done.returncode == 2
        assert "current folder, which does not exist any more: change to another" in one_sentence(done.stderr)
    assert command("run", guests / "hello.elf", "--run-dir", tmp_path / "run", preexec_fn=leave).returncode == 0


def test_a_raw_image_runs_where_it_is_told(command: Any, tmp_path: Path) -> None:
    image = tmp_path / "image"
    # mov r0, #0; mov r1, #0x0b000000; str r0, [r1]; b .   The test device takes 0 for a pass.
    image.write_bytes(bytes.fromhex("0000a0e30b14a0e3000081e5feffffea"))
    assert command("run", image, "--load", "0x40200000").returncode == 0


def test_ctrl_c_ends_a_run_cleanly(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 2) as running:
        until(running.in_guest, "the guest")
        running.launcher.send_signal(signal.SIGINT)
        status, _, err = running.finish(5.0)
    assert status == 4 and "error: interrupted by SIGINT" in err


def test_a_second_ctrl_c_does_not_wait(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 2) as running:
        until(running.in_guest, "the guest")
        for pid in running.members().values():
            os.kill(pid, signal.SIGSTOP)  # no process can exit by itself
        running.launcher.send_signal(signal.SIGINT)
        running.launcher.send_signal(signal.SIGTERM)
        status, _, err = running.finish(5.0)
    assert status == 4 and "interrupted by" in err


def test_a_signal_to_the_whole_group_is_an_interruption_and_no_loss(machine: Callable[..., Any], until: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with machine("spin.elf", "--vcpus", 2, "--quiet", process_group=0) as running:
            until(running.in_guest, "the guest")
            os.killpg(running.launcher.pid, number)
            status, _, err = running.finish(5.0)
        assert status == 4 and one_sentence(err) == f"error: interrupted by {number.name}"


def test_an_interruption_while_the_machine_starts(machine: Callable[..., Any], until: Any) -> None:
    with machine("spin.elf", "--vcpus", 4, "--quiet") as running:
        until(lambda: running.memory("control"), "the launcher to begin")
        running.launcher.send_signal(signal.SIGINT)
        status, _, err = running.finish(10.0)
    assert status == 4 and "interrupted" in one_sentence(err)


def test_a_reader_who_leaves_does_not_stop_the_run(command: Any, guests: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command("run", guests / "hello.elf", "--quiet", stdout=writer)
        assert (done.returncode, done.stderr) == (0, "")
        done = command("run", guests / "hello.elf", "--json", stdout=writer, stderr=subprocess.PIPE)
        assert done.returncode == 4 and "could not be written" in done.stderr.splitlines()[-1]
    finally:
        os.close(writer)


def test_closed_standard_files_are_survived(guests: Path, command: Any, tmp_path: Path) -> None:
    def close_them() -> None:
        os.closerange(0, 3)

    done = command("run", guests / "hello.elf", "--vcpus", 2, "--run-dir", tmp_path / "run", preexec_fn=close_them)
    assert done.returncode == 0
    assert "hello from vCPU 1" in (tmp_path / "run" / "console.log").read_text()


def test_too_few_descriptors_are_one_sentence(guests: Path, command: Any) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    done = command("run", guests / "hello.elf", "--vcpus", 32, "--quiet", preexec_fn=limit)
    assert done.returncode == 4 and "Too many open files" in one_sentence(done.stderr)


def test_a_terminal_sees_how_it_goes(command: Any, guests: Path) -> None:
    ours, theirs = os.openpty()
    try:
        with command.start("run", guests / "spin.elf", "--vcpus", 2, "--timeout", 1.2, stderr=theirs) as launcher:
            launcher.wait(30)
        os.set_blocking(ours, False)
        seen = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "1/2 vCPUs on" in seen and "exits/s" in seen
    assert seen.rpartition("\x1b[K")[2].startswith("allstop: timeout")


def test_the_summary_begins_on_a_line_of_its_own(command: Any, guests: Path) -> None:
    ours, theirs = os.openpty()
    try:
        assert command("run", guests / "silent.elf", stdout=theirs, stderr=theirs).returncode == 0
        os.set_blocking(ours, False)
        seen = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "no newline\r\nallstop: pass" in seen.replace("\r\x1b[K", "")


def test_who_takes_no_output_does_not_stop_the_machine(machine: Callable[..., Any], guests: Path, until: Any) -> None:
    """A full pipe that is not read is no reason to stop watching: the timeout still comes."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        with machine("hello.elf", "--vcpus", 2, "--quiet", stdout=writer) as running:
            until(running.members, "the processes to come")
            until(lambda: not running.members(), "the processes to leave")
            assert running.launcher.poll() is None  # it waits for its reader now
            running.launcher.send_signal(signal.SIGINT)
            assert running.finish(5.0)[0] == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_guest_that_is_given_more_vcpus_than_it_has_stacks_for_says_so(command: Any, guests: Path) -> None:
    done = command("run", guests / "hello.elf", "--vcpus", 65, "--quiet")
    assert (done.returncode, done.stdout) == (1, "this guest has stacks for 64 vCPUs, the machine has 65\n")
    assert one_sentence(done.stderr).startswith("fail: ")


def test_start_up_of_many_vcpus(command: Any, guests: Path) -> None:
    done = command("run", "--json", guests / "hello.elf", "--vcpus", 24, deadline_s=120.0)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["vcpus"] == 24


def test_a_disk_that_takes_nothing_hides_no_verdict(command: Any, guests: Path, tmp_path: Path) -> None:
    """No file may become longer than nothing, which is how a full disk answers."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = command("run", guests / "hello.elf", "--run-dir", tmp_path / "run", preexec_fn=limit)
    assert done.returncode == 4
    assert done.stderr == (
        f"allstop: the verdict cannot be written to {tmp_path / 'run'}: File too large; it is "
        "error: the host failed the machine: [Errno 27] File too large\n"
    )
