# SPDX-License-Identifier: GPL-2.0-or-later
"""When the machine is ready: once, in whatever order its members come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allstop.coordinator.world.membership import AllHere, Departed, DevicesReached, Input, Joined, Membership
from allstop.vm.wire.messages import ROLE_LAUNCHER, ROLE_NODE, ROLE_OPERATOR, ROLE_WORKER

EVERYBODY: tuple[Input, ...] = (
    Joined(ROLE_LAUNCHER, 0),
    DevicesReached(),
    *(Joined(ROLE_WORKER, vcpu) for vcpu in range(3)),
    Joined(ROLE_NODE, 1),
)


@given(order=st.permutations(EVERYBODY), again=st.sampled_from(EVERYBODY))
def test_the_machine_is_ready_once_with_the_last_to_come(order: list[Input], again: Input) -> None:
    members = Membership(3, [1])
    for given_ in order[:-1]:
        assert members.handle(given_) == []
    assert members.handle(order[-1]) == [AllHere()]
    assert members.handle(again) == []


def test_operators_make_no_machine_ready() -> None:
    members = Membership(1)
    for given_ in (DevicesReached(), Joined(ROLE_OPERATOR, 0), Joined(ROLE_WORKER, 0), Joined(ROLE_OPERATOR, 0)):
        assert members.handle(given_) == []
    assert members.handle(Joined(ROLE_LAUNCHER, 0)) == [AllHere()]


def test_a_machine_that_lost_a_member_never_gets_ready() -> None:
    members = Membership(3, [1])
    members.handle(Departed(ROLE_WORKER, 1))
    assert not any(AllHere() in members.handle(given_) for given_ in EVERYBODY)
