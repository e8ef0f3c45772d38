# SPDX-License-Identifier: GPL-2.0-or-later
"""virtio over MMIO: the registers of one device. Source: virtio 1.2 (OASIS), 4.2.2 (version 2) and 4.2.4 (legacy,
version 1).

A legacy driver finds a queue by the number of its page, knows no FEATURES_OK, and may use a queue before it has said
DRIVER_OK, as some do: the device serves it.

The interrupt line is up while a bit of InterruptStatus is. A driver that leaves something impossible in a
queue gets DEVICE_NEEDS_RESET, a configuration interrupt, and nothing more until it resets the device.
"""

from __future__ import annotations

from collections.abc import Callable

from allstop.devicesrv.device import Wiring
from allstop.devicesrv.virtio.function import F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, Function
from allstop.devicesrv.virtio.queue import Memory, Queue, QueueBrokenError
from allstop.vm.memory.guest_memory import AccessError

MAGIC = 0x00
VERSION = 0x04
DEVICE_ID = 0x08
VENDOR_ID = 0x0C
DEVICE_FEATURES = 0x10
DEVICE_FEATURES_SEL = 0x14
DRIVER_FEATURES = 0x20
DRIVER_FEATURES_SEL = 0x24
GUEST_PAGE_SIZE = 0x28  # legacy
QUEUE_SEL = 0x30
QUEUE_NUM_MAX = 0x34
QUEUE_NUM = 0x38
QUEUE_ALIGN = 0x3C  # legacy
QUEUE_PFN = 0x40  # legacy
QUEUE_READY = 0x44
QUEUE_NOTIFY = 0x50
INTERRUPT_STATUS = 0x60
INTERRUPT_ACK = 0x64
STATUS = 0x70
QUEUE_DESC_LOW = 0x80
QUEUE_DESC_HIGH = 0x84
QUEUE_DRIVER_LOW = 0x90
QUEUE_DRIVER_HIGH = 0x94
QUEUE_DEVICE_LOW = 0xA0
QUEUE_DEVICE_HIGH = 0xA4
SHM_SEL = 0xAC
SHM_LENGTH_LOW = 0xB0
SHM_BASE_HIGH = 0xBC
CONFIG_GENERATION = 0xFC
CONFIG = 0x100

MAGIC_VALUE = 0x7472_6976  # "virt"
VENDOR = 0x5054_5341  # "ASTP"
LEGACY, MODERN = 1, 2

STATUS_DRIVER_OK = 4
STATUS_FEATURES_OK = 8
STATUS_NEEDS_RESET = 64
INTERRUPT_USED = 1
INTERRUPT_CONFIG = 2

_LEGACY_ONLY = frozenset({GUEST_PAGE_SIZE, QUEUE_ALIGN, QUEUE_PFN})
_MODERN_ONLY = frozenset(
    {
        QUEUE_READY,
        QUEUE_DESC_LOW,
        QUEUE_DESC_HIGH,
        QUEUE_DRIVER_LOW,
        QUEUE_DRIVER_HIGH,
        QUEUE_DEVICE_LOW,
        QUEUE_DEVICE_HIGH,
        SHM_SEL,
        *range(SHM_LENGTH_LOW, SHM_BASE_HIGH + 4, 4),
        CONFIG_GENERATION,
    }
)
_ADDRESSES = {
    QUEUE_DESC_LOW: ("descriptors", 0),
    QUEUE_DESC_HIGH: ("descriptors", 32),
    QUEUE_DRIVER_LOW: ("driver", 0),
    QUEUE_DRIVER_HIGH: ("driver", 32),
    QUEUE_DEVICE_LOW: ("device", 0),
    QUEUE_DEVICE_HIGH: ("device", 32),
}
_WORD = 0xFFFF_FFFF


class EmptyTransport:
    """The registers of an empty transport: device 0. Reading them is no guest mistake."""

    def __init__(self, legacy: bool = False) -> None:
        self._known = {MAGIC: MAGIC_VALUE, VERSION: LEGACY if legacy else MODERN, VENDOR_ID: VENDOR}

    def read(self, offset: int, size: int) -> int:
        """A driver's read of `size` bytes, aligned."""
        return self._known.get(offset, 0) if size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A driver's write; it changes nothing."""


class Transport:
    """The registers in front of `function`.

    `mistake` counts an access that a correct driver does not make, and returns 0, the value to read.
    """

    def __init__(
        self, function: Function, memory: Memory, wiring: Wiring, mistake: Callable[[], int], legacy: bool = False
    ) -> None:
        self.function = function
        self.memory = memory
        self._wiring = wiring
        self._mistake = mistake
        self.version = LEGACY if legacy else MODERN
        self._legacy = legacy
        self._offered = function.features | F_INDIRECT_DESC | F_EVENT_IDX | (0 if legacy else F_VERSION_1)
        self._queues = [Queue(memory, size) for size in function.queue_sizes]
        self._page_bytes = 0  # a legacy driver says it once; a reset does not make it forgotten
        self._line = False
        self._interrupts = 0
        self._clear()
        function.plug(self)

    @property
    def features(self) -> int:
        """What the driver has accepted."""
        return self._accepted & self._offered

    @property
    def driven(self) -> bool:
        return bool(self._status & STATUS_DRIVER_OK)

    def queue(self, index: int) -> Queue:
        """One of the function's queues."""
        return self._queues[index]

    def signal(self, queue: Queue) -> None:
        """Interrupt the driver about buffers given back in `queue`, if it asked for that. Raises QueueBrokenError."""
        if queue.wants_interrupt():
            self._interrupt(INTERRUPT_USED)

    def guard(self, work: Callable[[], None]) -> None:
        """Do `work` on the queues. An error in them breaks this device only."""
        if self._status & STATUS_NEEDS_RESET:
            return
        try:
            work()
        except (QueueBrokenError, AccessError):
            self._mistake()
            self._status |= STATUS_NEEDS_RESET
            self._interrupt(INTERRUPT_CONFIG)

    def read(self, offset: int, size: int) -> int:
        """A driver's read of `size` bytes, aligned."""
        function = self.function
        if offset >= CONFIG:
            space = function.configuration()
            if offset - CONFIG + size > len(space):
                return self._mistake()
            return int.from_bytes(space[offset - CONFIG : offset - CONFIG + size], "little")
        if size != 4 or offset in (_MODERN_ONLY if self._legacy else _LEGACY_ONLY):
            return self._mistake()
        queue = self._selected()
        match offset:
            case 0x00:
                return MAGIC_VALUE
            case 0x04:
                return self.version
            case 0x08:
                return function.device_id
            case 0x0C:
                return VENDOR
            case 0x10:
                return self._offered >> 32 * self._offered_sel & _WORD if self._offered_sel < 2 else 0
            case 0x34:
                return 0 if queue is None else queue.max_size
            case 0x40:
                return queue.descriptors // self._page_bytes if queue and queue.ready and self._page_bytes else 0
            case 0x44:
                return int(queue is not None and queue.ready)
            case 0x60:
                return self._interrupts
            case 0x70:
                return self._status
            case 0xFC:
                return 0  # the configuration never changes
        if SHM_LENGTH_LOW <= offset <= SHM_BASE_HIGH:
            return _WORD  # there is no shared memory
        return self._mistake()

    def write(self, offset: int, size: int, value: int) -> None:
        """A driver's write of `size` bytes, aligned."""
        if size != 4 or offset >= CONFIG or offset in (_MODERN_ONLY if self._legacy else _LEGACY_ONLY):
            self._mistake()
            return
        queue = self._selected()
        match offset:
            case 0x14:
                self._offered_sel = value
            case 0x20:
                self._accept(value)
            case 0x24:
                self._accepted_sel = value
            case 0x30:
                self._sel = value
            case 0x50:
                self._notify(value)
            case 0x64:
                self._interrupts &= ~value
                self._drive()
            case 0x70:
                self._set_status(value & 0xFF)
            case 0x28:
                self._page_bytes = value
            case 0xAC:
                pass
            case _ if queue is None:
                self._mistake()
            case 0x44:
                self._set_ready(queue, value)
            case 0x40:
                self._set_page(queue, value)
            case _ if queue.ready:
                self._mistake()
            case 0x38:
                queue.size = value
            case 0x3C:
                self._align = value
            case _ if offset in _ADDRESSES:
                name, shift = _ADDRESSES[offset]
                kept = getattr(queue, name) & ~(_WORD << shift)
                setattr(queue, name, kept | value << shift)
            case _:
                self._mistake()

    def _clear(self) -> None:
        self._accepted = 0
        self._offered_sel = self._accepted_sel = self._sel = 0
        self._align = 0x1000
        self._status = 0
        self._interrupts = 0
        for queue in self._queues:
            queue.reset()
        self._drive()

    def _selected(self) -> Queue | None:
        return self._queues[self._sel] if self._sel < len(self._queues) else None

    def _accept(self, value: int) -> None:
        if self._accepted_sel > 1 or self._status & STATUS_FEATURES_OK:
            self._mistake()
            return
        shift = 32 * self._accepted_sel
        self._accepted = self._accepted & ~(_WORD << shift) | value << shift

    def _set_status(self, value: int) -> None:
        if value == 0:
            self._clear()
            self.function.reset()
            return
        if (
            value & STATUS_FEATURES_OK
            and not self._status & STATUS_FEATURES_OK
            and not self._legacy
            and (self._accepted & ~self._offered or not self._accepted & F_VERSION_1)
        ):
            value &= ~STATUS_FEATURES_OK
        self._status = value | self._status & STATUS_NEEDS_RESET

    def _set_ready(self, queue: Queue, value: int) -> None:
        if not value & 1:
            queue.ready = False
        elif not queue.ready:
            self.guard(lambda: queue.enable(bool(self.features & F_EVENT_IDX)))

    def _set_page(self, queue: Queue, page: int) -> None:
        """Legacy: the three areas follow one another, the used ring on the next multiple of QueueAlign."""
        if page == 0:
            queue.reset()
            return
        if not self._page_bytes or not self._align or self._align & self._align - 1 or queue.ready:
            self._mistake()
            return
        queue.descriptors = page * self._page_bytes
        queue.driver = queue.descriptors + 16 * queue.size
        end = queue.driver + 2 * (3 + queue.size)
        queue.device = (end + self._align - 1) & ~(self._align - 1)
        self.guard(lambda: queue.enable(bool(self.features & F_EVENT_IDX)))

    def _notify(self, index: int) -> None:
        function = self.function
        if (
            index >= len(self._queues)
            or not self._queues[index].ready
            or not (self._legacy or self._status & STATUS_DRIVER_OK)
        ):
            self._mistake()
            return
        self.guard(lambda: function.notified(index))

    def _interrupt(self, bit: int) -> None:
        self._interrupts |= bit
        self._drive()

    def _drive(self) -> None:
        level = self._interrupts != 0
        if level != self._line:
            self._line = level
            self._wiring.irq(level)
