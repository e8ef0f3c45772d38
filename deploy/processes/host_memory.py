# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processes of a machine on one host share, made before the first of them starts.

A plan is a MachineConfig without this host's own facts: its memory's descriptors, its cores, the process that the
others are tied to. `HostMemory` makes the memory and completes the plan.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.deploy.processes.members import Member
from allstop.vm.config.machine import HostsSpec, MachineConfig, SharedFds
from allstop.vm.config.policies import TLB_DISCIPLINES
from allstop.vm.control.control import ControlPage
from allstop.vm.events.scenario import Scenario
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory
from allstop.vm.wire.messages import ROLE_COORDINATOR, ROLE_DEBUGGER, ROLE_DEVICES, ROLE_NODE

_LISTENERS = {ROLE_NODE: 0, ROLE_COORDINATOR: 1, ROLE_DEVICES: 2}
"""The place of each server's socket in HostsSpec.listen_fds."""


class HostMemory:
    """The shared memory of one host's processes, and the configuration that names it; `stack` closes all of it.

    `config` is the completed plan, `config_fd` the memory file that every process reads it from.
    """

    def __init__(self, plan: MachineConfig, stack: contextlib.ExitStack) -> None:
        """Make it. Raises OSError when the host refuses memory or descriptors."""
        self._stack = stack
        self._node_memory: NodeMemory | None = None
        cores = len(os.sched_getaffinity(0))
        control_fd = self._memory("control", ControlPage.size_bytes(plan.vcpus))
        self.control_page = ControlPage.create(
            control_fd, plan.vcpus, cores, TLB_DISCIPLINES.index(plan.tlb), plan.time_dilation
        )
        ram_fd = self._memory("ram", plan.memory_bytes)
        stage2_fd = self._memory("stage2", stage2.size_bytes(plan.memory_bytes))
        stage2.build_in(stage2_fd, plan.memory_bytes)
        fds = replace(
            plan.fds,
            control=control_fd,
            ram=ram_fd,
            stage2=stage2_fd,
            swap=self._swap_file(plan.run_dir),
            notes=self._growing("notes"),
            pages=self._growing("pages"),
        )
        hosts = None if plan.hosts is None else self._share(plan.hosts, fds)
        self.config = replace(plan, hosts=hosts, fds=fds, cores=cores, launcher_pid=os.getpid())
        text = self.config.to_json().encode()
        self.config_fd = self._memory("config", len(text))
        os.pwrite(self.config_fd, text, 0)

    @property
    def node_memory(self) -> NodeMemory:
        """The memory as this host's node sees it; only on a machine of several hosts."""
        assert self._node_memory is not None
        return self._node_memory

    @property
    def shared_fds(self) -> tuple[int, ...]:
        """The descriptors that every process inherits, under the same numbers."""
        fds, hosts = self.config.fds, self.config.hosts
        own = (fds.control, fds.ram, fds.stage2, fds.console, fds.swap, fds.notes, fds.pages)
        others = () if hosts is None else (hosts.doorbell_fd, *hosts.journal_fds.values())
        return tuple(fd for fd in (*own, *others) if fd >= 0)

    def inherited_by(self, member: Member) -> tuple[int, ...]:
        """The descriptors that a server or the gdb server inherits: those of all, and its own sockets."""
        return (*self.shared_fds, *self._own_fds(member.role))

    def notes(self) -> bytes:
        """The notes of this host's processes, one on each line."""
        return read_whole(self.config.fds.notes)

    def moved_pages(self) -> list[Any]:
        """What this host's node wrote of the pages that moved most, of those that are at home here."""
        with contextlib.suppress(ValueError, OSError):
            return list(json.loads(read_whole(self.config.fds.pages) or b"[]"))
        return []

    def event_counts(self) -> Iterator[tuple[int, int]]:
        """For each event of the scenario how often it was performed on this host, and refused."""
        for index in range(len(Scenario.from_json(self.config.scenario).events)):
            yield self.control_page.event_counts(index)

    def _own_fds(self, role: int) -> tuple[int, ...]:
        gdb, hosts = self.config.gdb, self.config.hosts
        if role == ROLE_DEBUGGER and gdb is not None:
            return gdb.fd, gdb.notice_fd
        if hosts is not None and role in _LISTENERS:
            return hosts.listen_fds[_LISTENERS[role] :][:1]
        return ()

    def _share(self, hosts: HostsSpec, fds: SharedFds) -> HostsSpec:
        """Make this memory one host's part of the machine's. The first host holds all pages at first."""
        doorbell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stack.callback(os.close, doorbell_fd)
        self._node_memory = NodeMemory(fds.control, fds.ram, fds.stage2, fds.swap)
        others = [vcpu for vcpu, host in enumerate(hosts.vcpu_hosts) if host != hosts.index]
        self._node_memory.share(doorbell_fd, others, hosts.index == 0)
        return replace(hosts, doorbell_fd=doorbell_fd)

    def _memory(self, name: str, size_bytes: int) -> int:
        fd = create_memory(f"allstop-{name}", size_bytes)
        self._stack.callback(os.close, fd)
        return fd

    def _growing(self, name: str) -> int:
        """Memory that grows with what is written there."""
        fd = os.memfd_create(f"allstop-{name}", os.MFD_CLOEXEC)
        self._stack.callback(os.close, fd)
        return fd

    def _swap_file(self, folder: str) -> int:
        """A file on disk without a name, which is gone with the run. It grows when a page is swapped out."""
        return self._stack.enter_context(tempfile.TemporaryFile(dir=folder or None, buffering=0)).fileno()


def read_whole(fd: int) -> bytes:
    """All of a memory file, without moving the position that its writers share."""
    return os.pread(fd, os.fstat(fd).st_size, 0)
