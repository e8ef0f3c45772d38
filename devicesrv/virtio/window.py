# SPDX-License-Identifier: GPL-2.0-or-later
"""The board's virtio transports in one window of the bus, as QEMU's `virt` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.virtio.function import Function
from allstop.devicesrv.virtio.queue import Memory
from allstop.devicesrv.virtio.transport import EmptyTransport, Transport
from allstop.vm.board import VIRTIO_BYTES, VIRTIO_TRANSPORTS


class VirtioTransports(Device):
    """Transport n lies 0x200 * n bytes in. Each has its own interrupt line, and is modern or legacy."""

    size_bytes: ClassVar[int] = VIRTIO_BYTES * VIRTIO_TRANSPORTS

    def __init__(self, wiring: Wiring, legacy: bool = False) -> None:
        """`legacy` is the version that empty transports report."""
        super().__init__(wiring)
        self._transports: list[Transport | EmptyTransport] = [EmptyTransport(legacy)] * VIRTIO_TRANSPORTS

    def plug(self, functions: Sequence[tuple[Function, bool]], lines: Sequence[Wiring], memory: Memory) -> None:
        """Put functions behind the transports from 0 on; each says whether its transport is legacy."""
        for place, ((function, legacy), line) in enumerate(zip(functions, lines, strict=True)):
            self._transports[place] = Transport(function, memory, line, self.mistake, legacy)

    def read(self, offset: int, size: int, cpu: int) -> int:
        return self._transports[offset // VIRTIO_BYTES].read(offset % VIRTIO_BYTES, size)

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        self._transports[offset // VIRTIO_BYTES].write(offset % VIRTIO_BYTES, size, value)
