# SPDX-License-Identifier: GPL-2.0-or-later
"""What the parts of a worker share."""

from __future__ import annotations

from dataclasses import dataclass

from allstop.vcpu_worker.coordinator_link import CoordinatorLink
from allstop.vcpu_worker.devices.device_link import DeviceLink
from allstop.vcpu_worker.engine import Vcpu
from allstop.vcpu_worker.liveness import Liveness
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.telemetry.step import Telemetry


@dataclass(frozen=True)
class VcpuContext:
    """One vCPU, its number, and its ways to the rest of the machine."""

    config: MachineConfig
    number: int
    vcpu: Vcpu
    control_page: ControlPage
    telemetry: Telemetry
    coordinator: CoordinatorLink
    devices: DeviceLink
    liveness: Liveness

    @property
    def ram_end(self) -> int:
        """The first physical address behind the guest's memory."""
        return RAM_BASE + self.config.memory_bytes
