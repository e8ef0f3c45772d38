# SPDX-License-Identifier: GPL-2.0-or-later
"""The entropy device. Source: virtio 1.2 (OASIS), 5.4. A generator with the run's seed gives its bytes, so that a
run can be repeated: nothing here is secret."""

from __future__ import annotations

from random import Random

from allstop.devicesrv.virtio.function import Function
from allstop.devicesrv.virtio.queue import scatter

MOST_BYTES = 1 << 16  # that a buffer gets at a time: a device may give less than there is room for


class Entropy(Function):
    """Fills buffers from `random`."""

    device_id = 4
    queue_sizes = (8,)

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    def notified(self, index: int) -> None:
        queue = self.port.queue(index)
        while (chain := queue.pop()) is not None:
            data = self._random.randbytes(min(chain.writable_bytes, MOST_BYTES))
            scatter(self.port.memory, chain.writable, 0, data)
            queue.push(chain, len(data))
        self.port.signal(queue)
