# SPDX-License-Identifier: GPL-2.0-or-later
"""The board: a device is its model and one row of `vm/board.py`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from allstop.devicesrv.board import Board
from allstop.devicesrv.bus import BusError
from allstop.devicesrv.device import Device, Wiring
from allstop.vm import board
from allstop.vm.board import BoardDevice, TreeNode
from allstop.vm.boot.device_tree import RunFacts, build
from allstop.vm.boot.tree_blob import parse
from allstop.vm.config.machine import MachineConfig, SharedFds

BASE = 0x0B20_0000
INTID = 32 + 90


class Scratch(Device):
    """A register that holds its interrupt line."""

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self.wiring.irq(bool(value))

    def read(self, offset: int, size: int, cpu: int) -> int:
        return 0x5C


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds a row to the board, for one test."""
    module: Any = ModuleType("allstop.devicesrv.models.scratch")
    module.Scratch = Scratch
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def row(**more: Any) -> None:
        added = BoardDevice("models.scratch:Scratch", BASE, **more)
        monkeypatch.setattr(board, "DEVICES", (*board.DEVICES, added))

    return row


def opened() -> Board:
    return Board(
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


def test_one_row_puts_a_device_on_the_bus_behind_its_interrupt_and_into_the_tree(add: Any) -> None:
    add(intid=INTID, node=TreeNode("scratch", ("allstop,scratch",), before=(("odd", (7,)), ("mark", ()))))
    here = opened()
    assert here.bus.access(BASE + 8, 4, False, 0, 0) == 0x5C
    here.bus.access(BASE, 4, True, 1, 0)
    assert here.gic.spis.level >> INTID & 1
    node = parse(build(RunFacts(1, 64 << 20)))[0].get_subnode(f"scratch@{BASE:x}")
    assert node is not None
    assert [item.name for item in node.props] == ["odd", "mark", "interrupts", "reg", "compatible"]
    assert list(node.get_property("interrupts").data) == [0, INTID - 32, 4]
    assert list(node.get_property("reg").data) == [0, BASE, 0, 0x1000]
    assert list(node.get_property("compatible").data) == ["allstop,scratch"]


def test_a_device_of_several_units_has_a_node_and_an_interrupt_for_each(add: Any) -> None:
    add(intid=INTID, units=2, node=TreeNode("scratch", ("allstop,scratch",), trigger=board.EDGE_RISING))
    root = parse(build(RunFacts(1, 64 << 20)))[0]
    nodes = [node for node in root.nodes if node.name.startswith("scratch@")]
    assert [node.name for node in nodes] == [f"scratch@{BASE:x}", f"scratch@{BASE + 0x800:x}"]
    assert [list(node.get_property("interrupts").data) for node in nodes] == [[0, 90, 1], [0, 91, 1]]


def test_a_row_without_a_node_leaves_the_tree_as_it_is(add: Any) -> None:
    before = build(RunFacts(1, 64 << 20))
    add()
    assert build(RunFacts(1, 64 << 20)) == before and opened().bus.find(BASE) is not None


def test_a_row_whose_size_is_not_its_models_is_refused(add: Any) -> None:
    add(size_bytes=0x2000)
    with pytest.raises(BusError, match=r"Scratch has 0x1000 bytes, its row in vm/board.py 0x2000"):
        opened()
