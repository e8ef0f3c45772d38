# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes one host of a machine starts, and what each of them is called. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import COORDINATOR, DEBUGGER, DEVICES, NODE
from allstop.vm.wire.messages import ROLE_COORDINATOR, ROLE_DEBUGGER, ROLE_DEVICES, ROLE_HOST, ROLE_NODE, ROLE_WORKER


@dataclass(frozen=True)
class Member:
    """One process of a machine: its role and vCPU as messages name it, its slot in the control page, its module."""

    role: int
    vcpu: int
    slot: int
    name: str
    module: str

    def arguments(self, config_fd: int) -> tuple[str, ...]:
        """Its arguments to the interpreter. -P: no module is loaded from the current folder."""
        vcpu = ("--vcpu", str(self.vcpu)) if self.role == ROLE_WORKER else ()
        return ("-P", "-m", self.module, "--config-fd", str(config_fd), *vcpu)

    @property
    def is_server(self) -> bool:
        """Whether workers connect to it, so that it must be up before them."""
        return self.role not in (ROLE_WORKER, ROLE_DEBUGGER)

    @classmethod
    def worker(cls, vcpu: int) -> Member:
        """The worker of a vCPU."""
        return cls(ROLE_WORKER, vcpu, vcpu, f"vcpu-{vcpu}", "allstop.vcpu_worker")

    @classmethod
    def node(cls) -> Member:
        """The node of a host; only a machine on several hosts has nodes."""
        return cls(ROLE_NODE, 0, NODE, "node", "allstop.coordinator.node")

    @classmethod
    def of_host(cls, number: int, name: str) -> Member:
        """The agent of another host. On this host it is the process that leads there, such as ssh."""
        return cls(ROLE_HOST, number, NODE, f"host {name}", "allstop.deploy.hosts.agent")


def members(
    vcpus: int, gdb: bool = False, placement: tuple[int, ...] = (), names: tuple[str, ...] = (), host: int = 0
) -> tuple[Member, ...]:
    """The processes of host number `host` in start order, servers first.

    `gdb` adds the gdb server. On a machine of several hosts `placement` gives each vCPU's host, and `names` are the
    hosts' names; host 0 has the servers and the agents of the others.
    """
    node = (Member.node(),) if names else ()
    workers = tuple(Member.worker(vcpu) for vcpu in range(vcpus) if not placement or placement[vcpu] == host)
    if host:
        return (*node, *workers)
    return (
        Member(ROLE_COORDINATOR, 0, COORDINATOR, "coordinator", "allstop.coordinator"),
        Member(ROLE_DEVICES, 0, DEVICES, "devicesrv", "allstop.devicesrv"),
        *node,
        *(Member.of_host(number, names[number]) for number in range(1, len(names))),
        *workers,
        *((Member(ROLE_DEBUGGER, 0, DEBUGGER, "gdbserver", "allstop.gdbserver"),) if gdb else ()),
    )


def members_of(config: MachineConfig) -> tuple[Member, ...]:
    """The processes of the host that `config` is for."""
    hosts = config.hosts
    if hosts is None:
        return members(config.vcpus, config.gdb is not None)
    return members(config.vcpus, config.gdb is not None, hosts.vcpu_hosts, hosts.names, hosts.index)
