# SPDX-License-Identifier: GPL-2.0-or-later
"""A real coordinator on real sockets. The test is the launcher, the device server, and workers that move in the control
page as an engine would."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import zmq

from allstop.vm.control import control
from allstop.vm.wire.channel import Channel, ChannelError, worker_identity
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import (
    ALL_VCPUS,
    PROTOCOL_VERSION,
    ROLE_DEVICES,
    ROLE_OPERATOR,
    ROLE_WORKER,
    VERDICTS,
    Boot,
    ComponentFailed,
    DumpState,
    EventInjected,
    EventPerformed,
    FlushTlbs,
    GuestFailed,
    GuestFinished,
    Hello,
    InjectEvent,
    MachinePaused,
    MachineResumed,
    MembersReady,
    Message,
    PauseMachine,
    PerformEvent,
    PowerOn,
    ProcessLost,
    PsciCall,
    PsciReturn,
    QueryStatus,
    ReadMemory,
    ReadRegisters,
    Refused,
    Registers,
    ReleaseWorld,
    ResumeMachine,
    RunEnded,
    Shutdown,
    StateDumped,
    StopRun,
    StopWorld,
    Violated,
    Welcome,
    WorldRefused,
    WorldStopped,
)
from allstop.vm.wire.messages_hosts import KillVcpu

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Rig

PASS, FAIL, VIOLATION, LOST, ERROR = (VERDICTS.index(word) for word in ("pass", "fail", "violation", "lost", "error"))
CPU_OFF, CPU_ON, AFFINITY_INFO, SYSTEM_OFF = 0x8400_0002, 0x8400_0003, 0x8400_0004, 0x8400_0008
OFF, PENDING = control.POWER_OFF, control.POWER_PENDING


def enter(rig: Rig, vcpu: int) -> None:
    assert rig.page.set_mode(vcpu, control.IN_GUEST)


def leave(rig: Rig, vcpu: int) -> None:
    rig.page.set_mode(vcpu, control.OUTSIDE)


def stopped(rig: Rig, vcpu: int) -> bool:
    return bool(rig.page.requests(vcpu) & control.STOP)


# Membership and boot


def test_the_machine_is_ready_when_the_last_member_is_there(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    launcher = rig.launcher()
    rig.worker(1)
    rig.welcome_as_devices()
    rig.fence(launcher)
    rig.worker(0)
    rig.expect(launcher, MembersReady(2))


def test_a_run_from_boot_to_shutdown_leaves_nobody_uninformed(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    workers = rig.start_machine()
    assert rig.page.pid(control.COORDINATOR) == rig.process.pid
    rig.devices_send(GuestFinished(0, "vCPU 0 wrote 0"))
    rig.expect(rig.launched, RunEnded(PASS, 0, "vCPU 0 wrote 0"))
    assert rig.leave() == ""
    for worker in workers:
        rig.expect(worker, Shutdown())
    assert rig.devices_receive() == (b"coordinator", Shutdown())
    assert all(rig.page.requests(vcpu) & control.QUIT for vcpu in range(2))


def test_a_wrong_token_opens_nothing_and_harms_nobody(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    rig.start_machine()
    with pytest.raises(ChannelError, match="token"):
        Channel.open(
            rig.context,
            rig.config.coordinator_endpoint,
            worker_identity(0) + b"x",
            "00" * 16,
            ROLE_WORKER,
            deadline_s=0.2,
        )
    rig.fence(rig.launched)
    assert "wrong token" in rig.leave()


# PSCI


def test_switching_a_vcpu_on_and_off(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    first, second = rig.start_machine()
    assert rig.page.power(0) == PENDING
    first.send(PsciCall(CPU_ON, 1, 0x4000_1000, 7))
    rig.expect(second, PowerOn(0x4000_1000, 7, 0, 0))
    rig.expect(first, PsciReturn(0))
    assert rig.page.power(1) == PENDING
    first.send(PsciCall(AFFINITY_INFO, 1, 0, 0))
    rig.expect(first, PsciReturn(2))
    rig.page.set_power(1, control.POWER_ON)  # what its worker does when it starts
    first.send(PsciCall(AFFINITY_INFO, 1, 0, 0))
    rig.expect(first, PsciReturn(0))
    second.send(PsciCall(CPU_OFF, 0, 0, 0))
    rig.until(lambda: rig.page.power(1) == OFF)
    rig.fence(second)


def test_powering_the_machine_off_passes(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    (worker,) = rig.start_machine()
    worker.send(PsciCall(SYSTEM_OFF, 0, 0, 0))
    rig.expect(rig.launched, RunEnded(PASS, 0, "the guest powered the machine off"))
    rig.fence(worker)


# The end of a run


def test_the_device_servers_oracle_ends_the_run_too(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    rig.start_machine()
    rig.devices_send(Violated(0, "an access was lost"))
    rig.expect(rig.launched, RunEnded(VIOLATION, 1, "an access was lost"))


@pytest.mark.parametrize(
    ("message", "ended"),
    [
        (GuestFailed(0, "no vectors"), RunEnded(FAIL, 1, "no vectors")),
        (Violated(0, "wrong bytes"), RunEnded(VIOLATION, 1, "wrong bytes")),
        (ComponentFailed(ROLE_WORKER, 0, "engine broke"), RunEnded(ERROR, 1, "engine broke")),
        (PsciCall(CPU_OFF, 0, 0, 0), RunEnded(FAIL, 1, "every vCPU is off and nothing can wake one")),
    ],
)
def test_a_worker_can_end_the_run_and_the_first_reason_wins(
    start_rig: Callable[..., Rig], message: Message, ended: RunEnded
) -> None:
    rig = start_rig(1)
    (worker,) = rig.start_machine()
    worker.send(message)
    rig.expect(rig.launched, ended)
    rig.devices_send(GuestFinished(3, ""))
    worker.send(GuestFailed(0, "too late"))
    rig.fence(worker)
    rig.fence(rig.launched)


def test_the_device_server_can_end_the_run(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    rig.start_machine()
    rig.devices_send(GuestFinished(3, ""))
    rig.expect(rig.launched, RunEnded(FAIL, 3, "the guest finished with status 3"))


def test_a_launcher_that_comes_late_is_told(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    worker = rig.worker(0)
    worker.send(ComponentFailed(ROLE_WORKER, 0, "no engine"))
    rig.fence(worker)
    rig.expect(rig.launcher(), RunEnded(ERROR, 1, "no engine"))


# Stopping the world


def test_the_world_is_granted_when_everybody_has_left_and_resumes_after(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(3)
    owner = rig.start_machine()[0]
    enter(rig, 1)
    enter(rig, 2)
    owner.send(StopWorld("test", False))
    rig.until(lambda: stopped(rig, 1) and stopped(rig, 2))
    assert not stopped(rig, 0), "the owner need not be asked"
    leave(rig, 1)
    rig.fence(owner)  # not granted: vCPU 2 is inside
    rig.until(lambda: rig.page.describe(control.COORDINATOR) == "stopping the world, vCPUs missing: 2")
    leave(rig, 2)
    rig.expect(owner, WorldStopped(1))
    assert not rig.page.set_mode(1, control.IN_GUEST), "no vCPU enters a stopped world"
    leave(rig, 1)
    rig.until(lambda: rig.page.describe(control.COORDINATOR) == "idle")
    owner.send(ReleaseWorld(1))
    rig.until(lambda: not stopped(rig, 1) and not stopped(rig, 2))
    enter(rig, 1)


def test_readers_share_and_a_writer_waits_its_turn(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(3)
    first, second, third = rig.start_machine()
    first.send(StopWorld("read", True))
    rig.expect(first, WorldStopped(1))
    second.send(StopWorld("read", True))
    rig.expect(second, WorldStopped(1))
    third.send(StopWorld("write", False))
    first.send(ReleaseWorld(1))
    rig.fence(third)
    assert stopped(rig, 0), "the reader that is done waits for the other one"
    second.send(ReleaseWorld(1))
    rig.expect(third, WorldStopped(2))
    third.send(ReleaseWorld(2))
    rig.until(lambda: rig.page.epochs()[0] == 2)  # two stops for three owners
    rig.until(lambda: not any(stopped(rig, vcpu) for vcpu in range(3)))


def test_the_heartbeat_goes_on_in_a_long_stop_and_without_work(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    owner = rig.start_machine()[0]
    for prepare in (lambda: enter(rig, 1), lambda: owner.send(StopWorld("long", False))):
        prepare()
        beats = rig.page.heartbeat(control.COORDINATOR)
        started = time.monotonic()
        rig.until(lambda beats=beats: rig.page.heartbeat(control.COORDINATOR) >= beats + 3)
        assert time.monotonic() - started < 2


def test_a_member_that_dies_in_the_middle_of_a_stop_ends_it(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(3)
    owner = rig.start_machine()[0]
    enter(rig, 1)
    enter(rig, 2)
    owner.send(StopWorld("test", False))
    rig.until(lambda: stopped(rig, 1))
    leave(rig, 2)
    died = time.monotonic()
    rig.launched.send(ProcessLost(ROLE_WORKER, 1, "vcpu-1 was killed by SIGKILL"))
    rig.expect(rig.launched, RunEnded(LOST, 1, "vcpu-1 was killed by SIGKILL"))
    rig.expect(owner, WorldStopped(1))
    assert time.monotonic() - died < 2
    owner.send(ReleaseWorld(1))
    rig.until(lambda: not stopped(rig, 2))
    rig.fence(owner)
    assert not stopped(rig, 2), "and STOP is not posted again"


def test_an_owner_that_dies_gives_the_world_back(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    owner = rig.start_machine()[0]
    owner.send(StopWorld("test", False))
    rig.expect(owner, WorldStopped(1))
    assert stopped(rig, 1)
    rig.launched.send(ProcessLost(ROLE_WORKER, 0, "vcpu-0 left"))
    rig.until(lambda: not stopped(rig, 1))


def test_a_member_that_dies_while_it_is_waited_for_does_not_stop_the_others_for_ever(
    start_rig: Callable[..., Rig],
) -> None:
    """The asker of a stop dies while vCPU 1 is inside: the stop is void, and vCPU 1 goes on."""
    rig = start_rig(2)
    owner = rig.start_machine()[0]
    enter(rig, 1)
    owner.send(StopWorld("test", False))
    rig.until(lambda: stopped(rig, 1))
    rig.launched.send(ProcessLost(ROLE_WORKER, 0, "vcpu-0 left"))
    rig.expect(rig.launched, RunEnded)
    rig.fence(rig.launched)
    assert not stopped(rig, 1)


def test_a_vcpu_that_does_not_leave_is_named(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(3, stop_deadline_s=0.3)
    owner = rig.start_machine()[0]
    operator = rig.operator()
    rig.page.set_pid(2, 4711)
    rig.page.set_activity(2, control.ACTIVITY_GUEST, pc=0x4000_1234)
    enter(rig, 2)
    started = time.monotonic()
    owner.send(StopWorld("a fetch", False))
    rig.until(lambda: stopped(rig, 1))
    operator.send(StopWorld("to look", False))
    rig.expect(
        rig.launched,
        RunEnded(
            LOST,
            1,
            "vCPU 2 (process 4711, in the guest at PC 0x40001234) did not leave the guest within 0.3 s after "
            "vCPU 0 asked to stop the world (a fetch)",
        ),
    )
    assert 0.25 < time.monotonic() - started < 2
    rig.expect(operator, WorldRefused)


def test_who_joins_a_stop_does_not_give_the_missing_more_time(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(3, stop_deadline_s=1.0)
    first, second, _ = rig.start_machine()
    enter(rig, 2)
    started = time.monotonic()
    first.send(StopWorld("read", True))
    rig.until(lambda: time.monotonic() > started + 0.8)
    second.send(StopWorld("read", True))
    rig.expect(rig.launched, RunEnded)
    assert time.monotonic() - started < 1.7


def test_a_worker_that_keeps_the_world_is_named(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2, stop_deadline_s=0.3)
    owner = rig.start_machine()[1]
    owner.send(StopWorld("test", False))
    rig.expect(owner, WorldStopped(1))
    ended = rig.expect(rig.launched, RunEnded)
    assert isinstance(ended, RunEnded) and ended.verdict == LOST
    assert ended.sentence.startswith("vCPU 1 (process 0, ") and "kept the world stopped for 0.3 s" in ended.sentence
    rig.until(lambda: not stopped(rig, 0))


def test_an_owner_that_releases_in_time_is_not_blamed_later(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2, stop_deadline_s=0.2)
    owner, other = rig.start_machine()
    owner.send(StopWorld("test", False))
    rig.expect(owner, WorldStopped(1))
    owner.send(ReleaseWorld(1))
    other.send(StopWorld("test", False))
    rig.expect(other, WorldStopped(2))
    ended = rig.expect(rig.launched, RunEnded)
    assert isinstance(ended, RunEnded) and ended.sentence.startswith("vCPU 1 ")


def test_an_operator_that_goes_silent_loses_the_world_and_one_that_pings_keeps_it(
    start_rig: Callable[..., Rig],
) -> None:
    rig = start_rig(1, operator_lease_s=0.4)
    rig.start_machine()
    operator = rig.operator()
    operator.send(StopWorld("to look", False))
    rig.expect(operator, WorldStopped(1))
    kept_until = time.monotonic() + 0.9
    rig.until(lambda: (rig.fence(operator), time.monotonic() > kept_until)[1])
    assert stopped(rig, 0)
    refused = rig.expect(operator, WorldRefused)
    assert isinstance(refused, WorldRefused) and "said nothing for 0.4 s" in refused.sentence
    rig.until(lambda: not stopped(rig, 0))
    operator.send(ReleaseWorld(1))  # it is a stranger now, until it says Hello again
    rig.fence(rig.launched)
    assert "1 x a message of a stranger, before Hello" in rig.leave()


def test_an_operator_is_told_what_it_did_wrong(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    rig.start_machine()
    operator = rig.operator()
    operator.send(ReleaseWorld(5))
    rig.expect(operator, WorldRefused)
    operator.send(StopWorld("to look", False))
    rig.expect(operator, WorldStopped(1))
    operator.send(StopWorld("to look again", False))
    rig.expect(operator, WorldRefused)
    operator.send(ReleaseWorld(1))
    rig.until(lambda: not stopped(rig, 0))


# Peers that do not speak our protocol


def test_garbage_harms_nobody(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    (worker,) = rig.start_machine()
    stranger = rig.context.socket(zmq.DEALER)
    stranger.linger = 0
    stranger.setsockopt(zmq.IDENTITY, b"op-9")
    stranger.connect(rig.config.coordinator_endpoint)
    for socket in (stranger, worker.socket):
        for junk in (b"", b"\xff" * 100, b"\x91\x01", bytes(range(64)), encode(Shutdown()) + b"\0"):
            socket.send(junk)
        # The second pair looks like a message that the launcher might send.
        socket.send_multipart((encode(PsciReturn(0)), b"launcher", encode(Shutdown())))
        socket.send_multipart((b"", b""))
    stranger.send(encode(Shutdown()))
    rig.devices.send_multipart((b"coordinator", b"\xc1"))
    stranger.send(encode(Hello(PROTOCOL_VERSION, bytes.fromhex(rig.config.token), ROLE_OPERATOR, 0, os.getpid())))
    assert stranger.poll(10_000) and decode(stranger.recv()).__class__ is Welcome, "no longer a stranger, and no other"
    rig.fence(worker)
    stranger.close()
    errors = rig.leave()
    assert "11 x a malformed message" in errors
    assert "4 x a message of several frames" in errors
    assert "1 x a message of a stranger, before Hello" in errors


def test_nobody_speaks_for_another(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    (worker,) = rig.start_machine()
    operator = rig.operator()
    others = (
        Boot(0x4000_0000, 0, 0),
        ProcessLost(ROLE_DEVICES, 0, "not true"),
        Shutdown(),
        GuestFinished(0, "not true"),
        RunEnded(0, 0, "not true"),
        WorldStopped(1),
    )
    for message in others:
        worker.send(message)
        operator.send(message)
    rig.fence(worker)
    rig.fence(operator)
    rig.fence(rig.launched)
    assert rig.page.line(0) == 0
    assert rig.leave().count("which is not its sender's to send") == len(others)


def test_an_identity_can_not_be_taken_over(start_rig: Callable[..., Rig]) -> None:
    """A second peer that connects as w0 while w0 is there gets no message of w0's, and cannot speak as it."""
    rig = start_rig(1)
    (worker,) = rig.start_machine()
    thief = rig.context.socket(zmq.DEALER)
    thief.linger = 0
    thief.setsockopt(zmq.IDENTITY, worker_identity(0))
    thief.connect(rig.config.coordinator_endpoint)
    thief.send(encode(GuestFailed(0, "not true")))
    worker.send(PsciCall(0x8400_0000, 0, 0, 0))
    rig.expect(worker, PsciReturn(2))
    rig.fence(rig.launched)
    assert not thief.poll(0)
    thief.close()


def test_an_address_that_is_taken_is_one_sentence_on_stderr(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    rig.start_machine()
    second = rig.spawn()
    _, errors = second.communicate(timeout=10)
    assert second.returncode == 1
    assert errors.startswith(f"coordinator: cannot listen on {rig.config.coordinator_endpoint}: Address already in use")
    assert errors.count("\n") == 1


# Operators' requests


def test_a_pause_outlives_its_operator_and_its_lease_and_workers_queue_behind_it(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2, operator_lease_s=0.2)
    worker = rig.start_machine()[0]
    operator = rig.operator()
    operator.send(PauseMachine())
    rig.expect(operator, MachinePaused(1))
    operator.close()
    worker.send(StopWorld("to fetch", True))
    beyond_s = time.monotonic() + 0.5
    rig.until(lambda: (rig.fence(worker), time.monotonic() > beyond_s)[1])  # nothing but Pong comes
    assert stopped(rig, 0) and stopped(rig, 1)
    other = rig.operator(b"op-2")
    other.send(ResumeMachine())
    rig.expect(other, MachineResumed())
    rig.expect(worker, WorldStopped(2))
    worker.send(ReleaseWorld(2))
    rig.until(lambda: not stopped(rig, 1))
    rig.leave()


def test_a_vcpu_that_does_not_tell_its_registers_is_not_waited_for_for_ever(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2, stop_deadline_s=0.3)
    workers = rig.start_machine()
    operator = rig.operator()
    operator.send(ReadRegisters(ALL_VCPUS))
    asked = [rig.expect(worker, DumpState) for worker in workers]
    assert all(rig.page.requests(vcpu) & control.EVENT and stopped(rig, vcpu) for vcpu in range(2))
    workers[1].send(StateDumped(asked[1].nonce, b"{}"))
    rig.expect(operator, Registers(1, b"{}"))
    assert "vCPU 0" in rig.expect(operator, Refused).sentence
    rig.until(lambda: not stopped(rig, 0) and not stopped(rig, 1))
    workers[0].send(StateDumped(asked[0].nonce, b"{}"))  # too late
    rig.fence(workers[0])
    rig.fence(operator)
    assert rig.leave() == ""


def test_a_lost_vcpu_is_refused_and_the_others_answer(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(2)
    workers = rig.start_machine()
    operator = rig.operator()
    operator.send(ReadRegisters(ALL_VCPUS))
    asked = rig.expect(workers[0], DumpState)
    rig.launched.send(ProcessLost(ROLE_WORKER, 1, "vcpu-1 was killed"))
    assert "vCPU 1" in rig.expect(operator, Refused).sentence
    workers[0].send(StateDumped(asked.nonce, b"{}"))
    rig.expect(operator, Registers(0, b"{}"))
    operator.send(StopRun())
    assert "ending already" in rig.expect(operator, Refused).sentence
    rig.leave()


def test_a_question_that_a_worker_looked_for_too_early_is_announced_again(start_rig: Callable[..., Rig]) -> None:
    """It is in the guest again, and may stay there: without a reminder the operator would wait forever."""
    rig = start_rig(1)
    worker = rig.start_machine()[0]
    operator = rig.operator()
    operator.send(ReadRegisters(0))
    asked = rig.expect(worker, DumpState)
    rig.page.clear(0, control.EVENT)
    rig.until(lambda: bool(rig.page.requests(0) & control.EVENT))
    worker.send(StateDumped(asked.nonce, b"{}"))
    rig.expect(operator, Registers(0, b"{}"))
    operator.send(InjectEvent(0, '{"action": "stall", "for_ms": 1}'))
    event = rig.expect(worker, PerformEvent)
    rig.page.clear(0, control.EVENT)
    rig.until(lambda: bool(rig.page.requests(0) & control.EVENT))
    worker.send(EventPerformed(event.nonce, ""))
    rig.expect(operator, EventInjected())
    rig.leave()


def test_no_psci_call_is_over_while_operators_have_the_world(start_rig: Callable[..., Rig]) -> None:
    """Its result would change the caller's registers, and those of the vCPU that it switches on, in a world that is
    stopped."""
    rig = start_rig(2)
    workers = rig.start_machine()
    rig.page.set_power(0, control.POWER_ON)
    operator = rig.operator()
    operator.send(PauseMachine())
    rig.expect(operator, MachinePaused)
    workers[0].send(PsciCall(CPU_ON, 1, 0x4001_0000, 0))
    rig.fence(workers[0])
    assert rig.page.power(1) == OFF
    operator.send(ReadRegisters(ALL_VCPUS))
    for worker in workers:  # this is what each hears first
        worker.send(StateDumped(rig.expect(worker, DumpState).nonce, b"{}"))
    operator.send(ResumeMachine())
    rig.expect(workers[0], PsciReturn(0))
    rig.expect(workers[1], PowerOn)
    rig.leave()


def test_what_operators_ask_wrongly_is_refused_in_words(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    operator = rig.operator()
    operator.send(ReadRegisters(0))
    assert "not yet up" in rig.expect(operator, Refused).sentence
    rig.start_machine()
    for request, word in (
        (ReadRegisters(1), "no vCPU 1"),
        (ReadMemory(0x4000_0000, 0), "at once"),
        (ReadMemory(0x4000_0000, 65537), "at once"),
        (ReadMemory(0x400F_FFFF, 2), "memory"),
        (ReadMemory(0, 4), "memory"),
        (ResumeMachine(), "not paused"),
        (KillVcpu(0), "on this host"),
        (KillVcpu(1), "no vCPU 1"),
    ):
        operator.send(request)
        assert word in rig.expect(operator, Refused).sentence
    rig.leave()


def test_what_is_an_operators_to_ask_is_nobody_elses(start_rig: Callable[..., Rig]) -> None:
    rig = start_rig(1)
    worker = rig.start_machine()[0]
    for request in (PauseMachine(), StopRun(), ReadMemory(0x4000_0000, 4), FlushTlbs(), QueryStatus(), KillVcpu(0)):
        worker.send(request)
    rig.fence(worker)
    assert "not its sender's to send" in rig.leave()
