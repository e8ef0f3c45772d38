# SPDX-License-Identifier: GPL-2.0-or-later
"""The interrupts of a GICv2: what is pending, active, enabled, and which one each CPU interface signals.

Sets of interrupts are integers with bit n for INTID n: a register is a slice of one, and the candidates for a
CPU are a few ANDs. Source: ARM IHI 0048B, chapter 3 (interrupt handling and prioritization). Priorities have
eight bits, a lower number is more urgent; 256 stands for "nothing runs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from allstop.vm.board import GIC_MAX_CPUS

INTIDS = 288  # as QEMU's virt: 32 of each CPU's own, 256 shared
SGIS = 16
PRIVATE = 32
SPURIOUS = 1023
IDLE_PRIORITY = 0x100
PRIVATE_MASK = (1 << PRIVATE) - 1
SGI_MASK = (1 << SGIS) - 1
SPI_MASK = (1 << INTIDS) - 1 & ~PRIVATE_MASK

ENABLE_GROUPS = 0x3  # GICD_CTLR and GICC_CTLR: EnableGrp0, EnableGrp1
ACK_CTL = 1 << 2
FIQ_EN = 1 << 3
CBPR = 1 << 4
EOI_MODE = 1 << 9

LINE_IRQ = 1
LINE_FIQ = 2


class Bank:
    """Some interrupts: those of one CPU (INTID 0 to 31), or the shared ones.

    An interrupt is pending while `latch` holds it (an edge, a software write, an SGI), and a level-sensitive
    one also while its input `level` is high.
    """

    __slots__ = ("active", "edge", "enabled", "group", "latch", "level", "priority")

    def __init__(self, always: int = 0) -> None:
        """`always` are the SGIs: their enable and edge bits are fixed at one."""
        self.enabled = always
        self.edge = always
        self.latch = 0
        self.level = 0
        self.active = 0
        self.group = 0
        self.priority = bytearray(INTIDS)

    def pending(self) -> int:
        """Interrupts that are pending, or active and pending."""
        return self.latch | self.level & ~self.edge


class Interface:
    """What one CPU has of its own: its private interrupts and its CPU interface.

    sources    for each SGI, the CPUs that it is pending from, one bit each
    targets    the shared interrupts that are routed to this CPU
    actives    the active priorities of group 0 and of group 1 (GICC_APRn, GICC_NSAPRn): bit n for preemption
               level n, which is a group priority >> 1
    """

    __slots__ = ("abpr", "actives", "bank", "bpr", "cpu", "ctlr", "pmr", "sources", "targets")

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.bank = Bank(always=SGI_MASK)
        self.sources = bytearray(SGIS)
        self.targets = 0
        self.ctlr = 0
        self.pmr = 0
        self.bpr = 0
        self.abpr = 1
        self.actives = [0, 0]

    def running_priority(self) -> int:
        """Group priority of the most urgent active interrupt, IDLE_PRIORITY if there is none."""
        levels = self.actives[0] | self.actives[1]
        return ((levels & -levels).bit_length() - 1) << 1 if levels else IDLE_PRIORITY

    def group_priority(self, priority: int, group: int) -> int:
        """The part of a priority that decides about preemption, by the binary point of its group."""
        shift = self.abpr if group and not self.ctlr & CBPR else self.bpr + 1
        return priority >> shift << shift


class Gic:
    """All interrupts of the machine, and each vCPU's line.

    lines      one word for each vCPU: version << 2 | FIQ << 1 | IRQ
    changed    vCPUs whose line has changed since the server cleared this set
    withheld   vCPUs whose line is kept low, for an event; `update` them when this changes

    There are at most eight CPU interfaces; vCPUs beyond have a line that never rises.
    """

    def __init__(self, vcpus: int) -> None:
        self.interfaces = [Interface(cpu) for cpu in range(min(vcpus, GIC_MAX_CPUS))]
        self.spis = Bank()
        self.ctlr = 0
        self.lines = [0] * vcpus
        self.changed: set[int] = set()
        self.withheld: set[int] = set()
        self.uniprocessor = len(self.interfaces) == 1
        if self.uniprocessor:
            self.interfaces[0].targets = SPI_MASK

    def bank(self, intid: int, interface: Interface) -> Bank:
        """The bank that holds `intid` as `interface` sees it."""
        return interface.bank if intid < PRIVATE else self.spis

    def input(self, intid: int, cpu: int = 0) -> Callable[[bool], None]:
        """The input line of a shared interrupt, or of a private one of `cpu`: call it with the level."""

        def irq(level: bool) -> None:
            self.set_level(intid, level, cpu)

        return irq

    def set_level(self, intid: int, level: bool, cpu: int = 0) -> None:
        """An input line has this level now. `cpu` matters for private interrupts only; one of a vCPU without
        a CPU interface goes nowhere. Raises ValueError for an INTID that has no input line."""
        if not SGIS <= intid < INTIDS:
            raise ValueError(f"INTID {intid} has no input line: {SGIS} to {INTIDS - 1} have one")
        if intid >= PRIVATE:
            bank, affected = self.spis, self.interfaces
        elif cpu < len(self.interfaces):
            bank, affected = self.interfaces[cpu].bank, self.interfaces[cpu : cpu + 1]
        else:
            return
        bit = 1 << intid
        if bool(bank.level & bit) == bool(level):
            return
        bank.level ^= bit
        if level and bank.edge & bit:
            bank.latch |= bit
        self.update(affected)

    def highest(self, interface: Interface) -> tuple[int, int]:
        """INTID and priority of the most urgent interrupt that is pending, not active, enabled, and in a
        group that the distributor forwards; of equals the one with the lowest INTID. (SPURIOUS,
        IDLE_PRIORITY) if none."""
        own, spis = interface.bank, self.spis
        left = (own.latch | own.level & ~own.edge) & own.enabled & ~own.active
        if spis.latch or spis.level:
            left |= (spis.latch | spis.level & ~spis.edge) & spis.enabled & ~spis.active & interface.targets
        if left and self.ctlr != ENABLE_GROUPS:
            group1 = own.group | spis.group
            left &= (0, ~group1, group1)[self.ctlr]
        best, best_priority = SPURIOUS, IDLE_PRIORITY
        while left:
            lowest = left & -left
            left ^= lowest
            intid = lowest.bit_length() - 1
            priority = (own if intid < PRIVATE else spis).priority[intid]
            if priority < best_priority:
                best, best_priority = intid, priority
        return best, best_priority

    def group(self, intid: int, interface: Interface) -> int:
        """0 or 1."""
        return self.bank(intid, interface).group >> intid & 1

    def signalled(self, interface: Interface) -> int:
        """The interrupt that `interface` signals to its CPU: the highest one, if the interface forwards its
        group, its priority passes the mask, and it may preempt what runs. Else SPURIOUS."""
        intid, priority = self.highest(interface)
        if priority >= interface.pmr:  # nothing pending has IDLE_PRIORITY, which no mask lets pass
            return SPURIOUS
        group = self.group(intid, interface)
        if not interface.ctlr >> group & 1:
            return SPURIOUS
        if interface.group_priority(priority, group) >= interface.running_priority():
            return SPURIOUS
        return intid

    def update(self, interfaces: Iterable[Interface]) -> None:
        """Compute the lines of these CPUs again."""
        for interface in interfaces:
            intid = self.signalled(interface)
            level = 0
            if intid != SPURIOUS and interface.cpu not in self.withheld:
                is_fiq = interface.ctlr & FIQ_EN and not self.group(intid, interface)
                level = LINE_FIQ if is_fiq else LINE_IRQ
            self._set_line(interface.cpu, level)

    def raise_spuriously(self, cpu: int) -> bool:
        """Raise the line of `cpu`, with nothing pending, until its interface is used; False when it is high."""
        return self._set_line(cpu, LINE_IRQ)

    def _set_line(self, cpu: int, level: int) -> bool:
        line = self.lines[cpu]
        if line & (LINE_IRQ | LINE_FIQ) == level:
            return False
        self.lines[cpu] = (line >> 2) + 1 << 2 | level
        self.changed.add(cpu)
        return True

    def update_for(self, intid: int, interface: Interface) -> None:
        """Compute again the lines of every CPU that `intid` of `interface` concerns."""
        self.update((interface,) if intid < PRIVATE else self.interfaces)
