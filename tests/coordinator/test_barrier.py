# SPDX-License-Identifier: GPL-2.0-or-later
"""The barrier against a model of the vCPUs: no vCPU runs while an owner has the world, and no owner waits forever."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allstop.coordinator.world.barrier import (
    Asked,
    Barrier,
    BarrierError,
    Effect,
    Expired,
    Failed,
    Grant,
    Hold,
    Input,
    Left,
    MemberLost,
    OwnerLost,
    Refuse,
    Released,
    Resume,
)

A, B, C, OPERATOR = b"w0", b"w1", b"w2", b"op-1"


def asked(owner: bytes, may_share: bool = False) -> Asked:
    vcpu = int(owner[1:]) if owner.startswith(b"w") else None
    return Asked(owner, vcpu, may_share, "test")


def play(barrier: Barrier, inputs: Sequence[Input]) -> list[Effect]:
    """The effects of the last input."""
    effects: list[Effect] = []
    for given in inputs:
        effects = barrier.handle(given)
    return effects


def test_an_owner_alone_is_exempt_and_all_others_are_waited_for() -> None:
    barrier = Barrier(3)
    assert barrier.handle(asked(A)) == [Hold(1, frozenset({0}))]
    assert barrier.missing == {1, 2}
    assert barrier.handle(Left(1, frozenset({2}))) == []
    assert barrier.handle(Left(1, frozenset())) == [Grant(A, 1)]
    assert barrier.handle(Released(A, 1)) == [Resume()]


def test_a_machine_of_one_vcpu_stops_at_once() -> None:
    assert Barrier(1).handle(asked(A)) == [Hold(1, frozenset({0})), Grant(A, 1)]


def test_a_reader_that_joins_waits_until_the_first_one_was_seen_outside() -> None:
    """A's release may be on its way, and A back in the guest: B must not read beside it."""
    barrier = Barrier(2)
    play(barrier, [asked(A, True), Left(1, frozenset())])
    assert barrier.handle(asked(B, True)) == [Hold(2, frozenset())]
    assert barrier.handle(Released(A, 1)) == []
    assert barrier.handle(Left(2, frozenset({0}))) == []
    assert barrier.handle(Left(2, frozenset())) == [Grant(B, 1)]
    assert barrier.handle(Released(B, 1)) == [Resume()]


def test_a_reader_does_not_join_past_a_waiting_writer_nor_a_second_time() -> None:
    barrier = Barrier(3)
    play(barrier, [asked(OPERATOR, True), Left(1, frozenset()), asked(A)])
    assert barrier.handle(asked(B, True)) == []
    assert barrier.handle(Released(OPERATOR, 1)) == [Hold(2, frozenset({0}))]
    barrier = Barrier(3)
    play(
        barrier,
        [asked(OPERATOR, True), Left(1, frozenset()), asked(B, True), Left(1, frozenset()), Released(OPERATOR, 1)],
    )
    assert barrier.handle(asked(OPERATOR, True)) == []
    assert barrier.handle(asked(C, True)) == [Grant(C, 1)]
    barrier.handle(Released(B, 1))
    assert barrier.handle(asked(B, True)) == [], "the reader that joined had its turn too"
    assert barrier.handle(Released(C, 1)) == [Hold(2, frozenset())]


def test_a_report_about_an_older_hold_says_nothing_about_this_one() -> None:
    barrier = Barrier(2)
    play(barrier, [asked(A), Left(1, frozenset()), Released(A, 1), asked(B)])
    assert barrier.handle(Left(1, frozenset())) == [], "vCPU 0 was exempt then, and may be in the guest now"
    assert barrier.handle(Left(2, frozenset())) == [Grant(B, 2)]


def test_all_queued_readers_come_with_the_first() -> None:
    barrier = Barrier(3)
    play(barrier, [asked(OPERATOR), Left(1, frozenset()), asked(A, True), asked(B), asked(C, True)])
    assert barrier.handle(Released(OPERATOR, 1)) == [Hold(2, frozenset())]
    assert barrier.handle(Left(2, frozenset())) == [Grant(A, 2), Grant(C, 2)]
    barrier.handle(Released(A, 2))
    assert barrier.handle(Released(C, 2)) == [Hold(3, frozenset({1}))]


def test_a_member_that_dies_is_not_waited_for() -> None:
    barrier = Barrier(3)
    play(barrier, [asked(A), Left(1, frozenset({2}))])
    assert barrier.handle(MemberLost(2)) == [Grant(A, 1)]
    barrier.handle(Released(A, 1))
    assert barrier.handle(asked(B)) == [Hold(2, frozenset({1, 2}))], "nor ever again"


def test_an_owner_that_dies_gives_the_world_back() -> None:
    barrier = Barrier(2)
    play(barrier, [asked(A), Left(1, frozenset())])
    assert barrier.handle(MemberLost(0)) == [Resume()]
    barrier = Barrier(2)
    play(barrier, [asked(OPERATOR), Left(1, frozenset()), asked(A)])
    assert barrier.handle(OwnerLost(OPERATOR)) == [Hold(2, frozenset({0}))]


def test_a_deadline_names_the_missing_and_refuses_whoever_waits() -> None:
    barrier = Barrier(3)
    play(barrier, [asked(A), Left(1, frozenset({2})), asked(OPERATOR)])
    effects = barrier.handle(Expired(1))
    assert effects[0] == Failed(1, frozenset({2}), ((A, "test"),))
    assert {effect.owner for effect in effects if isinstance(effect, Refuse)} == {A, OPERATOR}
    assert effects[-1] == Resume()
    assert [effect.__class__ for effect in barrier.handle(asked(B))] == [Refuse]


def test_a_deadline_that_fires_late_does_nothing() -> None:
    barrier = Barrier(2)
    play(barrier, [asked(A), Left(1, frozenset())])
    assert barrier.handle(Expired(1)) == []
    play(barrier, [Released(A, 1), asked(B)])
    assert barrier.handle(Expired(1)) == [], "it was about another stop"


def test_a_deadline_after_the_only_one_who_waited_is_gone_still_names_an_asker() -> None:
    barrier = Barrier(2)
    play(barrier, [asked(A, True), Left(1, frozenset()), asked(OPERATOR, True), OwnerLost(OPERATOR)])
    assert barrier.handle(Expired(2)) == [Failed(1, frozenset({0, 1}), ((A, "test"),))]


@pytest.mark.parametrize("given", [asked(A), Released(B, 1), Released(A, 2), asked(C)])
def test_what_is_against_the_rules_raises_and_changes_nothing(given: Input) -> None:
    barrier = Barrier(3)
    play(barrier, [MemberLost(2), asked(A), Left(1, frozenset())])
    before = repr(vars(barrier))
    with pytest.raises(BarrierError):
        barrier.handle(given)
    assert repr(vars(barrier)) == before


VCPUS = 4
OPERATORS = (b"op-1", b"op-2")
OWNERS = (*(b"w%d" % vcpu for vcpu in range(VCPUS)), *OPERATORS)


class BarrierMachine(RuleBasedStateMachine):
    """Plays the control page, the vCPUs, and the messages that are on their way.

    A vCPU may be in the guest whenever its STOP bit is clear at the moment it enters, and stays there until it
    leaves. A release takes effect for its owner when it is sent, for the barrier when it is delivered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.barrier = Barrier(VCPUS)
        self.alive = set(range(VCPUS))
        self.in_guest: set[int] = set()
        self.stop_bits: set[int] = set()
        self.holds: list[Hold] = []
        self.asking: dict[bytes, tuple[Asked, int, int]] = {}  # request, epoch then, requests before it
        self.owning: dict[bytes, tuple[Asked, int]] = {}
        self.releases: list[Released] = []
        self.reports: list[Left] = []
        self.turns: set[tuple[bytes, int]] = set()
        self.failed = False

    def feed(self, given: Input) -> None:
        for effect in self.barrier.handle(given):
            match effect:
                case Hold(_, exempt):
                    self.holds.append(effect)
                    self.stop_bits |= set(range(VCPUS)) - exempt
                case Resume():
                    self.stop_bits.clear()
                case Grant(owner, epoch):
                    request, asked_at, before = self.asking.pop(owner)
                    self.owning[owner] = (request, epoch)
                    assert (owner, epoch) not in self.turns, "had its turn in this stop"
                    self.turns.add((owner, epoch))
                    assert epoch - asked_at <= before + 1, "overtaken too often"
                case Refuse(owner, _):
                    del self.asking[owner]
                case Failed(_, missing, askers):
                    assert missing and askers
                    self.failed = True

    def outside(self, owner: bytes) -> bool:
        """Whether this owner is in a position to ask."""
        if owner in self.asking or owner in self.owning or any(r.owner == owner for r in self.releases):
            return False
        return owner in OPERATORS or (int(owner[1:]) in self.alive and int(owner[1:]) not in self.in_guest)

    def may_enter(self, vcpu: int) -> bool:
        owner = b"w%d" % vcpu
        return (
            vcpu in self.alive
            and vcpu not in self.in_guest
            and vcpu not in self.stop_bits
            and owner not in self.asking
            and owner not in self.owning
        )

    @initialize(inside=st.sets(st.integers(0, VCPUS - 1)))
    def begin(self, inside: set[int]) -> None:
        self.in_guest = inside

    @rule(owner=st.sampled_from(OWNERS), may_share=st.booleans())
    def ask(self, owner: bytes, may_share: bool) -> None:
        if self.outside(owner):
            request = asked(owner, may_share)
            self.asking[owner] = (request, self.barrier.epoch, len(self.barrier.queue))
            self.feed(request)

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def enter(self, vcpu: int) -> None:
        if self.may_enter(vcpu):
            self.in_guest.add(vcpu)

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def leave(self, vcpu: int) -> None:
        self.in_guest.discard(vcpu)

    @precondition(lambda self: self.holds)
    @rule()
    def look(self) -> None:
        """The node looks which vCPUs are in the guest, and sends what it saw."""
        hold = self.holds[-1]
        self.reports.append(Left(hold.hold, frozenset(self.in_guest - hold.exempt)))

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def deliver_report(self, data: st.DataObject) -> None:
        """Reports may arrive late, out of order and twice."""
        self.feed(data.draw(st.sampled_from(self.reports[-3:])))

    @precondition(lambda self: self.owning)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.owning)))
        self.releases.append(Released(owner, self.owning.pop(owner)[1]))

    @precondition(lambda self: self.releases)
    @rule(data=st.data())
    def deliver_release(self, data: st.DataObject) -> None:
        self.feed(self.releases.pop(data.draw(st.integers(0, len(self.releases) - 1))))

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def lose_member(self, vcpu: int) -> None:
        if len(self.alive) > 1:
            self.alive.discard(vcpu)
            self.in_guest.discard(vcpu)
            self._forget(b"w%d" % vcpu)
            self.feed(MemberLost(vcpu))

    @rule(owner=st.sampled_from(OPERATORS))
    def lose_operator(self, owner: bytes) -> None:
        self._forget(owner)
        self.feed(OwnerLost(owner))

    def _forget(self, owner: bytes) -> None:
        self.asking.pop(owner, None)
        self.owning.pop(owner, None)
        self.releases = [release for release in self.releases if release.owner != owner]

    @precondition(lambda self: self.barrier.missing)
    @rule()
    def expire(self) -> None:
        self.feed(Expired(self.barrier.hold))

    @invariant()
    def nobody_runs_while_somebody_has_the_world(self) -> None:
        if self.owning:
            assert not self.in_guest, f"{self.in_guest} run while {set(self.owning)} own the world"

    @invariant()
    def who_does_not_share_is_alone(self) -> None:
        requests = [request for request, _ in self.owning.values()]
        assert len(requests) <= 1 or all(request.may_share for request in requests)

    @invariant()
    def nobody_is_stopped_without_a_reason(self) -> None:
        if not (self.asking or self.owning or self.releases):
            assert not self.stop_bits

    def teardown(self) -> None:
        """From wherever we are: when the vCPUs answer and owners release, every request gets its answer."""
        for _ in range(4 * len(OWNERS) + 4):
            self.in_guest -= self.stop_bits
            if self.holds:
                self.feed(Left(self.holds[-1].hold, frozenset(self.in_guest - self.holds[-1].exempt)))
            for owner, (_, epoch) in list(self.owning.items()):
                del self.owning[owner]
                self.feed(Released(owner, epoch))
            while self.releases:
                self.feed(self.releases.pop())
        assert not self.asking, f"{set(self.asking)} got no answer"
        assert not self.stop_bits and not self.barrier.owners and not self.barrier.missing


TestBarrierMachine = BarrierMachine.TestCase
TestBarrierMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
