# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is admitted to a server, under which host's key, and that a name stays its first owner's."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.admission import (
    MAX_OPERATORS,
    WRONG_KEY,
    Admission,
    HelloGate,
    Peer,
    RefusedError,
    is_at_home,
    may_send,
)
from allstop.vm.wire.channel import DEVICES, LAUNCHER, node_identity, worker_identity
from allstop.vm.wire.message import ROUTES, Message
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_NODE,
    ROLE_OPERATOR,
    ROLE_WORKER,
    GuestFinished,
    Hello,
    HostStopped,
    Ping,
    PsciCall,
    QueryStatus,
    Shutdown,
    StopWorld,
    WorldStopped,
)

TOKEN = b"\x07" * 16
HOSTS = HostsSpec(0, ("x", "y", "z"), (0, 1, 1, 2), ("key 0", "key 1", "key 2"), "", -1, ())


def hello(role: int, vcpu: int = 0, token: bytes = TOKEN, version: int = PROTOCOL_VERSION, pid: int = 4711) -> Hello:
    return Hello(version, token, role, vcpu, pid)


def admission(vcpus: int = 2, hosts: HostsSpec | None = None) -> Admission[Peer]:
    """The coordinator's."""
    return Admission(
        HelloGate(ROLE_COORDINATOR, TOKEN, vcpus, Peer, hosts),
        {DEVICES: Peer(ROLE_DEVICES, 0, 0, may_send(ROLE_DEVICES, ROLE_COORDINATOR))},
    )


def state(judge: Admission[Peer]) -> str:
    peers = {name: (peer.role, peer.vcpu, peer.pid) for name, peer in judge.peers.items()}
    return repr((peers, judge._keys))


@pytest.mark.parametrize(
    ("identity", "greeting", "why"),
    [
        (b"w0", hello(ROLE_WORKER, token=b"\x08" * 16), "wrong token"),
        (b"w0", hello(ROLE_WORKER, token=b""), "wrong token"),
        (b"w0", hello(ROLE_WORKER, version=PROTOCOL_VERSION + 1), "version 2, not 1"),
        (b"w2", hello(ROLE_WORKER, 2), "vCPU 2, which the machine does not have"),
        (b"w1", hello(ROLE_WORKER, 0), "an identity that is not its own"),
        (b"launcher", hello(ROLE_WORKER, 0), "an identity that is not its own"),
        (b"w0", hello(ROLE_LAUNCHER), "an identity that is not its own"),
        (b"w0", hello(ROLE_OPERATOR), "an identity that is not its own"),
        (b"coordinator", hello(ROLE_COORDINATOR), "role 3, which does not connect to the coordinator"),
        (b"devicesrv", hello(ROLE_DEVICES), "role 1, which does not connect to the coordinator"),
        (b"w0", hello(77), "role 77, which does not connect to the coordinator"),
    ],
)
def test_strangers_stay_outside_and_change_nothing(identity: bytes, greeting: Hello, why: str) -> None:
    judge = admission()
    before = state(judge)
    with pytest.raises(RefusedError, match=why):
        judge.judge(identity, greeting, "")
    assert state(judge) == before


def test_a_peer_says_what_its_role_may_send_and_nothing_before_hello() -> None:
    judge = admission()
    with pytest.raises(RefusedError, match="a message of a stranger, before Hello"):
        judge.judge(b"w0", Ping(1), "")
    peer = judge.judge(b"w0", hello(ROLE_WORKER), "")
    assert (peer.role, peer.vcpu, peer.pid) == (ROLE_WORKER, 0, 4711)
    assert judge.judge(b"w0", PsciCall(0, 0, 0, 0), "") is peer
    for message in (Shutdown(), WorldStopped(1), QueryStatus(), HostStopped(1), GuestFinished(0, "")):
        with pytest.raises(RefusedError, match=f"{type(message).__name__}, which is not its sender's to send"):
            judge.judge(b"w0", message, None)


def test_a_server_that_we_have_called_need_not_greet() -> None:
    judge = admission(hosts=HOSTS)
    assert judge.judge(DEVICES, GuestFinished(0, ""), "").role == ROLE_DEVICES
    with pytest.raises(RefusedError, match=WRONG_KEY):
        judge.judge(DEVICES, GuestFinished(0, ""), "key 1")


def test_a_process_that_says_hello_again_keeps_its_peer_and_a_new_one_gets_its_own() -> None:
    judge = admission()
    peer = judge.judge(b"w0", hello(ROLE_WORKER), "")
    assert judge.judge(b"w0", hello(ROLE_WORKER), None) is peer
    assert judge.judge(b"w0", hello(ROLE_WORKER, pid=1), None) is not peer


def test_roles_beside_those_on_the_route_are_admitted_where_a_server_says_so() -> None:
    operator = hello(ROLE_OPERATOR)
    for also in ({}, {ROLE_OPERATOR: frozenset({Shutdown})}):
        judge = Admission(HelloGate(ROLE_DEVICES, TOKEN, 1, Peer, also=also))
        if also:
            judge.judge(b"op-1", operator, "")
            assert judge.judge(b"op-1", Ping(1), "") is judge.judge(b"op-1", Shutdown(), "")
        else:
            with pytest.raises(RefusedError, match="does not connect to the device server"):
                judge.judge(b"op-1", operator, "")


def test_a_peer_that_is_forgotten_is_a_stranger_again() -> None:
    judge = admission()
    judge.judge(b"op-7", hello(ROLE_OPERATOR), "")
    judge.forget(b"op-7")
    with pytest.raises(RefusedError, match="stranger"):
        judge.judge(b"op-7", QueryStatus(), "")


def test_operators_that_are_gone_are_not_remembered_for_ever() -> None:
    judge = admission()
    judge.judge(b"w0", hello(ROLE_WORKER), "")
    for number in range(MAX_OPERATORS + 10):
        judge.judge(b"op-%d" % number, hello(ROLE_OPERATOR), "")
    operators = [identity for identity, peer in judge.peers.items() if peer.role == ROLE_OPERATOR]
    assert len(operators) == MAX_OPERATORS and operators[-1] == b"op-%d" % (MAX_OPERATORS + 9)
    assert b"w0" in judge.peers and len(judge._keys) == MAX_OPERATORS + 2


# Any order of connections, greetings and messages

NAMES = (worker_identity(0), worker_identity(1), worker_identity(3), node_identity(1), LAUNCHER, b"op-1", DEVICES)
KEYS = ("", "key 1", "key 2", "another")
HELLOS = st.builds(
    hello,
    st.sampled_from((ROLE_WORKER, ROLE_NODE, ROLE_LAUNCHER, ROLE_OPERATOR, ROLE_DEVICES)),
    st.integers(0, 4),
    st.sampled_from((TOKEN, TOKEN, TOKEN, b"")),
    st.sampled_from((PROTOCOL_VERSION, PROTOCOL_VERSION, 9)),
    st.integers(1, 2),
)
OTHERS = st.sampled_from((Ping(1), StopWorld("x", True), Shutdown(), QueryStatus(), HostStopped(1), WorldStopped(1)))


class AnyOrder(RuleBasedStateMachine):
    """ZeroMQ has one connection for each name, `holder` says with which key; the server is told of new ones. `owner` is
    the key that was first admitted under a name."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = admission(4, HOSTS)
        self.holder = {DEVICES: ""}
        self.owner = {DEVICES: ""}

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(KEYS))
    def connect(self, name: bytes, key: str) -> None:
        self.holder[name] = key
        self.judge.connected()

    @precondition(lambda self: len(self.holder) > 1)
    @rule(message=HELLOS | OTHERS, data=st.data())
    def send(self, message: Message, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.holder)))
        key = None if name in self.judge.sure else self.holder[name]
        before, known = state(self.judge), self.judge.peers.get(name)
        try:
            peer = self.judge.judge(name, message, key)
        except RefusedError as error:
            assert state(self.judge) == before
            if known is not None and self.owner[name] == self.holder[name] and not isinstance(message, Hello):
                assert (known.role, ROLE_COORDINATOR) not in ROUTES[type(message)], error
            return
        assert self.judge.peers[name] is peer
        assert self.owner.setdefault(name, self.holder[name]) == self.holder[name], "another's name"
        if isinstance(message, Hello):
            assert message.token == TOKEN and message.version == PROTOCOL_VERSION
            assert is_at_home(HOSTS, self.holder[name], message)
            assert (peer.role, peer.vcpu) == (message.role, message.vcpu)
        else:
            assert peer is known
            assert (peer.role, ROLE_COORDINATOR) in ROUTES[type(message)] or isinstance(message, Ping)

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name: bytes) -> None:
        if name != DEVICES:
            self.judge.forget(name)
            self.owner.pop(name, None)

    @invariant()
    def names_are_sure_for_good_reason(self) -> None:
        for name in self.judge.sure:
            assert self.owner[name] == self.holder[name]


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=25)
TestAnyOrder = AnyOrder.TestCase


# At home


@pytest.mark.parametrize(
    ("key", "role", "vcpu", "fits"),
    [
        ("", ROLE_WORKER, 0, True),
        ("", ROLE_WORKER, 1, False),
        ("", ROLE_NODE, 1, False),
        ("", ROLE_LAUNCHER, 0, True),
        ("", ROLE_OPERATOR, 0, True),
        ("", ROLE_DEBUGGER, 0, True),
        ("", ROLE_COORDINATOR, 0, True),
        ("key 1", ROLE_WORKER, 2, True),
        ("key 1", ROLE_WORKER, 0, False),
        ("key 1", ROLE_WORKER, 3, False),
        ("key 1", ROLE_WORKER, 99, False),
        ("key 1", ROLE_NODE, 1, True),
        ("key 1", ROLE_NODE, 2, False),
        ("key 1", ROLE_OPERATOR, 0, False),
        ("key 1", ROLE_LAUNCHER, 0, False),
        ("key 1", ROLE_DEBUGGER, 0, False),
        ("key 1", ROLE_COORDINATOR, 0, False),
        ("another", ROLE_WORKER, 1, False),
    ],
)
def test_a_host_speaks_for_its_own_processes(key: str, role: int, vcpu: int, fits: bool) -> None:
    assert is_at_home(HOSTS, key, Hello(1, b"", role, vcpu, 1)) is fits


def test_on_one_host_all_are_at_home() -> None:
    assert is_at_home(None, "", Hello(1, b"", ROLE_WORKER, 3, 1))
