# SPDX-License-Identifier: GPL-2.0-or-later
"""The board: which devices a machine has, where they are, and which interrupts they drive."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from allstop.devicesrv import plugin
from allstop.devicesrv.bus import Bus, BusError
from allstop.devicesrv.console.input_line import InputLine
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.gicv2.cpu_interface import CpuInterfaces
from allstop.devicesrv.gicv2.distributor import Distributor
from allstop.devicesrv.gicv2.state import INTIDS, Gic
from allstop.devicesrv.models.counter import CounterDevice
from allstop.devicesrv.models.pl011 import Pl011
from allstop.devicesrv.models.pl031 import Pl031
from allstop.devicesrv.models.ramdev import RamDevice
from allstop.devicesrv.models.testdev import TestDevice
from allstop.devicesrv.virtio import slots
from allstop.devicesrv.virtio.console import VirtioConsole
from allstop.devicesrv.virtio.window import VirtioTransports
from allstop.vm.board import (
    COUNTER_BASE,
    GICC_BASE,
    GICD_BASE,
    PL011_BASE,
    PL011_INTID,
    PL031_BASE,
    PL031_INTID,
    RAM_BASE,
    RAMDEV_BASE,
    TEST_BASE,
    VIRTIO_BASE,
    VIRTIO_INTID,
)
from allstop.vm.config.machine import MachineConfig
from allstop.vm.memory.guest_memory import GuestMemory

USER_INTID = 32 + 112  # QEMU's virt gives SPI 112 and up to devices that are added to the board


class Board:
    """The devices of one machine. What is typed on its console goes to `input`.

    The user's devices are attached in the order of the command line, and the n-th one, from zero, drives
    INTID USER_INTID + n. Raises BusError or `plugin.PluginError` where one of them cannot be, DriveError for a
    drive's image. `memory` is what virtio devices have of the guest's RAM, None where there is none;
    `virtio_console` takes input by `receive`, if there is one.
    """

    def __init__(self, config: MachineConfig, outlets: Wiring, input_line: InputLine | None = None) -> None:
        self._config = config
        self._outlets = outlets
        self.gic = Gic(config.vcpus)
        self.bus = Bus()
        unwired = self._wiring(None)
        self.uart = Pl011(self._wiring(PL011_INTID))
        self.clock = Pl031(self._wiring(PL031_INTID))
        self.input = input_line or InputLine()
        self.input.subscribe(self.uart, lambda: self.uart.opened)
        self.bus.attach(GICD_BASE, Distributor(unwired, self.gic))
        self.bus.attach(GICC_BASE, CpuInterfaces(unwired, self.gic))
        self.bus.attach(PL011_BASE, self.uart)
        self.bus.attach(PL031_BASE, self.clock)
        self.memory: GuestMemory | None = None
        self.virtio_console: VirtioConsole | None = None
        self._attach_virtio()
        self.bus.attach(TEST_BASE, TestDevice(self._wiring(None)))
        self.bus.attach(COUNTER_BASE, CounterDevice(unwired))
        self.bus.attach(RAMDEV_BASE, RamDevice(unwired))
        for place, spec in enumerate(config.devices):
            intid = USER_INTID + place
            if intid >= INTIDS:
                raise BusError(f"{spec.path}:{spec.class_name} is one device too many: no interrupt is left for it")
            device = plugin.load(spec, self._wiring(intid))
            if spec.ipa < RAM_BASE + config.memory_bytes and spec.ipa + device.size_bytes > RAM_BASE:
                raise BusError(
                    f"{spec.class_name} at 0x{spec.ipa:08x} overlaps the guest's memory "
                    f"(0x{RAM_BASE:08x} to 0x{RAM_BASE + config.memory_bytes - 1:08x})"
                )
            self.bus.attach(spec.ipa, device)

    def _attach_virtio(self) -> None:
        config = self._config
        window = VirtioTransports(self._wiring(None), config.virtio_legacy)
        self.bus.attach(VIRTIO_BASE, window)
        functions = slots.functions(config, self._outlets)
        if not functions:
            return
        fds = config.fds
        self.memory = GuestMemory(fds.control, fds.ram, fds.stage2, fds.swap, config.as_shipped)
        window.plug(functions, [self._wiring(VIRTIO_INTID + place) for place in range(len(functions))], self.memory)
        for function, _ in functions:
            if type(function) is VirtioConsole:
                self.virtio_console = function
                self.input.subscribe(function)

    def _wiring(self, intid: int | None) -> Wiring:
        """A device's own wiring: its interrupt line, if it has one, and a generator that no other device
        draws from."""
        config, outlets = self._config, self._outlets
        return replace(
            outlets,
            irq=outlets.irq if intid is None else self.gic.input(intid),
            vcpus=config.vcpus,
            parameter=config.parameter,
            random=Random(config.seed),
        )
