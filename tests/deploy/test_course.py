# SPDX-License-Identifier: GPL-2.0-or-later
"""The course of a run: every way to end has one verdict, the first one stands, and no phase lasts for ever."""
from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allstop.wire.messages import ROLE_DEVICES, ROLE_WORKER, VERDICTS, Boot, ProcessLost, RunEnded, Shutdown
from deploy.course import (
    LEAVE_HOSTS_S,
    LEAVE_S,
    LEAVE_WITH_JOURNALS_S,
    SETTLE_S,
    START_S,
    Course,
    Kill,
    Phase,
    Send,
)
from deploy.plan import members

BOOT = Boot(0x4001_0000, 0, 0)
COORDINATOR, DEVICES, WORKER0, WORKER1 = range(4)
PASS, FAIL, VIOLATION, LOST, TIMEOUT, ERROR = range(6)


def started(timeout_s: float | None = None) -> Course:
    course = Course(members(2), BOOT, timeout_s)
    course.begun(0.0)
    for index in range(4):
        course.started(index)
    return course


def running(timeout_s: float | None = None) -> Course:
    course = started(timeout_s)
    assert course.ready(1.0) == [Send(BOOT)]
    return course


def outcome(course: Course) -> tuple[str, str, Phase]:
    return course.verdict, course.sentence, course.phase


def leave(course: Course, now_s: float) -> None:
    for index in (WORKER0, WORKER1, DEVICES, COORDINATOR):
        assert course.gone(index, "left", 0, now_s) == []


def test_a_run_that_passes() -> None:
    course = running()
    assert course.deadline_s is None
    assert course.ended(RunEnded(PASS, 0, "the guest passed"), 3.0) == [Send(Shutdown())]
    leave(course, 3.1)
    assert outcome(course) == ("pass", "the guest passed", Phase.OVER)
    assert (course.guest_s, course.guest_status, course.notes) == (2.0, 0, [])


@pytest.mark.parametrize("verdict", range(len(VERDICTS)))
def test_the_coordinators_verdict_is_taken_with_the_guests_status_where_it_has_one(verdict: int) -> None:
    course = running()
    course.ended(RunEnded(verdict, 7, "so"), 3.0)
    assert course.verdict == VERDICTS[verdict]
    assert course.guest_status == (7 if verdict in (PASS, FAIL) else None)


def test_a_verdict_that_we_do_not_know_is_an_error() -> None:
    course = running()
    course.ended(RunEnded(99, 0, "?"), 3.0)
    assert course.verdict == "error"


def test_ready_counts_once() -> None:
    assert running().ready(2.0) == []


def test_a_lost_worker_is_told_and_the_coordinators_answer_awaited() -> None:
    course = running()
    assert course.gone(WORKER1, "vcpu-1 died", -9, 2.0) == [Send(ProcessLost(ROLE_WORKER, 1, "vcpu-1 died"))]
    assert course.phase is Phase.SETTLING
    assert course.ended(RunEnded(LOST, 0, "vCPU 1 was lost"), 2.1) == [Send(Shutdown())]
    assert (course.verdict, course.sentence) == ("lost", "vcpu-1 died")


def test_a_verdict_older_than_the_loss_counts() -> None:
    course = running()
    course.gone(WORKER1, "vcpu-1 died", -9, 2.0)
    course.ended(RunEnded(PASS, 0, "the guest passed"), 2.1)
    assert (course.verdict, course.sentence) == ("pass", "the guest passed")


def test_a_coordinator_that_does_not_answer_a_loss_is_not_waited_for() -> None:
    course = running()
    course.gone(DEVICES, "devicesrv died", -9, 2.0)
    assert course.due(2.0 + SETTLE_S - 0.01, "") == []
    assert course.due(2.0 + SETTLE_S, "") == [Send(Shutdown())]
    assert (course.verdict, course.sentence) == ("lost", "devicesrv died")


def test_a_second_loss_does_not_hide_the_first() -> None:
    course = running()
    course.gone(WORKER1, "first", -9, 2.0)
    assert course.gone(WORKER0, "second", -9, 2.1) == []
    course.ended(RunEnded(LOST, 0, "?"), 2.2)
    assert course.sentence == "first"


def test_without_a_coordinator_everybody_else_is_killed_at_once() -> None:
    course = running()
    assert course.gone(COORDINATOR, "coordinator died", -9, 2.0) == [Kill(1), Kill(2), Kill(3)]
    assert outcome(course) == ("lost", "coordinator died", Phase.LEAVING)


def test_a_coordinator_that_dies_while_a_loss_settles() -> None:
    course = running()
    course.gone(WORKER0, "first", -9, 2.0)
    assert course.gone(COORDINATOR, "second", -9, 2.1) == [Kill(1), Kill(3)]
    assert course.sentence == "first"


def test_a_process_that_leaves_politely_in_the_middle_of_a_run_is_lost_too() -> None:
    course = running()
    course.gone(WORKER0, "vcpu-0 left with exit status 0", 0, 2.0)
    course.due(2.0 + SETTLE_S, "")
    assert course.verdict == "lost"


def test_a_hung_process_is_killed_and_lost() -> None:
    course = running()
    assert course.hangs(WORKER0, "vcpu-0 hangs", 2.0) == [Kill(2), Send(ProcessLost(ROLE_WORKER, 0, "vcpu-0 hangs"))]
    assert course.hangs(WORKER0, "again", 2.1) == []
    assert course.gone(WORKER0, "killed by SIGKILL", -9, 2.1) == []
    course.ended(RunEnded(LOST, 0, "?"), 2.2)
    assert (course.sentence, course.notes) == ("vcpu-0 hangs", [])


def test_a_hung_coordinator_is_not_asked_for_anything() -> None:
    course = running()
    effects = course.hangs(COORDINATOR, "coordinator hangs", 2.0)
    assert {e.index for e in effects if isinstance(e, Kill)} == {0, 1, 2, 3}
    assert not any(isinstance(e, Send) for e in effects)


def test_a_timeout_counts_from_the_boot_and_says_what_the_machine_did() -> None:
    course = running(timeout_s=5.0)
    assert course.due(5.9, "") == []
    assert course.due(6.0, "vCPU 0 in the guest") == [Send(Shutdown())]
    assert course.verdict == "timeout" and "5 s: vCPU 0 in the guest" in course.sentence


def test_a_machine_that_does_not_come_up_is_given_up() -> None:
    course = started()
    assert course.deadline_s is not None and course.deadline_s >= START_S
    assert course.due(course.deadline_s, "2 vCPUs starting") == [Send(Shutdown())]
    assert course.verdict == "error" and "2 vCPUs starting" in course.sentence


def test_an_interruption_ends_the_run_and_a_second_one_does_so_at_once() -> None:
    course = running()
    assert course.interrupted("interrupted by SIGINT", 2.0) == [Send(Shutdown())]
    assert course.interrupted("interrupted by SIGINT", 2.01) == [Kill(0), Kill(1), Kill(2), Kill(3)]
    assert (course.verdict, course.sentence) == ("error", "interrupted by SIGINT")


def test_the_first_interruption_after_a_verdict_hurries_nobody() -> None:
    course = running()
    course.ended(RunEnded(PASS, 0, ""), 2.0)
    assert course.interrupted("interrupted by SIGINT", 2.0) == []
    assert course.verdict == "pass"


@pytest.mark.parametrize(("verdict", "leave_s"), [(PASS, LEAVE_HOSTS_S), (LOST, LEAVE_S)])
def test_other_hosts_have_more_time_to_leave_for_they_have_to_tell_what_they_counted(verdict: int, leave_s: float,
                                                                                     ) -> None:
    team = members(2, placement=(0, 1), names=("here", "there"))
    course = Course(team, BOOT, None)
    course.begun(0.0)
    for index in range(len(team)):
        course.started(index)
    course.ready(1.0)
    course.ended(RunEnded(verdict, 0, ""), 2.0)
    assert course.due(1.99 + leave_s, "") == []
    assert course.due(2.0 + leave_s, "") == [Kill(index) for index in range(len(team))]


def test_who_does_not_leave_is_killed() -> None:
    course = running()
    course.ended(RunEnded(PASS, 0, ""), 2.0)
    course.gone(DEVICES, "left", 0, 2.1)
    assert course.due(2.0 + LEAVE_S, "") == [Kill(0), Kill(2), Kill(3)]
    assert course.due(99.0, "") == []
    for index in (0, 2, 3):
        course.gone(index, "killed", -9, 2.7)
    assert (course.phase, course.notes) == (Phase.OVER, [])


def test_a_process_that_breaks_while_leaving_is_noted() -> None:
    course = running()
    course.ended(RunEnded(PASS, 0, ""), 2.0)
    assert course.gone(WORKER0, "vcpu-0 left with exit status 1", 1, 2.1) == []
    assert course.notes == ["vcpu-0 left with exit status 1"]
    assert course.verdict == "pass"


def test_what_a_loss_drags_along_is_not_noted() -> None:
    course = running()
    course.gone(WORKER0, "first", -9, 2.0)
    course.ended(RunEnded(LOST, 0, "?"), 2.1)
    course.gone(WORKER1, "second", -9, 2.1)
    assert course.notes == []


def test_a_coordinator_that_breaks_while_leaving_leaves_nobody_waiting() -> None:
    course = running()
    course.ended(RunEnded(PASS, 0, ""), 2.0)
    assert course.gone(COORDINATOR, "coordinator was killed", -9, 2.1) == [Kill(1), Kill(2), Kill(3)]


def test_a_process_that_says_at_the_start_that_it_can_not_work_is_an_error() -> None:
    course = started()
    assert course.gone(DEVICES, "devicesrv has no such device", 2, 0.5) == [Send(Shutdown())]
    assert (course.verdict, course.sentence) == ("error", "devicesrv has no such device")


def test_what_a_member_refuses_at_the_start_is_no_run() -> None:
    course = started()
    assert course.refused(DEVICES, "there is no such class", 0.5) == [Send(Shutdown())]
    assert (course.verdict, course.refusal) == ("error", "there is no such class")
    course = running()
    course.refused(DEVICES, "later it is a loss", 2.0)
    assert (course.phase, course.refusal) == (Phase.SETTLING, "")


def test_a_process_that_is_killed_at_the_start_is_lost() -> None:
    course = started()
    told = Send(ProcessLost(ROLE_DEVICES, 0, "devicesrv was killed"))
    assert course.gone(DEVICES, "devicesrv was killed", -9, 0.5) == [told]


def test_a_start_that_fails_half_way_ends_those_that_were_started() -> None:
    course = Course(members(2), BOOT, None)
    course.begun(0.0)
    course.started(0)
    assert course.failed("devicesrv could not be started", 0.1) == [Send(Shutdown())]
    course.gone(0, "", 0, 0.2)
    assert outcome(course) == ("error", "devicesrv could not be started", Phase.OVER)


def test_a_start_that_fails_at_once_is_over_at_once() -> None:
    course = Course(members(2), BOOT, None)
    course.begun(0.0)
    assert course.failed("no", 0.1) == []
    assert course.phase is Phase.OVER


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens in whatever order: one verdict, which stays, and an end within the deadlines."""

    @initialize(timeout_s=st.one_of(st.none(), st.floats(0.1, 5.0)))
    def begin(self, timeout_s: float | None) -> None:
        self.now_s = 0.0
        self.course = started(timeout_s)
        self.alive = {0, 1, 2, 3}
        self.verdict: tuple[str, str] | None = None

    def apply(self, effects: list[Send | Kill]) -> None:
        for effect in effects:
            if isinstance(effect, Kill):
                assert effect.index in self.alive
                self.course.gone(effect.index, "killed by us", -9, self.now_s)
                self.alive.discard(effect.index)

    @rule(dt=st.floats(0.0, 3.0))
    def time_passes(self, dt: float) -> None:
        self.now_s += dt
        self.apply(self.course.due(self.now_s, "situation"))

    @rule()
    def ready(self) -> None:
        self.apply(self.course.ready(self.now_s))

    @rule(verdict=st.integers(0, 255))
    def run_ended(self, verdict: int) -> None:
        self.apply(self.course.ended(RunEnded(verdict, 0, "said"), self.now_s))

    @rule(index=st.integers(0, 3), status=st.sampled_from([0, 1, -9]))
    def process_gone(self, index: int, status: int) -> None:
        self.alive.discard(index)
        self.apply(self.course.gone(index, f"{index} gone", status, self.now_s))

    @rule(index=st.integers(0, 3))
    def process_hangs(self, index: int) -> None:
        self.apply(self.course.hangs(index, f"{index} hangs", self.now_s))

    @rule()
    def interrupt(self) -> None:
        self.apply(self.course.interrupted("interrupted", self.now_s))

    @invariant()
    def one_verdict_that_stays(self) -> None:
        course = self.course
        assert bool(course.verdict) == (course.phase in (Phase.LEAVING, Phase.OVER))
        if self.verdict is not None:
            assert (course.verdict, course.sentence) == self.verdict
        elif course.verdict:
            assert course.verdict in VERDICTS and course.sentence
            self.verdict = (course.verdict, course.sentence)

    @invariant()
    def over_when_nobody_is_left(self) -> None:
        assert (self.course.phase is Phase.OVER) == (not self.alive)

    @invariant()
    def never_without_a_deadline(self) -> None:
        if self.course.phase in (Phase.STARTING, Phase.SETTLING):
            assert self.course.deadline_s is not None

    @precondition(lambda self: self.course.phase in (Phase.SETTLING, Phase.LEAVING))
    @rule()
    def patience_ends(self) -> None:
        for _ in range(2):
            self.now_s += max(SETTLE_S, LEAVE_S)
            self.apply(self.course.due(self.now_s, "situation"))
        assert self.course.phase is Phase.OVER


AnyCourse.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestAnyCourse = AnyCourse.TestCase


def test_journals_that_come_make_the_end_later_but_not_for_ever() -> None:
    course = running()
    course.sending(2.0)
    assert course.deadline_s is None
    course.ended(RunEnded(PASS, 0, "the guest passed"), 3.0)
    assert course.deadline_s == 3.0 + LEAVE_S
    course.sending(4.0)
    assert course.deadline_s == 4.0 + LEAVE_S and course.due(5.5, "") == []
    course.sending(3.0 + LEAVE_WITH_JOURNALS_S)
    assert course.deadline_s == 3.0 + LEAVE_WITH_JOURNALS_S
    assert {effect.index for effect in course.due(course.deadline_s, "") if isinstance(effect, Kill)} == {0, 1, 2, 3}
    course.sending(4.0)
    assert course.deadline_s is None
