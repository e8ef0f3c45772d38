# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtio devices of a machine, in the order in which they take the transports, from number 0 on."""

from __future__ import annotations

from random import Random

from allstop.devicesrv.bus import BusError
from allstop.devicesrv.device import Wiring
from allstop.devicesrv.virtio.block import Block
from allstop.devicesrv.virtio.console import TestConsole, VirtioConsole
from allstop.devicesrv.virtio.drive import open_any
from allstop.devicesrv.virtio.entropy import Entropy
from allstop.devicesrv.virtio.function import Function
from allstop.vm.board import VIRTIO_TRANSPORTS
from allstop.vm.config.machine import MachineConfig


def functions(config: MachineConfig, outlets: Wiring) -> list[tuple[Function, bool]]:
    """The devices, and for each whether its transport is a legacy one. Raises DriveError, OSError and BusError.

    The test console comes first, with a legacy transport: kvm-unit-tests take the first console that they find, and
    know no other transport. Then the drives in the order of the command line, the console, and the entropy device.
    """
    legacy = config.virtio_legacy
    found: list[tuple[Function, bool]] = []
    if config.testdev:
        found.append((TestConsole(outlets.finish), True))
    for number, spec in enumerate(config.drives):
        drive = open_any(spec, config.run_dir or None)
        found.append((Block(drive, f"allstop-{number}", outlets.note), legacy))
    if config.virtio_console:
        found.append((VirtioConsole(outlets.console), legacy))
    if config.rng:
        found.append((Entropy(Random(f"entropy {config.seed}")), legacy))
    if len(found) > VIRTIO_TRANSPORTS:
        raise BusError(f"the board has {VIRTIO_TRANSPORTS} virtio transports, not the {len(found)} that are asked for")
    return found
