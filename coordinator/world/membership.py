# SPDX-License-Identifier: GPL-2.0-or-later
"""The members of the machine: which are still awaited, which are lost, and when all are connected.

Inputs in, effects out, no I/O. A machine is ready when each worker and each other host's node has said Hello, the
device server has welcomed the coordinator, and the launcher is there to be told. `allstop.vm.wire.admission` decides
whose Hello is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from allstop.vm.wire.messages import ROLE_LAUNCHER, ROLE_NODE, ROLE_WORKER

# Inputs


@dataclass(frozen=True, slots=True)
class Joined:
    """The process of `role` was admitted, for the first time or again. `vcpu` is a worker's, or the host of a node."""

    role: int
    vcpu: int


@dataclass(frozen=True, slots=True)
class DevicesReached:
    """The device server has welcomed us."""


@dataclass(frozen=True, slots=True)
class Departed:
    """The process of `role` (and `vcpu`, for a worker) is dead."""

    role: int
    vcpu: int


# Effects


@dataclass(frozen=True, slots=True)
class AllHere:
    """The machine is ready: tell the launcher. Comes once."""


Input: TypeAlias = Joined | DevicesReached | Departed
Effect: TypeAlias = AllHere


class Membership:
    """The members of one machine of `vcpus` vCPUs. `hosts` are the numbers of its other hosts."""

    def __init__(self, vcpus: int, hosts: Iterable[int] = ()) -> None:
        self.awaited = set(range(vcpus))
        """vCPUs whose worker has not said Hello."""
        self.lost: set[tuple[int, int]] = set()
        """(role, vcpu) of the dead."""
        self.awaited_hosts = set(hosts)
        """Other hosts whose node has not."""
        self._launcher_here = False
        self._devices_reached = False
        self._announced = False

    def handle(self, given: Input) -> list[Effect]:
        """Take one input."""
        match given:
            case Joined(role, vcpu):
                if role == ROLE_WORKER:
                    self.awaited.discard(vcpu)
                elif role == ROLE_NODE:
                    self.awaited_hosts.discard(vcpu)
                elif role == ROLE_LAUNCHER:
                    self._launcher_here = True
            case DevicesReached():
                self._devices_reached = True
            case Departed(role, vcpu):
                self.lost.add((role, vcpu if role == ROLE_WORKER else 0))
        return self._announce()

    def _announce(self) -> list[Effect]:
        awaited = self.awaited or self.awaited_hosts or not self._devices_reached or not self._launcher_here
        if self._announced or awaited or self.lost:
            return []
        self._announced = True
        return [AllHere()]
