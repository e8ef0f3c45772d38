# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run starts, in which order, and what each process is called. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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
        """What follows the interpreter on its command line. -P: no module comes from the folder it is started in."""
        vcpu = ("--vcpu", str(self.vcpu)) if self.role == ROLE_WORKER else ()
        return ("-P", "-m", self.module, "--config-fd", str(config_fd), *vcpu)

    @property
    def is_server(self) -> bool:
        """Whether workers connect to it, so that it has to be there before them."""
        return self.role not in (ROLE_WORKER, ROLE_DEBUGGER)

    @classmethod
    def worker(cls, vcpu: int) -> Member:
        """The worker of a vCPU."""
        return cls(ROLE_WORKER, vcpu, vcpu, f"vcpu-{vcpu}", "allstop.vcpu_worker")

    @classmethod
    def node(cls) -> Member:
        """The node of a host, where there are several."""
        return cls(ROLE_NODE, 0, NODE, "node", "allstop.coordinator.node")

    @classmethod
    def of_host(cls, number: int, name: str) -> Member:
        """The agent of another host, of which this one has no more than what leads there."""
        return cls(ROLE_HOST, number, NODE, f"host {name}", "allstop.deploy.hosts.agent")


def members(
    vcpus: int, gdb: bool = False, placement: tuple[int, ...] = (), names: tuple[str, ...] = ()
) -> tuple[Member, ...]:
    """This host's processes in start order: those that others connect to come first. `gdb` adds the gdb server. Where
    there are several hosts, `placement` says for each vCPU on which it is, and `names` what they are called."""
    agents = tuple(Member.of_host(number, names[number]) for number in range(1, len(names)))
    several = (Member.node(), *agents) if names else ()
    return (
        Member(ROLE_COORDINATOR, 0, COORDINATOR, "coordinator", "allstop.coordinator"),
        Member(ROLE_DEVICES, 0, DEVICES, "devicesrv", "allstop.devicesrv"),
        *several,
        *(Member.worker(vcpu) for vcpu in range(vcpus) if not placement or placement[vcpu] == 0),
        *((Member(ROLE_DEBUGGER, 0, DEBUGGER, "gdbserver", "allstop.gdbserver"),) if gdb else ()),
    )
