# SPDX-License-Identifier: GPL-2.0-or-later
"""Stops of the world, performed: the barrier decides, and this is where its effects reach the vCPUs.

A stop goes out to the control page of this host and to the nodes of the others. The coordinator waits for it natively,
by futex, in slices: a long first one while the stop is young, then short ones with a look at the sockets in between,
since the launcher may have to say that the vCPU waited for is dead. A stop has a deadline, and its owner a lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from allstop.coordinator.world import barrier
from allstop.coordinator.world.remote_stop import RemoteHosts
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import NO_VCPU, Telemetry
from allstop.vm.wire.admission import Peer
from allstop.vm.wire.channel import OPERATOR_PREFIX
from allstop.vm.wire.messages import ROLE_WORKER, Message, WorldRefused, WorldStopped

_FIRST_SLICE_S = 0.002
_SLICE_S = 0.005


class Stops:
    """The stops of one machine.

    `peers` are the coordinator's; `send(identity, message)` sends; `tell(owner, message)` tells an owner that it has
    the world or will not have it; `forget(operator)` forgets one that went silent; `end(verdict, status, sentence)`
    ends the run. Owners in `unleased` may keep the world for as long as they like.
    """

    def __init__(
        self,
        config: MachineConfig,
        control_page: ControlPage,
        telemetry: Telemetry,
        peers: Mapping[bytes, Peer],
        send: Callable[[bytes, Message], None],
        tell: Callable[[bytes, WorldStopped | WorldRefused], None],
        forget: Callable[[bytes], None],
        end: Callable[[str, int, str], None],
        unleased: frozenset[bytes],
    ) -> None:
        self._config = config
        self._control_page = control_page
        self._telemetry = telemetry
        self._stopped = telemetry.step(record=Recorder.STOPPED)
        self._peers = peers
        self._send = send
        self._tell = tell
        self._forget = forget
        self._end = end
        self._unleased = unleased
        self._barrier = barrier.Barrier(config.vcpus)
        self._remote = RemoteHosts(config.hosts, send)
        self._local_missing: list[int] = []
        self._hold = barrier.Hold(0, frozenset())
        self._hold_until_s = 0.0
        self._hold_began_ns = 0
        self._epoch_shown = 0
        self._leases: dict[bytes, float] = {}

    @property
    def under_way(self) -> bool:
        """Whether a stop waits for vCPUs to leave the guest."""
        return bool(self._barrier.missing)

    @property
    def awaits_only_hosts(self) -> bool:
        """Whether these are all on other hosts, whose nodes will say when they have left."""
        return bool(self._remote.missing) and not self._local_missing

    # Inputs

    def ask(self, owner: bytes, vcpu: int | None, may_share: bool, reason: str) -> None:
        """`owner` asks for the world; `vcpu` is its vCPU, if it is a worker. Raises BarrierError."""
        self._telemetry.note(Recorder.STOP_QUEUED, self.vcpu_of(owner), may_share, text=reason)
        self._handle(barrier.Asked(owner, vcpu, may_share, reason))

    def release(self, owner: bytes, epoch: int) -> None:
        """`owner` is done with stop `epoch`. Raises BarrierError."""
        self._telemetry.note(Recorder.RELEASED, self.vcpu_of(owner), epoch)
        self._handle(barrier.Released(owner, epoch))
        self._leases.pop(owner, None)

    def leave(self, owner: bytes) -> None:
        """`owner` is done, or no longer asks."""
        self._telemetry.note(Recorder.RELEASED, self.vcpu_of(owner), self._barrier.epoch)
        self._handle(barrier.OwnerLost(owner))

    def heard(self, operator: bytes) -> None:
        """An operator has said something: if it has the world, its lease begins anew."""
        if operator in self._leases:
            self._leases[operator] = time.monotonic() + self._config.operator_lease_s

    def host_stopped(self, host: int, hold: int) -> None:
        """A host's vCPUs have left the guest."""
        if self._remote.stopped(host, hold) and self._barrier.missing:
            self._say_who_left()

    def worker_lost(self, vcpu: int, worker: bytes) -> None:
        """The process of a vCPU is dead."""
        self._leases.pop(worker, None)
        self._handle(barrier.MemberLost(vcpu))

    def owner_lost(self, owner: bytes) -> None:
        """An owner that is no vCPU's worker is dead."""
        self._handle(barrier.OwnerLost(owner))

    def press(self) -> None:
        """A stop takes its time: wait on for a slice, up to the deadline."""
        self._look_who_left(_SLICE_S)
        if self._barrier.missing and time.monotonic() >= self._hold_until_s:
            self._handle(barrier.Expired(self._hold.hold))

    def check_leases(self) -> None:
        """An owner of the stopped world that does not give it back loses it; a worker that does so is broken."""
        if not self._leases:
            return
        now_s = time.monotonic()
        for owner in [owner for owner, until_s in self._leases.items() if now_s >= until_s]:
            del self._leases[owner]
            if owner.startswith(OPERATOR_PREFIX):
                silence_s = self._config.operator_lease_s
                self._send(owner, WorldRefused(f"taken back: its owner said nothing for {silence_s:g} s"))
                self._forget(owner)
            else:
                kept_s = self._config.stop_deadline_s
                vcpu = self._describe(self._peers[owner].vcpu)
                self._end("lost", 1, f"{vcpu} has kept the world stopped for {kept_s:g} s")
            self._handle(barrier.OwnerLost(owner))

    # Effects

    def _handle(self, given: barrier.Input) -> None:
        waited = self._barrier.missing
        for effect in self._barrier.handle(given):
            match effect:
                case barrier.Hold():
                    self._hold = effect
                    if not waited:  # else the deadline of the missing stays what it was
                        self._hold_until_s = time.monotonic() + self._config.stop_deadline_s
                        self._hold_began_ns = self._stopped.begin()
                    self._remote.stop(effect)
                    self._look_who_left(_FIRST_SLICE_S)
                case barrier.Grant():
                    self._grant(effect.owner, effect.epoch)
                case barrier.Resume():
                    self._remote.resume()
                    self._control_page.resume()
                    self._telemetry.note(Recorder.RESUMED, NO_VCPU)
                case barrier.Refuse():
                    self._tell(effect.owner, WorldRefused(effect.sentence))
                case barrier.Failed():
                    self._end("lost", 1, self._who_is_missing(effect))

    def _grant(self, owner: bytes, epoch: int) -> None:
        """Every owner but those in `unleased` holds a lease."""
        if epoch != self._epoch_shown:  # the control page counts stops, not owners
            self._epoch_shown = epoch
            self._control_page.next_stop_epoch()
        self._stopped.end(self._hold_began_ns, self.vcpu_of(owner), epoch)
        self._tell(owner, WorldStopped(epoch))
        if owner not in self._unleased:
            config = self._config
            lease_s = config.operator_lease_s if owner.startswith(OPERATOR_PREFIX) else config.stop_deadline_s
            self._leases[owner] = time.monotonic() + lease_s

    def _look_who_left(self, slice_s: float) -> None:
        """Post the stop in force (again, which does nothing) and wait a little for the vCPUs that are still inside."""
        self._local_missing = self._control_page.stop(self._hold.exempt, slice_s)
        self._say_who_left()

    def _say_who_left(self) -> None:
        missing = self._remote.missing.union(self._local_missing)
        if missing:
            self._telemetry.activity(control.ACTIVITY_STOPPING, min(missing))
        self._handle(barrier.Left(self._hold.hold, missing))

    # Words

    def vcpu_of(self, owner: bytes) -> int:
        """The vCPU whose worker an owner is, NO_VCPU for others."""
        peer = self._peers.get(owner)  # None: the operator pause, or an operator that was forgotten
        return peer.vcpu if peer is not None and peer.role == ROLE_WORKER else NO_VCPU

    def _describe(self, vcpu: int) -> str:
        control_page = self._control_page
        code, _, pc, _ = control_page.activity(vcpu)
        where = f" at PC 0x{pc:08x}" if code == control.ACTIVITY_GUEST and pc else ""
        return f"vCPU {vcpu} (process {control_page.pid(vcpu)}, {control_page.describe(vcpu)}{where})"

    def _who_is_missing(self, failed: barrier.Failed) -> str:
        missing = ", ".join(self._describe(vcpu) for vcpu in sorted(failed.missing))
        owners = " and ".join(self._name(owner) for owner, _ in failed.askers)
        return (
            f"{missing} did not leave the guest within {self._config.stop_deadline_s:g} s after {owners} asked to "
            f"stop the world ({failed.askers[0][1]})"
        )

    def _name(self, owner: bytes) -> str:
        vcpu = self.vcpu_of(owner)
        if vcpu != NO_VCPU:
            return f"vCPU {vcpu}"
        return f"operator {owner.decode(errors='replace')}" if owner.startswith(OPERATOR_PREFIX) else owner.decode()
