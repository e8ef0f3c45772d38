# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that echoes lines (guests/uart) driven from everywhere where a console can be, by users of every kind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from allstop import HarnessError, Machine, UsageError
from allstop.deploy.console.terminal import EscapeKey
from allstop.deploy.options.console_place import ConsolePlace

pytestmark = pytest.mark.processes

DEADLINE_S = 30.0


class Terminal:
    """A user at a terminal of his own, on which the command runs in the foreground."""

    def __init__(self, command: Any, *arguments: object) -> None:
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.seen = bytearray()
        slave_path = os.ttyname(self.slave)

        def take_terminal() -> None:
            os.setsid()
            os.close(os.open(slave_path, os.O_RDWR))  # the first terminal that a session's leader opens is its own

        self.launcher: subprocess.Popen[bytes] = command.start(
            "run", *arguments, stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=take_terminal
        )

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def read_until(self, text: bytes) -> None:
        end = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            left_s = end - time.monotonic()
            assert left_s > 0, f"timed out waiting for {text!r}; seen: {bytes(self.seen)!r}"
            if select.select([self.master], [], [], left_s)[0]:
                self.seen += os.read(self.master, 1 << 16)

    def finish(self) -> int:
        """The exit status; what is written meanwhile is read, as a terminal does."""
        end = time.monotonic() + DEADLINE_S
        while (status := self.launcher.poll()) is None:
            assert time.monotonic() < end, f"it does not end; seen: {bytes(self.seen)!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 1 << 16)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 1 << 16)
        return status

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    @property
    def is_restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.launcher.poll() is None:
            self.launcher.kill()
        self.launcher.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(command: Any) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*arguments: object) -> Terminal:
        terminals.append(Terminal(command, *arguments, "--console", "tty"))
        return terminals[-1]

    yield start
    for one in terminals:
        one.close()


# The terminal


def test_every_key_goes_to_the_guest_and_the_escape_key_leaves(terminal: Callable[..., Terminal], guests: Path) -> None:
    user = terminal(guests / "uart.elf")
    user.read_until(b"ready\r\n")
    assert user.is_raw
    user.type(b"abc\x03\x1a\x01\x01\r")  # Ctrl-C, Ctrl-Z, and Ctrl-A as the escape gives it
    user.read_until(b"<\x01\x1a\x03cba>\r\n")
    user.type(b"\x01x")
    assert user.finish() == 4
    assert b"the user left by Ctrl-A x" in user.seen
    assert b"vCPUs on" not in user.seen, "the status line would write into the guest's screen"
    assert user.is_restored


def test_the_terminal_is_put_back_when_the_guest_passes(terminal: Callable[..., Terminal], guests: Path) -> None:
    user = terminal(guests / "uart.elf")
    user.read_until(b"ready\r\n")
    user.type(b"quit\r")
    assert user.finish() == 0
    assert user.is_restored


def test_the_terminal_is_put_back_when_a_process_is_killed(terminal: Callable[..., Terminal], guests: Path) -> None:
    for module in ("allstop.vcpu_worker", "allstop.devicesrv", "allstop.coordinator"):
        user = terminal(guests / "uart.elf")
        user.read_until(b"ready\r\n")
        os.kill(_member(user.launcher.pid, module), signal.SIGKILL)
        assert user.finish() == 4
        assert user.is_restored, module
        assert b"SIGKILL" in user.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_terminal_is_put_back_when_the_launcher_is_told_to_end(
    terminal: Callable[..., Terminal], guests: Path, number: signal.Signals
) -> None:
    user = terminal(guests / "uart.elf")
    user.read_until(b"ready\r\n")
    user.launcher.send_signal(number)
    assert user.finish() == 4
    assert user.is_restored


def test_a_launcher_that_is_stopped_gives_the_terminal_back_for_that_time(
    terminal: Callable[..., Terminal], guests: Path, until: Callable[..., Any]
) -> None:
    user = terminal(guests / "uart.elf")
    user.read_until(b"ready\r\n")
    user.launcher.send_signal(signal.SIGTSTP)
    until(lambda: _state(user.launcher.pid) == "T", "the launcher to stop")
    assert user.is_restored
    user.launcher.send_signal(signal.SIGCONT)
    until(lambda: user.is_raw, "the terminal to be the guest's again")
    user.launcher.send_signal(signal.SIGSTOP)
    until(lambda: _state(user.launcher.pid) == "T", "the launcher to stop")
    termios.tcsetattr(user.slave, termios.TCSANOW, user.before)  # as a shell does
    user.launcher.send_signal(signal.SIGCONT)
    until(lambda: user.is_raw, "the terminal to be the guest's again")
    user.type(b"quit\r")
    assert user.finish() == 0
    assert user.is_restored


def test_the_escape_key_works_while_the_guest_reads_nothing(
    terminal: Callable[..., Terminal], guests: Path, until: Callable[..., Any]
) -> None:
    user = terminal(guests / "spin.elf")
    until(lambda: user.is_raw, "the terminal to be raw")
    for _ in range(16):  # more than the devices take: three times the window
        user.type(b"x" * 1000)
        until(lambda: _queued(user.slave) == 0, "the launcher to read on")
    user.type(b"\x01x")
    assert user.finish() == 4
    assert user.is_restored


def test_no_terminal_is_a_usage_error(command: Any, guests: Path) -> None:
    done = command("run", guests / "uart.elf", "--console", "tty")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "sent", "left"),
    [
        (b"plain\x03\x1a", b"plain\x03\x1a", False),
        (b"a\x01xb", b"a", True),
        (b"\x01\x01x", b"\x01x", False),
        (b"\x01b", b"\x01b", False),
        (b"\x01", b"", False),
        (b"\x01\x01\x01x", b"\x01", True),
    ],
)
def test_the_escape_key_is_found_however_the_bytes_come(typed: bytes, sent: bytes, left: bool) -> None:
    whole, single = EscapeKey(), EscapeKey()
    assert whole.filter(typed) == sent
    out = b""
    for byte in typed:
        if not single.left:
            out += single.filter(bytes((byte,)))
    assert (out, whole.left, single.left) == (sent, left, left)


# The pseudo-terminal


def test_a_pty_is_named_and_carries_both_ways(guests: Path, until: Callable[..., Any]) -> None:
    with Machine(image=guests / "uart.elf", console="pty", timeout=DEADLINE_S) as machine:
        path = until(lambda: machine.console_path, "the pty's name")
        for text in (b"one", b"two"):  # a user who closes it may open it again
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
            _read_from(fd, b"ready\n" if text == b"one" else b"")
            os.write(fd, text + b"\r")
            _read_from(fd, b"<" + text[::-1] + b">\n")
            os.close(fd)
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"quit\r")
        _read_from(fd, b"result: guest=uart characters=13 lines=3")
        assert machine.wait().verdict == "pass"
        os.close(fd)
        assert "<eno>\n" in machine.console, "the program has a copy"


def test_a_pty_that_nobody_opens_ends_with_the_run(guests: Path) -> None:
    with Machine(image=guests / "hello.elf", vcpus=2, console="pty") as machine:
        verdict = machine.wait()
    assert verdict.verdict == "pass"
    assert any("bytes of the console were dropped" in note for note in verdict.notes)
    assert "hello from vCPU 1 of 2" in machine.console


# The socket


class Client:
    def __init__(self, path: Path, until: Callable[..., Any]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        until(lambda: self._connects(path), "the console's socket")
        self.socket.settimeout(DEADLINE_S)
        self.seen = bytearray()

    def _connects(self, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            self.socket.connect(str(path))
            return True
        return False

    def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            data = self.socket.recv(1 << 16)
            assert data, bytes(self.seen)
            self.seen += data

    def read_all(self) -> None:
        while data := self.socket.recv(1 << 16):
            self.seen += data


def test_a_socket_serves_one_client_after_the_other(guests: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    path = tmp_path / "console"
    with Machine(image=guests / "uart.elf", console=f"socket:{path}", timeout=DEADLINE_S) as machine:
        first = Client(path, until)
        assert path.stat().st_mode & 0o777 == 0o600
        first.read_until(b"ready\n")
        second = Client(path, until)
        second.socket.send(b"quit\r")  # the second client waits
        first.socket.send(b"abc\r")
        first.read_until(b"<cba>\n")
        first.socket.send(b"\x00\xff\x01x" * 10 + b"\r")  # garbage, and gone
        first.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.socket.close()
        second.read_all()
        assert b"result: guest=uart characters=50 lines=3" in second.seen
        assert b"<cba>" not in second.seen
        assert machine.wait().verdict == "pass"
        second.socket.close()
    assert not path.exists()


def test_output_waits_for_the_first_client(guests: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    path = tmp_path / "console"
    with Machine(image=guests / "uart.elf", console=f"socket:{path}", timeout=DEADLINE_S) as machine:
        until(lambda: "ready" in machine.console, "the guest")
        client = Client(path, until)
        client.socket.send(b"quit\r")
        client.socket.shutdown(socket.SHUT_WR)  # half of a connection is enough to read
        client.read_all()
        assert client.seen.startswith(b"ready\n") and b"lines=1" in client.seen
        client.socket.close()
        assert machine.wait().verdict == "pass"
        assert machine.wait().notes == ()


def test_many_clients_that_come_and_go_hurt_nobody(guests: Path, tmp_path: Path, until: Callable[..., Any]) -> None:
    path = tmp_path / "console"
    with Machine(image=guests / "uart.elf", console=f"socket:{path}", timeout=DEADLINE_S) as machine:
        for number in range(60):
            client = Client(path, until)
            if number % 3:
                client.socket.send(bytes(range(14, 200)))
            client.socket.close()
        last = Client(path, until)
        last.socket.send(b"\rquit\r")
        last.read_all()
        assert b"characters=7446 " in last.seen
        last.socket.close()
        assert machine.wait().verdict == "pass"


def test_the_socket_of_a_launcher_that_was_killed_is_replaced_and_nothing_else_is(
    guests: Path, tmp_path: Path, until: Callable[..., Any], command: Any
) -> None:
    path = tmp_path / "console"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    done = command("run", guests / "hello.elf", "--console", f"socket:{path}")
    assert done.returncode == 2 and "cannot be made" in done.stderr, done.stderr
    listener.close()
    assert path.exists()
    assert command("run", guests / "hello.elf", "--console", f"socket:{path}").returncode == 0
    assert not path.exists()
    path.write_text("mine")
    done = command("run", guests / "hello.elf", "--console", f"socket:{path}")
    assert done.returncode == 2 and path.read_text() == "mine"


# Files and pipes


def test_output_to_a_file_and_input_from_one(guests: Path, tmp_path: Path, command: Any) -> None:
    (tmp_path / "in").write_bytes(b"hello\nquit\n")
    done = command("run", guests / "uart.elf", "--console", f"file:{tmp_path}/out", "--input", tmp_path / "in")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert b"ready\nhello\n<olleh>\nquit\n<tiuq>\n" in (tmp_path / "out").read_bytes()


def test_input_is_typed_whole_and_in_order_however_slowly_it_is_read(guests: Path) -> None:
    lines = [f"line {number} {'x' * (number % 90)}" for number in range(160)]
    with Machine(image=guests / "uart.elf", input="-", timeout=DEADLINE_S) as machine:
        machine.send("\n".join(lines) + "\nquit\n")
        assert machine.wait().verdict == "pass"
        with pytest.raises(HarnessError, match="the run is over"):
            machine.send("more")
    said = [line[1:-1][::-1] for line in machine.console.splitlines() if line.startswith("<")]
    assert said == [*lines, "quit"]


def test_standard_input_is_read_when_asked_only(guests: Path, command: Any) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"quit\n")
    os.close(write_fd)
    done = command("run", guests / "hello.elf", stdin=read_fd)
    assert done.returncode == 0
    assert os.read(read_fd, 100) == b"quit\n", "allstop has read it"
    os.close(read_fd)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--console", "modem"),
        ("--console", "file"),
        ("--console", "pty:x"),
        ("--console", "socket:" + "x" * 108),
        ("--console", "file:/nowhere/x"),
        ("--input", "/nowhere/x"),
        ("--console", "pty", "--input", "-"),
        ("--console", "socket:/nowhere/x"),
    ],
)
def test_what_can_not_be_is_a_usage_error(guests: Path, command: Any, arguments: tuple[str, ...]) -> None:
    done = command("run", guests / "hello.elf", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr


def test_a_place_is_written_as_it_is_read() -> None:
    for text in ("stdio", "tty", "pty", "file:/a:b", "socket:c"):
        assert str(ConsolePlace.parse(text)) == text
    with pytest.raises(UsageError):
        ConsolePlace.parse(7)  # type: ignore[arg-type]


def _read_from(fd: int, text: bytes) -> None:
    seen, end = b"", time.monotonic() + DEADLINE_S
    while text not in seen:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(fd, 1 << 16)


def _member(launcher: int, module: str) -> int:
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if module in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"):
            return int(pid)
    raise AssertionError(f"no {module}")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _queued(slave: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(slave, termios.TIOCINQ, bytes(4)))[0])
