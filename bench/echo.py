# SPDX-License-Identifier: GPL-2.0-or-later
"""The yardstick: a bare pyzmq DEALER/ROUTER echo between two processes, over the transport that a machine uses.

It carries the bytes of an MmioRequest and of an MmioReply, and does nothing else: no codec, no device, no engine. The
calls are the cheapest that pyzmq has for a ROUTER (recv and send of single frames); the servers use them, too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import secrets
import time
from collections.abc import Iterator

import zmq

from allstop.vm.board import RAMDEV_BASE
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import MMIO_OK, MmioReply, MmioRequest

WARM_UP = 100
REQUEST = encode(MmioRequest(1000, RAMDEV_BASE, 4, False, 0))
REPLY = encode(MmioReply(1000, MMIO_OK, RAMDEV_BASE, 0))
_DEADLINE_MS = 10_000
_STOP = b""


def answer(endpoint: str) -> None:
    """Answer each request by REPLY, until an empty one comes."""
    with zmq.Context(1) as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(endpoint)
        receive, send = socket.recv, socket.send
        while True:
            identity = receive()
            if receive() == _STOP:
                return
            send(identity, zmq.SNDMORE)
            send(REPLY)


class Echo:
    """The asking end."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def measure(self, samples: int) -> list[int]:
        """The times of `samples` round trips, in nanoseconds."""
        send, receive, clock = self._socket.send, self._socket.recv, time.perf_counter_ns
        times = []
        for _ in range(WARM_UP + samples):
            before = clock()
            send(REQUEST)
            receive()
            times.append(clock() - before)
        return times[WARM_UP:]


@contextlib.contextmanager
def echo() -> Iterator[Echo]:
    """An echo with its answering end in a separate process."""
    endpoint = f"ipc://@allstop-bench-{secrets.token_hex(8)}"
    process = multiprocessing.get_context("spawn").Process(target=answer, args=(endpoint,), daemon=True)
    process.start()
    try:
        with zmq.Context(1) as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 1000
            socket.rcvtimeo = _DEADLINE_MS
            socket.connect(endpoint)
            try:
                yield Echo(socket)
            finally:
                socket.send(_STOP)
    finally:
        process.join(5)
        process.kill()
        process.join()


def _spin() -> None:
    while True:
        pass


@contextlib.contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Keep this many processes computing meanwhile."""
    context = multiprocessing.get_context("spawn")
    spinners = [context.Process(target=_spin, daemon=True) for _ in range(processes)]
    try:
        for spinner in spinners:
            spinner.start()
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.join()
