# SPDX-License-Identifier: GPL-2.0-or-later
"""Both ends of a connection: the handshake succeeds or says why not, and no wait is without end."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from allstop.vm.wire.channel import Channel, ChannelError, call, identity_fits, listen, worker_identity
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
    Message,
    Ping,
    Pong,
    Shutdown,
    Welcome,
)

TOKEN = "ab" * 16
Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def endpoint() -> str:
    return f"ipc://@allstop-test-{secrets.token_hex(8)}"


def take(server: zmq.Socket[bytes]) -> tuple[bytes, Message]:
    assert server.poll(5000), "nothing came"
    identity, data = server.recv_multipart()
    return identity, decode(data)


def serve_one(server: zmq.Socket[bytes], answer: bytes) -> threading.Thread:
    """In a thread: take the first message, answer it."""

    def serve() -> None:
        identity, _ = server.recv_multipart()
        server.send_multipart((identity, answer))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


WELCOME = encode(Welcome(PROTOCOL_VERSION, 1))


def opened(context: Context, endpoint: str) -> tuple[zmq.Socket[bytes], Channel]:
    server = listen(context, endpoint)
    thread = serve_one(server, WELCOME)
    channel = Channel.open(context, endpoint, b"w3", TOKEN, ROLE_WORKER, 3)
    thread.join()
    return server, channel


def test_hello_carries_who_we_are(context: Context, endpoint: str) -> None:
    server = listen(context, endpoint)
    channel = Channel.connect(context, endpoint, b"w3", TOKEN, ROLE_WORKER, 3)
    assert take(server) == (b"w3", Hello(PROTOCOL_VERSION, bytes.fromhex(TOKEN), ROLE_WORKER, 3, os.getpid()))
    channel.close()


def test_messages_go_both_ways(context: Context, endpoint: str) -> None:
    server, channel = opened(context, endpoint)
    channel.send(Ping(5))
    assert take(server) == (b"w3", Ping(5))
    assert channel.receive(0) is None
    server.send_multipart((b"w3", encode(Pong(5))))
    assert channel.receive(5) == Pong(5)


def test_receive_keeps_its_deadline(context: Context, endpoint: str) -> None:
    _, channel = opened(context, endpoint)
    for timeout_s in (0.05, 0.0, 0.15, -1.0):
        started = time.monotonic()
        assert channel.receive(timeout_s) is None
        assert timeout_s - 0.01 <= time.monotonic() - started < timeout_s + 2


def test_a_server_may_come_after_its_peers(context: Context, endpoint: str) -> None:
    early = Channel.connect(context, endpoint, b"w0", TOKEN, ROLE_WORKER)
    server = listen(context, endpoint)
    identity, _ = take(server)
    server.send_multipart((identity, WELCOME))
    assert early.receive(5) == Welcome(PROTOCOL_VERSION, 1)


def test_nobody_there_is_one_sentence_in_time_and_leaves_nothing(context: Context, endpoint: str) -> None:
    started = time.monotonic()
    with pytest.raises(ChannelError, match=r"no server at ipc://@allstop-test-\w+ welcomed us within 0.1 s"):
        Channel.open(context, endpoint, b"w0", TOKEN, ROLE_WORKER, deadline_s=0.1)
    assert time.monotonic() - started < 2
    context.term()  # hangs if the socket is still open


def test_a_server_that_does_not_welcome_is_refused(context: Context, endpoint: str) -> None:
    server = listen(context, endpoint)
    thread = serve_one(server, encode(Shutdown()))
    with pytest.raises(ChannelError, match="answered our Hello with Shutdown"):
        Channel.open(context, endpoint, b"w0", TOKEN, ROLE_WORKER)
    thread.join()


def test_what_does_not_decode_raises_and_the_channel_goes_on(context: Context, endpoint: str) -> None:
    server, channel = opened(context, endpoint)
    server.send_multipart((b"w3", b"junk"))
    server.send_multipart((b"w3", encode(Shutdown())))
    with pytest.raises(MalformedError):
        channel.receive(5)
    assert channel.receive(5) == Shutdown()


def test_a_queue_that_does_not_move_is_an_error_and_not_a_hang(
    context: Context, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allstop.vm.wire.channel._SEND_DEADLINE_MS", 50)
    context.setsockopt(zmq.SNDHWM, 5)
    channel = Channel.connect(context, endpoint, b"w0", TOKEN, ROLE_WORKER)
    with pytest.raises(ChannelError, match="takes no more messages"):
        for nonce in range(20):
            channel.send(Ping(nonce))


@pytest.mark.parametrize("bad", ["ipc://", "nonsense://x", ""])
def test_a_wrong_address_is_one_sentence(context: Context, bad: str) -> None:
    with pytest.raises(ChannelError, match="cannot"):
        Channel.connect(context, bad, b"w0", TOKEN, ROLE_WORKER)
    with pytest.raises(ChannelError, match="cannot"):
        listen(context, bad)
    context.term()


def test_an_address_that_is_taken_is_one_sentence(context: Context, endpoint: str) -> None:
    server = listen(context, endpoint)
    with pytest.raises(ChannelError, match="in use"):
        listen(context, endpoint)
    server.close()


def test_a_server_calls_another_that_is_not_there_yet(context: Context, endpoint: str) -> None:
    """As the coordinator calls the device server: one socket each, under names of their own."""
    hello = Hello(PROTOCOL_VERSION, b"t", ROLE_COORDINATOR, 0, 1)
    caller = listen(context, f"{endpoint}-c", b"coordinator")
    call(caller, endpoint, b"devicesrv", hello)
    called = listen(context, endpoint)
    assert take(called) == (b"coordinator", hello)
    called.send_multipart((b"coordinator", WELCOME))
    assert take(caller) == (b"devicesrv", Welcome(PROTOCOL_VERSION, 1))
    imposter = context.socket(zmq.DEALER)
    imposter.setsockopt(zmq.IDENTITY, b"devicesrv")
    imposter.connect(f"{endpoint}-c")
    imposter.send(encode(Shutdown()))
    honest = Channel.connect(context, f"{endpoint}-c", b"w0", TOKEN, ROLE_WORKER)
    assert take(caller)[0] == b"w0", "the name of the called is taken"
    honest.close()
    with pytest.raises(ChannelError, match="cannot connect"):
        call(caller, "nonsense://", b"other", hello)


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as another user")
def test_another_user_is_not_let_in(context: Context, endpoint: str) -> None:
    server = listen(context, endpoint)
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            stranger: Context = zmq.Context()
            socket = stranger.socket(zmq.DEALER)
            socket.setsockopt(zmq.IDENTITY, b"w9")
            socket.connect(endpoint)
            socket.send(b"let me in", zmq.NOBLOCK)
            socket.poll(300)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    honest = Channel.connect(context, endpoint, b"w0", TOKEN, ROLE_WORKER)
    assert take(server)[0] == b"w0"
    assert not server.poll(0)
    honest.close()


@pytest.mark.parametrize(
    ("role", "vcpu", "identity", "fits"),
    [
        (ROLE_WORKER, 12, b"w12", True),
        (ROLE_WORKER, 12, b"w1", False),
        (ROLE_WORKER, 1, b"w01", False),
        (ROLE_LAUNCHER, 0, b"launcher", True),
        (ROLE_COORDINATOR, 0, b"coordinator", True),
        (ROLE_DEVICES, 0, b"devicesrv", True),
        (ROLE_OPERATOR, 0, b"op-17", True),
        (ROLE_OPERATOR, 0, b"w0", False),
        (ROLE_LAUNCHER, 0, b"w0", False),
        (99, 0, b"w0", False),
    ],
)
def test_an_identity_fits_its_role(role: int, vcpu: int, identity: bytes, fits: bool) -> None:
    assert identity_fits(identity, Hello(PROTOCOL_VERSION, b"", role, vcpu, 1)) is fits
    assert worker_identity(12) == b"w12"
