# SPDX-License-Identifier: GPL-2.0-or-later
"""A real gdb on real machines, and clients that are none."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from allstop.vm.control.control import ACTIVITY_GUEST, ControlPage

GDB = shutil.which("gdb-multiarch")
needs_gdb = pytest.mark.skipif(GDB is None, reason="gdb-multiarch is not installed")


def port_of(machine: Any, deadline_s: float = 30.0) -> int:
    """Read the launcher's stderr up to the line that names the port."""
    end = time.monotonic() + deadline_s
    text = b""
    while time.monotonic() < end:
        text += os.read(machine.launcher.stderr.fileno(), 1)
        if found := re.search(rb"target remote 127\.0\.0\.1:(\d+)\n", text):
            return int(found[1])
    raise AssertionError(text)


def gdb_command(port: int, image: Path, *commands: str) -> list[str]:
    words = [
        str(GDB),
        "-nx",
        "-q",
        "-ex",
        "set confirm off",
        "-ex",
        "set remotetimeout 30",
        "-ex",
        f"target remote 127.0.0.1:{port}",
    ]
    for command in commands:
        words += ["-ex", command]
    return [*words, str(image)]


def gdb(port: int, image: Path, *commands: str, deadline_s: float = 60.0) -> str:
    """What gdb says to these commands."""
    try:
        done = subprocess.run(
            [*gdb_command(port, image, *commands), "-batch"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"gdb hangs after {(error.stdout or b'').decode()}") from None
    return done.stdout.decode()


@contextmanager
def raw_client(port: int, deadline_s: float = 30.0) -> Iterator[socket.socket]:
    """A connection, as soon as the machine is up."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end, "the gdb server does not listen"
            time.sleep(0.01)
    with connection:
        yield connection


def packet(text: bytes) -> bytes:
    return b"$%b#%02x" % (text, sum(text) & 0xFF)


def answer(connection: socket.socket) -> bytes:
    """The next packet's payload."""
    data = b""
    while not re.search(rb"#..", data):
        more = connection.recv(4096)
        assert more, f"the connection ended after {data!r}"
        data += more
    found = re.search(rb"\$(.*?)#..", data, re.DOTALL)
    assert found is not None
    return found[1]


@needs_gdb
def test_breakpoints_threads_steps_and_watchpoints(machine: Callable[..., Any], guests: Path) -> None:
    image = guests / "smp-counter.elf"
    with machine(
        "smp-counter.elf", "--vcpus", 4, "--gdb", ":0", "--gdb-wait", "--parameter", 20, "--timeout", 90
    ) as running:
        said = gdb(
            port_of(running),
            image,
            "info registers pc",
            "break count_under_ticket",
            "continue",
            "delete",
            "stepi",
            "watch *(int*)&ticket_counter",
            "continue",
            "info threads",  # they have met at a barrier before any of them counts: so all are on
            "continue",
            "delete",
            "break count_under_mcs",
            "continue",
            "x/1wd &exclusive_counter",
            "monitor translate &main",
            "monitor translate 0x40010354",
            "monitor vcpus",
            "delete",
            "continue",
        )
        status, out, err = running.finish()
    assert "_start" in said
    assert re.search(r"Thread \d hit Breakpoint 1, .* in count_under_ticket", said), said
    assert all(f"Thread {n} (vCPU {n - 1}, running)" in said for n in range(1, 5)), said
    assert "Hardware watchpoint 2" in said
    values = [int(value) for value in re.findall(r"New value = (\d+)", said)]
    assert values and values == sorted(values), said
    assert re.search(r"<exclusive_counter>:\s+4000\n", said), said
    assert "0x40010354 is 0x40010354 on vCPU" in said
    assert "exited normally" in said
    assert status == 0, err
    assert "counter=exclusive count=4000 expected=4000" in out


@needs_gdb
def test_registers_and_memory_can_be_changed(machine: Callable[..., Any], guests: Path) -> None:
    """Also code: what was translated from it is dropped."""
    image = guests / "smp-counter.elf"
    with machine("smp-counter.elf", "--gdb", ":0", "--gdb-wait", "--timeout", 60) as running:
        said = gdb(
            port_of(running),
            image,
            "stepi",
            "set $r7 = 0x1234",
            "set $d3 = 1.5",
            "p/x $r7",
            "p $d3",
            "p/x $sp_irq = 0x40f00000",
            "p/x $sp_irq",
            "break main",
            "continue",
            "delete",
            "p/x *(int*)$pc",
            "set var *(int*)&main = 0xeafffffe",
            "stepi",
            "info registers pc",
            "x/1wx 0x09000000",
            "maintenance packet Qqemu.PhyMemMode:1",
            "x/1wx 0x40010354",
            "maintenance packet qqemu.PhyMemMode",
            "kill",
        )
        status, _, err = running.finish()
    assert "= 0x1234" in said
    assert "= 1.5" in said
    assert "= 0x40f00000" in said
    assert re.search(r"pc +0x40010354", said), said  # a branch to itself
    assert "Cannot access memory at address 0x9000000" in said
    assert re.search(r"0x40010354 <main>:\s+0xeafffffe", said), said
    assert 'received: "1"' in said
    assert status == 4
    assert "stopped by the debugger" in err


def _runs(control_page: ControlPage | None) -> bool:
    return control_page is not None and control_page.activity(0)[0] == ACTIVITY_GUEST


@needs_gdb
def test_ctrl_c(machine: Callable[..., Any], guests: Path, until: Callable[..., Any]) -> None:
    image = guests / "spin.elf"
    with machine("spin.elf", "--vcpus", 2, "--gdb", ":0", "--gdb-wait", "--timeout", 60) as running:
        words = gdb_command(port_of(running), image, "continue", "info threads", "kill")
        with subprocess.Popen(
            [*words, "-batch"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as debugger:
            try:
                until(lambda: _runs(running.page()), "the guest to run")
                debugger.send_signal(signal.SIGINT)
                said = debugger.communicate(timeout=30)[0].decode()
            finally:
                debugger.kill()
        status, _, err = running.finish()
    assert "received signal SIGINT" in said, said
    assert "Thread 2 (vCPU 1, switched off)" in said, said
    assert status == 4
    assert "stopped by the debugger" in err


@needs_gdb
def test_a_debugger_that_is_killed_at_a_breakpoint(machine: Callable[..., Any], guests: Path) -> None:
    image = guests / "smp-counter.elf"
    with machine(
        "smp-counter.elf", "--vcpus", 2, "--gdb", ":0", "--gdb-wait", "--timeout", 60, "--parameter", 50
    ) as running:
        words = gdb_command(port_of(running), image, "break count_exclusively", "continue")
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as debugger:
            try:
                said, end_s = b"", time.monotonic() + 50
                while b"hit Breakpoint 1" not in said:
                    left_s = max(0.0, end_s - time.monotonic())
                    assert select.select([debugger.stdout], [], [], left_s)[0], said
                    more = os.read(debugger.stdout.fileno(), 4096)
                    assert more, said
                    said += more
            finally:
                debugger.kill()
        status, out, err = running.finish()
    assert status == 0, err
    assert "counter=mcs count=100 expected=100" in out
    assert err.count("the debugger has gone while the machine was stopped") == 1


def test_one_vcpu_alone_and_stepped_among_others(machine: Callable[..., Any]) -> None:
    """What gdb asks for under `set scheduler-locking`, and else; over a raw connection."""
    with (
        machine("smp-counter.elf", "--vcpus", 2, "--gdb", ":0", "--gdb-wait", "--timeout", 60) as running,
        raw_client(port_of(running)) as client,
    ):

        def ask(text: bytes) -> bytes:
            client.sendall(packet(text))
            return answer(client)

        assert ask(b"QStartNoAckMode") == b"OK"
        assert ask(b"?").startswith(b"T05thread:1;")
        assert ask(b"qfThreadInfo") == b"m1,2"
        assert ask(b"vCont;s:2") == b"T05thread:2;"  # it is switched off: at once
        assert ask(b"vCont;s:1;c") == b"T05thread:1;"
        assert ask(b"Z0,40010204,4") == b"OK"
        assert ask(b"vCont;c").startswith(b"T05thread:")
        assert ask(b"z0,40010204,4") == b"OK"
        client.sendall(packet(b"vCont;c:2"))
        client.sendall(b"\x03")
        assert answer(client).startswith(b"T02thread:")
        assert ask(b"D") == b"OK"
        assert running.finish()[0] == 0


def test_garbage_changes_nothing(machine: Callable[..., Any]) -> None:
    with machine("smp-counter.elf", "--gdb", ":0", "--gdb-wait", "--timeout", 60) as running:
        with raw_client(port_of(running)) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(range(256)) * 40 + packet(b"m0,zz") + packet(b"vCont;x"))
            while answer(client) != b"E22":
                pass
        status, _, err = running.finish()
    assert status == 0, err


def test_a_port_in_use_is_a_usage_error(command: Any, guests: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("run", guests / "hello.elf", "--gdb", f":{port}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"gdb cannot be served on 127.0.0.1:{port}: Address already in use" in done.stderr
