# SPDX-License-Identifier: GPL-2.0-or-later
"""The board's addresses and interrupt numbers: those of QEMU's `virt` machine with GICv2, and allstop's own devices.

Source: QEMU, hw/arm/virt.c (base_memmap, a15irqmap). Interrupt numbers are GIC INTIDs: SPI n is 32 + n, PPI n is
16 + n.
"""

from __future__ import annotations

from allstop.vm.config.limits import RAM_BASE as RAM_BASE

GICD_BASE = 0x0800_0000
GICC_BASE = 0x0801_0000
PL011_BASE = 0x0900_0000
PL031_BASE = 0x0901_0000
VIRTIO_BASE = 0x0A00_0000
VIRTIO_BYTES = 0x200  # of one transport
VIRTIO_TRANSPORTS = 32
TEST_BASE = 0x0B00_0000
COUNTER_BASE = 0x0B01_0000
RAMDEV_BASE = 0x0B10_0000
RAMDEV_BYTES = 0x1_0000
PL011_INTID = 32 + 1
PL031_INTID = 32 + 2
VIRTIO_INTID = 32 + 16  # of transport 0; the others follow
VIRTUAL_TIMER_INTID = 16 + 11
PHYSICAL_TIMER_INTID = 16 + 14
CPUS_PER_CLUSTER = 8
GIC_MAX_CPUS = 8

# The pages that the board's own devices take: where each begins, and how many bytes.
FIXED_RANGES = (
    (GICD_BASE, 0x1000),
    (GICC_BASE, 0x2000),
    (PL011_BASE, 0x1000),
    (PL031_BASE, 0x1000),
    (TEST_BASE, 0x1000),
    (VIRTIO_BASE, VIRTIO_BYTES * VIRTIO_TRANSPORTS),
    (COUNTER_BASE, 0x1000),
    (RAMDEV_BASE, RAMDEV_BYTES),
)


def mpidr(vcpu: int) -> int:
    """MPIDR as the guest reads it: multiprocessing extensions, Aff1 = cluster of eight, Aff0 = place in it."""
    return 0x8000_0000 | vcpu // CPUS_PER_CLUSTER << 8 | vcpu % CPUS_PER_CLUSTER


def vcpu_of_mpidr(affinity: int) -> int:
    """Inverse of `mpidr` for its affinity bits [23:0]; the result may be a vCPU that the machine lacks."""
    if affinity & 0x00FF_00F8:
        return 1 << 16
    return (affinity >> 8 & 0xFF) * CPUS_PER_CLUSTER + (affinity & 0x7)
