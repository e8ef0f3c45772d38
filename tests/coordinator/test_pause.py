# SPDX-License-Identifier: GPL-2.0-or-later
"""The operators' pause: a pause outlives its operator, registers come from a stop of the pause's, all are answered."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from allstop.coordinator.operators.pause import (
    AskWorld,
    Denied,
    Dump,
    Dumped,
    Effect,
    Expired,
    Granted,
    LeaveWorld,
    Lost,
    OperatorPause,
    PauseAsked,
    RegistersAsked,
    ResumeAsked,
    Tell,
)
from allstop.vm.wire.messages import MachinePaused, MachineResumed, Refused, Registers

A, B = b"op-a", b"op-b"


def refused(effect: Effect) -> bool:
    return isinstance(effect, Tell) and isinstance(effect.message, Refused)


def test_a_pause_lasts_until_anybody_ends_it() -> None:
    pause = OperatorPause()
    assert pause.handle(PauseAsked(A)) == [AskWorld()]
    assert refused(pause.handle(PauseAsked(B))[0])
    assert pause.handle(Granted(4)) == [Tell(A, MachinePaused(4))]
    assert pause.handle(ResumeAsked(B)) == [Tell(B, MachineResumed()), LeaveWorld()]
    assert refused(pause.handle(ResumeAsked(A))[0])


def test_a_pause_that_is_ended_before_it_began_answers_both() -> None:
    pause = OperatorPause()
    pause.handle(PauseAsked(A))
    effects = pause.handle(ResumeAsked(B))
    assert effects[0] == Tell(B, MachineResumed()) and refused(effects[1]) and effects[2:] == [LeaveWorld()]
    assert pause.handle(PauseAsked(A)) == [AskWorld()]


def test_registers_come_from_a_stop_of_their_own() -> None:
    pause = OperatorPause()
    assert pause.handle(RegistersAsked(A, (0, 1))) == [AskWorld()]
    assert pause.handle(Granted(1)) == [Dump(0, 1), Dump(1, 2)]
    assert pause.handle(Dumped(0, 1, b"{}")) == [Tell(A, Registers(0, b"{}"))]
    assert pause.handle(Dumped(1, 2, b"{}")) == [Tell(A, Registers(1, b"{}")), LeaveWorld()]


def test_registers_of_a_paused_machine_leave_it_paused() -> None:
    pause = OperatorPause()
    pause.handle(PauseAsked(A))
    pause.handle(Granted(1))
    assert pause.handle(RegistersAsked(B, (0,))) == [Dump(0, 1)]
    assert pause.handle(RegistersAsked(A, (0,))) == []  # one question serves both
    assert pause.handle(Dumped(0, 1, b"{}")) == [Tell(B, Registers(0, b"{}")), Tell(A, Registers(0, b"{}"))]


def test_an_answer_that_comes_too_late_is_not_that_of_a_later_stop() -> None:
    pause = OperatorPause()
    pause.handle(RegistersAsked(A, (0,)))
    assert pause.handle(Granted(1)) == [Dump(0, 1)]
    effects = pause.handle(Expired())
    assert refused(effects[0]) and effects[1:] == [LeaveWorld()]
    pause.handle(RegistersAsked(A, (0,)))
    assert pause.handle(Granted(2)) == [Dump(0, 2)]
    assert pause.handle(Dumped(0, 1, b"old")) == []
    assert pause.handle(Dumped(0, 2, b"new")) == [Tell(A, Registers(0, b"new")), LeaveWorld()]


def test_a_lost_vcpu_is_nobody_to_wait_for() -> None:
    pause = OperatorPause()
    pause.handle(RegistersAsked(A, (0,)))
    pause.handle(Granted(1))
    effects = pause.handle(Lost(0))
    assert refused(effects[0]) and effects[1:] == [LeaveWorld()]
    assert [refused(effect) for effect in pause.handle(RegistersAsked(A, (0,)))] == [True]


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes: each request is answered once, and the pause has the world just as long as an operator wants
    it."""

    def __init__(self) -> None:
        super().__init__()
        self.pause = OperatorPause()
        self.owns = self.asks = False
        self.epoch = 0
        self.open = dict.fromkeys((A, B), 0)
        self.questions: dict[int, int] = {}
        self.lost: set[int] = set()

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case AskWorld():
                    assert not self.asks and not self.owns
                    self.asks = True
                case LeaveWorld():
                    assert self.asks or self.owns
                    self.asks = self.owns = False
                case Dump(vcpu, nonce):
                    assert self.owns and vcpu not in self.lost
                    self.questions[nonce] = vcpu
                case Tell(operator, message):
                    assert not isinstance(message, (MachinePaused, Registers)) or self.owns
                    self.open[operator] -= 1
                    assert self.open[operator] >= 0

    @rule(operator=st.sampled_from((A, B)))
    def pause(self, operator: bytes) -> None:
        self.open[operator] += 1
        self.perform(self.pause.handle(PauseAsked(operator)))

    @rule(operator=st.sampled_from((A, B)))
    def resume(self, operator: bytes) -> None:
        self.open[operator] += 1
        self.perform(self.pause.handle(ResumeAsked(operator)))

    @rule(operator=st.sampled_from((A, B)), vcpus=st.sampled_from(((0,), (1,), (0, 1))))
    def registers(self, operator: bytes, vcpus: tuple[int, ...]) -> None:
        self.open[operator] += len(vcpus)
        self.perform(self.pause.handle(RegistersAsked(operator, vcpus)))

    @precondition(lambda self: self.asks)
    @rule()
    def grant(self) -> None:
        self.asks, self.owns = False, True
        self.epoch += 1
        self.perform(self.pause.handle(Granted(self.epoch)))

    @precondition(lambda self: self.questions)
    @rule(data=st.data())
    def dump(self, data: st.DataObject) -> None:
        nonce = data.draw(st.sampled_from(sorted(self.questions)))
        self.perform(self.pause.handle(Dumped(self.questions.pop(nonce), nonce, b"{}")))

    @rule()
    def expire(self) -> None:
        self.perform(self.pause.handle(Expired()))

    @rule(vcpu=st.integers(0, 1))
    def lose(self, vcpu: int) -> None:
        self.lost.add(vcpu)
        self.perform(self.pause.handle(Lost(vcpu)))

    @invariant()
    def the_world_is_had_by_who_wants_it(self) -> None:
        assert not (self.pause.paused and not (self.owns or self.asks))
        if not self.asks and not self.owns:
            assert self.open == {A: 0, B: 0}

    def teardown(self) -> None:
        if self.asks:
            self.grant()
        self.perform(self.pause.handle(Expired()))
        if self.pause.paused:
            self.resume(A)
        assert self.open == {A: 0, B: 0} and not self.asks and not self.owns


class Refusing(AnyOrder):
    """The barrier may be broken: then every operator is told so."""

    @precondition(lambda self: self.asks)
    @rule()
    def deny(self) -> None:
        self.asks = False
        waiting = {operator for operator, count in self.open.items() if count}
        for effect in self.pause.handle(Denied("broken")):
            assert refused(effect) and isinstance(effect, Tell)
            waiting.discard(effect.operator)
        assert not waiting and not self.pause.paused
        self.open = dict.fromkeys((A, B), 0)


TestAnyOrder = AnyOrder.TestCase
TestRefusing = Refusing.TestCase
TestAnyOrder.settings = TestRefusing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
