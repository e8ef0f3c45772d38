# SPDX-License-Identifier: GPL-2.0-or-later
"""The other hosts of a machine as the launcher sees them, and the machine that has none.

The launcher treats every machine as one on several hosts. `OtherHosts` stands for a machine without other hosts: it
opens no socket, waits for nothing, and has nothing to tell. `Agents` is a machine on several hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from allstop.deploy.outcome.run_folder import RunFolder
from allstop.deploy.processes.host_memory import HostMemory
from allstop.deploy.processes.processes import ChildProcess
from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.wire.messages_hosts import VcpuKilled


class OtherHosts:
    """No other hosts.

    children      the processes that lead to the other hosts' agents, by the hosts' numbers
    sockets       what the launcher's loop polls; then it calls `serve`
    silent_vcpus  the vCPUs of hosts that have left without a report
    """

    @property
    def children(self) -> Mapping[int, ChildProcess]:
        return {}

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        return ()

    @property
    def silent_vcpus(self) -> Sequence[int]:
        return ()

    def this_host(self) -> HostsSpec | None:
        """What the processes of this host are told of the others; None where there are none."""
        return None

    def begin(self, plan: MachineConfig, memory: HostMemory, folder: RunFolder | None) -> None:
        """Have every other host make its part of the machine. What they report goes to this host's memory, and their
        journals to `folder`."""

    def serve(self, now_s: float) -> Sequence[str | VcpuKilled]:
        """Take what has come, and send a sign of life from time to time: sentences about what was lost, and answers to
        `kill`."""
        return ()

    def kill(self, vcpu: int) -> None:
        """Have the host of this vCPU kill its process."""

    def stop(self) -> None:
        """Have every other host end its part. Idempotent."""

    def take_progress(self) -> bool:
        """Whether a journal has grown since the last call: a host that sends journals needs time to leave."""
        return False

    def await_reports(self) -> None:
        """Give the reports of agents that have exited normally a moment to arrive."""

    def notes(self, folder: RunFolder | None, verdict: str) -> list[str]:
        """The other hosts' notes, in sentences; their processes' logs go to `folder`."""
        return []

    def event_counts(self, index: int) -> tuple[int, int]:
        """How often an event of the scenario was performed on the other hosts, and refused."""
        return 0, 0

    def bounces(self, own: Sequence[Any], symbols: Callable[[], dict[str, int]]) -> list[dict[str, Any]]:
        """The pages that moved most between hosts; `own` are those of this host's node."""
        return []

    def close(self) -> None:
        """Make sure that no process of this host leads to another one."""
