# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's device that is named wrongly, cannot be made, or leaves processes behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from allstop import Machine, UsageError
from allstop.deploy.options.options import RunOptions
from allstop.devicesrv.board import Board
from allstop.devicesrv.device import Wiring
from allstop.vm.board import FIXED_RANGES
from allstop.vm.config.kinds import Device
from allstop.vm.config.machine import MachineConfig, SharedFds

pytestmark = pytest.mark.processes

HEAD = "from allstop.devicesrv.device import Device\n"
# mov r1, #0x0c000000; str r0, [r1]; b .
STORES = bytes.fromhex("0c14a0e3000081e5feffffea")
# mov r1, #0x0c000000; mov r0, #0; str r0, [r1]; mov r1, #0x0b000000; str r0, [r1]; b .
STORES_AND_PASSES = bytes.fromhex("0c14a0e30000a0e3000081e50b14a0e3000081e5feffffea")


def sentence(err: str) -> str:
    assert err.startswith("allstop: ") and err.count("\n") == 1 and "Traceback" not in err, err
    return err.removeprefix("allstop: ").rstrip()


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("class Thing(:", "Thing@0x0c000000", "is not Python: "),
        ("class Thing(Device): pass\nx = 'a\0'", "Thing@0x0c000000", "is not Python: "),
        ("\n'\udcff\udcfe'", "Thing@0x0c000000", "is not Python: "),
        ("class Thing(Device): pass", "Thing@0x0c000001", "multiple of 4096"),
        ("class Thing(Device): pass", "Thing@0x40000000", "in the guest's memory"),
        ("class Thing(Device): pass", "Thing@0x09000000", "device of the board's own (0x09000000 to 0x09000fff)"),
        ("class Thing(Device): pass", "Thing@0x08011000", "device of the board's own (0x08010000 to 0x08011fff)"),
        ("class Thing(Device): pass", "Thing@0x0b10f000", "device of the board's own (0x0b100000 to 0x0b10ffff)"),
    ],
)
def test_what_can_be_seen_is_refused_before_anything_starts(tmp_path: Path, text: str, name: str, words: str) -> None:
    path = tmp_path / "thing.py"
    path.write_bytes((HEAD + text).encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as caught:
        RunOptions(image=Path("x"), devices=(Device().read("device", f"{path}:{name}"),))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_ranges_are_those_of_the_boards_devices() -> None:
    board = Board(
        MachineConfig(
            memory_bytes=2 << 20,
            token="",
            coordinator_endpoint="",
            devices_endpoint="",
            fds=SharedFds(-1, -1, -1),
            cores=1,
        ),
        Wiring(),
    )
    assert sorted((region.ipa, region.end - region.ipa) for region in board.bus) == sorted(FIXED_RANGES)


def test_other_files_and_the_same_place_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thing.txt").write_text("")
    (tmp_path / "thing.py").write_text(HEAD + "class Thing(Device): pass")
    with pytest.raises(UsageError, match=r"must end in \.py"):
        RunOptions(image=Path("x"), devices=(Device().read("device", f"{tmp_path}/thing.txt:Thing@0x0c000000"),))
    twice = Device().read("device", f"{tmp_path}/thing.py:Thing@0x0c000000")
    with pytest.raises(UsageError, match="would lie on device Thing at the same address"):
        RunOptions(image=Path("x"), devices=(twice, twice))
    RunOptions(image=Path("x"), devices=(twice, Device().read("device", f"{tmp_path}/thing.py:Thing@0x0c001000")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Other: pass", "no class Thing"),
        ("raise ValueError('broken file')", "broken file"),
        ("class Thing: pass", "not a subclass"),
        (
            "class Thing(Device):\n    def __init__(self, wiring): raise KeyboardInterrupt('one\\ntwo')",
            "KeyboardInterrupt: one two",
        ),
        ("class Thing(Device):\n    size_bytes = 0x01000_0000", "overlaps Pl011"),
        ("class Thing(Device):\n    @property\n    def size_bytes(self): raise ValueError('odd size')", "odd size"),
        (
            "import os\nprint('no', file=__import__('sys').stderr)\nclass Thing(Device):\n    size_bytes = 3",
            "size_bytes",
        ),
    ],
)
def test_what_only_the_file_tells_is_a_usage_error_too(command: Any, tmp_path: Path, text: str, words: str) -> None:
    """There was no run: nothing is left in the run folder, which can be used again."""
    (tmp_path / "thing.py").write_text(HEAD + text)
    (tmp_path / "stores.bin").write_bytes(STORES)
    done = command(
        "run",
        tmp_path / "stores.bin",
        "--quiet",
        "--journal",
        "--run-dir",
        tmp_path / "run",
        "--device",
        f"{tmp_path}/thing.py:Thing@0x08020000",
    )
    assert (done.returncode, done.stdout) == (2, "")
    said = sentence(done.stderr)
    assert words in said and "process" not in said
    assert os.listdir(tmp_path / "run") == []


def test_a_machine_whose_device_can_not_be_made_raises(guests: Path, tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(HEAD)
    with (
        Machine(image=guests / "hello.elf", devices=[f"{tmp_path}/thing.py:Thing@0x0c000000"]) as machine,
        pytest.raises(UsageError, match="has no class Thing"),
    ):
        machine.wait()


@pytest.mark.parametrize("what", ["KeyboardInterrupt('from inside')", "GeneratorExit('from inside')"])
def test_whatever_a_device_raises_is_a_sentence(command: Any, tmp_path: Path, what: str) -> None:
    (tmp_path / "thing.py").write_text(
        HEAD + f"class Thing(Device):\n    def write(self, offset, size, value, cpu): raise {what}"
    )
    (tmp_path / "stores.bin").write_bytes(STORES)
    done = command("run", tmp_path / "stores.bin", "--quiet", "--device", f"{tmp_path}/thing.py:Thing@0x0c000000")
    assert done.returncode == 4
    said = sentence(done.stderr)
    assert said.startswith("error: device Thing at 0x0c000000 raised ") and said.endswith("from inside")


CHILDREN = (
    HEAD
    + """
import os, subprocess, sys, time

class Parent(Device):
    def write(self, offset, size, value, cpu):
        sleep = [sys.executable, "-c", "import time; time.sleep(100)"]
        pids = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
        reader, writer = os.pipe()
        if os.fork() == 0:
            if (pid := os.fork()) == 0:  # a grandchild whose parent is gone: a daemon
                time.sleep(100)
            os.write(writer, str(pid).encode())
            os._exit(0)
        pids.append(int(os.read(reader, 20)))
        with open(os.path.dirname(__file__) + "/pids", "w") as file:
            file.write(" ".join(map(str, pids)))
"""
)


def test_processes_that_a_device_has_started_end_with_the_run(command: Any, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(CHILDREN)
    (tmp_path / "stores.bin").write_bytes(STORES_AND_PASSES)
    done = command("run", tmp_path / "stores.bin", "--quiet", "--device", f"{tmp_path}/parent.py:Parent@0x0c000000")
    assert (done.returncode, done.stderr) == (0, "")
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
