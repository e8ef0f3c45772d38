# SPDX-License-Identifier: GPL-2.0-or-later
"""The lifecycle of a run: every way to end has one verdict, the first one stands, and no phase lasts forever."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allstop.deploy.processes.members import members
from allstop.deploy.run.lifecycle import (
    LEAVE_HOSTS_S,
    LEAVE_S,
    LEAVE_WITH_JOURNALS_S,
    SETTLE_S,
    START_S,
    Kill,
    Lifecycle,
    Phase,
    Send,
)
from allstop.vm.wire.messages import ROLE_DEVICES, ROLE_WORKER, VERDICTS, Boot, ProcessLost, RunEnded, Shutdown

BOOT = Boot(0x4001_0000, 0, 0)
COORDINATOR, DEVICES, WORKER0, WORKER1 = range(4)
PASS, FAIL, VIOLATION, LOST, TIMEOUT, ERROR = range(6)


def started(timeout_s: float | None = None) -> Lifecycle:
    lifecycle = Lifecycle(members(2), BOOT, timeout_s)
    lifecycle.begun(0.0)
    for index in range(4):
        lifecycle.started(index)
    return lifecycle


def running(timeout_s: float | None = None) -> Lifecycle:
    lifecycle = started(timeout_s)
    assert lifecycle.ready(1.0) == [Send(BOOT)]
    return lifecycle


def outcome(lifecycle: Lifecycle) -> tuple[str, str, Phase]:
    return lifecycle.verdict, lifecycle.sentence, lifecycle.phase


def leave(lifecycle: Lifecycle, now_s: float) -> None:
    for index in (WORKER0, WORKER1, DEVICES, COORDINATOR):
        assert lifecycle.gone(index, "left", 0, now_s) == []


def test_a_run_that_passes() -> None:
    lifecycle = running()
    assert lifecycle.deadline_s is None
    assert lifecycle.ended(RunEnded(PASS, 0, "the guest passed"), 3.0) == [Send(Shutdown())]
    leave(lifecycle, 3.1)
    assert outcome(lifecycle) == ("pass", "the guest passed", Phase.OVER)
    assert (lifecycle.guest_s, lifecycle.guest_status, lifecycle.notes) == (2.0, 0, [])


@pytest.mark.parametrize("verdict", range(len(VERDICTS)))
def test_the_coordinators_verdict_is_taken_with_the_guests_status_where_it_has_one(verdict: int) -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(verdict, 7, "so"), 3.0)
    assert lifecycle.verdict == VERDICTS[verdict]
    assert lifecycle.guest_status == (7 if verdict in (PASS, FAIL) else None)


def test_a_verdict_that_we_do_not_know_is_an_error() -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(99, 0, "?"), 3.0)
    assert lifecycle.verdict == "error"


def test_ready_counts_once() -> None:
    assert running().ready(2.0) == []


def test_a_lost_worker_is_told_and_the_coordinators_answer_awaited() -> None:
    lifecycle = running()
    assert lifecycle.gone(WORKER1, "vcpu-1 died", -9, 2.0) == [Send(ProcessLost(ROLE_WORKER, 1, "vcpu-1 died"))]
    assert lifecycle.phase is Phase.SETTLING
    assert lifecycle.ended(RunEnded(LOST, 0, "vCPU 1 was lost"), 2.1) == [Send(Shutdown())]
    assert (lifecycle.verdict, lifecycle.sentence) == ("lost", "vcpu-1 died")


def test_a_verdict_older_than_the_loss_counts() -> None:
    lifecycle = running()
    lifecycle.gone(WORKER1, "vcpu-1 died", -9, 2.0)
    lifecycle.ended(RunEnded(PASS, 0, "the guest passed"), 2.1)
    assert (lifecycle.verdict, lifecycle.sentence) == ("pass", "the guest passed")


def test_a_coordinator_that_does_not_answer_a_loss_is_not_waited_for() -> None:
    lifecycle = running()
    lifecycle.gone(DEVICES, "devicesrv died", -9, 2.0)
    assert lifecycle.due(2.0 + SETTLE_S - 0.01, "") == []
    assert lifecycle.due(2.0 + SETTLE_S, "") == [Send(Shutdown())]
    assert (lifecycle.verdict, lifecycle.sentence) == ("lost", "devicesrv died")


def test_a_second_loss_does_not_hide_the_first() -> None:
    lifecycle = running()
    lifecycle.gone(WORKER1, "first", -9, 2.0)
    assert lifecycle.gone(WORKER0, "second", -9, 2.1) == []
    lifecycle.ended(RunEnded(LOST, 0, "?"), 2.2)
    assert lifecycle.sentence == "first"


def test_without_a_coordinator_everybody_else_is_killed_at_once() -> None:
    lifecycle = running()
    assert lifecycle.gone(COORDINATOR, "coordinator died", -9, 2.0) == [Kill(1), Kill(2), Kill(3)]
    assert outcome(lifecycle) == ("lost", "coordinator died", Phase.LEAVING)


def test_a_coordinator_that_dies_while_a_loss_settles() -> None:
    lifecycle = running()
    lifecycle.gone(WORKER0, "first", -9, 2.0)
    assert lifecycle.gone(COORDINATOR, "second", -9, 2.1) == [Kill(1), Kill(3)]
    assert lifecycle.sentence == "first"


def test_a_process_that_leaves_politely_in_the_middle_of_a_run_is_lost_too() -> None:
    lifecycle = running()
    lifecycle.gone(WORKER0, "vcpu-0 exited with status 0", 0, 2.0)
    lifecycle.due(2.0 + SETTLE_S, "")
    assert lifecycle.verdict == "lost"


def test_a_hung_process_is_killed_and_lost() -> None:
    lifecycle = running()
    assert lifecycle.hangs(WORKER0, "vcpu-0 hangs", 2.0) == [Kill(2), Send(ProcessLost(ROLE_WORKER, 0, "vcpu-0 hangs"))]
    assert lifecycle.hangs(WORKER0, "again", 2.1) == []
    assert lifecycle.gone(WORKER0, "killed by SIGKILL", -9, 2.1) == []
    lifecycle.ended(RunEnded(LOST, 0, "?"), 2.2)
    assert (lifecycle.sentence, lifecycle.notes) == ("vcpu-0 hangs", [])


def test_a_hung_coordinator_is_not_asked_for_anything() -> None:
    lifecycle = running()
    effects = lifecycle.hangs(COORDINATOR, "coordinator hangs", 2.0)
    assert {e.index for e in effects if isinstance(e, Kill)} == {0, 1, 2, 3}
    assert not any(isinstance(e, Send) for e in effects)


def test_a_timeout_counts_from_the_boot_and_says_what_the_machine_did() -> None:
    lifecycle = running(timeout_s=5.0)
    assert lifecycle.due(5.9, "") == []
    assert lifecycle.due(6.0, "vCPU 0 in the guest") == [Send(Shutdown())]
    assert lifecycle.verdict == "timeout" and "5 s: vCPU 0 in the guest" in lifecycle.sentence


def test_a_machine_that_does_not_come_up_is_given_up() -> None:
    lifecycle = started()
    assert lifecycle.deadline_s is not None and lifecycle.deadline_s >= START_S
    assert lifecycle.due(lifecycle.deadline_s, "2 vCPUs starting") == [Send(Shutdown())]
    assert lifecycle.verdict == "error" and "2 vCPUs starting" in lifecycle.sentence


def test_an_interruption_ends_the_run_and_a_second_one_does_so_at_once() -> None:
    lifecycle = running()
    assert lifecycle.interrupted("interrupted by SIGINT", 2.0) == [Send(Shutdown())]
    assert lifecycle.interrupted("interrupted by SIGINT", 2.01) == [Kill(0), Kill(1), Kill(2), Kill(3)]
    assert (lifecycle.verdict, lifecycle.sentence) == ("error", "interrupted by SIGINT")


def test_the_first_interruption_after_a_verdict_hurries_nobody() -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(PASS, 0, ""), 2.0)
    assert lifecycle.interrupted("interrupted by SIGINT", 2.0) == []
    assert lifecycle.verdict == "pass"


@pytest.mark.parametrize(("verdict", "leave_s"), [(PASS, LEAVE_HOSTS_S), (LOST, LEAVE_S)])
def test_other_hosts_have_more_time_to_leave_for_they_have_to_tell_what_they_counted(
    verdict: int,
    leave_s: float,
) -> None:
    team = members(2, placement=(0, 1), names=("here", "there"))
    lifecycle = Lifecycle(team, BOOT, None)
    lifecycle.begun(0.0)
    for index in range(len(team)):
        lifecycle.started(index)
    lifecycle.ready(1.0)
    lifecycle.ended(RunEnded(verdict, 0, ""), 2.0)
    assert lifecycle.due(1.99 + leave_s, "") == []
    assert lifecycle.due(2.0 + leave_s, "") == [Kill(index) for index in range(len(team))]


def test_who_does_not_leave_is_killed() -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(PASS, 0, ""), 2.0)
    lifecycle.gone(DEVICES, "left", 0, 2.1)
    assert lifecycle.due(2.0 + LEAVE_S, "") == [Kill(0), Kill(2), Kill(3)]
    assert lifecycle.due(99.0, "") == []
    for index in (0, 2, 3):
        lifecycle.gone(index, "killed", -9, 2.7)
    assert (lifecycle.phase, lifecycle.notes) == (Phase.OVER, [])


def test_a_process_that_breaks_while_leaving_is_noted() -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(PASS, 0, ""), 2.0)
    assert lifecycle.gone(WORKER0, "vcpu-0 exited with status 1", 1, 2.1) == []
    assert lifecycle.notes == ["vcpu-0 exited with status 1"]
    assert lifecycle.verdict == "pass"


def test_what_a_loss_drags_along_is_not_noted() -> None:
    lifecycle = running()
    lifecycle.gone(WORKER0, "first", -9, 2.0)
    lifecycle.ended(RunEnded(LOST, 0, "?"), 2.1)
    lifecycle.gone(WORKER1, "second", -9, 2.1)
    assert lifecycle.notes == []


def test_a_coordinator_that_breaks_while_leaving_leaves_nobody_waiting() -> None:
    lifecycle = running()
    lifecycle.ended(RunEnded(PASS, 0, ""), 2.0)
    assert lifecycle.gone(COORDINATOR, "coordinator was killed", -9, 2.1) == [Kill(1), Kill(2), Kill(3)]


def test_a_process_that_says_at_the_start_that_it_can_not_work_is_an_error() -> None:
    lifecycle = started()
    assert lifecycle.gone(DEVICES, "devicesrv has no such device", 2, 0.5) == [Send(Shutdown())]
    assert (lifecycle.verdict, lifecycle.sentence) == ("error", "devicesrv has no such device")


def test_what_a_member_refuses_at_the_start_is_no_run() -> None:
    lifecycle = started()
    assert lifecycle.refused(DEVICES, "there is no such class", 0.5) == [Send(Shutdown())]
    assert (lifecycle.verdict, lifecycle.refusal) == ("error", "there is no such class")
    lifecycle = running()
    lifecycle.refused(DEVICES, "later it is a loss", 2.0)
    assert (lifecycle.phase, lifecycle.refusal) == (Phase.SETTLING, "")


def test_a_process_that_is_killed_at_the_start_is_lost() -> None:
    lifecycle = started()
    told = Send(ProcessLost(ROLE_DEVICES, 0, "devicesrv was killed"))
    assert lifecycle.gone(DEVICES, "devicesrv was killed", -9, 0.5) == [told]


def test_a_start_that_fails_half_way_ends_those_that_were_started() -> None:
    lifecycle = Lifecycle(members(2), BOOT, None)
    lifecycle.begun(0.0)
    lifecycle.started(0)
    assert lifecycle.failed("devicesrv could not be started", 0.1) == [Send(Shutdown())]
    lifecycle.gone(0, "", 0, 0.2)
    assert outcome(lifecycle) == ("error", "devicesrv could not be started", Phase.OVER)


def test_a_start_that_fails_at_once_is_over_at_once() -> None:
    lifecycle = Lifecycle(members(2), BOOT, None)
    lifecycle.begun(0.0)
    assert lifecycle.failed("no", 0.1) == []
    assert lifecycle.phase is Phase.OVER


class AnyCourse(RuleBasedStateMachine):
    """Whatever happens in whatever order: one verdict, which stays, and an end within the deadlines."""

    @initialize(timeout_s=st.one_of(st.none(), st.floats(0.1, 5.0)))
    def begin(self, timeout_s: float | None) -> None:
        self.now_s = 0.0
        self.lifecycle = started(timeout_s)
        self.alive = {0, 1, 2, 3}
        self.verdict: tuple[str, str] | None = None

    def apply(self, effects: list[Send | Kill]) -> None:
        for effect in effects:
            if isinstance(effect, Kill):
                assert effect.index in self.alive
                self.lifecycle.gone(effect.index, "killed by us", -9, self.now_s)
                self.alive.discard(effect.index)

    @rule(dt=st.floats(0.0, 3.0))
    def time_passes(self, dt: float) -> None:
        self.now_s += dt
        self.apply(self.lifecycle.due(self.now_s, "situation"))

    @rule()
    def ready(self) -> None:
        self.apply(self.lifecycle.ready(self.now_s))

    @rule(verdict=st.integers(0, 255))
    def run_ended(self, verdict: int) -> None:
        self.apply(self.lifecycle.ended(RunEnded(verdict, 0, "said"), self.now_s))

    @rule(index=st.integers(0, 3), status=st.sampled_from([0, 1, -9]))
    def process_gone(self, index: int, status: int) -> None:
        self.alive.discard(index)
        self.apply(self.lifecycle.gone(index, f"{index} gone", status, self.now_s))

    @rule(index=st.integers(0, 3))
    def process_hangs(self, index: int) -> None:
        self.apply(self.lifecycle.hangs(index, f"{index} hangs", self.now_s))

    @rule()
    def interrupt(self) -> None:
        self.apply(self.lifecycle.interrupted("interrupted", self.now_s))

    @invariant()
    def one_verdict_that_stays(self) -> None:
        lifecycle = self.lifecycle
        assert bool(lifecycle.verdict) == (lifecycle.phase in (Phase.LEAVING, Phase.OVER))
        if self.verdict is not None:
            assert (lifecycle.verdict, lifecycle.sentence) == self.verdict
        elif lifecycle.verdict:
            assert lifecycle.verdict in VERDICTS and lifecycle.sentence
            self.verdict = (lifecycle.verdict, lifecycle.sentence)

    @invariant()
    def over_when_nobody_is_left(self) -> None:
        assert (self.lifecycle.phase is Phase.OVER) == (not self.alive)

    @invariant()
    def never_without_a_deadline(self) -> None:
        if self.lifecycle.phase in (Phase.STARTING, Phase.SETTLING):
            assert self.lifecycle.deadline_s is not None

    @precondition(lambda self: self.lifecycle.phase in (Phase.SETTLING, Phase.LEAVING))
    @rule()
    def patience_ends(self) -> None:
        for _ in range(2):
            self.now_s += max(SETTLE_S, LEAVE_S)
            self.apply(self.lifecycle.due(self.now_s, "situation"))
        assert self.lifecycle.phase is Phase.OVER


AnyCourse.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestAnyCourse = AnyCourse.TestCase


def test_journals_that_come_make_the_end_later_but_not_for_ever() -> None:
    lifecycle = running()
    lifecycle.sending(2.0)
    assert lifecycle.deadline_s is None
    lifecycle.ended(RunEnded(PASS, 0, "the guest passed"), 3.0)
    assert lifecycle.deadline_s == 3.0 + LEAVE_S
    lifecycle.sending(4.0)
    assert lifecycle.deadline_s == 4.0 + LEAVE_S and lifecycle.due(5.5, "") == []
    lifecycle.sending(3.0 + LEAVE_WITH_JOURNALS_S)
    assert lifecycle.deadline_s == 3.0 + LEAVE_WITH_JOURNALS_S
    assert {effect.index for effect in lifecycle.due(lifecycle.deadline_s, "") if isinstance(effect, Kill)} == {
        0,
        1,
        2,
        3,
    }
    lifecycle.sending(4.0)
    assert lifecycle.deadline_s is None
