# SPDX-License-Identifier: GPL-2.0-or-later
"""A server over real sockets: what it answers itself, what it hands on, what it counts, and for how long it works."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator

import pytest
import zmq

from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.wire.admission import MALFORMED, SEVERAL_FRAMES, WITHOUT_KEY, Admission, HelloGate, Peer, RefusedError
from allstop.vm.wire.channel import Channel, ChannelError, worker_identity
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_WORKER,
    Hello,
    Message,
    Ping,
    Pong,
    PsciCall,
    PsciReturn,
    Shutdown,
    Welcome,
)
from allstop.vm.wire.security import KeyPair, secure
from allstop.vm.wire.server import HostsListener, Server

TOKEN = "ab" * 16
PATIENCE_MS = 5000
Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


class Served:
    """A coordinator's server that keeps what it was told to obey, and refuses PSCI function 0."""

    def __init__(self, context: Context, hosts: HostsListener | None = None) -> None:
        self.endpoint = f"ipc://@allstop-test-{secrets.token_hex(8)}"
        self.obeyed: list[tuple[bytes, Message]] = []
        gate = HelloGate(ROLE_COORDINATOR, bytes.fromhex(TOKEN), 4, Peer)
        self.server = Server(context, Admission(gate), self._obey, self.endpoint, hosts)
        self.server.wait_at_most(PATIENCE_MS)
        self._context = context

    def _obey(self, identity: bytes, peer: Peer, message: Message) -> None:
        if isinstance(message, PsciCall) and not message.function:
            raise RefusedError("function 0")
        assert (peer.role, identity) == (ROLE_WORKER, worker_identity(peer.vcpu))
        self.obeyed.append((identity, message))

    def worker(self, vcpu: int = 0) -> Channel:
        """One that is welcome."""
        channel = Channel.connect(self._context, self.endpoint, worker_identity(vcpu), TOKEN, ROLE_WORKER, vcpu)
        assert self.server.take()
        assert channel.receive(PATIENCE_MS / 1000) == Welcome(PROTOCOL_VERSION, os.getpid())
        return channel


@pytest.fixture
def served(context: Context) -> Iterator[Served]:
    made = Served(context)
    yield made
    made.server.close()


def test_a_greeting_and_a_ping_are_answered_and_handed_on(served: Served) -> None:
    worker = served.worker()
    worker.send(Ping(7))
    assert served.server.take()
    assert worker.receive(5) == Pong(7)
    assert [message.__class__ for _, message in served.obeyed] == [Hello, Ping]
    served.server.send(b"w0", PsciReturn(1))
    served.server.send_encoded(b"w0", encode(PsciReturn(2)))
    assert (worker.receive(5), worker.receive(5)) == (PsciReturn(1), PsciReturn(2))


def test_each_message_that_is_refused_is_counted_by_its_reason_and_the_next_one_is_taken(served: Served) -> None:
    worker = served.worker()
    request = encode(PsciCall(1, 0, 0, 0))
    for junk in (b"", b"\xff" * 100, request + b"\0"):
        worker.socket.send(junk)
    for parts in ([request, request], [b"", request], [request, b"w0", request, b""]):
        worker.socket.send_multipart(parts)
    for message in (Shutdown(), PsciCall(0, 0, 0, 0), PsciCall(0, 0, 0, 0), PsciCall(1, 2, 3, 4)):
        worker.send(message)
    for _ in range(10):
        assert served.server.take()
    assert served.obeyed[1:] == [(b"w0", PsciCall(1, 2, 3, 4))]
    assert served.server.refused == {
        MALFORMED: 3,
        SEVERAL_FRAMES: 3,
        "Shutdown, which is not its sender's to send": 1,
        "function 0": 2,
    }


def test_what_is_refused_is_told_in_the_log_and_in_the_notes_of_a_machine_of_hosts(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = served.worker()
    worker.send(Shutdown())
    assert served.server.take()
    served.server.report_refusals(_config(), "tester")
    assert capfd.readouterr().err == "tester: refused 1 x Shutdown, which is not its sender's to send\n"


def _config() -> MachineConfig:
    return MachineConfig(
        vcpus=1,
        memory_bytes=1 << 20,
        token=TOKEN,
        coordinator_endpoint="",
        devices_endpoint="",
        fds=SharedFds(-1, -1, -1),
        cores=1,
    )


def test_a_flood_is_taken_in_portions(served: Served) -> None:
    worker = served.worker()
    for number in range(10):
        worker.send(PsciCall(number + 1, 0, 0, 0))
    assert served.server.take()
    served.server.socket.poll(PATIENCE_MS)
    taken = 1
    while taken < 10:
        more = served.server.take_waiting(3)
        assert len(served.obeyed) - 1 - taken <= 3
        if more:
            assert len(served.obeyed) - 1 - taken == 3
        taken = len(served.obeyed) - 1
    assert not served.server.take_waiting(3)
    served.server.wait_at_most(1)
    assert not served.server.take()


def test_a_connection_without_a_key_is_counted_and_one_of_this_run_is_served(context: Context) -> None:
    keys, stranger = KeyPair.make(), KeyPair.make()
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    served = Served(context, HostsListener(endpoint, listener.detach(), keys, (keys.public,), 20.0))
    try:
        for key, is_ours in ((stranger, False), (keys, True)):
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.IDENTITY, worker_identity(1))
            secure(dealer, key, keys.public, endpoint)
            dealer.connect(endpoint)
            dealer.send(encode(Hello(PROTOCOL_VERSION, bytes.fromhex(TOKEN), ROLE_WORKER, 1, 1)))
            served.server.wait_at_most(PATIENCE_MS if is_ours else 300)
            assert served.server.take() is is_ours
            if is_ours:
                assert dealer.poll(PATIENCE_MS) and isinstance(decode(dealer.recv()), Welcome)
            dealer.close(0)
    finally:
        served.server.close()
    assert served.server.refused.keys() == {WITHOUT_KEY}


def test_an_address_of_another_host_that_cannot_be_had_is_one_sentence(context: Context) -> None:
    keys = KeyPair.make()
    bad = os.memfd_create("no socket")
    with pytest.raises(ChannelError, match="cannot listen on tcp://127.0.0.1:1"):
        Served(context, HostsListener("tcp://127.0.0.1:1", -5, keys, (keys.public,), 20.0))
    os.close(bad)
    context.term()  # hangs if the socket is still open
