# SPDX-License-Identifier: GPL-2.0-or-later
"""Connect a worker to the coordinator and to the device server."""

from __future__ import annotations

import zmq

from allstop.vcpu_worker.coordinator_link import CoordinatorLink
from allstop.vcpu_worker.devices.device_link import DeviceLink
from allstop.vcpu_worker.devices.oracle import AccessOracle
from allstop.vcpu_worker.liveness import Liveness
from allstop.vm.config.machine import MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.telemetry.step import Telemetry
from allstop.vm.wire.channel import Channel, worker_identity
from allstop.vm.wire.messages import ROLE_WORKER
from allstop.vm.wire.security import Breaks, KeyPair


class Links:
    """Both connections of the worker of `vcpu`, and the heartbeat while it waits on them. Raises ChannelError."""

    def __init__(self, config: MachineConfig, control_page: ControlPage, vcpu: int, telemetry: Telemetry) -> None:
        hosts = config.hosts
        keys = None if hosts is None or hosts.index == 0 else KeyPair(hosts.public_keys[hosts.index], hosts.secret_key)
        server = "" if hosts is None else hosts.public_keys[0]
        identity = worker_identity(vcpu)
        self._context = zmq.Context(1)
        self._channels = [
            Channel.open(
                self._context,
                endpoint,
                identity,
                config.token,
                ROLE_WORKER,
                vcpu,
                server=server,
                keys=keys,
            )
            for endpoint in (config.devices_endpoint, config.coordinator_endpoint)
        ]
        devices, coordinator = self._channels
        is_far = keys is not None
        self._breaks = [Breaks(channel.socket) for channel in self._channels] if is_far else []
        self.liveness = Liveness(control_page, vcpu, self._breaks)
        self.coordinator = CoordinatorLink(coordinator, vcpu, control_page, self.liveness)
        oracle = AccessOracle(vcpu, control_page, self.coordinator.tell, telemetry, config.keep_going, is_far)
        self.devices = DeviceLink(devices, vcpu, control_page, telemetry, self.liveness, oracle)

    def close(self) -> None:
        """Disconnect. The coordinator gets a moment to read the last messages."""
        for breaks in self._breaks:
            breaks.close()
        devices, coordinator = self._channels
        coordinator.close(linger_s=0.2)
        devices.close()
        self._context.term()
