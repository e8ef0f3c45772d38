# SPDX-License-Identifier: GPL-2.0-or-later
"""GICD: which interrupts exist, are enabled, pending and active, their priorities and targets. ARM IHI 0048B,
section 4.3.

Words everywhere; bytes too for priorities, targets and the pending sources of SGIs. The registers of INTID 0
to 31 are banked: the vCPU that makes the access sees its own. A vCPU without a CPU interface (number 8 and
up) has none of those.
"""

from __future__ import annotations

from allstop.devicesrv.device import Device, Wiring
from allstop.devicesrv.gicv2.state import (
    ENABLE_GROUPS,
    INTIDS,
    PRIVATE,
    SGI_MASK,
    Bank,
    Gic,
    Interface,
)

CTLR = 0x000
TYPER = 0x004
IIDR = 0x008
# One bit for each interrupt: 0x80 bytes of registers each.
IGROUPR = 0x080
ISENABLER = 0x100
ICENABLER = 0x180
ISPENDR = 0x200
ICPENDR = 0x280
ISACTIVER = 0x300
ICACTIVER = 0x380
# One byte each.
IPRIORITYR = 0x400
ITARGETSR = 0x800
# Two bits each.
ICFGR = 0xC00
ICFGR_END = 0xD00
SGIR = 0xF00
CPENDSGIR = 0xF10
SPENDSGIR = 0xF20
SPENDSGIR_END = 0xF30
PIDR4 = 0xFD0

IIDR_VALUE = 0x0000_043B  # implementer Arm
IDENTIFICATION = bytes(
    (  # PIDR4-7, PIDR0-3, CIDR0-3
        0x04,
        0,
        0,
        0,
        0x90,
        0xB4,
        0x2B,
        0,
        0x0D,
        0xF0,
        0x05,
        0xB1,
    )
)

_SGIR_LIST, _SGIR_OTHERS, _SGIR_SELF = 0, 1, 2


class Distributor(Device):
    """The GICD window."""

    widths = frozenset({1, 4})

    def __init__(self, wiring: Wiring, gic: Gic) -> None:
        super().__init__(wiring)
        self._gic = gic

    def read(self, offset: int, size: int, cpu: int) -> int:
        if IPRIORITYR <= offset < ICFGR or CPENDSGIR <= offset < SPENDSGIR_END:
            return self._read_bytes(offset, size, cpu)
        if size != 4:
            return self.mistake()
        gic = self._gic
        if IGROUPR <= offset < IPRIORITYR:
            first = (offset & 0x7F) * 8
            bank = self._bank(first, cpu)
            return self.mistake() if bank is None else self._bits(bank, offset & ~0x7F) >> first & 0xFFFF_FFFF
        if ICFGR <= offset < ICFGR_END:
            first = (offset - ICFGR) * 4
            bank = self._bank(first, cpu)
            return self.mistake() if bank is None else _to_pairs(bank.edge >> first & 0xFFFF)
        if offset >= PIDR4:
            return IDENTIFICATION[(offset - PIDR4) // 4]
        if offset == CTLR:
            return gic.ctlr
        if offset == TYPER:
            return INTIDS // 32 - 1 | len(gic.interfaces) - 1 << 5
        if offset == IIDR:
            return IIDR_VALUE
        return self.mistake()

    def write(self, offset: int, size: int, value: int, cpu: int) -> None:
        gic = self._gic
        if IPRIORITYR <= offset < ICFGR or CPENDSGIR <= offset < SPENDSGIR_END:
            self._write_bytes(offset, size, value, cpu)
        elif size != 4:
            self.mistake()
        elif offset == SGIR:
            self._generate(value, cpu)
        elif IGROUPR <= offset < IPRIORITYR:
            first = (offset & 0x7F) * 8
            bank = self._bank(first, cpu)
            if bank is None:
                self.mistake()
                return
            self._write_bits(bank, offset & ~0x7F, first, value)
            self._update(first, cpu)
        elif ICFGR <= offset < ICFGR_END:
            first = (offset - ICFGR) * 4
            bank = self._bank(first, cpu)
            if bank is None or first < PRIVATE:  # SGIs are edges, private lines are levels: both fixed
                self.mistake()
                return
            bank.edge = bank.edge & ~(0xFFFF << first) | _from_pairs(value) << first
            self._update(first, cpu)
        elif offset == CTLR:
            gic.ctlr = value & ENABLE_GROUPS
            gic.update(gic.interfaces)
        else:
            self.mistake()

    def _interface(self, cpu: int) -> Interface | None:
        return self._gic.interfaces[cpu] if cpu < len(self._gic.interfaces) else None

    def _bank(self, intid: int, cpu: int) -> Bank | None:
        """The bank of `intid` as `cpu` sees it, or None where there is none."""
        if intid >= PRIVATE:
            return self._gic.spis if intid < INTIDS else None
        interface = self._interface(cpu)
        return interface.bank if interface else None

    def _update(self, intid: int, cpu: int) -> None:
        gic = self._gic
        gic.update(gic.interfaces if intid >= PRIVATE else (gic.interfaces[cpu],))

    @staticmethod
    def _bits(bank: Bank, register: int) -> int:
        """What the registers of one kind read as, all of a bank in one number."""
        if register == IGROUPR:
            return bank.group
        if register in (ISENABLER, ICENABLER):
            return bank.enabled
        if register in (ISPENDR, ICPENDR):
            return bank.pending()
        return bank.active

    @staticmethod
    def _write_bits(bank: Bank, register: int, first: int, value: int) -> None:
        """Write one word of a kind of registers: `value` for 32 interrupts from INTID `first`."""
        bits = value << first
        if register == IGROUPR:
            bank.group = bank.group & ~(0xFFFF_FFFF << first) | bits
        elif register == ISENABLER:
            bank.enabled |= bits
        elif register == ICENABLER:
            bank.enabled &= ~(bits & ~SGI_MASK)
        elif register == ISPENDR:
            bank.latch |= bits & ~SGI_MASK  # SGIs are made pending, and not, with their source
        elif register == ICPENDR:
            bank.latch &= ~(bits & ~SGI_MASK)
        elif register == ISACTIVER:
            bank.active |= bits
        else:
            bank.active &= ~bits

    def _read_bytes(self, offset: int, size: int, cpu: int) -> int:
        gic, interface = self._gic, self._interface(cpu)
        if offset >= CPENDSGIR:
            sgi = offset & 0xF
            return self.mistake() if interface is None else _number(interface.sources[sgi : sgi + size])
        intid = offset & 0x3FF
        bank = self._bank(intid, cpu)
        if bank is None:
            return self.mistake()
        if offset < ITARGETSR:
            return _number(bank.priority[intid : intid + size])
        if gic.uniprocessor:
            return 0
        if intid < PRIVATE:
            return _number(bytes((1 << cpu,)) * size)
        return _number(bytes(self._targets(intid + i) for i in range(size)))

    def _write_bytes(self, offset: int, size: int, value: int, cpu: int) -> None:
        gic, interface = self._gic, self._interface(cpu)
        data = value.to_bytes(size, "little")
        if offset >= CPENDSGIR:
            if interface is None:
                self.mistake()
                return
            for sgi, sources in enumerate(data, offset & 0xF):
                self._set_sources(interface, sgi, sources, pending=offset >= SPENDSGIR)
            gic.update((interface,))
            return
        intid = offset & 0x3FF
        bank = self._bank(intid, cpu)
        if bank is None:
            self.mistake()
            return
        if offset < ITARGETSR:
            bank.priority[intid : intid + size] = data
        elif not gic.uniprocessor and intid >= PRIVATE:  # the others' targets are fixed: writes are ignored
            for place, targets in enumerate(data, intid):
                self._set_targets(place, targets)
        self._update(intid, cpu)

    def _targets(self, intid: int) -> int:
        return sum(1 << interface.cpu for interface in self._gic.interfaces if interface.targets >> intid & 1)

    def _set_targets(self, intid: int, targets: int) -> None:
        bit = 1 << intid
        for interface in self._gic.interfaces:
            interface.targets = interface.targets & ~bit | (bit if targets >> interface.cpu & 1 else 0)

    def _set_sources(self, interface: Interface, sgi: int, sources: int, pending: bool) -> None:
        """Make an SGI pending from each CPU in `sources`, or not pending from them."""
        sources &= (1 << len(self._gic.interfaces)) - 1
        now = interface.sources[sgi]
        interface.sources[sgi] = now | sources if pending else now & ~sources
        latch = interface.bank.latch & ~(1 << sgi)
        interface.bank.latch = latch | (1 << sgi if interface.sources[sgi] else 0)

    def _generate(self, value: int, cpu: int) -> None:
        """GICD_SGIR: send a software-generated interrupt."""
        gic, chosen = self._gic, value >> 24 & 0x3
        if self._interface(cpu) is None or chosen > _SGIR_SELF:
            self.mistake()
            return
        everyone = (1 << len(gic.interfaces)) - 1
        if chosen == _SGIR_LIST:
            targets = value >> 16 & 0xFF
        elif chosen == _SGIR_OTHERS:
            targets = everyone & ~(1 << cpu)
        else:
            targets = 1 << cpu
        reached = [interface for interface in gic.interfaces if targets >> interface.cpu & 1]
        for interface in reached:
            self._set_sources(interface, value & 0xF, 1 << cpu, pending=True)
        gic.update(reached)


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "little")


def _to_pairs(bits: int) -> int:
    """Sixteen edge bits as the two-bit fields of GICD_ICFGRn."""
    return sum(2 << 2 * place for place in range(16) if bits >> place & 1)


def _from_pairs(value: int) -> int:
    """Inverse of `_to_pairs`; the low bit of each field is ignored."""
    return sum(1 << place for place in range(16) if value >> 2 * place & 2)
