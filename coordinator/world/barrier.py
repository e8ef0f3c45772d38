# SPDX-License-Identifier: GPL-2.0-or-later
"""Stopping the world: which owners get it, which vCPUs it waits for, and how a stop ends when one of either is lost.

What may live here: decisions. Inputs come in, effects come out; there is no socket, no clock and no control page,
so that a test can drive every interleaving and several hosts can be served by the same machine.

Theory of operation
-------------------

Actors: V is a vCPU. A and B are owners: a vCPU's worker, or an operator (a debugger, `allstop ctl`). N is the
process that serves the control page of V's host: it posts STOP to V, kicks it, and sees it leave the guest.

    A                      the barrier                     N                        V
    Asked          ->      new epoch; missing = V
                           Hold                    ->      requests[V] |= STOP
                                                           kick                ->   leaves the guest
                           Left(missing = {})      <-      mode[V] is outside
    (has the world) <-     Grant
    Released       ->      Resume                  ->      requests[V] &= ~STOP
                                                           wake                ->   enters the guest

Why a grant means that no vCPU runs: STOP is posted to V before V is looked at, V never enters with STOP posted (the
control page's protocol), and STOP is taken back by Resume only, which comes after the last release. So a vCPU that
was seen outside once stays there; `missing` only shrinks.

An owner which is a vCPU is outside already, since its worker asks and waits. When it is alone in its stop it is
exempt from Hold, so that it goes on the moment it has released, without waiting for Resume. The exemption ends when
another owner comes into the world with it or after it:

    A reads the stopped world alone, exempt. B, a reader too, asks: may it share? A's Released may be on its way, and
    A back in the guest. So B's coming posts STOP to A as well, and B is granted after A was seen outside.

Who shares: requests that only read (`may_share`). A reader enters a readers' stop that is under way, unless a
request which may not share is waiting, or this requester had its turn in this very stop. When a stop ends, the
oldest request opens the next one, and if it may share, all readers in the queue come with it. It follows that

    * a request which may not share is overtaken only by readers that were queued when an older reader's turn came:
      it waits for at most as many stops as there were requests before it;
    * a stop ends: each requester is in it at most once, so readers cannot keep the world stopped by relaying it.

When the queue is not empty at the end of a stop, the next one begins without a Resume: the vCPUs that are parked stay
parked, only the former owner, if it was exempt, has to be kicked. That owner has done what it had the world for, so
every hand-over is progress.

How a stop ends when something is lost:

    MemberLost   V died. It runs no more, so no stop waits for it; what its worker had asked for is void.
    OwnerLost    an operator went silent: it is as if it had released, or never asked.
    Expired      V neither leaves the guest nor is known to be dead. No owner gets the world; the barrier is broken for
                 good, every request is refused, and Failed names the missing vCPUs.

An input that breaks the rules (a second request of the same owner, a release of what is not owned) raises BarrierError
and changes nothing; the caller deals with the peer that sent it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


class BarrierError(Exception):
    """An input that is against the rules; the text says which. The barrier is as it was before."""


# Inputs


@dataclass(frozen=True, slots=True)
class Asked:
    """`owner` asks for the world. `vcpu` is the vCPU whose worker it is, None for an operator."""

    owner: bytes
    vcpu: int | None
    may_share: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """`owner` is done with stop `epoch`."""

    owner: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Left:
    """Hold number `hold` has been posted, and all vCPUs that it asked have been seen outside, but `missing`."""

    hold: int
    missing: frozenset[int]


@dataclass(frozen=True, slots=True)
class MemberLost:
    """The worker of `vcpu` is dead."""

    vcpu: int


@dataclass(frozen=True, slots=True)
class OwnerLost:
    """`owner`, which is not a vCPU's worker or no longer to be trusted, is gone."""

    owner: bytes


@dataclass(frozen=True, slots=True)
class Expired:
    """The time that Hold number `hold` may take has passed."""

    hold: int


# Effects


@dataclass(frozen=True, slots=True)
class Hold:
    """Post STOP to every vCPU but `exempt`, wait for those, and report by Left. A later Hold replaces this one."""

    hold: int
    exempt: frozenset[int]


@dataclass(frozen=True, slots=True)
class Resume:
    """Take STOP back from every vCPU."""


@dataclass(frozen=True, slots=True)
class Grant:
    """`owner` has the world, as stop `epoch`."""

    owner: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """`owner` asked for the world and will not get it."""

    owner: bytes
    sentence: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Stop `epoch` of `askers` ((owner, reason) each, at least one) did not come about: `missing` did not leave."""

    epoch: int
    missing: frozenset[int]
    askers: tuple[tuple[bytes, str], ...]


Input: TypeAlias = Asked | Released | Left | MemberLost | OwnerLost | Expired
Effect: TypeAlias = Hold | Resume | Grant | Refuse | Failed

BROKEN = "the world cannot be stopped any more: an earlier stop failed"


class Barrier:
    """The stops of one machine. All vCPUs are members, also those that are switched off: one may be switched on while
    the world is stopped."""

    def __init__(self, vcpus: int) -> None:
        self.members = frozenset(range(vcpus))
        self.lost: frozenset[int] = frozenset()
        self.epoch = 0
        self.hold = 0
        self.missing: frozenset[int] = frozenset()
        """vCPUs that the Hold in force still waits for; while there are any, no new owner is granted."""
        self.owners: dict[bytes, Asked] = {}
        """The owners that have the world."""
        self.entering: dict[bytes, Asked] = {}
        """The next owners: granted together as soon as no vCPU is missing."""
        self.queue: deque[Asked] = deque()
        self.broken = False
        self._exempt: int | None = None
        self._turns: set[bytes] = set()  # present and former owners in this epoch

    def handle(self, given: Input) -> list[Effect]:
        """Take one input; the effects are to be performed in their order. Raises BarrierError."""
        match given:
            case Asked():
                return self._asked(given)
            case Left():
                return self._left(given.hold, given.missing)
            case Released():
                return self._released(given.owner, given.epoch)
            case MemberLost():
                return self._member_lost(given.vcpu)
            case OwnerLost():
                return self._drop((given.owner,))
            case Expired():
                return self._expired(given.hold)

    def _asked(self, request: Asked) -> list[Effect]:
        owner = request.owner
        if (
            owner in self.owners
            or owner in self.entering
            or self.queue
            and any(waiting.owner == owner for waiting in self.queue)
        ):
            raise BarrierError("asks for the world twice")
        if request.vcpu is not None and request.vcpu not in self.members:
            raise BarrierError("asks for the world, but its vCPU is lost")
        if self.broken:
            return [Refuse(owner, BROKEN)]
        if not self.owners and not self.entering:
            return self._begin([request])
        if not self._may_enter(request):
            self.queue.append(request)
            return []
        self.entering[owner] = request
        self._turns.add(owner)
        if self._exempt is not None:
            return self._post_hold(None)
        return [] if self.missing else self._grant()

    def _may_enter(self, request: Asked) -> bool:
        """Whether a request may come into the stop that is under way."""
        inside = next(iter((self.owners or self.entering).values()))
        return (
            request.may_share
            and inside.may_share
            and request.owner not in self._turns
            and all(waiting.may_share for waiting in self.queue)
        )

    def _begin(self, batch: list[Asked]) -> list[Effect]:
        self.epoch += 1
        self.entering = {request.owner: request for request in batch}
        self._turns = set(self.entering)
        return self._post_hold(batch[0].vcpu if len(batch) == 1 else None)

    def _post_hold(self, exempt: int | None) -> list[Effect]:
        self.hold += 1
        self._exempt = exempt
        if exempt is None:
            self.missing = self.members
            hold = Hold(self.hold, self.lost)
        else:
            self.missing = self.members - {exempt}
            hold = Hold(self.hold, self.lost | {exempt})
        return [hold] if self.missing else [hold, *self._grant()]

    def _grant(self) -> list[Effect]:
        granted = self.entering
        self.owners.update(granted)
        self.entering = {}
        return [Grant(owner, self.epoch) for owner in granted]

    def _left(self, hold: int, missing: frozenset[int]) -> list[Effect]:
        if hold != self.hold or not self.missing:
            return []  # a report about a Hold which another has replaced, or which is settled
        self.missing &= missing
        return [] if self.missing else self._grant()

    def _released(self, owner: bytes, epoch: int) -> list[Effect]:
        if owner not in self.owners or epoch != self.epoch:
            raise BarrierError("releases a stop that it does not own")
        del self.owners[owner]
        return self._settle()

    def _settle(self) -> list[Effect]:
        """An owner is gone from the stop under way: end it when none is left, grant when no vCPU is missing."""
        if self.owners or self.entering:
            return self._grant() if self.entering and not self.missing else []
        self.missing = frozenset()
        if not self.queue:
            return [Resume()]
        head = self.queue.popleft()
        if not head.may_share:
            return self._begin([head])
        readers = [head, *(request for request in self.queue if request.may_share)]
        self.queue = deque(request for request in self.queue if not request.may_share)
        return self._begin(readers)

    def _drop(self, owners: Iterable[bytes]) -> list[Effect]:
        """Forget what `owners` have or want."""
        gone = set(owners)
        self.queue = deque(request for request in self.queue if request.owner not in gone)
        if not self.owners and not self.entering:
            return []
        self.owners = {owner: request for owner, request in self.owners.items() if owner not in gone}
        self.entering = {owner: request for owner, request in self.entering.items() if owner not in gone}
        return self._settle()

    def _member_lost(self, vcpu: int) -> list[Effect]:
        if vcpu not in self.members:
            return []
        self.members -= {vcpu}
        self.lost |= {vcpu}
        self.missing -= {vcpu}
        requests = (*self.owners.values(), *self.entering.values(), *self.queue)
        return self._drop(request.owner for request in requests if request.vcpu == vcpu)

    def _expired(self, hold: int) -> list[Effect]:
        if hold != self.hold or not self.missing:
            return []
        waiting = (*self.entering.values(), *self.queue)
        askers = tuple((request.owner, request.reason) for request in (self.entering or self.owners).values())
        effects: list[Effect] = [Failed(self.epoch, self.missing, askers)]
        effects += [Refuse(request.owner, BROKEN) for request in waiting]
        self.broken = True
        self.missing = frozenset()
        self.entering = {}
        self.queue.clear()
        return effects if self.owners else [*effects, Resume()]
