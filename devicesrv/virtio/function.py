# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtio device apart from its transport: its identity, features and configuration, and its use of the buffers in the
queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from allstop.devicesrv.virtio.queue import Memory, Queue

F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32


class Port(Protocol):
    """What a function may ask of its transport."""

    memory: Memory

    @property
    def driven(self) -> bool:
        """Whether a driver has set the device up."""

    def queue(self, index: int) -> Queue:
        """One of the function's queues."""

    def signal(self, queue: Queue) -> None:
        """Interrupt the driver about buffers given back in `queue`, if it asked for that."""

    def guard(self, work: Callable[[], None]) -> None:
        """Do `work` on the queues without a notification. An error in them breaks this device only."""


class Function:
    """One device behind a transport.

    device_id    what kind of device it is (virtio 1.2, chapter 5)
    queue_sizes  for each queue, how many entries it has at most: a power of two
    features     the device's own feature bits; the transport adds those that are common to all
    """

    device_id: ClassVar[int]
    queue_sizes: ClassVar[tuple[int, ...]]
    features: int = 0

    def __init__(self) -> None:
        self.port: Port

    def plug(self, port: Port) -> None:
        """The transport calls this once."""
        self.port = port

    def configuration(self) -> bytes:
        """The device's configuration space."""
        return b""

    def notified(self, index: int) -> None:
        """The driver has put a buffer into queue `index`. May raise QueueBrokenError and AccessError."""

    def reset(self) -> None:
        """The driver has reset the device."""
