# SPDX-License-Identifier: GPL-2.0-or-later
"""A real device server in a process of its own, and peers that talk to it over real sockets."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from allstop.deploy.processes.processes import child_environment
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import COORDINATOR, worker_identity
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_WORKER,
    Hello,
    Message,
    MmioReply,
    MmioRequest,
    Ping,
    Pong,
    Shutdown,
    Welcome,
)

DEADLINE_S = 10.0


class PeerSocket:
    """A DEALER that waits for each message at most DEADLINE_S."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, identity: bytes) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = int(DEADLINE_S * 1000)
        self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect(endpoint)
        self.seq = 0

    def send(self, message: Message) -> None:
        self.socket.send(encode(message))

    def receive(self) -> Message:
        return decode(self.socket.recv())

    def is_silent(self, other: PeerSocket) -> bool:
        """Whether nothing is on its way to us: what the server sent before it answered `other` would have arrived, as
        far as the server's side goes, and the rest is given a moment."""
        other.ping()
        return self.socket.poll(50) == 0

    def ping(self) -> None:
        """Come back when the server has dealt with everything that we sent before."""
        self.send(Ping(77))
        assert self.receive() == Pong(77)

    def mmio(self, ipa: int, value: int | None = None, size: int = 4) -> MmioReply:
        """One access, a read unless there is a value."""
        self.seq += 1
        self.send(MmioRequest(self.seq, ipa, size, value is not None, value or 0))
        reply = self.receive()
        assert isinstance(reply, MmioReply)
        assert reply.seq == self.seq
        return reply


class ServerProcess:
    """`python -m devicesrv` for a machine of `vcpus`, with everything that it is given."""

    def __init__(
        self,
        folder: Path,
        vcpus: int = 2,
        devices: tuple[DeviceSpec, ...] = (),
        seed: int = 1,
        parameter: int = 0,
        endpoint: str = "",
        launcher_pid: int = 0,
    ) -> None:
        self.token = secrets.token_bytes(16)
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.log = folder / "devicesrv.log"
        self.control_fd = os.memfd_create("control")
        os.ftruncate(self.control_fd, ControlPage.size_bytes(vcpus))
        self.page = ControlPage.create(self.control_fd, vcpus, 2)
        self.console, console_fd = os.pipe()
        fcntl.fcntl(self.console, fcntl.F_SETPIPE_SZ, 4096)  # soon full
        config = MachineConfig(
            vcpus=vcpus,
            memory_bytes=1 << 21,
            token=self.token.hex(),
            coordinator_endpoint="",
            devices_endpoint=endpoint or f"ipc://@allstop-{secrets.token_hex(8)}-d",
            fds=SharedFds(control=self.control_fd, ram=-1, stage2=-1, console=console_fd),
            cores=2,
            launcher_pid=launcher_pid or os.getpid(),
            seed=seed,
            parameter=parameter,
            run_dir=str(self.run_dir),
            devices=devices,
        )
        config_fd = os.memfd_create("config")
        os.write(config_fd, config.to_json().encode())
        self.endpoint = config.devices_endpoint
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "allstop.devicesrv", "--config-fd", str(config_fd)],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=child_environment(),
                pass_fds=(config_fd, self.control_fd, console_fd),
            )
        os.close(config_fd)
        os.close(console_fd)
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets: list[PeerSocket] = []

    def connect(self, identity: bytes) -> PeerSocket:
        """A connection that has not said Hello."""
        self._sockets.append(PeerSocket(self._context, self.endpoint, identity))
        return self._sockets[-1]

    def hello(self, role: int, vcpu: int = 0, pid: int | None = None) -> Hello:
        return Hello(PROTOCOL_VERSION, self.token, role, vcpu, os.getpid() if pid is None else pid)

    def greet(self, peer: PeerSocket, role: int, vcpu: int = 0, pid: int | None = None) -> PeerSocket:
        """Say Hello and be welcomed."""
        peer.send(self.hello(role, vcpu, pid))
        assert peer.receive() == Welcome(PROTOCOL_VERSION, self.process.pid)
        return peer

    def worker(self, vcpu: int = 0) -> PeerSocket:
        return self.greet(self.connect(worker_identity(vcpu)), ROLE_WORKER, vcpu)

    def coordinator(self) -> PeerSocket:
        return self.greet(self.connect(COORDINATOR), ROLE_COORDINATOR)

    def shut_down(self, coordinator: PeerSocket) -> int:
        """The exit status."""
        coordinator.send(Shutdown())
        return self.process.wait(DEADLINE_S)

    def has_line(self, vcpu: int, line: int) -> bool:
        """Whether the vCPU's interrupt line becomes this, soon."""
        end = time.monotonic() + DEADLINE_S
        while self.page.line(vcpu) != line and time.monotonic() < end:
            time.sleep(0.0005)
        return self.page.line(vcpu) == line

    def drain_console(self, until: Callable[[bytes], bool]) -> bytes:
        """What the console's pipe holds and gets until `until` is content with it or DEADLINE_S have passed."""
        os.set_blocking(self.console, False)
        data, end = b"", time.monotonic() + DEADLINE_S
        while not until(data) and time.monotonic() < end:
            try:
                data += os.read(self.console, 1 << 16)
            except BlockingIOError:
                time.sleep(0.005)
        return data

    def close(self) -> None:
        """Kill what is left; close everything."""
        self.process.kill()
        self.process.wait()
        for peer in self._sockets:
            peer.socket.close()
        self._context.term()
        for fd in (self.control_fd, self.console):
            os.close(fd)
        del self.page


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts device servers with the arguments of ServerProcess; they end with the test."""
    servers: list[ServerProcess] = []

    def start(**arguments: Any) -> ServerProcess:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(ServerProcess(folder, **arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
