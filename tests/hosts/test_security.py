# SPDX-License-Identifier: GPL-2.0-or-later
"""Strangers at a machine's TCP ports, and a host of the machine that says what it may not: the run passes meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import PROTOCOL_VERSION, ROLE_OPERATOR, Hello
from allstop.vm.wire.messages_hosts import HostStop, PageAsked
from allstop.vm.wire.security import KeyPair, secure

pytestmark = pytest.mark.processes

LISTENERS = 5  # the first host's launcher, coordinator, device server and node; the second one's node
_LISTEN = "0A"


def listening(pids: list[int]) -> dict[int, int]:
    """The TCP ports on which these processes listen."""
    inodes: set[str] = set()
    for pid in pids:
        try:
            inodes.update(os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTEN and f"socket:[{words[9]}]" in inodes:
            found[int(words[1].partition(":")[2], 16)] = int(words[9])
    return found


def descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(far for near in children for far in descendants(near))]


def loopback_hosts(folder: Path, **second: Any) -> Path:
    path = folder / "hosts.toml"
    words = "\n".join(f"{key} = {json.dumps(value)}" for key, value in second.items())
    path.write_text(
        f'[machine]\ndeadline_s = 15\n[[host]]\nname = "here"\naddress = "127.0.0.1"\n'
        f'[[host]]\nname = "there"\naddress = "127.0.0.1"\n{words}\n'
    )
    return path


@contextmanager
def running(
    command: Any,
    guests: Path,
    folder: Path,
    until: Any,
) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A machine on two hosts in the middle of its work, and its ports."""
    process = command.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        4000,
        "--run-dir",
        folder / "run",
        "--timeout",
        80,
        "--hosts",
        loopback_hosts(folder),
    )
    try:

        def up() -> bool:
            return process.poll() is not None or "vcpu-1" in "".join(
                Path(f"/proc/{pid}/cmdline").read_text().replace("--vcpu\0", "vcpu-")
                for pid in descendants(process.pid)
                if Path(f"/proc/{pid}").exists()
            )

        until(up, "the machine to be up")
        yield process, until(lambda: sorted(listening([process.pid, *descendants(process.pid)])), "its ports")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def passed(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    verdict: dict[str, Any] = json.loads(out)
    assert (process.returncode, verdict["verdict"]) == (0, "pass"), err.decode()
    return verdict


def refused(verdict: dict[str, Any], by: str) -> int:
    """How many connections this one says to have refused."""
    found = [
        re.fullmatch(rf"{by}: refused (\d+) x a connection without a key of this run", note)
        for note in verdict["notes"]
    ]
    return sum(int(match[1]) for match in found if match)


def test_strangers_are_refused_and_harm_nobody(command: Any, guests: Path, tmp_path: Path, until: Any) -> None:
    """Bytes that are no ZeroMQ, half a handshake that is left standing, connections that say nothing, ZeroMQ without
    keys, and with keys of another run."""
    with ExitStack() as stack, running(command, guests, tmp_path, until) as (process, ports):
        assert len(ports) == LISTENERS
        servers = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["hosts"]["public_keys"]
        context = stack.enter_context(zmq.Context())
        for port in ports:
            for data in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(200), b"\xff" + bytes(8) + b"\x7f\x03", b"\xff", b""):
                each = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                each.sendall(data)
            for _ in range(60):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for keys in (None, KeyPair.make()):
                for server in servers:
                    stranger = context.socket(zmq.DEALER)
                    stranger.setsockopt(zmq.IDENTITY, b"h1-0")
                    if keys is not None:
                        secure(stranger, keys, server, "")
                    stranger.connect(f"tcp://127.0.0.1:{port}")
                    for message in (Hello(PROTOCOL_VERSION, b"", ROLE_OPERATOR, 0, 1), HostStop(), PageAsked(0, True)):
                        stranger.send(encode(message))
                    stack.callback(stranger.close, 0)
        verdict = passed(process)
    for who in ("launcher", "coordinator", "devicesrv", "node", "host there: node"):
        assert refused(verdict, who) >= 2, (who, verdict["notes"])


def test_what_is_recorded_and_sent_again_is_refused(command: Any, guests: Path, tmp_path: Path) -> None:
    stub = str(Path(__file__).parent / "stub_agent.py")
    done = command(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        200,
        "--timeout",
        60,
        "--run-dir",
        tmp_path / "run",
        "--hosts",
        loopback_hosts(tmp_path, command=[sys.executable, stub, "replay", "-"]),
    )
    assert done.returncode == 0, done.stderr
    assert refused(json.loads(done.stdout), "host there: node") >= 3
    logs = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.log"))
    assert "replayed" in logs + done.stderr


def test_a_host_that_says_what_it_may_not_harms_nobody_else(command: Any, guests: Path, tmp_path: Path) -> None:
    stub = str(Path(__file__).parent / "stub_agent.py")
    done = command(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        200,
        "--timeout",
        60,
        "--hosts",
        loopback_hosts(tmp_path, command=[sys.executable, stub, "rogue", "-"]),
    )
    assert done.returncode == 0, done.stderr
    notes = "\n".join(json.loads(done.stdout)["notes"])
    for words in (
        r"^node: refused \d+ x a malformed message",
        r"^node: refused \d+ x a message of a stranger",
        r"^node: refused \d+ x a NodeHello of another run or version",
        r"^coordinator: refused \d+ x a malformed message",
        r"^coordinator: refused \d+ x a Hello of a process of another host",
        r"^devicesrv: refused \d+ x a Hello of a process of another host",
    ):
        assert re.search(words, notes, re.MULTILINE), notes


def test_a_connection_between_nodes_that_is_reset_ends_the_run(
    command: Any,
    guests: Path,
    tmp_path: Path,
    until: Any,
) -> None:
    """ZeroMQ connects again, and what was on its way is lost: a page that no node sends again, say."""
    stub = str(Path(__file__).parent / "stub_agent.py")
    run = tmp_path / "run"
    process = command.start(
        "run",
        "--json",
        guests / "smp-counter.elf",
        "--vcpus",
        2,
        "--parameter",
        10_000_000,
        "--run-dir",
        run,
        "--hosts",
        loopback_hosts(tmp_path, command=[sys.executable, stub, "proxy", "-"]),
    )

    def runs() -> bool:
        said = command("ctl", run, "status", "--json").stdout if (run / "control.json").exists() else ""
        return bool(said) and all(vcpu["power"] == "on" for vcpu in json.loads(said)["vcpus"])

    def words_of(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return ""

    try:
        until(runs, "both vCPUs to be on")
        agent = next(pid for pid in descendants(process.pid) if "stub_agent" in words_of(pid))
        os.kill(agent, signal.SIGUSR1)
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    verdict = json.loads(out)
    assert (process.returncode, verdict["verdict"]) == (4, "lost"), err
    assert "the connection from the node of host here to that of host there was broken" in verdict["sentence"]


@pytest.mark.parametrize("secret", ["secret_key", "token"])
def test_the_run_folder_has_no_secret(command: Any, guests: Path, tmp_path: Path, secret: str) -> None:
    done = command(
        "run", guests / "hello.elf", "--vcpus", 2, "--run-dir", tmp_path / "run", "--hosts", loopback_hosts(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and secret in path.read_text()]
