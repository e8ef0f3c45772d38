# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is let in, and when the machine is ready: once, in whatever order its members come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.coordinator.world.membership import (
    MAX_OPERATORS,
    Accept,
    AllHere,
    Departed,
    DevicesReached,
    Event,
    Greeted,
    Membership,
    StrangerError,
)
from allstop.vm.wire.channel import LAUNCHER, worker_identity
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEVICES,
    ROLE_LAUNCHER,
    ROLE_OPERATOR,
    ROLE_WORKER,
    Hello,
)

TOKEN = b"\x07" * 16


def hello(role: int, vcpu: int = 0, token: bytes = TOKEN, version: int = PROTOCOL_VERSION) -> Hello:
    return Hello(version, token, role, vcpu, 4711)


def worker(vcpu: int) -> Greeted:
    return Greeted(worker_identity(vcpu), hello(ROLE_WORKER, vcpu))


LAUNCHER_GREETS = Greeted(LAUNCHER, hello(ROLE_LAUNCHER))
EVERYBODY: tuple[Event, ...] = (LAUNCHER_GREETS, DevicesReached(), worker(0), worker(1), worker(2))


@given(order=st.permutations(EVERYBODY), again=st.sampled_from(EVERYBODY))
def test_the_machine_is_ready_once_with_the_last_to_come(order: list[Event], again: Event) -> None:
    members = Membership(3, TOKEN)
    for event in order[:-1]:
        assert AllHere() not in members.handle(event)
    assert members.handle(order[-1])[-1] == AllHere()
    assert AllHere() not in members.handle(again)


def test_a_good_hello_is_accepted_again() -> None:
    members = Membership(1, TOKEN)
    assert members.handle(worker(0)) == [Accept(b"w0")]
    assert members.handle(worker(0)) == [Accept(b"w0")]


@pytest.mark.parametrize(
    ("identity", "greeting"),
    [
        (b"w0", hello(ROLE_WORKER, token=b"\x08" * 16)),
        (b"w0", hello(ROLE_WORKER, token=b"")),
        (b"w0", hello(ROLE_WORKER, version=PROTOCOL_VERSION + 1)),
        (b"w2", hello(ROLE_WORKER, 2)),
        (b"w1", hello(ROLE_WORKER, 0)),
        (b"launcher", hello(ROLE_WORKER, 0)),
        (b"w0", hello(ROLE_LAUNCHER)),
        (b"w0", hello(ROLE_OPERATOR)),
        (b"coordinator", hello(ROLE_COORDINATOR)),
        (b"devicesrv", hello(ROLE_DEVICES)),
        (b"w0", hello(77)),
    ],
)
def test_strangers_stay_outside_and_change_nothing(identity: bytes, greeting: Hello) -> None:
    members = Membership(2, TOKEN)
    before = repr(vars(members))
    with pytest.raises(StrangerError):
        members.handle(Greeted(identity, greeting))
    assert repr(vars(members)) == before


def test_a_machine_that_lost_somebody_never_gets_ready() -> None:
    members = Membership(3, TOKEN)
    members.handle(Departed(ROLE_WORKER, 1))
    assert not any(AllHere() in members.handle(event) for event in EVERYBODY)


def test_an_operator_that_is_forgotten_is_a_stranger_again() -> None:
    members = Membership(1, TOKEN)
    members.handle(Greeted(b"op-7", hello(ROLE_OPERATOR)))
    members.forget(b"op-7")
    assert b"op-7" not in members.peers


def test_operators_that_are_gone_are_not_remembered_for_ever() -> None:
    members = Membership(1, TOKEN)
    members.handle(worker(0))
    for number in range(MAX_OPERATORS + 10):
        members.handle(Greeted(b"op-%d" % number, hello(ROLE_OPERATOR)))
    operators = [identity for identity, peer in members.peers.items() if peer.role == ROLE_OPERATOR]
    assert len(operators) == MAX_OPERATORS and operators[-1] == b"op-%d" % (MAX_OPERATORS + 9)
    assert worker_identity(0) in members.peers
