# SPDX-License-Identifier: GPL-2.0-or-later
"""The coordinator: it takes messages, gives them to the parts that decide, and performs what these want.

Stops of the world are in `world.stops`, with power (`world.psci`) and membership beside them; operators, events and
debuggers have a part each. On one host the coordinator is root and node in one: the node's part is what touches the
control page.

One thread. Between messages it sleeps in its socket, at most `_IDLE_MS`, so that its heartbeat goes on.
"""

from __future__ import annotations

import os

import zmq

from allstop.coordinator.events.events import Events
from allstop.coordinator.operators import pause
from allstop.coordinator.operators.debugging import Debugging
from allstop.coordinator.operators.operators import PAUSE_OWNER, Operators
from allstop.coordinator.world import barrier, membership
from allstop.coordinator.world import psci as power
from allstop.coordinator.world.stops import Stops
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.journal.open import open_journal
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import NO_VCPU, Telemetry
from allstop.vm.wire.admission import Admission, HelloGate, Peer, RefusedError, may_send
from allstop.vm.wire.channel import COORDINATOR, DEBUGGER, DEVICES, LAUNCHER, OPERATOR_PREFIX, worker_identity
from allstop.vm.wire.messages import (
    PROTOCOL_VERSION,
    ROLE_COORDINATOR,
    ROLE_DEBUGGER,
    ROLE_DEVICES,
    ROLE_OPERATOR,
    ROLE_WORKER,
    VERDICTS,
    Boot,
    ComponentFailed,
    EventPerformed,
    EventTriggered,
    GuestFailed,
    GuestFinished,
    Hello,
    HostStopped,
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
from allstop.vm.wire.server import Callee, HostsListener, Server

_IDLE_MS = 200
_LINGER_MS = 200


class Coordinator:
    """The coordinator of one machine. `serve` returns when the launcher says Shutdown."""

    def __init__(self, config: MachineConfig, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Bind, and call the device server. Raises ChannelError."""
        self._config = config
        token = bytes.fromhex(config.token)
        hello = Hello(PROTOCOL_VERSION, token, ROLE_COORDINATOR, 0, os.getpid())
        self._control_page = control_page = control.ControlPage(config.fds.control)
        control_page.set_pid(control.COORDINATOR, os.getpid())
        self._admission = Admission(
            HelloGate(ROLE_COORDINATOR, token, config.vcpus, Peer, config.hosts),
            {DEVICES: Peer(ROLE_DEVICES, 0, 0, may_send(ROLE_DEVICES, ROLE_COORDINATOR))},
        )
        self._peers = self._admission.peers
        self._server = Server(
            context,
            self._admission,
            self._obey,
            config.coordinator_endpoint,
            HostsListener.of(config.hosts, 1),
            Callee(config.devices_endpoint, DEVICES, COORDINATOR, hello),
        )
        self._server.wait_at_most(_IDLE_MS)
        self._send = send = self._server.send
        self._telemetry = Telemetry(
            control_page, control.COORDINATOR, open_journal(config, "coordinator", ROLE_COORDINATOR)
        )
        self._telemetry.activity(control.ACTIVITY_IDLE)
        others = () if config.hosts is None else range(1, len(config.hosts.endpoints))
        self._members = membership.Membership(config.vcpus, others)
        self._power = power.Power(config.vcpus, config.memory_bytes)
        self._stops = Stops(
            config,
            control_page,
            self._telemetry,
            self._peers,
            send,
            self._tell_owner,
            self._admission.forget,
            self._end,
            frozenset({PAUSE_OWNER, DEBUGGER}),  # a debugger holds the vCPUs themselves, and gives the world back
        )
        self._operators = Operators(config, control_page, self._members.awaited, send, self._stops)
        self._events = Events(config, control_page, send, self._telemetry)
        self._debugging = Debugging(config, control_page, send, self._boot)
        self._calls: list[tuple[int, PsciCall]] = []  # wait until operators have left the world
        self._ended: RunEnded | None = None
        self._leaving = False

    def serve(self) -> None:
        """Work until Shutdown, then pass it on."""
        server, stops = self._server, self._stops
        while not self._leaving:
            self._control_page.beat(control.COORDINATOR)
            if stops.under_way:
                server.take_waiting()
                if stops.under_way and stops.awaits_only_hosts:
                    server.take()
                if stops.under_way:
                    stops.press()
                if not stops.under_way:
                    self._telemetry.activity(control.ACTIVITY_IDLE)
            else:
                server.take()
            stops.check_leases()
            server.wait_at_most(self._operators.wait_ms(self._events.wait_ms(_IDLE_MS)))
            self._operators.look()
            self._events.look()
            self._debugging.look()
            self._make_up_calls()
        self._spread_shutdown()

    def close(self) -> None:
        """Close the sockets, after giving the last messages time to leave; say what was refused."""
        self._server.close(_LINGER_MS)
        self._telemetry.close()
        self._server.report_refusals(self._config, "coordinator")

    # Messages in

    def _obey(self, identity: bytes, peer: Peer, message: Message) -> None:
        """Do what an admitted peer says. Raises RefusedError."""
        is_operator = peer.role == ROLE_OPERATOR
        if is_operator:
            self._stops.heard(identity)
        try:
            self._do(identity, peer, message)
        except (barrier.BarrierError, power.PowerError) as error:
            if is_operator:
                self._send(identity, WorldRefused(f"refused: an operator that {error}"))
            raise RefusedError(f"a peer that {error}") from None

    def _do(self, identity: bytes, peer: Peer, message: Message) -> None:
        match message:
            case StopWorld(reason, may_share):
                self._stops.ask(identity, peer.vcpu if peer.role == ROLE_WORKER else None, may_share, reason)
            case ReleaseWorld(epoch):
                self._stops.release(identity, epoch)
            case PsciCall() if self._operators.have_world:
                self._calls.append((peer.vcpu, message))  # else registers would change in a world that is stopped
            case PsciCall():
                self._call(peer.vcpu, message)
            case Ping():
                pass  # the server has answered
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
                self._joined(identity, peer)
            case Pong() if peer.role == ROLE_DEVICES:
                self._end("fail", 1, "the guest powered the machine off, and had not printed EXIT: STATUS=")
            case Welcome():
                self._perform_membership(self._members.handle(membership.DevicesReached()))
            case HostStopped(hold):
                self._stops.host_stopped(peer.vcpu, hold)
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

    def _joined(self, identity: bytes, peer: Peer) -> None:
        """A peer was admitted, for the first time or again."""
        if identity == DEBUGGER:
            self._debugging.joined()
        self._perform_membership(self._members.handle(membership.Joined(peer.role, peer.vcpu)))
        if identity == LAUNCHER and self._ended is not None:
            self._send(LAUNCHER, self._ended)

    def _boot(self, message: Boot) -> None:
        self._events.boot()
        self._perform_power(self._power.handle(power.Booted(*message)))

    def _call(self, vcpu: int, message: PsciCall) -> None:
        self._telemetry.note(Recorder.PSCI_CALLED, vcpu, *message)
        self._notice_who_started()
        self._perform_power(self._power.handle(power.Called(vcpu, *message)))

    def _make_up_calls(self) -> None:
        """PSCI calls that came while operators had the world."""
        while self._calls and not self._operators.have_world:
            self._call(*self._calls.pop(0))

    def _notice_who_started(self) -> None:
        """A worker says in the control page that it took its PowerOn."""
        for vcpu in self._power.pending():
            if self._control_page.power(vcpu) == control.POWER_ON:
                self._power.handle(power.Started(vcpu))

    def _lose(self, role: int, vcpu: int, sentence: str) -> None:
        """A process is dead: the run has its verdict, and nothing waits for the process any more."""
        if role == ROLE_WORKER and vcpu >= self._config.vcpus:
            raise RefusedError("a message about a vCPU that the machine does not have")
        self._telemetry.note(Recorder.LOST, vcpu if role == ROLE_WORKER else NO_VCPU, role, text=sentence)
        self._end("lost", 1, sentence)
        self._perform_membership(self._members.handle(membership.Departed(role, vcpu)))
        if role == ROLE_WORKER:
            self._calls = [call for call in self._calls if call[0] != vcpu]
            self._perform_power(self._power.handle(power.Lost(vcpu)))
            self._stops.worker_lost(vcpu, worker_identity(vcpu))
            self._operators.handle(pause.Lost(vcpu))
            self._events.lost(vcpu)
        elif role == ROLE_DEBUGGER:
            self._stops.owner_lost(DEBUGGER)

    # Effects out

    def _perform_membership(self, effects: list[membership.Effect]) -> None:
        for _ in effects:
            self._telemetry.note(Recorder.MEMBERS_READY, NO_VCPU)
            self._send(LAUNCHER, MembersReady(self._config.vcpus))
            self._debugging.all_here()

    def _perform_power(self, effects: list[power.Effect]) -> None:
        for effect in effects:
            match effect:
                case power.Answer(vcpu, value):
                    self._send(worker_identity(vcpu), PsciReturn(value))
                case power.Start(vcpu, entry, r0, r1, r2):
                    self._telemetry.note(Recorder.POWER_STARTED, vcpu, entry, r0)
                    self._control_page.set_power(vcpu, control.POWER_PENDING)
                    self._send(worker_identity(vcpu), PowerOn(entry, r0, r1, r2))
                case power.Stopped(vcpu):
                    self._telemetry.note(Recorder.POWER_STOPPED, vcpu)
                    self._control_page.set_power(vcpu, control.POWER_OFF)
                case power.End("pass") if self._config.exit_status_line:
                    self._send(DEVICES, Ping(0))  # what the guest printed before comes before its Pong
                case power.End(verdict, status, sentence):
                    self._end(verdict, status, sentence)

    def _tell_owner(self, owner: bytes, message: WorldStopped | WorldRefused) -> None:
        """An owner has the world, or will not have it. Workers are not told the latter: the run is over for them."""
        match message:
            case WorldStopped(epoch) if owner == PAUSE_OWNER:
                self._operators.handle(pause.Granted(epoch))
            case WorldRefused(sentence) if owner == PAUSE_OWNER:
                self._operators.handle(pause.Denied(sentence))
            case _ if isinstance(message, WorldStopped) or owner.startswith(OPERATOR_PREFIX):
                self._send(owner, message)

    def _end(self, verdict: str, status: int, sentence: str) -> None:
        """The run is over: the first reason wins."""
        if self._ended is None:
            self._ended = RunEnded(VERDICTS.index(verdict), status, sentence)
            self._telemetry.note(Recorder.ENDED, NO_VCPU, self._ended.verdict, status, text=sentence)
            self._send(LAUNCHER, self._ended)
            self._debugging.ended(self._ended)

    def _spread_shutdown(self) -> None:
        for identity, peer in self._peers.items():
            if peer.role in (ROLE_WORKER, ROLE_DEVICES, ROLE_DEBUGGER):
                self._send(identity, Shutdown())
        for vcpu in range(self._config.vcpus):
            self._control_page.post(vcpu, control.QUIT)
        self._control_page.resume()
