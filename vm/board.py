# SPDX-License-Identifier: GPL-2.0-or-later
"""The board: which devices it has, where they are, which interrupts they drive, and what a device tree says of them.

The addresses are those of QEMU's `virt` machine with GICv2; the test devices are allstop's own. Interrupt numbers are
GIC INTIDs: SPI n is 32 + n, PPI n is 16 + n. Source: QEMU, hw/arm/virt.c (base_memmap, a15irqmap).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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

CLOCK_PHANDLE = 0x8000
GIC_PHANDLE = 0x8001
FIRST_CPU_PHANDLE = 0x8002
EDGE_RISING, LEVEL_HIGH = 1, 4
_GIC_REGION_BYTES = 0x1_0000

Properties: TypeAlias = tuple[tuple[str, tuple[int, ...] | tuple[str, ...]], ...]
"""Properties of a device-tree node, by name: words, strings, or () for one that has no value."""


@dataclass(frozen=True)
class TreeNode:
    """The device-tree node of a device: `name@base` with `before`, its interrupt, `reg`, `compatible` and `after`.

    `trigger` is EDGE_RISING or LEVEL_HIGH. `regions` replaces `reg` where the node covers other ranges than its device:
    pairs of address and size.
    """

    name: str
    compatible: tuple[str, ...]
    before: Properties = ()
    after: Properties = ()
    trigger: int = LEVEL_HIGH
    regions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class BoardDevice:
    """One row of the board: `model` ("module:Class", the module in the device server's package) is at `base`.

    `units` equal parts share the window, each with a device-tree node and an interrupt of its own, from `intid` on.
    Without `node` a guest that finds its devices by the tree does not see this one.
    """

    model: str
    base: int
    size_bytes: int = 0x1000
    intid: int | None = None
    units: int = 1
    node: TreeNode | None = None


DEVICES = (
    BoardDevice(
        "gicv2.distributor:Distributor",
        GICD_BASE,
        node=TreeNode(
            "intc",
            ("arm,cortex-a15-gic",),
            before=(("phandle", (GIC_PHANDLE,)),),
            after=(
                ("ranges", ()),
                ("#size-cells", (2,)),
                ("#address-cells", (2,)),
                ("interrupt-controller", ()),
                ("#interrupt-cells", (3,)),
            ),
            regions=((GICD_BASE, _GIC_REGION_BYTES), (GICC_BASE, _GIC_REGION_BYTES)),
        ),
    ),
    BoardDevice("gicv2.cpu_interface:CpuInterfaces", GICC_BASE, 0x2000),
    BoardDevice(
        "models.pl011:Pl011",
        PL011_BASE,
        intid=PL011_INTID,
        node=TreeNode(
            "pl011",
            ("arm,pl011", "arm,primecell"),
            before=(("clock-names", ("uartclk", "apb_pclk")), ("clocks", (CLOCK_PHANDLE, CLOCK_PHANDLE))),
        ),
    ),
    BoardDevice(
        "models.pl031:Pl031",
        PL031_BASE,
        intid=PL031_INTID,
        node=TreeNode(
            "pl031",
            ("arm,pl031", "arm,primecell"),
            before=(("clock-names", ("apb_pclk",)), ("clocks", (CLOCK_PHANDLE,))),
        ),
    ),
    BoardDevice(
        "virtio.window:VirtioTransports",
        VIRTIO_BASE,
        VIRTIO_BYTES * VIRTIO_TRANSPORTS,
        intid=VIRTIO_INTID,
        units=VIRTIO_TRANSPORTS,
        node=TreeNode("virtio_mmio", ("virtio,mmio",), before=(("dma-coherent", ()),), trigger=EDGE_RISING),
    ),
    BoardDevice("models.testdev:TestDevice", TEST_BASE),
    BoardDevice("models.counter:CounterDevice", COUNTER_BASE),
    BoardDevice("models.ramdev:RamDevice", RAMDEV_BASE, RAMDEV_BYTES),
)
"""Every device of the board. A new one is its model and one row here."""

FIXED_RANGES = tuple((row.base, row.size_bytes) for row in DEVICES)
"""The windows of the board's own devices: where each begins, and how many bytes it has."""


def mpidr(vcpu: int) -> int:
    """MPIDR as the guest reads it: multiprocessing extensions, Aff1 = cluster of eight, Aff0 = place in it."""
    return 0x8000_0000 | vcpu // CPUS_PER_CLUSTER << 8 | vcpu % CPUS_PER_CLUSTER


def vcpu_of_mpidr(affinity: int) -> int:
    """Inverse of `mpidr` for its affinity bits [23:0]; the result may be a vCPU that the machine lacks."""
    if affinity & 0x00FF_00F8:
        return 1 << 16
    return (affinity >> 8 & 0xFF) * CPUS_PER_CLUSTER + (affinity & 0x7)
