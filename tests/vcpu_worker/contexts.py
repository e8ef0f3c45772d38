# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker's context around a vCPU in this process, with stand-ins for the coordinator and the device server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Vcpu
from allstop.vcpu_worker.liveness import Liveness
from allstop.vm.config.machine import MachineConfig, SharedFds
from allstop.vm.journal.recorder import Recorder
from allstop.vm.telemetry.step import Telemetry

if TYPE_CHECKING:
    from tests.vcpu_worker.conftest import Machine


def context(
    machine: Machine,
    vcpu: Vcpu,
    coordinator: Any = None,
    devices: Any = None,
    journal: Recorder | None = None,
    **named: Any,
) -> VcpuContext:
    """The context of vCPU 0; `named` go to its configuration."""
    fds = SharedFds(machine.control_fd, machine.ram_fd, machine.stage2_fd)
    config = MachineConfig(
        memory_bytes=machine.memory_bytes,
        token="",
        coordinator_endpoint="",
        devices_endpoint="",
        fds=fds,
        cores=2,
        **named,
    )
    page = machine.page
    return VcpuContext(config, 0, vcpu, page, Telemetry(page, 0, journal), coordinator, devices, Liveness(page, 0))
