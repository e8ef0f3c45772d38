# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection ends, and another host of the machine takes its name at a server: it is refused, and the owner of the
name is served when it connects again. The servers are processes, three hosts are keys."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from allstop.deploy.processes.processes import child_environment
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.control.control import ControlPage
from allstop.vm.wire.channel import COORDINATOR, LAUNCHER, Channel, worker_identity
from allstop.vm.wire.messages import (
    ROLE_COORDINATOR,
    ROLE_LAUNCHER,
    ROLE_WORKER,
    MmioReply,
    MmioRequest,
    Ping,
    Pong,
    Shutdown,
    Welcome,
)
from allstop.vm.wire.security import KeyPair

pytestmark = pytest.mark.processes

PATIENCE_S = 20.0
REFUSED = "a message of another host than its name's"
VCPU = 1  # on host 1


class Server:
    """`python -m MODULE` on host 0 of three, with one vCPU each."""

    def __init__(self, module: str, stack: ExitStack) -> None:
        self.module = module
        self.keys = [KeyPair.make() for _ in range(3)]
        control = os.memfd_create("control")
        config_fd = os.memfd_create("config")
        os.truncate(control, ControlPage.size_bytes(3))
        ControlPage.create(control, 3, 2)
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        fds = [control, config_fd, *(listener.fileno() for listener in listeners[:3])]
        self._addresses = [f"tcp://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
        hosts = HostsSpec(
            0,
            (self._addresses[0], *self._addresses[3:]),
            (0, 1, 2),
            tuple(key.public for key in self.keys),
            self.keys[0].secret,
            -1,
            tuple(fds[2:]),
            self._addresses[1],
            self._addresses[2],
            60.0,
            ("here", "there", "yonder"),
        )
        name = f"ipc://@allstop-test-{secrets.token_hex(8)}"
        self.config = MachineConfig(
            vcpus=3,
            memory_bytes=1 << 21,
            token=secrets.token_hex(16),
            coordinator_endpoint=f"{name}-c",
            devices_endpoint=f"{name}-d",
            fds=SharedFds(control, -1, -1),
            cores=2,
            launcher_pid=os.getpid(),
            hosts=hosts,
        )
        os.write(config_fd, self.config.to_json().encode())
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, "--config-fd", str(config_fd)],
            pass_fds=fds,
            text=True,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stack.callback(self._end)
        os.close(control)
        os.close(config_fd)
        self._context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
        self._stack = stack

    def call(self, host: int) -> Channel:
        """Connect as vCPU 1's worker, from a host."""
        made = Channel.connect(
            self._context,
            self._addresses[1 if self.module == "coordinator" else 2],
            worker_identity(VCPU),
            self.config.token,
            ROLE_WORKER,
            VCPU,
            self.keys[0].public,
            self.keys[host],
        )
        self._stack.callback(made.close)
        return made

    def ask(self, channel: Channel, number: int) -> Any:
        """Something that only a worker is answered."""
        channel.send(Ping(number) if self.module == "coordinator" else MmioRequest(number, 0x0B00_0000, 4, False, 0))
        return channel.receive(PATIENCE_S)

    def stop(self) -> str:
        """End it in its way; what it said on stderr."""
        identity, role, endpoint = (
            (LAUNCHER, ROLE_LAUNCHER, self.config.coordinator_endpoint)
            if self.module == "coordinator"
            else (COORDINATOR, ROLE_COORDINATOR, self.config.devices_endpoint)
        )
        channel = Channel.open(self._context, endpoint, identity, self.config.token, role, 0, PATIENCE_S)
        channel.send(Shutdown())
        _, said = self.process.communicate(timeout=PATIENCE_S)
        channel.close()
        assert self.process.returncode == 0, said
        return said

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(params=["coordinator", "devicesrv"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with ExitStack() as stack:
        yield Server(request.param, stack)


def welcomed(server: Server, host: int, until: Callable[..., Any]) -> Channel:
    """A connection that has the name. A ROUTER never answers one that came before it saw the last one end."""

    def connect() -> Channel | None:
        channel = server.call(host)
        if isinstance(channel.receive(2.0), Welcome):
            return channel
        channel.close()
        return None

    made: Channel = until(connect, "Welcome")
    return made


def test_a_name_that_has_become_free_is_not_another_hosts(server: Server, until: Callable[..., Any]) -> None:
    first = welcomed(server, 1, until)
    assert isinstance(server.ask(first, 1), Pong | MmioReply)
    assert isinstance(server.ask(first, 2), Pong | MmioReply), "the name is known for sure by now"
    first.close()
    for number in range(3, 8):  # one of them has the name
        thief = server.call(2)
        thief.send(Ping(number) if server.module == "coordinator" else MmioRequest(number, 0x0B00_0000, 4, False, 0))
        assert thief.receive(0.3) is None
        thief.close()
    again = welcomed(server, 1, until)
    assert isinstance(server.ask(again, 3), Pong | MmioReply)
    again.close()
    assert REFUSED in server.stop()
