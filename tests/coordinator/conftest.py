# SPDX-License-Identifier: GPL-2.0-or-later
"""A real coordinator process, with this test as its launcher, device server and workers."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.control import control
from allstop.vm.wire.channel import COORDINATOR, LAUNCHER, Channel, listen, worker_identity
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_LAUNCHER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Boot,
    Hello,
    MembersReady,
    Message,
    Ping,
    Pong,
    PowerOn,
    Shutdown,
    Welcome,
)

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 10.0


class Rig:
    """A coordinator under test and everything around it, played by the test. Nothing outlives `close`."""

    def __init__(self, vcpus: int, stop_deadline_s: float, operator_lease_s: float) -> None:
        name = f"ipc://@allstop-test-{secrets.token_hex(8)}"
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._fds = [os.memfd_create("control"), os.memfd_create("config")]
        os.truncate(self._fds[0], control.ControlPage.size_bytes(vcpus))
        self.page = control.ControlPage.create(self._fds[0], vcpus, 2)
        self.config = MachineConfig(
            vcpus=vcpus,
            memory_bytes=1 << 20,
            token=secrets.token_hex(16),
            coordinator_endpoint=f"{name}-c",
            devices_endpoint=f"{name}-d",
            fds=SharedFds(self._fds[0], -1, -1),
            cores=2,
            launcher_pid=os.getpid(),
            stop_deadline_s=stop_deadline_s,
            operator_lease_s=operator_lease_s,
        )
        os.write(self._fds[1], self.config.to_json().encode())
        self.devices = listen(self.context, self.config.devices_endpoint)
        self.launched: Channel
        self.process = self.spawn()

    def spawn(self) -> subprocess.Popen[str]:
        """One more coordinator of this machine."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "allstop.coordinator", "--config-fd", str(self._fds[1])],
            pass_fds=self._fds,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def connect(self, identity: bytes, role: int, vcpu: int = 0) -> Channel:
        """A peer that was welcomed."""
        return Channel.open(
            self.context, self.config.coordinator_endpoint, identity, self.config.token, role, vcpu, PATIENCE_S
        )

    def launcher(self) -> Channel:
        return self.connect(LAUNCHER, ROLE_LAUNCHER)

    def worker(self, vcpu: int) -> Channel:
        return self.connect(worker_identity(vcpu), ROLE_WORKER, vcpu)

    def operator(self, name: bytes = b"op-1") -> Channel:
        return self.connect(name, ROLE_OPERATOR)

    def welcome_as_devices(self) -> None:
        """Take the coordinator's Hello at the device server's door, and answer it."""
        identity, hello = self.devices_receive()
        assert (identity, hello.__class__) == (COORDINATOR, Hello)
        self.devices_send(Welcome(PROTOCOL_VERSION, os.getpid()))

    def devices_receive(self) -> tuple[bytes, Message]:
        assert self.devices.poll(PATIENCE_S * 1000), "the device server got no message"
        identity, data = self.devices.recv_multipart()
        return identity, decode(data)

    def devices_send(self, message: Message) -> None:
        self.devices.send_multipart((COORDINATOR, encode(message)))

    @staticmethod
    def expect(channel: Channel, message: type[Message] | Message) -> Message:
        """The next message on `channel`, which must be this one, or of this kind."""
        reply = channel.receive(PATIENCE_S)
        assert reply is not None, f"expected {message}, but nothing came"
        if isinstance(message, type):
            assert reply.__class__ is message, f"expected a {message.__name__}, got {reply}"
        else:
            assert reply == message and reply.__class__ is message.__class__, f"expected {message}, got {reply}"
        return reply

    def fence(self, channel: Channel) -> None:
        """What the coordinator was sent on `channel` before is done, and it has answered nothing to it."""
        channel.send(Ping(77))
        self.expect(channel, Pong(77))

    def leave(self) -> str:
        """Say Shutdown as the launcher; what the coordinator had to say on stderr. It must exit with 0, by itself."""
        self.launched.send(Shutdown())
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0
        return errors

    def start_machine(self) -> list[Channel]:
        """Connect every peer and boot: the workers' channels, vCPU 0 switched on."""
        workers = [self.worker(vcpu) for vcpu in range(self.config.vcpus)]
        self.launched = self.launcher()
        self.welcome_as_devices()
        self.expect(self.launched, MembersReady(self.config.vcpus))
        self.launched.send(Boot(0x4000_0000, 1, 2))
        self.expect(workers[0], PowerOn(0x4000_0000, 0, 1, 2))
        return workers

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that only shared memory shows."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            os.sched_yield()

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.context.destroy(linger=0)  # and every socket, also those of a test that failed
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def start_rig() -> Iterator[Callable[..., Rig]]:
    """Start a coordinator: start_rig(vcpus, stop_deadline_s=..., operator_lease_s=...)."""
    rigs: list[Rig] = []

    def start(vcpus: int, stop_deadline_s: float = PATIENCE_S, operator_lease_s: float = PATIENCE_S) -> Rig:
        rigs.append(Rig(vcpus, stop_deadline_s, operator_lease_s))
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.close()
