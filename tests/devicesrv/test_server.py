# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server as a process, over its real socket: what it answers, what it forgets, and how it ends."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from allstop.vm.board import (
    COUNTER_BASE,
    GICC_BASE,
    GICD_BASE,
    PL011_BASE,
    RAM_BASE,
    RAMDEV_BASE,
    TEST_BASE,
)
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.control.control import COUNT_MMIO_WRONG
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import (
    MMIO_FAILED,
    MMIO_MALFORMED,
    MMIO_OK,
    MMIO_UNASSIGNED,
    ROLE_COORDINATOR,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    ComponentFailed,
    GuestFinished,
    Hello,
    MmioReply,
    MmioRequest,
    PpiLevel,
    PpiReply,
    Shutdown,
    Violated,
    Welcome,
)

PIPE_BYTES = 4096
StartServer = Callable[..., Any]
GICD_CTLR, GICD_SGIR = GICD_BASE, GICD_BASE + 0xF00
GICC_CTLR, GICC_PMR, GICC_IAR, GICC_EOIR = GICC_BASE, GICC_BASE + 4, GICC_BASE + 0xC, GICC_BASE + 0x10


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def switch_on_gic(worker: Any) -> None:
    for ipa, value in ((GICD_CTLR, 1), (GICC_CTLR, 1), (GICC_PMR, 0xF0)):
        assert worker.mmio(ipa, value).status == MMIO_OK


def print_on_console(worker: Any, text: bytes) -> None:
    """Character by character, without waiting for each one's reply."""
    for byte in text:
        worker.seq += 1
        worker.send(MmioRequest(worker.seq, PL011_BASE, 1, True, byte))
    for _ in text:
        assert worker.receive().status == MMIO_OK


def test_answers_and_ends_with_shutdown(start_server: StartServer) -> None:
    server = start_server(vcpus=3, parameter=12)
    coordinator, worker = server.coordinator(), server.worker(2)
    assert worker.mmio(TEST_BASE + 4).value == 3
    assert worker.mmio(TEST_BASE + 0x14).value == 12
    worker.mmio(RAMDEV_BASE + 3, 0x1122_3344_5566_7788, size=8)
    assert worker.mmio(RAMDEV_BASE + 5, size=2).value == 0x5566
    assert worker.mmio(RAM_BASE).status == MMIO_UNASSIGNED
    assert server.page.pid(server.page.DEVICES) == server.process.pid
    assert server.shut_down(coordinator) == 0
    assert server.log.read_bytes() == b""
    summary = lines_of(server.run_dir / "devices.jsonl")[0]
    assert (summary["unassigned"], summary["refused"], summary["repeats"]) == (1, {}, 0)


def test_a_repeated_request_is_answered_again_and_not_performed_again(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker, other = server.coordinator(), server.worker(0), server.worker(1)
    request = MmioRequest(10, COUNTER_BASE, 4, True, 1)
    for _ in range(3):
        worker.send(request)
    assert [worker.receive() for _ in range(3)] == [MmioReply(10, MMIO_OK, 0, 0)] * 3
    read = MmioRequest(11, COUNTER_BASE, 4, False, 0)
    for message in (read, read, request, read):
        worker.send(message)
    assert [worker.receive() for _ in range(3)] == [MmioReply(11, MMIO_OK, 1, 0)] * 3
    other.seq = 10  # its numbers are its own: another vCPU's 11 is no repetition
    assert other.mmio(COUNTER_BASE).value == 2
    worker.ping()
    assert server.shut_down(coordinator) == 0
    assert [line["vcpu"] for line in lines_of(server.run_dir / "accesses.jsonl")] == [0, 0, 1]
    summary = lines_of(server.run_dir / "devices.jsonl")[0]
    assert (summary["repeats"], summary["stale"]) == (4, 1)


def test_the_memory_of_replies_lives_as_long_as_the_worker(start_server: StartServer) -> None:
    """A worker that reconnects may ask again for its last reply; a new worker for the vCPU begins anew."""
    server = start_server()
    worker = server.worker(0)
    assert worker.mmio(COUNTER_BASE, 1).seq == 1
    server.greet(worker, ROLE_WORKER, 0)
    worker.send(MmioRequest(1, COUNTER_BASE, 4, True, 1))
    assert worker.receive() == MmioReply(1, MMIO_OK, 0, 0)
    server.greet(worker, ROLE_WORKER, 0, pid=1)
    worker.send(MmioRequest(1, COUNTER_BASE, 4, False, 0))
    assert worker.receive() == MmioReply(1, MMIO_OK, 1, 0)


def test_other_vcpus_lines_are_set_before_the_reply_and_ones_own_is_in_it(start_server: StartServer) -> None:
    server = start_server()
    sender, target = server.worker(0), server.worker(1)
    switch_on_gic(sender)
    switch_on_gic(target)
    reply = sender.mmio(GICD_SGIR, 0b11 << 16 | 3)
    assert reply.line == 1 << 2 | 1
    assert (server.page.line(0), server.page.line(1)) == (0, 1 << 2 | 1)
    assert server.page.requests(1) & server.page.INTERRUPT
    reply = target.mmio(GICC_IAR)
    assert (reply.value, reply.line) == (3, 2 << 2)
    assert sender.mmio(GICC_IAR).value == 3
    assert target.mmio(GICC_EOIR, 3).line == 2 << 2
    assert server.page.line(1) == 1 << 2 | 1, "what a reply carries is the worker's to set"


def test_every_change_of_a_line_is_told_when_it_happens(start_server: StartServer) -> None:
    server = start_server()
    sender, target = server.worker(0), server.worker(1)
    switch_on_gic(sender)
    switch_on_gic(target)
    for version in range(1, 60, 2):
        server.page.clear(1, server.page.INTERRUPT)
        sender.mmio(GICD_SGIR, 0b10 << 16 | 3)
        assert server.page.line(1) == version << 2 | 1
        assert server.page.requests(1) & server.page.INTERRUPT
        assert target.mmio(GICC_IAR).value == 3
        server.page.set_line(1, target.mmio(GICC_EOIR, 3).line)


def test_private_interrupts_come_from_the_worker(start_server: StartServer) -> None:
    server = start_server()
    worker = server.worker(1)
    switch_on_gic(worker)
    worker.mmio(GICD_BASE + 0x100, 1 << 27)
    worker.send(PpiLevel(27, True, 0))
    assert server.has_line(1, 1 << 2 | 1)
    worker.send(PpiLevel(27, True, 0))
    worker.send(PpiLevel(27, False, 0))
    assert server.has_line(1, 2 << 2)


def test_a_worker_that_asks_for_it_has_the_line_in_the_answer(start_server: StartServer) -> None:
    server = start_server()
    worker = server.worker(1)
    switch_on_gic(worker)
    worker.mmio(GICD_BASE + 0x100, 1 << 27)
    worker.send(PpiLevel(27, True, 5))
    assert worker.receive() == PpiReply(5, 1 << 2 | 1)
    worker.send(PpiLevel(27, True, 5))
    assert worker.receive() == PpiReply(5, 1 << 2 | 1), "what is asked again is answered again"
    worker.send(PpiLevel(27, False, 6))
    assert worker.receive() == PpiReply(6, 2 << 2)
    assert server.page.line(1) == 0, "what a reply carries is the worker's to set"


def test_the_guest_ends_the_run_and_marks_moments(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(1)
    before_ns = time.monotonic_ns()
    worker.mmio(TEST_BASE + 0x10, 0xBEEF)
    worker.mmio(TEST_BASE, 9)
    assert coordinator.receive() == GuestFinished(9, "vCPU 1 wrote 9 to the test device")
    assert server.shut_down(coordinator) == 0
    (mark,) = lines_of(server.run_dir / "marks.jsonl")
    assert (mark["vcpu"], mark["value"]) == (1, 0xBEEF)
    assert before_ns < mark["t_ns"] < time.monotonic_ns()


def test_what_happens_before_the_coordinator_comes_is_told_to_it(start_server: StartServer) -> None:
    server = start_server()
    server.worker(0).mmio(TEST_BASE, 4)
    coordinator = server.coordinator()
    assert coordinator.receive() == GuestFinished(4, "vCPU 0 wrote 4 to the test device")


def test_an_access_of_an_impossible_size_is_answered_as_such(start_server: StartServer) -> None:
    worker = start_server().worker()
    assert worker.mmio(RAMDEV_BASE, size=3).status == MMIO_MALFORMED
    assert worker.mmio(RAMDEV_BASE, 5, size=16).status == MMIO_MALFORMED
    assert worker.mmio(RAMDEV_BASE).value == 0


# Strangers and nonsense


def test_a_peer_without_the_token_gets_no_answer_and_harms_nobody(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(0)
    good = server.hello(ROLE_WORKER, 1)
    stranger = server.connect(b"w1")
    stranger.send(MmioRequest(1, COUNTER_BASE, 4, True, 1))
    for hello in (
        good._replace(token=secrets.token_bytes(16)),
        good._replace(token=b""),
        good._replace(version=99),
        good._replace(vcpu=0),
        good._replace(role=ROLE_COORDINATOR),
        good._replace(role=ROLE_DEVICES),
        good._replace(role=200),
        Hello(0, b"", 0, 0, 0),
    ):
        stranger.send(hello)
    stranger.send(Shutdown())
    stranger.send(PpiLevel(27, True, 0))
    beyond = server.connect(b"w2")
    beyond.send(server.hello(ROLE_WORKER, 2))
    assert stranger.is_silent(worker)
    assert beyond.is_silent(worker)
    assert worker.mmio(COUNTER_BASE).value == 0
    stranger.send(good)
    assert isinstance(stranger.receive(), Welcome), "the right word still opens"
    assert server.shut_down(coordinator) == 0
    assert lines_of(server.run_dir / "devices.jsonl")[0]["refused"] == {
        "a message of a stranger, before Hello": 3,
        "a Hello with a wrong token": 3,
        "a Hello of protocol version 99, not 1": 1,
        "a Hello under an identity that is not its own": 2,
        "a Hello of role 1, which does not connect to the device server": 1,
        "a Hello of role 200, which does not connect to the device server": 1,
        "a Hello of vCPU 2, which the machine does not have": 1,
    }


def test_nonsense_of_every_kind_is_counted_and_harms_nobody(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker, vandal = server.coordinator(), server.worker(0), server.worker(1)
    frames = [
        b"",
        b"\xc1",
        os.urandom(100),
        msgpack.packb([16]),
        msgpack.packb([16, -1, 0, 4, False, 0]),
        msgpack.packb({"a": 1}),
        b"\x91" * 2000,
        msgpack.packb([17, 1, 0, 0, 0, 0]),
        encode(MmioRequest(1, COUNTER_BASE, 4, True, 1)) + b"\0",
    ]
    for frame in frames:
        vandal.socket.send(frame)
    request = encode(MmioRequest(1, COUNTER_BASE, 4, True, 1))
    for parts in ([request, request], [b"", request], [b"w0", request], [request, b"w0", request, b""]):
        vandal.socket.send_multipart(parts)
    vandal.ping()
    assert worker.mmio(COUNTER_BASE).value == 0, "none of them was performed, nor taken for another's"
    assert vandal.is_silent(worker)
    for message in (Shutdown(), MmioReply(1, 0, 0, 0), PpiLevel(0, True, 0), PpiLevel(32, True, 0), Welcome(1, 1)):
        vandal.send(message)
    coordinator.send(MmioRequest(1, COUNTER_BASE, 4, True, 1))
    coordinator.send(PpiLevel(27, True, 0))
    vandal.ping()
    coordinator.ping()
    assert worker.mmio(COUNTER_BASE).value == 1
    assert server.shut_down(coordinator) == 0
    refused = lines_of(server.run_dir / "devices.jsonl")[0]["refused"]
    assert refused == {
        "a malformed message": len(frames),
        "a message of several frames": 4,
        "a level of an interrupt that is not private": 2,
        **{
            f"{kind}, which is not its sender's to send": 1
            for kind in ("Shutdown", "MmioReply", "Welcome", "MmioRequest", "PpiLevel")
        },
    }
    told = [f"devicesrv: refused {count} x {reason}" for reason, count in refused.items()]
    assert sorted(server.log.read_text().splitlines()) == sorted(told)


def test_launcher_and_operator_may_knock_too(start_server: StartServer) -> None:
    server = start_server()
    operator = server.greet(server.connect(b"op-7"), ROLE_OPERATOR)
    operator.ping()
    operator.send(Shutdown())
    operator.ping()
    launcher = server.greet(server.connect(b"launcher"), ROLE_LAUNCHER)
    assert server.shut_down(launcher) == 0


# Devices that fail

BROKEN = """
from allstop.devicesrv.device import Device

class Broken(Device):
    def read(self, offset, size, cpu):
        if offset == 0:
            raise KeyError("no such drawer")
        return offset

    def write(self, offset, size, value, cpu):
        self.wiring.irq(True)
        raise SystemExit("not like this")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Mad(Device):
    def read(self, offset, size, cpu):
        if offset == 0:
            raise ValueError("one\\ntwo \\udc80")
        if offset == 4:
            raise Mute
        self.wiring.finish({8: -1, 12: 1 << 32, 16: "0", 20: 0.5}[offset], "done")

    def write(self, offset, size, value, cpu):
        self.wiring.finish(value, "x" * 100_000)
"""


def test_a_device_that_raises_fails_the_run_in_one_sentence_and_the_server_stays(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    server = start_server(devices=(DeviceSpec(str(path), "Broken", 0x0C00_0000),))
    coordinator, worker = server.coordinator(), server.worker(1)
    switch_on_gic(worker)
    worker.mmio(GICD_BASE + 0x100 + 144 // 32 * 4, 1 << 144 % 32)
    worker.mmio(GICD_BASE + 0x800 + 144, 0b10, size=1)
    assert worker.mmio(0x0C00_0000) == MmioReply(worker.seq, MMIO_FAILED, 0, 0)
    assert coordinator.receive() == ComponentFailed(
        ROLE_DEVICES,
        1,
        "device Broken at 0x0c000000 raised KeyError at vCPU 1's 4-byte read of 0x0c000000: 'no such drawer'",
    )
    reply = worker.mmio(0x0C00_0004, 0x55)
    assert (reply.status, reply.line) == (MMIO_FAILED, 1 << 2 | 1), "its interrupt counts though it raised"
    assert coordinator.receive() == ComponentFailed(
        ROLE_DEVICES,
        1,
        "device Broken at 0x0c000000 raised SystemExit at vCPU 1's 4-byte write of 0x55 to 0x0c000004: not like this",
    )
    assert worker.mmio(0x0C00_0008).value == 8
    assert server.shut_down(coordinator) == 0
    log = server.log.read_text()
    assert log.count("Traceback") == 2
    assert "no such drawer" in log


def test_what_a_mad_device_says_reaches_the_coordinator_in_a_form_that_it_takes(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "mad.py"
    path.write_text(BROKEN)
    server = start_server(devices=(DeviceSpec(str(path), "Mad", 0x0C00_0000),))
    coordinator, worker = server.coordinator(), server.worker(1)

    def failure(offset: int) -> str:
        assert worker.mmio(0x0C00_0000 + offset).status == MMIO_FAILED
        told = coordinator.receive()
        assert isinstance(told, ComponentFailed) and told.sentence.isprintable()
        return told.sentence

    assert failure(0).endswith(": one two  ")
    assert failure(4).endswith("str() of it raised RuntimeError")
    for offset in (8, 12, 16, 20):
        assert "Mad at 0x0c000000 raised MalformedError at" in failure(offset)
    assert worker.mmio(0x0C00_0000, 3).status == MMIO_OK
    assert coordinator.receive() == GuestFinished(3, "x" * 4096)
    assert server.shut_down(coordinator) == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "{path} has no class Thing"),
        ("class Thing(Device):\n    size_bytes = 0x200_0000", "Thing at 0x08000000 (0x2000000 bytes) overlaps "),
    ],
)
def test_a_device_that_can_not_be_loaded_ends_the_process_with_one_sentence(
    start_server: StartServer, tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "thing.py"
    path.write_text("from allstop.devicesrv.device import Device\n" + text)
    server = start_server(devices=(DeviceSpec(str(path), "Thing", 0x0800_0000),))
    assert server.process.wait(10) == 2
    said = server.log.read_text()
    assert said.startswith("devicesrv: " + sentence.format(path=path))
    assert said.count("\n") == 1


def test_an_address_that_is_taken_ends_the_process_with_one_sentence(start_server: StartServer) -> None:
    first = start_server()
    first.worker(0)
    process = first.process
    second = start_server(endpoint=first.endpoint)
    assert second.process.wait(10) == 1
    assert second.log.read_text().startswith(f"devicesrv: cannot listen on {first.endpoint}: ")
    assert process.poll() is None


# The console, the heartbeat, the end


def test_the_console_gets_every_byte_though_nobody_reads_for_a_while(start_server: StartServer) -> None:
    """More than the pipe holds: the guest goes on, nothing is lost or reordered."""
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(0)
    text = bytes(byte % 251 for byte in range(3 * PIPE_BYTES))
    for half in (text[: 2 * PIPE_BYTES], text[2 * PIPE_BYTES :]):
        print_on_console(worker, half)
    assert server.drain_console(lambda data: len(data) >= len(text)) == text
    print_on_console(worker, b"and on")
    assert server.drain_console(lambda data: len(data) >= 6) == b"and on"
    assert server.shut_down(coordinator) == 0
    assert server.log.read_bytes() == b""


def test_what_waits_for_the_consoles_reader_at_the_end_still_gets_there(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(0)
    text = bytes(byte % 251 for byte in range(2 * PIPE_BYTES))
    print_on_console(worker, text)
    coordinator.send(Shutdown())
    assert server.drain_console(lambda data: len(data) >= len(text)) == text
    assert server.process.wait(10) == 0


def test_a_reader_that_never_comes_does_not_hold_up_the_end(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(0)
    print_on_console(worker, bytes(PIPE_BYTES + 10))
    assert server.shut_down(coordinator) == 0
    assert server.log.read_text() == "devicesrv: 10 bytes of the console's output were not read\n"


def test_a_reader_that_goes_away_does_not_stop_the_guest(start_server: StartServer) -> None:
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(0)
    os.close(server.console)
    server.console = os.open("/dev/null", os.O_RDONLY)
    print_on_console(worker, b"xyz")
    assert server.shut_down(coordinator) == 0
    assert server.log.read_text() == "devicesrv: 3 bytes of the console's output were not read\n"


def test_the_heart_beats_idle_and_busy(start_server: StartServer) -> None:
    server = start_server()
    worker = server.worker(0)
    page = server.page

    def longest_silence_s(work: Callable[[], object]) -> float:
        end, seen, since, longest = time.monotonic() + 1.3, page.heartbeat(page.DEVICES), time.monotonic(), 0.0
        while (now := time.monotonic()) < end:
            work()
            beat = page.heartbeat(page.DEVICES)
            if beat != seen:
                longest, seen, since = max(longest, now - since), beat, now
        return max(longest, now - since)

    # Four times what is promised, since the machine that runs this test may be busy with others.
    assert longest_silence_s(lambda: time.sleep(0.002)) < 1.0
    assert longest_silence_s(lambda: worker.mmio(RAMDEV_BASE)) < 1.0


SLOW = '''
import time
from pathlib import Path
from allstop.devicesrv.device import Device

class Slow(Device):
    """Tells that it is in an access and stays there until it is told to go on."""
    def read(self, offset, size, cpu):
        folder = Path(__file__).parent
        (folder / "entered").touch()
        while not (folder / "leave").exists():
            time.sleep(0.001)
        return 7
'''


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_the_control_page_says_which_device_it_is_in(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    server = start_server(devices=(DeviceSpec(str(path), "Slow", 0x0C00_0000),))
    worker, page = server.worker(0), server.page
    worker.send(MmioRequest(1, 0x0C00_0010, 4, False, 0))
    wait_for((tmp_path / "entered").exists)
    assert page.activity(page.DEVICES)[:2] == (page.ACTIVITY_DEVICE, 0x0C00_0010)
    (tmp_path / "leave").touch()
    assert worker.receive() == MmioReply(1, MMIO_OK, 7, 0)
    assert page.activity(page.DEVICES)[0] == page.ACTIVITY_IDLE


def test_the_first_beat_comes_when_it_serves(start_server: StartServer, tmp_path: Path) -> None:
    """A process that has never beaten is starting, and may take its time: to load a user's module, say."""
    path = tmp_path / "slow.py"
    path.write_text(SLOW + "Slow.read(None, 0, 4, 0)")
    server = start_server(devices=(DeviceSpec(str(path), "Slow", 0x0C00_0000),))
    wait_for((tmp_path / "entered").exists)
    assert server.page.heartbeat(server.page.DEVICES) == 0
    (tmp_path / "leave").touch()
    server.worker(0)
    assert server.page.heartbeat(server.page.DEVICES) > 0


def test_ctrl_c_is_the_launchers_to_handle(start_server: StartServer) -> None:
    server = start_server()
    coordinator = server.coordinator()
    server.process.send_signal(signal.SIGINT)
    coordinator.ping()
    assert server.shut_down(coordinator) == 0


def test_a_server_whose_launcher_is_gone_does_not_stay(start_server: StartServer) -> None:
    assert start_server(launcher_pid=1).process.wait(10) == 1


def test_records_are_on_disk_while_the_run_goes_on(start_server: StartServer) -> None:
    server = start_server()
    server.worker(0).mmio(COUNTER_BASE)
    path = server.run_dir / "accesses.jsonl"
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"))


def test_records_that_can_not_be_written_fail_the_run_in_one_sentence(start_server: StartServer) -> None:
    server = start_server()
    (server.run_dir / "accesses.jsonl").symlink_to("/dev/full")
    coordinator, worker = server.coordinator(), server.worker(0)
    worker.mmio(COUNTER_BASE)
    assert coordinator.receive() == ComponentFailed(
        ROLE_DEVICES, 0, f"the devices' records cannot be written to {server.run_dir}: No space left on device"
    )
    assert worker.mmio(COUNTER_BASE).value == 1
    assert server.shut_down(coordinator) == 0
    assert server.log.read_bytes() == b""


def test_a_number_that_is_skipped_is_told_and_one_that_comes_again_is_not(start_server: StartServer) -> None:
    """An access that was lost on its way, or overtaken; a repetition, however late, is neither."""
    server = start_server()
    coordinator, worker = server.coordinator(), server.worker(1)
    for seq in (1, 1, 2, 1, 2):
        worker.send(MmioRequest(seq, COUNTER_BASE, 4, False, 0))
    assert [worker.receive().seq for _ in range(4)] == [1, 1, 2, 2]
    assert coordinator.is_silent(worker) and server.page.counters(1)[COUNT_MMIO_WRONG] == 0
    for seq in (4, 3, 5):
        worker.send(MmioRequest(seq, COUNTER_BASE, 4, True, 0))
    assert coordinator.receive() == Violated(
        1,
        f"vCPU 1's access 4, a 4-byte write to 0x{COUNTER_BASE:08x}, reached the device server when its access 3 "
        "was due: 1 was lost or overtaken",
    )
    assert [worker.receive().seq for _ in range(2)] == [4, 5]
    assert coordinator.is_silent(worker) and server.page.counters(1)[COUNT_MMIO_WRONG] == 1
