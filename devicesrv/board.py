# SPDX-License-Identifier: GPL-2.0-or-later
"""The board at run time: it constructs the model of each row of `vm/board.py`, and then the user's devices."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from random import Random
from typing import TypeVar

from allstop.devicesrv import plugin
from allstop.devicesrv.bus import Bus, BusError
from allstop.devicesrv.console.input_line import InputLine
from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.gicv2.cpu_interface import CpuInterfaces
from allstop.devicesrv.gicv2.distributor import Distributor
from allstop.devicesrv.gicv2.state import INTIDS, Gic
from allstop.devicesrv.models.pl011 import Pl011
from allstop.devicesrv.models.pl031 import Pl031
from allstop.devicesrv.virtio import slots
from allstop.devicesrv.virtio.console import VirtioConsole
from allstop.devicesrv.virtio.window import VirtioTransports
from allstop.vm import board
from allstop.vm.board import RAM_BASE, VIRTIO_INTID
from allstop.vm.config.machine import MachineConfig
from allstop.vm.memory.guest_memory import GuestMemory

USER_INTID = 32 + 112  # QEMU's virt gives SPI 112 and up to devices that are added to the board
D = TypeVar("D", bound=Device)


class Board:
    """The devices of one machine. `input` takes what the user types on its console.

    The board attaches the user's devices in the order of the command line; the n-th one, from zero, drives INTID
    USER_INTID + n. Raises BusError or `plugin.PluginError` for a device that does not fit, DriveError for a drive's
    image. `memory` gives virtio devices the guest's RAM, and is None on a machine without them; `virtio_console`, if
    there is one, takes input by `receive`.
    """

    def __init__(self, config: MachineConfig, outlets: Wiring, input_line: InputLine | None = None) -> None:
        self._config = config
        self._outlets = outlets
        self.gic = Gic(config.vcpus)
        self.bus = Bus()
        self.memory: GuestMemory | None = None
        self.virtio_console: VirtioConsole | None = None
        self.input = input_line or InputLine()
        for row in board.DEVICES:
            self._attach(row)
        self.uart = self.device(Pl011)
        self.clock = self.device(Pl031)
        self.input.subscribe(self.uart, lambda: self.uart.opened)
        self._plug(self.device(VirtioTransports))
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

    def device(self, model: type[D]) -> D:
        """The board's own device of this model."""
        return next(region.device for region in self.bus if isinstance(region.device, model))

    def _attach(self, row: board.BoardDevice) -> None:
        module, _, name = row.model.partition(":")
        model: type[Device] = getattr(import_module(f".{module}", "allstop.devicesrv"), name)
        wiring = self._wiring(row.intid if row.units == 1 else None)
        if issubclass(model, (Distributor, CpuInterfaces)):
            device: Device = model(wiring, self.gic)
        elif issubclass(model, VirtioTransports):
            device = model(wiring, self._config.virtio_legacy)
        else:
            device = model(wiring)
        if device.size_bytes != row.size_bytes:
            raise BusError(f"{name} has 0x{device.size_bytes:x} bytes, its row in vm/board.py 0x{row.size_bytes:x}")
        self.bus.attach(row.base, device)

    def _plug(self, window: VirtioTransports) -> None:
        """Put the machine's virtio devices behind the transports of `window`."""
        config = self._config
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
