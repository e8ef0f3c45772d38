# SPDX-License-Identifier: GPL-2.0-or-later
"""GICC: through it a CPU takes, finishes and masks interrupts. ARM IHI 0048B, section 4.4.

Word accesses only. The interface of the vCPU that makes the access answers; a vCPU from number 8 on has none,
and reads zero.
"""

from __future__ import annotations

from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.gicv2.state import ACK_CTL, EOI_MODE, IDLE_PRIORITY, INTIDS, SGIS, SPURIOUS, Gic, Interface

CTLR = 0x00
PMR = 0x04
BPR = 0x08
IAR = 0x0C
EOIR = 0x10
RPR = 0x14
HPPIR = 0x18
ABPR = 0x1C
AIAR = 0x20
AEOIR = 0x24
AHPPIR = 0x28
APR = 0xD0  # four words
NSAPR = 0xE0  # four words
IIDR = 0xFC
DIR = 0x1000

CTLR_MASK = 0x61F  # enables, AckCtl, FIQEn, CBPR, both EOImodes; nothing is wired past the GIC: no bypass bits
IIDR_VALUE = 0x0002_043B  # architecture version 2, implementer Arm
GROUP1_PENDING = 1022  # the highest is of group 1, and this register does not hand it out
FIRST_SPECIAL = 1020


class CpuInterfaces(Device):
    """The GICC window of all CPUs."""

    size_bytes = 0x2000
    widths = frozenset({4})

    def __init__(self, wiring: Wiring, gic: Gic) -> None:
        super().__init__(wiring)
        self._gic = gic

    def read(self, offset: int, size: int, cpu: int) -> int:
        gic = self._gic
        if cpu >= len(gic.interfaces):
            return self.mistake()
        interface = gic.interfaces[cpu]
        if offset == IAR:
            return self._acknowledge(interface, alias=False)
        if offset == CTLR:
            return interface.ctlr
        if offset == PMR:
            return interface.pmr
        if offset == BPR:
            return interface.bpr
        if offset == RPR:
            return min(interface.running_priority(), IDLE_PRIORITY - 1)
        if offset == HPPIR:
            return self._highest_pending(interface, alias=False)
        if offset == ABPR:
            return interface.abpr
        if offset == AIAR:
            return self._acknowledge(interface, alias=True)
        if offset == AHPPIR:
            return self._highest_pending(interface, alias=True)
        if APR <= offset < NSAPR + 0x10:
            group, shift = _active_priorities(offset)
            return interface.actives[group] >> shift & 0xFFFF_FFFF
        if offset == IIDR:
            return IIDR_VALUE
        return self.mistake()

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        gic = self._gic
        if cpu >= len(gic.interfaces):
            self.mistake()
            return
        interface = gic.interfaces[cpu]
        if offset == EOIR:
            self._complete(interface, value, alias=False)
            return
        if offset == AEOIR:
            self._complete(interface, value, alias=True)
            return
        if offset == DIR:
            self._deactivate(interface, value)
            return
        if offset == CTLR:
            interface.ctlr = value & CTLR_MASK
        elif offset == PMR:
            interface.pmr = value & 0xFF
        elif offset == BPR:
            interface.bpr = value & 0x7
        elif offset == ABPR:
            interface.abpr = max(value & 0x7, 1)
        elif APR <= offset < NSAPR + 0x10:
            group, shift = _active_priorities(offset)
            others = interface.actives[group] & ~(0xFFFF_FFFF << shift)
            interface.actives[group] = others | value << shift
        else:
            self.mistake()
            return
        gic.update((interface,))

    def _acknowledge(self, interface: Interface, alias: bool) -> int:
        """Make the signalled interrupt active and give its number, with the source's number for an SGI. The
        alias register hands out group 1 only, the other one group 0, and group 1 too if AckCtl says so."""
        gic = self._gic
        intid = gic.signalled(interface)
        if intid == SPURIOUS:
            gic.update((interface,))  # a line that rose spuriously falls
            return SPURIOUS
        group = gic.group(intid, interface)
        if alias and not group:
            return SPURIOUS
        if group and not alias and not interface.ctlr & ACK_CTL:
            return GROUP1_PENDING
        bank = gic.bank(intid, interface)
        bit = 1 << intid
        bank.active |= bit
        source = 0
        if intid < SGIS:
            sources = interface.sources[intid]
            source = (sources & -sources).bit_length() - 1
            sources &= sources - 1
            interface.sources[intid] = sources
            if not sources:
                bank.latch &= ~bit
        else:
            bank.latch &= ~bit  # a level that is still high keeps a level-sensitive interrupt pending
        interface.actives[group] |= 1 << (interface.group_priority(bank.priority[intid], group) >> 1)
        gic.update_for(intid, interface)
        return source << 10 | intid

    def _highest_pending(self, interface: Interface, alias: bool) -> int:
        """HPPIR ignores the priority mask and the running priority, but not the group enables."""
        gic = self._gic
        intid, _ = gic.highest(interface)
        if intid == SPURIOUS:
            return SPURIOUS
        group = gic.group(intid, interface)
        if not interface.ctlr >> group & 1 or alias and not group:
            return SPURIOUS
        if group and not alias and not interface.ctlr & ACK_CTL:
            return GROUP1_PENDING
        if intid < SGIS:
            sources = interface.sources[intid]
            return (sources & -sources).bit_length() - 1 << 10 | intid
        return intid

    def _complete(self, interface: Interface, value: int, alias: bool) -> None:
        """Drop the running priority, and deactivate unless EOImode splits the two. What is written must match
        the last interrupt taken; where it does not, the architecture leaves it open, and the priority drops
        as in QEMU."""
        gic = self._gic
        intid = value & 0x3FF
        if intid >= INTIDS:
            if intid < FIRST_SPECIAL:
                self.mistake()
            return
        group = gic.group(intid, interface)
        levels = interface.actives[group]
        if not levels or alias and not group:
            self.mistake()
            return
        interface.actives[group] = levels & levels - 1
        if interface.ctlr & EOI_MODE:
            gic.update((interface,))
            return
        gic.bank(intid, interface).active &= ~(1 << intid)
        gic.update_for(intid, interface)

    def _deactivate(self, interface: Interface, value: int) -> None:
        intid = value & 0x3FF
        if intid >= INTIDS or not interface.ctlr & EOI_MODE:
            self.mistake()
            return
        self._gic.bank(intid, interface).active &= ~(1 << intid)
        self._gic.update_for(intid, interface)


def _active_priorities(offset: int) -> tuple[int, int]:
    """Group and bit shift of the word of active priorities at `offset`."""
    return int(offset >= NSAPR), (offset & 0xC) * 8
