# SPDX-License-Identifier: GPL-2.0-or-later
"""A host's shared memory and its doorbell, without any process: for tests that are its node, or its coordinator."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.vm.control.control import ControlPage
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory

RAM_BYTES = 2 << 20
HERE, THERE = 0, 1  # the first host's vCPU, and the second's


@dataclass
class Host:
    """One of two hosts; `fds` are those of the control page, RAM, stage 2 and the doorbell."""

    page: ControlPage
    memory: NodeMemory
    fds: tuple[int, int, int, int]

    def rang(self) -> bool:
        """Whether the doorbell has, since this was asked last."""
        try:
            return bool(os.read(self.fds[3], 8))
        except BlockingIOError:
            return False


@contextlib.contextmanager
def node_host(first: bool) -> Iterator[Host]:
    """The first of two hosts, which has all pages, or the second."""
    control = create_memory("control", ControlPage.size_bytes(2))
    ram, tables = create_memory("ram", RAM_BYTES), create_memory("stage2", stage2.size_bytes(RAM_BYTES))
    doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    fds = control, ram, tables, doorbell
    try:
        page = ControlPage.create(control, 2, 2, 0)
        stage2.build_in(tables, RAM_BYTES)
        memory = NodeMemory(control, ram, tables)
        memory.share(doorbell, [THERE if first else HERE], first)
        yield Host(page, memory, fds)
    finally:
        for fd in fds:
            os.close(fd)
