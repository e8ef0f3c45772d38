# SPDX-License-Identifier: GPL-2.0-or-later
"""The coordinator's one file with I/O: sockets, the control page, the clock.

It takes messages, turns them into events for the machines that decide (`membership`, `barrier`, `power`), and performs
their effects. On one host it is root and node in one: the node's part is what touches the control page.

One thread. Between messages it sleeps in poll, at most `_IDLE_MS`, so that its heartbeat goes on. A stop is waited for
natively, by futex, in slices: a long first one while the stop is young, then short ones with a look at the sockets in
between, since the launcher may have to say that the vCPU waited for is dead.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import zmq

from allstop.coordinator.events.events import Events
from allstop.coordinator.operators import pause
from allstop.coordinator.operators.debugging import Debugging
from allstop.coordinator.operators.operators import PAUSE_OWNER, Operators
from allstop.coordinator.world import barrier, membership
from allstop.coordinator.world import psci as power
from allstop.coordinator.world.remote_stop import RemoteHosts
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.journal.open import open_journal
from allstop.vm.wire.admission import admit_hosts, is_at_home, report_refusals
from allstop.vm.wire.channel import (
    COORDINATOR,
    DEBUGGER,
    DEVICES,
    LAUNCHER,
    OPERATOR_PREFIX,
    call,
    listen,
    worker_identity,
)
from allstop.vm.wire.codec import MalformedError, decode, encode
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_DEVICES,
    ROLE_OPERATOR,
    ROLE_WORKER,
    ROUTES,
    VERDICTS,
    Boot,
    ComponentFailed,
    EventPerformed,
    EventTriggered,
    GuestFailed,
    GuestFinished,
    Hello,
    InjectEvent,
    MembersReady,
    Message,
    Ping,
    Pong,
    PowerOn,
    ProcessLost,
    PsciCall,
    PsciReturn,
    Refused,
    ReleaseWorld,
    RunEnded,
    RunStopped,
    Shutdown,
    StateDumped,
    StopRun,
    StopWorld,
    Violated,
    Welcome,
    WorldRefused,
    WorldStopped,
)
from allstop.vm.wire.messages_hosts import HostStopped
from allstop.vm.wire.security import KnownSenders, key_of

_IDLE_MS = 200
_FIRST_SLICE_S = 0.002
_SLICE_S = 0.005
_LINGER_MS = 200
_MESSAGES_AT_ONCE = 64
_NOBODY = -1  # in a journal: an event of no vCPU

_EXPECTED = {
    (sender, kind) for kind, routes in ROUTES.items() for sender, receiver in routes if receiver == ROLE_COORDINATOR
}


class RefusedError(Exception):
    """A message that is understood but has no place here; the text says why."""


class Coordinator:
    """The coordinator of one machine. `serve` returns when the launcher says Shutdown."""

    def __init__(self, config: MachineConfig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Bind, and call the device server. Raises ChannelError."""
        self._config = config
        self._page = control.ControlPage(config.fds.control)
        self._page.set_pid(control.COORDINATOR, os.getpid())
        self._page.set_activity(control.COORDINATOR, control.ACTIVITY_IDLE)
        others = () if config.hosts is None else range(1, len(config.hosts.endpoints))
        self._members = membership.Membership(config.vcpus, bytes.fromhex(config.token), others)
        self._remote = RemoteHosts(config.hosts, self._send)
        self._local_missing: list[int] = []
        self._barrier = barrier.Barrier(config.vcpus)
        self._power = power.Power(config.vcpus, config.memory_bytes)
        self._router = listen(context, config.coordinator_endpoint, COORDINATOR)
        call(
            self._router,
            config.devices_endpoint,
            DEVICES,
            Hello(PROTOCOL_VERSION, bytes.fromhex(config.token), ROLE_COORDINATOR, 0, os.getpid()),
        )
        self._guard = admit_hosts(self._router, context, config.hosts, 1)
        self._senders = KnownSenders(self._guard)
        self._router.rcvtimeo = _IDLE_MS
        self._receive, self._more, self._emit = self._router.recv, self._router.getsockopt, self._router.send
        self._hold = barrier.Hold(0, frozenset())
        self._hold_until_s = 0.0
        self._hold_began_ns = 0
        self._stop_shown = 0
        self._journal = open_journal(config, "coordinator", ROLE_COORDINATOR)
        self._leases: dict[bytes, float] = {}
        self._operators = Operators(config, self._page, self._members.awaited, self._send, self._stop_for_operators)
        self._events = Events(
            config,
            self._page,
            self._send,
            lambda index, sentence: self._note("EVENT_REFUSED", _NOBODY, index, text=sentence),
        )
        self._debugging = Debugging(config, self._page, self._send, self._boot)
        self._calls: list[tuple[int, PsciCall]] = []  # wait until operators have left the world
        self._wait_ms = _IDLE_MS
        self._ended: RunEnded | None = None
        self._leaving = False
        self.refused: Counter[str] = Counter()

    def serve(self) -> None:
        """Work until Shutdown, then pass it on."""
        page = self._page
        while not self._leaving:
            page.beat(control.COORDINATOR)
            if self._barrier.missing:
                for _ in range(_MESSAGES_AT_ONCE):
                    if not self._take(zmq.NOBLOCK):
                        break
                if self._barrier.missing and self._remote.missing and not self._local_missing:
                    self._take(0)  # only other hosts are waited for: they will say
                if self._barrier.missing:
                    self._press_stop()
                if not self._barrier.missing:
                    page.set_activity(control.COORDINATOR, control.ACTIVITY_IDLE)
            else:
                self._take(0)
            if self._leases:
                self._check_leases()
            wait_ms = self._operators.wait_ms(self._events.wait_ms(_IDLE_MS))
            if wait_ms != self._wait_ms:
                self._router.rcvtimeo = self._wait_ms = wait_ms
            self._operators.look()
            self._events.look()
            self._debugging.look()
            self._make_up_calls()
        self._spread_shutdown()

    def close(self) -> None:
        """Close the sockets, after giving the last messages time to leave; say what was refused."""
        self._router.close(_LINGER_MS)
        if self._guard is not None:
            self._guard.close()
            self.refused["a connection without a key of this run"] += self._guard.refused
        if self._journal is not None:
            self._journal.close()
        report_refusals(self._config, "coordinator", self.refused)

    # Messages in

    def _take(self, flags: int) -> bool:
        """Take one message; False when there was none in time."""
        receive = self._receive
        try:
            identity = receive(flags)
        except zmq.Again:
            return False
        # A ROUTER never yields an identity alone. Where it may be a stranger's it matters under which key it comes.
        frame = None if self._senders.are_sure(identity) else receive(copy=False)
        data = receive() if frame is None else frame.bytes
        if self._more(zmq.RCVMORE):
            while self._more(zmq.RCVMORE):
                receive()
            self.refused["a message of several frames"] += 1
            return True
        try:
            if frame is None:
                self._judge(identity, decode(data))
            else:
                self._judge_stranger(identity, decode(data), key_of(frame))
        except MalformedError:
            self.refused["bytes that are no message"] += 1
        except (RefusedError, membership.StrangerError) as error:
            self.refused[str(error)] += 1
        except (barrier.BarrierError, power.PowerError) as error:
            self.refused[f"a peer that {error}"] += 1
            if identity.startswith(OPERATOR_PREFIX):
                self._send(identity, WorldRefused(f"refused: an operator that {error}"))
        return True

    def _judge_stranger(self, identity: bytes, message: Message, key: str) -> None:
        """Of one who may be somebody else than its name says."""
        if not self._senders.fit(identity, key):
            raise RefusedError("a message of another host than its name's")
        if isinstance(message, Hello) and not is_at_home(self._config.hosts, key, message):
            raise RefusedError("a Hello of a process of another host")
        self._judge(identity, message)
        if identity in self._members.peers:
            self._senders.know(identity, key)

    def _judge(self, identity: bytes, message: Message) -> None:
        peer = self._members.peers.get(identity)
        if peer is None:
            self._greet(identity, message)
        elif (peer.role, message.__class__) not in _EXPECTED:
            raise RefusedError(f"{message.__class__.__name__}, which is not its sender's to say")
        else:
            if peer.role == ROLE_OPERATOR and identity in self._leases:
                self._leases[identity] = time.monotonic() + self._config.operator_lease_s
            self._obey(identity, peer, message)

    def _greet(self, identity: bytes, message: Message) -> None:
        if not isinstance(message, Hello):
            raise RefusedError("a message of a stranger, before Hello")
        self._perform_membership(self._members.handle(membership.Greeted(identity, message)))
        if identity == LAUNCHER and self._ended is not None:
            self._send(LAUNCHER, self._ended)

    def _obey(self, identity: bytes, peer: membership.Peer, message: Message) -> None:
        match message:
            case StopWorld():
                vcpu = peer.vcpu if peer.role == ROLE_WORKER else None
                self._note("STOP_QUEUED", self._vcpu_of(identity), message.may_share, text=message.reason)
                self._stop(barrier.Asked(identity, vcpu, message.may_share, message.reason))
            case ReleaseWorld():
                self._note("RELEASED", self._vcpu_of(identity), message.epoch)
                self._stop(barrier.Released(identity, message.epoch))
                self._leases.pop(identity, None)
            case PsciCall() if self._operators.have_world:
                self._calls.append((peer.vcpu, message))  # else registers would change in a world that is stopped
            case PsciCall():
                self._call(peer.vcpu, message)
            case Ping(nonce):
                self._send(identity, Pong(nonce))
            case Boot():
                self._debugging.booted(message)
            case GuestFinished(status, detail):
                sentence = detail or f"the guest finished with status {status}"
                self._end("fail" if status else "pass", status, sentence)
            case GuestFailed(_, sentence):
                self._end("fail", 1, sentence)
            case Violated(_, sentence):
                self._end("violation", 1, sentence)
            case ComponentFailed(_, _, sentence):
                self._end("error", 1, sentence)
            case ProcessLost(role, vcpu, sentence):
                self._lose(role, vcpu, sentence)
            case Shutdown():
                self._leaving = True
            case Hello():
                self._greet(identity, message)
            case Pong() if peer.role == ROLE_DEVICES:
                self._end("fail", 1, "the guest powered the machine off, and had not printed EXIT: STATUS=")
            case Welcome():
                self._perform_membership(self._members.handle(membership.DevicesReached()))
            case HostStopped(hold):
                if self._remote.stopped(peer.vcpu, hold) and self._barrier.missing:
                    self._say_who_left()
            case StateDumped(nonce, registers):
                self._operators.handle(pause.Dumped(peer.vcpu, nonce, registers))
            case EventTriggered() | EventPerformed():
                self._events.take(peer.vcpu, message)
            case InjectEvent():
                self._events.inject(identity, message, not self._members.awaited, self._operators.paused)
            case StopRun():
                ending = self._ended is not None
                self._end("error", 1, f"stopped by {'the debugger' if peer.role == ROLE_DEBUGGER else 'an operator'}")
                self._send(identity, Refused("the run is ending already") if ending else RunStopped())
            case _ if peer.role in (ROLE_DEBUGGER, ROLE_WORKER):
                if not self._debugging.take(message, peer.vcpu):
                    raise RefusedError("a debugger's message about a vCPU that is another one")
            case _:
                self._operators.obey(identity, message)

    def _boot(self, message: Boot) -> None:
        self._events.boot()
        self._perform_power(self._power.handle(power.Booted(*message)))

    def _call(self, vcpu: int, message: PsciCall) -> None:
        self._note("PSCI_CALLED", vcpu, *message)
        self._notice_who_started()
        self._perform_power(self._power.handle(power.Called(vcpu, *message)))

    def _make_up_calls(self) -> None:
        """PSCI calls that came while operators had the world."""
        while self._calls and not self._operators.have_world:
            self._call(*self._calls.pop(0))

    def _notice_who_started(self) -> None:
        """A worker says in the control page that it took its PowerOn."""
        for vcpu in self._power.pending():
            if self._page.power(vcpu) == control.POWER_ON:
                self._power.handle(power.Started(vcpu))

    def _lose(self, role: int, vcpu: int, sentence: str) -> None:
        """A process is dead: the run has its verdict, and nobody waits for it."""
        if role == ROLE_WORKER:
            self._known(vcpu)
        self._note("LOST", vcpu if role == ROLE_WORKER else _NOBODY, role, text=sentence)
        self._end("lost", 1, sentence)
        self._perform_membership(self._members.handle(membership.Departed(role, vcpu)))
        if role == ROLE_WORKER:
            self._calls = [call for call in self._calls if call[0] != vcpu]
            self._perform_power(self._power.handle(power.Lost(vcpu)))
            self._leases.pop(worker_identity(vcpu), None)
            self._stop(barrier.MemberLost(vcpu))
            self._operators.handle(pause.Lost(vcpu))
            self._events.lost(vcpu)
        elif role == ROLE_DEBUGGER:
            self._stop(barrier.OwnerLost(DEBUGGER))

    def _known(self, vcpu: int) -> int:
        if vcpu >= self._config.vcpus:
            raise RefusedError("a message about a vCPU that the machine does not have")
        return vcpu

    # Effects out

    def _send(self, identity: bytes, message: Message) -> None:
        """To one peer; a peer that is gone, or takes nothing, does not get it (a ROUTER drops)."""
        self._emit(identity, zmq.SNDMORE)
        self._emit(encode(message))

    def _perform_membership(self, effects: list[membership.Effect]) -> None:
        for effect in effects:
            match effect:
                case membership.Accept(identity):
                    self._send(identity, Welcome(PROTOCOL_VERSION, os.getpid()))
                    if identity == DEBUGGER:
                        self._debugging.joined()
                case membership.AllHere():
                    self._note("MEMBERS_READY", _NOBODY)
                    self._send(LAUNCHER, MembersReady(self._config.vcpus))
                    self._debugging.all_here()

    def _perform_power(self, effects: list[power.Effect]) -> None:
        for effect in effects:
            match effect:
                case power.Answer(vcpu, value):
                    self._send(worker_identity(vcpu), PsciReturn(value))
                case power.Start(vcpu, entry, r0, r1, r2):
                    self._note("POWER_STARTED", vcpu, entry, r0)
                    self._page.set_power(vcpu, control.POWER_PENDING)
                    self._send(worker_identity(vcpu), PowerOn(entry, r0, r1, r2))
                case power.Stopped(vcpu):
                    self._note("POWER_STOPPED", vcpu)
                    self._page.set_power(vcpu, control.POWER_OFF)
                case power.End("pass") if self._config.exit_status_line:
                    self._send(DEVICES, Ping(0))  # what the guest printed before comes before its Pong
                case power.End(verdict, status, sentence):
                    self._end(verdict, status, sentence)

    def _stop(self, event: barrier.Event) -> None:
        waited = self._barrier.missing
        for effect in self._barrier.handle(event):
            match effect:
                case barrier.Hold():
                    self._hold = effect
                    if not waited:  # else the deadline of who is missing stays what it was
                        self._hold_until_s = time.monotonic() + self._config.stop_deadline_s
                        self._hold_began_ns = time.monotonic_ns()
                    self._remote.stop(effect)
                    self._look_who_left(_FIRST_SLICE_S)
                case barrier.Grant():
                    owner = effect.owner
                    if effect.epoch != self._stop_shown:  # the page counts stops, not owners
                        self._stop_shown = effect.epoch
                        self._page.next_stop_epoch()
                    if (journal := self._journal) is not None:
                        journal.span(journal.STOPPED, self._vcpu_of(owner), self._hold_began_ns, effect.epoch)
                    self._give_world(owner, effect.epoch)
                case barrier.Resume():
                    self._remote.resume()
                    self._page.resume()
                    self._note("RESUMED", _NOBODY)
                case barrier.Refuse():
                    if effect.owner == PAUSE_OWNER:
                        self._operators.handle(pause.Denied(effect.sentence))
                    elif effect.owner.startswith(OPERATOR_PREFIX):
                        self._send(effect.owner, WorldRefused(effect.sentence))
                case barrier.Failed():
                    self._end("lost", 1, self._who_is_missing(effect))

    def _give_world(self, owner: bytes, epoch: int) -> None:
        """Whoever is somebody else must give it back in time; the operator pause may keep it."""
        if owner == PAUSE_OWNER:
            self._operators.handle(pause.Granted(epoch))
            return
        self._send(owner, WorldStopped(epoch))
        if owner == DEBUGGER:
            return  # it holds the vCPUs themselves, and gives the world back
        config = self._config
        lease_s = config.operator_lease_s if owner.startswith(OPERATOR_PREFIX) else config.stop_deadline_s
        self._leases[owner] = time.monotonic() + lease_s

    def _stop_for_operators(self, event: barrier.Event) -> None:
        if isinstance(event, barrier.Asked):
            self._note("STOP_QUEUED", _NOBODY, event.may_share, text=event.reason)
        else:
            self._note("RELEASED", _NOBODY, self._barrier.epoch)
        self._stop(event)

    def _look_who_left(self, slice_s: float) -> None:
        """Post the stop in force (again, which does nothing) and wait a little for those who are still inside."""
        hold = self._hold
        self._local_missing = self._page.stop(hold.exempt, slice_s)
        self._say_who_left()

    def _say_who_left(self) -> None:
        missing = self._remote.missing.union(self._local_missing)
        if missing:
            self._page.set_activity(control.COORDINATOR, control.ACTIVITY_STOPPING, min(missing))
        self._stop(barrier.Left(self._hold.hold, missing))

    def _press_stop(self) -> None:
        """A stop takes its time: wait on, up to its deadline."""
        self._look_who_left(_SLICE_S)
        if self._barrier.missing and time.monotonic() >= self._hold_until_s:
            self._stop(barrier.Expired(self._hold.hold))

    def _check_leases(self) -> None:
        """An owner of the stopped world that does not give it back loses it; a worker that does so is broken."""
        now_s = time.monotonic()
        for owner in [owner for owner, until_s in self._leases.items() if now_s >= until_s]:
            del self._leases[owner]
            if owner.startswith(OPERATOR_PREFIX):
                silence_s = self._config.operator_lease_s
                self._send(owner, WorldRefused(f"taken back: its owner said nothing for {silence_s:g} s"))
                self._members.forget(owner)
            else:
                vcpu = self._members.peers[owner].vcpu
                self._end(
                    "lost",
                    1,
                    f"{self._describe(vcpu)} has kept the world stopped for {self._config.stop_deadline_s:g} s",
                )
            self._stop(barrier.OwnerLost(owner))

    def _describe(self, vcpu: int) -> str:
        code, _, pc, _ = self._page.activity(vcpu)
        where = f" at PC 0x{pc:08x}" if code == control.ACTIVITY_GUEST and pc else ""
        return f"vCPU {vcpu} (process {self._page.pid(vcpu)}, {self._page.describe(vcpu)}{where})"

    def _who_is_missing(self, failed: barrier.Failed) -> str:
        missing = ", ".join(self._describe(vcpu) for vcpu in sorted(failed.missing))
        owners = " and ".join(self._name(owner) for owner, _ in failed.askers)
        return (
            f"{missing} did not leave the guest within {self._config.stop_deadline_s:g} s after {owners} asked to "
            f"stop the world ({failed.askers[0][1]})"
        )

    def _name(self, owner: bytes) -> str:
        vcpu = self._vcpu_of(owner)
        if vcpu != _NOBODY:
            return f"vCPU {vcpu}"
        return f"operator {owner.decode(errors='replace')}" if owner.startswith(OPERATOR_PREFIX) else owner.decode()

    def _end(self, verdict: str, status: int, sentence: str) -> None:
        """The run is over: the first reason wins."""
        if self._ended is None:
            self._ended = RunEnded(VERDICTS.index(verdict), status, sentence)
            self._note("ENDED", _NOBODY, self._ended.verdict, status, text=sentence)
            self._send(LAUNCHER, self._ended)
            self._debugging.ended(self._ended)

    def _vcpu_of(self, owner: bytes) -> int:
        peer = self._members.peers.get(owner)  # None: the operator pause, or an operator that was forgotten
        return peer.vcpu if peer is not None and peer.role == ROLE_WORKER else _NOBODY

    def _note(self, kind: str, vcpu: int, *operands: int, text: str = "") -> None:
        """Journal an event."""
        if (journal := self._journal) is not None:
            journal.event(getattr(journal, kind), vcpu, *operands)
            journal.text(text)

    def _spread_shutdown(self) -> None:
        for identity, peer in self._members.peers.items():
            if peer.role in (ROLE_WORKER, ROLE_DEVICES, ROLE_DEBUGGER):
                self._send(identity, Shutdown())
        for vcpu in range(self._config.vcpus):
            self._page.post(vcpu, control.QUIT)
        self._page.resume()
