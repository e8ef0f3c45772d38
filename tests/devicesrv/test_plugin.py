# SPDX-License-Identifier: GPL-2.0-or-later
"""Users' own devices: what is wrong with one is said in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from allstop.devicesrv.board import Board
from allstop.devicesrv.bus import BusError
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.plugin import PluginError
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.config.specs import DeviceSpec


def board(*devices: DeviceSpec) -> Board:
    return Board(
        MachineConfig(
            vcpus=1,
            memory_bytes=1 << 21,
            token="",
            coordinator_endpoint="",
            devices_endpoint="",
            fds=SharedFds(-1, -1, -1),
            cores=1,
            launcher_pid=0,
            devices=devices,
        ),
        Wiring(),
    )


@pytest.fixture(autouse=True)
def _own_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(
    ("text", "spec", "sentence"),
    [
        (None, "Thing@0x0c000000", "there is no file {path} (device {path}:Thing)"),
        ("x = 1", "Thing@0x0c000000", "{path} has no class Thing"),
        ("Thing = 5", "Thing@0x0c000000", "{path}:Thing is not a subclass of allstop.devicesrv.device.Device"),
        ("class Thing: pass", "Thing@0x0c000000", "{path}:Thing is not a subclass of allstop.devicesrv.device.Device"),
        (
            "import nowhere_at_all",
            "Thing@0x0c000000",
            "{path} raised ModuleNotFoundError: No module named 'nowhere_at_all' when it was loaded",
        ),
        ("class Thing(:", "Thing@0x0c000000", "{path} raised SyntaxError: "),
        ("import sys; sys.exit(0)", "Thing@0x0c000000", "{path} raised SystemExit: 0 when it was loaded"),
        (
            "class Thing(Device):\n    def __init__(self, wiring): raise RuntimeError('no')",
            "Thing@0x0c000000",
            "the constructor of {path}:Thing raised RuntimeError: no",
        ),
        (
            "class Thing(Device):\n    def __init__(self): pass",
            "Thing@0x0c000000",
            "the constructor of {path}:Thing raised TypeError: ",
        ),
        (
            "class Thing(Device):\n    def __init__(self, wiring): pass",
            "Thing@0x0c000000",
            "the constructor of {path}:Thing does not call super().__init__(wiring)",
        ),
        (
            "class Thing(Device):\n    widths = {3}",
            "Thing@0x0c000000",
            "the widths of {path}:Thing must be some of 1, 2, 4 and 8",
        ),
        (
            "class Thing(Device):\n    widths = 4",
            "Thing@0x0c000000",
            "the widths of {path}:Thing must be some of 1, 2, 4 and 8",
        ),
        (
            "class Thing(Device):\n    size_bytes = '4K'",
            "Thing@0x0c000000",
            "the size_bytes of {path}:Thing must be a number of bytes",
        ),
        (
            "class Thing(Device): pass",
            "Thing@0x09000000",
            "Thing at 0x09000000 (0x1000 bytes) overlaps Pl011 at 0x09000000 (0x1000 bytes)",
        ),
        (
            "class Thing(Device):\n    size_bytes = 0x20000",
            "Thing@0x08ff0000",
            "Thing at 0x08ff0000 (0x20000 bytes) overlaps Pl011 at 0x09000000 (0x1000 bytes)",
        ),
        (
            "class Thing(Device):\n    size_bytes = 0x20000",
            "Thing@0x3fff0000",
            "Thing at 0x3fff0000 overlaps the guest's memory (0x40000000 to 0x401fffff)",
        ),
        ("class Thing(Device): pass", "Thing@0x0c000800", "Thing at 0x0c000800 must begin at"),
    ],
)
def test_what_is_wrong_with_a_device_is_one_sentence(
    tmp_path: Path, text: str | None, spec: str, sentence: str
) -> None:
    path = tmp_path / "thing.py"
    if text is not None:
        path.write_text("from allstop.devicesrv.device import Device\n" + text)
    name, _, ipa = spec.partition("@")
    with pytest.raises((PluginError, BusError)) as raised:
        board(DeviceSpec(str(path), name, int(ipa, 0)))
    assert str(raised.value).startswith(sentence.format(path=path))
    assert "\n" not in str(raised.value)


def test_there_are_as_many_interrupts_as_devices_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "thing.py"
    path.write_text("from allstop.devicesrv.device import Device\nclass Thing(Device): pass")
    specs = [DeviceSpec(str(path), "Thing", 0x1000_0000 + 0x1000 * place) for place in range(145)]
    assert len(list(board(*specs[:144]).bus)) == 8 + 144
    with pytest.raises(BusError, match="is one device too many"):
        board(*specs)


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thing.txt"
    path.write_text("class Thing: pass")
    with pytest.raises(PluginError, match="its name must end in .py"):
        board(DeviceSpec(str(path), "Thing", 0x0C00_0000))


PAIR = """
from allstop.devicesrv.device import Device

kept = []

class Left(Device):
    def write(self, offset, size, value, cpu):
        kept.append(value)

class Right(Device):
    def read(self, offset, size, cpu):
        return kept[-1]
"""


def test_devices_of_one_file_share_its_module(tmp_path: Path) -> None:
    path = tmp_path / "pair.py"
    path.write_text(PAIR)
    bus = board(DeviceSpec(str(path), "Left", 0x0C00_0000), DeviceSpec(str(path), "Right", 0x0C00_1000)).bus
    bus.access(0x0C00_0000, 4, True, 0x77, 0)
    assert bus.access(0x0C00_1000, 4, False, 0, 0) == 0x77


def test_a_device_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_the_device.py").write_text("ANSWER = 42")
    path = tmp_path / "thing.py"
    path.write_text(
        "from beside_the_device import ANSWER\nfrom allstop.devicesrv.device import Device\n"
        "class Thing(Device):\n    def read(self, offset, size, cpu): return ANSWER"
    )
    assert board(DeviceSpec(str(path), "Thing", 0x0C00_0000)).bus.access(0x0C00_0000, 4, False, 0, 0) == 42
