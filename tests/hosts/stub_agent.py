# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent that goes wrong: `python stub_agent.py STEP ACT ...` does ACT at STEP, and is a real agent until then.

STEP is `call` (nothing was said yet), `ready` (HostReady was said), `plan` (the plan has come), `workers` (its node
runs, its workers are about to be started), `end` (the run is over, its vCPUs have not told yet), `rogue` (it harasses
the others, and goes on), `proxy` (its node is reached through a proxy, whose connections SIGUSR1 resets), `replay` (the
same; what comes by it is sent once more), `journals` (it sends pieces of journals that there are not), `slow` (its
journals are ACT bytes long, and it is slow to send them) or `told` (what HostReady says is what ACT gives). ACT is
`exit`, `kill`, `stop`, or the fields of HostReady to change, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

import zmq

from allstop.deploy.hosts import agent as host_agent
from allstop.deploy.hosts.journal_files import PIECES_AHEAD
from allstop.deploy.processes.host_part import HostPart
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.wire.channel import DEBUGGER, OPERATOR_PREFIX
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_DEBUGGER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    GuestFinished,
    Hello,
    Message,
    PsciCall,
    StopRun,
)
from allstop.vm.wire.messages_hosts import (
    HostPlan,
    HostReady,
    JournalPiece,
    JournalsBegun,
    NodeHello,
    NodePong,
    PageAsked,
    PageGranted,
    PageYielded,
    Posted,
    VcpuKilled,
    VcpuTold,
)
from allstop.vm.wire.security import KeyPair, secure

STEP, ACT = sys.argv[1:3]
RECORDED_BYTES = 3000  # a handshake is some 600


def at(step: str) -> None:
    """Go wrong, if this is the step."""
    if step != STEP:
        return
    print(f"at {step}", file=sys.stderr, flush=True)
    if ACT == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL if ACT == "kill" else signal.SIGSTOP)


def harass(ours: zmq.Socket[bytes], plan: MachineConfig) -> None:
    """Send every server, with the good keys of this host, what it may not send."""
    hosts = plan.hosts
    assert hosts is not None
    own = KeyPair(hosts.public_keys[hosts.index], hosts.secret_key)
    token = bytes.fromhex(plan.token)
    for vcpu, told in ((0, b"x" * 8), (0, b"x" * 4096), (65535, b""), (1, b"x" * 5000), (1, b"y")):
        ours.send(encode(VcpuTold(vcpu, told)))
        ours.send(encode(VcpuKilled(vcpu, 1, "x" * 4096)))
    bad = [
        b"",
        b"garbage",
        os.urandom(500),
        encode(HostReady(2, 1, 1, "x", "y", "z", 1)),
        encode(HostPlan(b"{}")),
        encode(PageAsked(0x40000, True)),
        encode(PageGranted(0x40000, 7, True, True, b"x" * 100)),
        encode(PageYielded(1, 1, b"")),
        encode(Posted(1, b"x" * 19)),
        encode(NodePong(1, 2**64 - 1, 0)),
        encode(PsciCall(0x84000008, 0, 0, 0)),
        encode(NodeHello(PROTOCOL_VERSION, token, 0)),
        encode(NodeHello(PROTOCOL_VERSION, token, 2)),
        encode(NodeHello(PROTOCOL_VERSION, b"wrong", 1)),
        encode(Hello(PROTOCOL_VERSION, b"wrong" * 4, ROLE_WORKER, 0, 1)),
        encode(Hello(PROTOCOL_VERSION, token, ROLE_WORKER, 0, 1)),
        encode(Hello(PROTOCOL_VERSION, token, ROLE_OPERATOR, 0, 1)),
        encode(Hello(PROTOCOL_VERSION, token, ROLE_DEBUGGER, 0, 1)),
        encode(Hello(PROTOCOL_VERSION, token, 200, 7, 1)),
        encode(GuestFinished(0, "")),
        encode(StopRun()),
    ]
    for data in bad:
        ours.send(data)
        ours.send_multipart((data, b"more"))
    with zmq.Context() as context:
        for endpoint in (hosts.endpoints[0], hosts.coordinator_endpoint, hosts.devices_endpoint):
            for identity in (b"rogue", b"n0", b"n2", DEBUGGER, OPERATOR_PREFIX + b"1"):
                stranger = context.socket(zmq.DEALER)
                stranger.setsockopt(zmq.IDENTITY, identity)
                secure(stranger, own, hosts.public_keys[0], endpoint)
                stranger.connect(endpoint)
                for data in bad:
                    stranger.send(data)
                    stranger.send_multipart((data, b"more"))
                stranger.send(b"x" * (4 << 20))
                stranger.close(4000)


class Proxy(threading.Thread):
    """Carries connections to a port of ours, and resets them all when SIGUSR1 comes."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self._port = int(endpoint.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._others: dict[socket.socket, socket.socket] = {}
        self._heard: dict[socket.socket, bytes] = {}
        self._replays: list[socket.socket] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: self.reset())
        self.start()

    def run(self) -> None:
        while True:
            for each in select.select([self._listener, *self._others], [], [], 0.05)[0]:
                if each is self._listener:
                    near, far = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._port))
                    self._others |= {near: far, far: near}
                    self._heard[near] = b""
                elif each in self._others:
                    try:
                        data = each.recv(65536)
                        self._others[each].sendall(data)
                        if each in self._heard:
                            self._record(each, data)
                    except OSError:
                        data = b""
                    if not data:
                        other = self._others.pop(each)
                        self._others.pop(other, None)
                        each.close()
                        other.close()

    def _record(self, each: socket.socket, data: bytes) -> None:
        """When a handshake and some messages have come, all of that comes again, on connections of its own."""
        self._heard[each] += data
        if STEP == "replay" and not self._replays and len(self._heard[each]) > RECORDED_BYTES:
            print(f"replayed {len(self._heard[each])} bytes", file=sys.stderr, flush=True)
            for _ in range(3):
                self._replays.append(socket.create_connection(("127.0.0.1", self._port)))
                self._replays[-1].sendall(self._heard[each])

    def reset(self) -> None:
        """RST to both ends of each connection, which the loop then sees."""
        for each in list(self._others):
            with contextlib.suppress(OSError):  # the loop has closed it meanwhile
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD)


class Stub(host_agent.Agent):
    """Goes wrong at a step."""

    def _send(self, message: Message) -> None:
        if isinstance(message, HostReady):
            at("call")
            if STEP in ("proxy", "replay"):
                message = message._replace(endpoint=Proxy(message.endpoint).endpoint)
            if STEP == "told":
                message = message._replace(**json.loads(ACT))
        if STEP == "slow" and isinstance(message, JournalsBegun):
            assert self._journals is not None
            for fd in self._journals.fds.values():
                os.pwrite(fd, b"end", int(ACT) - 3)
        if STEP == "slow" and isinstance(message, JournalPiece):
            if self._pieces_ahead >= PIECES_AHEAD:
                os._exit(8)  # more than may be under way
            time.sleep(0.4)
        super()._send(message)
        if STEP == "journals" and isinstance(message, JournalsBegun):
            for vcpu, size, offset in ((0, 256, 0), (65535, 256, 0), (1, 1 << 40, 0), (1, 1 << 20, 1 << 18)):
                super()._send(JournalPiece(vcpu, size, offset, bytes(256)))

    def serve(self) -> None:
        at("ready")
        super().serve()

    def end(self) -> None:
        at("end")
        super().end()

    def _begin(self, plan: MachineConfig) -> None:
        at("plan")
        super()._begin(plan)
        if STEP == "journals":
            super()._send(JournalPiece(1, 256, 0, bytes(256)))
        if STEP == "rogue":
            harass(self._socket, plan)

    def _watch(self, part: HostPart, now_s: float) -> None:
        if part.is_starting and part.control_page.heartbeat(control.NODE):
            at("workers")
        super()._watch(part, now_s)


host_agent.Agent = Stub  # type: ignore[misc]
sys.exit(host_agent.main())
