# SPDX-License-Identifier: GPL-2.0-or-later
"""Input and alarms reach a device of a real server at once, although no vCPU accesses a device."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from allstop.devicesrv.models import pl011, pl031
from allstop.vm.board import GICC_BASE, GICD_BASE, PL011_BASE, PL011_INTID, PL031_BASE, PL031_INTID
from allstop.vm.wire.channel import LAUNCHER
from allstop.vm.wire.messages import INPUT_WINDOW_BYTES, ROLE_LAUNCHER, ConsoleInput, ConsoleInputTaken

StartServer = Callable[..., Any]
PROMPT_S = 0.02  # of the quickest: WAIT_MS, the longest a forgotten message would lie, is five times that


def switch_on(worker: Any, intid: int) -> None:
    """The interrupt reaches CPU 0."""
    worker.mmio(GICD_BASE, 1)
    worker.mmio(GICC_BASE, 1)
    worker.mmio(GICC_BASE + 4, 0xFF)
    worker.mmio(GICD_BASE + 0x800 + intid, 1, size=1)
    worker.mmio(GICD_BASE + 0x100 + intid // 32 * 4, 1 << intid % 32)


def enable_uart(worker: Any) -> None:
    switch_on(worker, PL011_INTID)
    worker.mmio(PL011_BASE + pl011.LCR_H, 0x70)
    worker.mmio(PL011_BASE + pl011.CR, 0x301)
    worker.mmio(PL011_BASE + pl011.IMSC, pl011.INT_RX | pl011.INT_RX_TIMEOUT)


def test_what_is_typed_interrupts_at_once(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker()
    launcher = server.greet(server.connect(LAUNCHER), ROLE_LAUNCHER)
    enable_uart(worker)
    taken_s = []
    for number in range(20):
        began_s = time.monotonic()
        launcher.send(ConsoleInput(b"x"))
        assert server.has_line(0, (2 * number + 1) << 2 | 1)
        taken_s.append(time.monotonic() - began_s)
        assert launcher.receive() == ConsoleInputTaken(1)
        assert worker.mmio(PL011_BASE).value == ord("x")
    assert min(taken_s) < PROMPT_S
    assert server.shut_down(coordinator) == 0


def test_input_waits_for_the_guest_and_the_launcher_for_its_credit(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker()
    launcher = server.greet(server.connect(LAUNCHER), ROLE_LAUNCHER)
    data = bytes(number % 251 for number in range(INPUT_WINDOW_BYTES))
    launcher.send(ConsoleInput(data))
    launcher.send(ConsoleInput(b"too much"))
    assert launcher.is_silent(launcher)
    enable_uart(worker)
    seen, credit = bytearray(), 0
    while len(seen) < len(data):
        assert not worker.mmio(PL011_BASE + pl011.FR).value & pl011.FR_RXFE, "room is filled at once"
        seen.append(worker.mmio(PL011_BASE).value)
    assert seen == data
    while credit < len(data):
        message = launcher.receive()
        assert isinstance(message, ConsoleInputTaken)
        credit += message.taken_bytes
    assert credit == len(data)
    assert worker.mmio(PL011_BASE + pl011.FR).value & pl011.FR_RXFE
    worker.send(ConsoleInput(b"not his"))
    worker.ping()
    assert worker.mmio(PL011_BASE + pl011.FR).value & pl011.FR_RXFE
    assert server.shut_down(coordinator) == 0
    refused = json.loads((server.run_dir / "devices.jsonl").read_text())["refused"]
    assert refused == {
        "console input beyond what may be under way": 1,
        "ConsoleInput, which is not its sender's to send": 1,
    }


def test_the_alarm_rings_when_its_second_begins(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker()
    switch_on(worker, PL031_INTID)
    worker.mmio(PL031_BASE + pl031.IMSC, 1)
    worker.mmio(PL031_BASE + pl031.ICR, 1)
    late_s = []
    for number in range(3):
        worker.mmio(PL031_BASE + pl031.MR, worker.mmio(PL031_BASE).value + 1)
        assert server.has_line(0, (2 * number + 1) << 2 | 1)
        late_s.append(time.time() % 1)
        assert worker.mmio(PL031_BASE + pl031.MIS).value == 1
        worker.mmio(PL031_BASE + pl031.ICR, 1)
    assert min(late_s) < PROMPT_S
    assert server.shut_down(coordinator) == 0
