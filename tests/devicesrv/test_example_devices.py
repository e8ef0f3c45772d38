# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices of examples/devices and what docs/devices.md says of them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from allstop.devicesrv.board import USER_INTID, Board
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.plugin import load
from allstop.vm.board import GICC_BASE, GICD_BASE, TEST_BASE
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.wire.messages import MMIO_OK

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "devices"
PAGE = (ROOT / "docs" / "devices.md").read_text()
BASE = 0x0C00_0000
MAILBOX = DeviceSpec(str(EXAMPLES / "mailbox.py"), "Mailbox", BASE)

# mov r4, #0x0c000000; mov r5, #0x0b000000; ldr r0, [r4]; sub r0, r0, #1; cmp r0, #6; movlo r0, #0; str r0, [r5]; b .
ROLL_AND_EXIT = struct.pack(
    "<8I", 0xE3A0440C, 0xE3A0540B, 0xE5940000, 0xE2400001, 0xE3500006, 0x33A00000, 0xE5850000, 0xEAFFFFFE
)


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_page_shows_each_example_as_it_is(example: str) -> None:
    shown = re.search(rf"`examples/devices/{example}`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    assert shown[1] == (EXAMPLES / example).read_text()


def test_the_pages_own_test_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    block = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "levels" in block)
    exec(compile(block, "docs/devices.md", "exec"), {})


def test_the_page_has_the_boards_addresses() -> None:
    config = MachineConfig(
        vcpus=1,
        memory_bytes=1 << 21,
        token="",
        coordinator_endpoint="",
        devices_endpoint="",
        fds=SharedFds(-1, -1, -1),
        cores=1,
        launcher_pid=0,
    )
    rows = re.findall(r"^\| 0x(\w+)_(\w+) \| 0x(\w+) \|", PAGE, re.MULTILINE)
    assert [(int(high + low, 16), int(size, 16)) for high, low, size in rows] == [
        (region.ipa, region.device.size_bytes) for region in Board(config, Wiring()).bus
    ]
    assert f"INTID {USER_INTID} (SPI {USER_INTID - 32}" in PAGE


def test_a_guest_rolls_the_dice(command: Callable[..., Any], tmp_path: Path) -> None:
    """The whole machine: a guest of eight instructions reads the device and ends the run by what it got."""
    guest = tmp_path / "roll.bin"
    guest.write_bytes(ROLL_AND_EXIT)
    arguments = ("run", guest, "--load", "0x40000000", "--timeout", "30")
    rolled = command(*arguments, "--device", f"{EXAMPLES / 'dice.py'}:Dice@{BASE:#x}")
    assert rolled.returncode == 0, rolled.stderr
    without = command(*arguments)
    assert without.returncode != 0, "there is no device: the load aborts"


def test_the_dice_are_the_seeds() -> None:
    def rolls(seed: int) -> list[int]:
        dice = load(DeviceSpec(str(EXAMPLES / "dice.py"), "Dice", BASE), Wiring(random=Random(seed)))
        return [dice.read(0, 4, 0) for _ in range(100)]

    assert rolls(1) == rolls(1) != rolls(2)
    assert set(rolls(1)) == {1, 2, 3, 4, 5, 6}


def test_mailbox_is_first_in_first_out_and_counts_what_does_not_fit() -> None:
    box = load(MAILBOX, Wiring())
    for word in range(18):
        box.write(0x00, 4, 100 + word, word % 3)
    assert box.guest_mistakes == 2
    assert box.read(0x04, 4, 0) == 16
    assert [(box.read(0x08, 4, 0), box.read(0x00, 4, 0)) for _ in range(16)] == [
        (word % 3, 100 + word) for word in range(16)
    ]
    assert [box.read(offset, 4, 0) for offset in (0x00, 0x04, 0x08, 0x0C)] == [0, 0, 0, 0]
    assert box.guest_mistakes == 2
    box.read(0x10, 4, 0)
    box.write(0x04, 4, 1, 0)
    assert box.guest_mistakes == 4


def test_mail_interrupts_the_vcpu_that_wants_it(start_server: Callable[..., Any]) -> None:
    """Through the server and the GIC, as a guest would program it; and of two mailboxes each has its own interrupt."""
    server = start_server(devices=(MAILBOX, DeviceSpec(MAILBOX.path, "Mailbox", BASE + 0x1000)))
    coordinator, sender, receiver = server.coordinator(), server.worker(0), server.worker(1)
    for ipa, value, size in (
        (GICD_BASE, 1, 4),
        (GICC_BASE, 1, 4),
        (GICC_BASE + 4, 0xF0, 4),
        (GICD_BASE + 0x100 + 4 * (USER_INTID // 32), 0b11 << USER_INTID % 32, 4),
        (GICD_BASE + 0x800 + USER_INTID, 0b10, 1),
        (GICD_BASE + 0x801 + USER_INTID, 0b10, 1),
        (BASE + 0x0C, 1, 4),
        (BASE + 0x100C, 1, 4),
    ):
        assert receiver.mmio(ipa, value, size).status == MMIO_OK
    assert sender.mmio(BASE + 0x1000, 0xABCD).line == 0
    assert server.has_line(1, 1 << 2 | 1)
    assert receiver.mmio(GICC_BASE + 0xC).value == USER_INTID + 1
    assert receiver.mmio(BASE + 0x1008).value == 0
    assert receiver.mmio(BASE + 0x1000).value == 0xABCD
    assert receiver.mmio(GICC_BASE + 0x10, USER_INTID + 1).line & 1 == 0
    sender.mmio(BASE, 0x1)
    assert server.has_line(1, 3 << 2 | 1)
    assert receiver.mmio(GICC_BASE + 0xC).value == USER_INTID
    receiver.mmio(TEST_BASE, 0)
    coordinator.receive()
    assert server.shut_down(coordinator) == 0
    mail = [json.loads(line) for line in (server.run_dir / "mail.jsonl").read_text().splitlines()]
    assert [(line["sender"], line["word"]) for line in mail] == [(0, 0xABCD), (0, 1)]
