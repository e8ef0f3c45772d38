# SPDX-License-Identifier: GPL-2.0-or-later
"""What a virtio device is apart from its transport: an identity, features, a configuration, and what it does with the
buffers in its queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from allstop.devicesrv.virtio.queue import Memory, Queue

F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32


class Port(Protocol):
    """What a function has of its transport."""

    memory: Memory

    @property
    def driven(self) -> bool:
        """Whether a driver has set the device up."""

    def queue(self, index: int) -> Queue:
        """One of the function's queues."""

    def signal(self, queue: Queue) -> None:
        """Interrupt the driver for what was given back in `queue`, if it wants to be."""

    def guard(self, work: Callable[[], None]) -> None:
        """Do `work` on queues on our own account. Whatever is wrong with them breaks the device, and nothing else."""


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
        """Is called once, by the transport."""
        self.port = port

    def configuration(self) -> bytes:
        """The device's configuration space."""
        return b""

    def notified(self, index: int) -> None:
        """The driver says that there is something in queue `index`. May raise QueueBrokenError and AccessError."""

    def reset(self) -> None:
        """The driver has reset the device."""
