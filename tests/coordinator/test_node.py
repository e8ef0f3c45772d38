# SPDX-License-Identifier: GPL-2.0-or-later
"""A node obeys what fits, and refuses the rest: whatever another host says, it neither raises nor breaks its memory."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, get_args

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allstop.coordinator.node.clock_sync import ASKED
from allstop.coordinator.node.node import Node
from allstop.coordinator.node.remote_requests import POST
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.control.control import ControlPage
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory
from allstop.vm.wire.channel import node_identity
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.fields import Bits
from allstop.vm.wire.messages import MAX_TEXT, NUMBERS, PROTOCOL_VERSION, Message
from allstop.vm.wire.messages_hosts import (
    NodeHello,
    NodePong,
    PageAsked,
    PageGranted,
    PageRecalled,
    PageYielded,
    Posted,
    PowerChanged,
    VcpuTold,
)
from allstop.vm.wire.security import KeyPair, secure

RAM_BYTES = 2 << 20
PAGE = 0x40000
OWN_HOME, OTHER_HOME = PAGE + 1, PAGE  # the node is host 1 of 2


@pytest.fixture
def keys() -> list[KeyPair]:
    """Those of both hosts."""
    return [KeyPair.make(), KeyPair.make()]


@pytest.fixture
def node(keys: list[KeyPair]) -> Iterator[Node]:
    """The node of the second of two hosts, with vCPU 1; nothing listens at the first one's address."""
    with ExitStack() as stack:

        def memory(name: str, size: int) -> int:
            fd = create_memory(name, size)
            stack.callback(os.close, fd)
            return fd

        fds = SharedFds(
            memory("control", ControlPage.size_bytes(2)),
            memory("ram", RAM_BYTES),
            memory("stage2", stage2.size_bytes(RAM_BYTES)),
            -1,
            -1,
            -1,
        )
        ControlPage.create(fds.control, 2, 2, 0)
        stage2.build_in(fds.stage2, RAM_BYTES)
        doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        stack.callback(os.close, doorbell)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        free = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        endpoints = tuple(f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in (free, listener))
        hosts = HostsSpec(
            1,
            endpoints,
            (0, 1),
            tuple(key.public for key in keys),
            keys[1].secret,
            doorbell,
            (os.dup(listener.fileno()),),
            endpoints[0],
            "",
            60.0,
            ("here", "there"),
        )
        config = MachineConfig(
            vcpus=2,
            memory_bytes=RAM_BYTES,
            token="00" * 16,
            coordinator_endpoint="",
            devices_endpoint="",
            fds=fds,
            cores=2,
            hosts=hosts,
        )
        context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
        made = Node(config, hosts, context)
        made._memory.share(doorbell, [0], False)
        yield made
        made.close()


def obey(node: Node, message: Message) -> str:
    """Have host 0 say it: "" where it was obeyed, or why not."""
    try:
        node._obey(0, decode(encode(message)))
    except (ValueError, OverflowError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (PageAsked(OTHER_HOME, True), "another home"),
        (PageYielded(OTHER_HOME, 1, b""), "another home"),
        (PageGranted(OWN_HOME, 1, True, True, b""), "another home"),
        (PageRecalled(OWN_HOME, 1, 0, False, False), "another home"),
        (PageAsked(1, True), "page that the guest does not have"),
        (PageAsked(0xFFFFFFFF, True), "page that the guest does not have"),
        (PageYielded(OWN_HOME, 1, b"x"), "not of a page's size"),
        (PageGranted(OTHER_HOME, 1, True, True, b"x" * 4096), "has not asked for"),
        (Posted(1, b"x"), "posts of no whole number"),
        (Posted(1, POST.pack(0, 8, 0)), "not here"),
        (Posted(1, POST.pack(9, 8, 0)), "not here"),
        (Posted(1, POST.pack(0, 1, 0) + POST.pack(1, 1, 0)), "not here"),
        (Posted(1, POST.pack(1, 1, 0)), "the coordinator's to say"),
        (PowerChanged(1, 2), "not on its sender's host"),
        (PowerChanged(0, 77), "a power state that there is not"),
        (VcpuTold(1, b""), "not on its sender's host"),
        (VcpuTold(0, b"x" * 500_000), "nothing that a vCPU of another host tells of itself"),
        (NodeHello(PROTOCOL_VERSION, bytes(16), 0), "not its sender's to send"),
    ],
)
def test_what_does_not_fit_is_refused(node: Node, message: Message, why: str) -> None:
    assert why in obey(node, message)


def test_a_page_is_taken_once_and_when_asked_for(node: Node) -> None:
    node._perform(node._cache.wanted(1, OTHER_HOME, True, False))
    assert "not what is in one that is not" in obey(node, PageGranted(OTHER_HOME, 1, True, False, b""))
    assert obey(node, PageGranted(OTHER_HOME, 1, True, True, b"x" * 4096)) == ""
    assert node._is_here(OTHER_HOME, True)
    assert "has not asked for" in obey(node, PageGranted(OTHER_HOME, 1, True, True, b"y" * 4096))


def test_a_clock_is_set_by_an_answer_only(node: Node) -> None:
    before = node._memory.clock_base()
    for message in (NodePong(0x80000000, 2**64 - 1, 0), NodePong(5, 0, 2**64 - 1)):
        obey(node, message)
    obey(node, NodePong(node._clock.ask(1), 0, 2**64 - 1))
    assert node._memory.clock_base() == before


def test_a_clock_that_is_set_makes_one_beat_at_once_and_no_answer_another(node: Node) -> None:
    """Workers wait for that beat. Each beat asks all others whether they live, and is answered."""
    node._beat_s = later_s = time.monotonic() + 1000
    node._ask_time()
    for _ in range(ASKED):
        assert node._beat_s == later_s and not node._clock.is_set
        (nonce,) = node._clock._sent_ns
        assert obey(node, NodePong(5, 10**9, 10**8)) == ""
        assert obey(node, NodePong(nonce, 10**9, 10**8)) == ""
    assert node._clock.is_set and node._beat_s == 0.0 and node._memory.clock_error() > 0
    node._beat_s = later_s
    assert obey(node, NodePong(5, 10**9, 10**8)) == ""
    assert node._beat_s == later_s


def fields_of(kind: Any) -> st.SearchStrategy[Any]:
    """Messages of a kind, near what can be right."""
    from typing import Annotated, get_origin, get_type_hints

    made = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Annotated:
            width = next(arg for arg in get_args(hint) if isinstance(arg, Bits)).width
            some = st.integers(0, (1 << width) - 1) | st.integers(0, 3)
            if name == "page":
                some = some | st.integers(PAGE - 1, PAGE + (RAM_BYTES >> 12)) | st.sampled_from([OWN_HOME, OTHER_HOME])
            made[name] = some
        elif hint is bool:
            made[name] = st.booleans()
        elif hint is str:
            made[name] = st.text(max_size=min(40, MAX_TEXT))
        else:
            posts = st.lists(
                st.builds(POST.pack, st.integers(0, 2), st.integers(0, 63), st.integers(0, 2**64 - 1)), max_size=3
            ).map(b"".join)
            made[name] = st.binary(max_size=200) | st.just(bytes(4096)) | posts
    return st.builds(kind, **made)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400)
@given(st.one_of([fields_of(kind) for kind in NUMBERS]))
def test_no_message_breaks_a_node(node: Node, message: Message) -> None:
    """A refusal is a ValueError, which is counted; anything else would end the node."""
    if isinstance(message, Posted):  # QUIT is what ends a node
        message = replace_quit(message)
    obey(node, message)
    node._work_off()
    node._remote_requests.look()


def replace_quit(message: Posted) -> Posted:
    return message._replace(
        posts=b""
        if len(message.posts) % POST.size
        else b"".join(POST.pack(vcpu, bits & 63, line) for vcpu, bits, line in POST.iter_unpack(message.posts))
    )


def test_a_name_is_its_keys(node: Node, keys: list[KeyPair]) -> None:
    """Host 0's node loses its connection, and a process of this host takes its name."""
    refused = "a message of another host than its name's"
    with zmq.Context() as context:

        def say(who: int, messages: list[Message], until: Callable[[], bool]) -> None:
            end_s = time.monotonic() + 20
            while not until():  # a ROUTER does not hear one whose name it takes for another's still
                assert time.monotonic() < end_s, node._server.refused
                with context.socket(zmq.DEALER) as dealer:
                    dealer.linger = 0
                    dealer.setsockopt(zmq.IDENTITY, node_identity(0))
                    secure(dealer, keys[who], keys[1].public, node._hosts.endpoints[1])
                    dealer.connect(node._hosts.endpoints[1])
                    for message in messages:
                        dealer.send(encode(message))
                    heard_s = time.monotonic() + 0.5
                    while not until() and time.monotonic() < heard_s:
                        node._server.take_waiting()

        hello = NodeHello(PROTOCOL_VERSION, bytes(16), 0)
        obeyed = "a NodeHello of a node that is known"
        say(0, [hello, hello, hello], lambda: node._server.refused[obeyed] == 2)
        assert {name: peer.vcpu for name, peer in node._server.peers.items()} == {node_identity(0): 0}
        say(1, [hello], lambda: node._server.refused[refused] > 0)
        say(0, [hello], lambda: node._server.refused[obeyed] == 3)
        assert node._server.refused == {obeyed: 3, refused: 1}
