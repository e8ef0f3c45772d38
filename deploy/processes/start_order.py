# SPDX-License-Identifier: GPL-2.0-or-later
"""In which order the processes of a host start. A state machine without I/O: what was seen comes in, steps come out.

begin    -> start each server; have the zygote load what workers need
LOADING     until every server has beaten and the zygote is ready: a hundred workers that start earlier would take
            the cores that the servers need to come up
look     -> fork the workers; start the gdb server, which connects to all of them
COMPLETE
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from allstop.deploy.processes.members import Member
from allstop.vm.wire.messages import ROLE_WORKER


@dataclass(frozen=True)
class Start:
    """Start this member."""

    member: Member


@dataclass(frozen=True)
class LoadZygote:
    """Start the zygote, which loads what workers need."""


@dataclass(frozen=True)
class Fork:
    """Have the zygote fork these workers."""

    workers: tuple[Member, ...]


Step: TypeAlias = Start | LoadZygote | Fork


class Stage(enum.Enum):
    """See the module's documentation."""

    NOTHING = enum.auto()
    LOADING = enum.auto()
    COMPLETE = enum.auto()


class StartOrder:
    """The start of one host's processes, once."""

    def __init__(self, team: Sequence[Member]) -> None:
        self.servers = tuple(member for member in team if member.is_server)
        self._workers = tuple(member for member in team if member.role == ROLE_WORKER)
        self._last = tuple(member for member in team if not member.is_server and member.role != ROLE_WORKER)
        self.stage = Stage.NOTHING

    @property
    def needs_zygote(self) -> bool:
        """Whether this host has workers."""
        return bool(self._workers)

    def begin(self) -> list[Step]:
        """The host's memory is there."""
        assert self.stage is Stage.NOTHING
        self.stage = Stage.LOADING
        return [*map(Start, self.servers), *([LoadZygote()] if self._workers else [])]

    def look(self, servers_beat: bool, zygote_is_ready: bool) -> list[Step]:
        """What has been seen by now: whether every server has beaten, and whether the zygote can fork."""
        if self.stage is not Stage.LOADING or not servers_beat or (self._workers and not zygote_is_ready):
            return []
        self.stage = Stage.COMPLETE
        return [*([Fork(self._workers)] if self._workers else []), *map(Start, self._last)]
