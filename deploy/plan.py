# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run starts, in which order, and what each process is called. Pure."""
from __future__ import annotations

from dataclasses import dataclass

from allstop.machine.control import COORDINATOR, DEBUGGER, DEVICES
from allstop.wire.messages import ROLE_COORDINATOR, ROLE_DEBUGGER, ROLE_DEVICES, ROLE_WORKER

# The first so many members are what the others connect to.
SERVERS = 2


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


def members(vcpus: int, gdb: bool = False) -> tuple[Member, ...]:
    """The processes in start order: those that others connect to come first. `gdb` adds the gdb server."""
    return (
        Member(ROLE_COORDINATOR, 0, COORDINATOR, "coordinator", "coordinator"),
        Member(ROLE_DEVICES, 0, DEVICES, "devicesrv", "devicesrv"),
        *(Member(ROLE_WORKER, vcpu, vcpu, f"vcpu-{vcpu}", "vcpu_worker") for vcpu in range(vcpus)),
        *((Member(ROLE_DEBUGGER, 0, DEBUGGER, "gdbserver", "gdbserver"),) if gdb else ()),
    )
