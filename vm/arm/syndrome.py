# SPDX-License-Identifier: GPL-2.0-or-later
"""The Hyp Syndrome Register, and what goes with it: fault addresses and trapped CP15 registers.

Source: ARM DDI 0406C, sections B3.13.6 "Use of the HSR", B4.1.65 "HSR" and B3.17 (CP15 register summary).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExceptionClass(IntEnum):
    """HSR.EC: why Hyp mode was entered."""

    UNKNOWN = 0x00
    WFX = 0x01
    CP15_32 = 0x03
    CP15_64 = 0x04
    CP14_32 = 0x05
    CP14_LOAD_STORE = 0x06
    VFP = 0x07
    VMRS = 0x08
    JAZELLE = 0x0A
    CP14_64 = 0x0C
    SVC = 0x11
    HVC = 0x12
    SMC = 0x13
    PREFETCH_ABORT_LOWER = 0x20
    PREFETCH_ABORT_SAME = 0x21
    DATA_ABORT_LOWER = 0x24
    DATA_ABORT_SAME = 0x25


@dataclass(frozen=True, slots=True)
class Syndrome:
    """One value of the HSR; the fields are computed when they are asked for.

    Which fields mean something depends on `ec`: those from `isv` to `level` belong to aborts, `is_read` to
    `rt2` to trapped CP15 and CP14 accesses. With `isv` false, `sas`, `sse` and `srt` are zero, and `il` says
    nothing (hardware reads 1): the instruction's length must then come from the instruction.
    """

    hsr: int

    def __repr__(self) -> str:
        return f"Syndrome({self.hsr:#010x})"

    @property
    def ec(self) -> int:
        """The exception class; an `ExceptionClass` where that has a name for it."""
        return self.hsr >> 26

    @property
    def il(self) -> int:
        """Length of the trapped instruction in bytes, 2 or 4, as HSR.IL has it."""
        return 4 if self.hsr & 1 << 25 else 2

    @property
    def iss(self) -> int:
        """HSR[24:0]."""
        return self.hsr & 0x1FFFFFF

    # Aborts.

    @property
    def isv(self) -> bool:
        """Whether the hardware described the access: `sas`, `sse` and `srt` hold."""
        return self.hsr & 1 << 24 != 0

    @property
    def sas(self) -> int:
        """Size of the access in bytes: 1, 2 or 4."""
        return 1 << (self.hsr >> 22 & 3)

    @property
    def sse(self) -> bool:
        """Whether a load sign-extends."""
        return self.hsr & 1 << 21 != 0

    @property
    def srt(self) -> int:
        """The register that is loaded or stored, 0..14."""
        return self.hsr >> 16 & 15

    @property
    def fnv(self) -> bool:
        """Whether HDFAR or HIFAR is *not* valid (external aborts only)."""
        return self.hsr & 1 << 10 != 0

    @property
    def ea(self) -> bool:
        """The external abort type bit."""
        return self.hsr & 1 << 9 != 0

    @property
    def cm(self) -> bool:
        """Whether a cache maintenance instruction faulted, not a load or store."""
        return self.hsr & 1 << 8 != 0

    @property
    def s1ptw(self) -> bool:
        """Whether the access was a stage-1 table walk of the guest."""
        return self.hsr & 1 << 7 != 0

    @property
    def wnr(self) -> bool:
        """Whether a write faulted."""
        return self.hsr & 1 << 6 != 0

    @property
    def dfsc(self) -> int:
        """The fault status code, HSR[5:0] (IFSC of a prefetch abort is the same field)."""
        return self.hsr & 0x3F

    @property
    def is_translation(self) -> bool:
        """Whether the fault is a translation fault."""
        return self.hsr & 0x3C == 0x04

    @property
    def is_access_flag(self) -> bool:
        """Whether the fault is an access flag fault."""
        return self.hsr & 0x3C == 0x08

    @property
    def is_permission(self) -> bool:
        """Whether the fault is a permission fault."""
        return self.hsr & 0x3C == 0x0C

    @property
    def is_external(self) -> bool:
        """Whether the abort is a synchronous external one, on the access itself or on a table walk."""
        return self.hsr & 0x3F == 0x10 or self.hsr & 0x3C == 0x14

    @property
    def is_alignment(self) -> bool:
        """Whether the fault is an alignment fault."""
        return self.hsr & 0x3F == 0x21

    @property
    def level(self) -> int:
        """The table level, 1..3, of a translation, access flag or permission fault, or of a walk's abort."""
        return self.hsr & 3

    # Trapped MCR, MRC, MCRR, MRRC.

    @property
    def is_read(self) -> bool:
        """Whether the trapped coprocessor access reads the register (MRC, MRRC)."""
        return self.hsr & 1 != 0

    @property
    def crm(self) -> int:
        """CRm, 0..15."""
        return self.hsr >> 1 & 15

    @property
    def rt(self) -> int:
        """The general register that is moved."""
        return self.hsr >> 5 & 15

    @property
    def crn(self) -> int:
        """CRn of a 32-bit access, 0..15."""
        return self.hsr >> 10 & 15

    @property
    def opc1(self) -> int:
        """opc1: three bits of a 32-bit access, four of a 64-bit one."""
        return self.hsr >> 16 & 15 if self.ec == ExceptionClass.CP15_64 else self.hsr >> 14 & 7

    @property
    def opc2(self) -> int:
        """opc2 of a 32-bit access, 0..7."""
        return self.hsr >> 17 & 7

    @property
    def rt2(self) -> int:
        """The second general register of a 64-bit access."""
        return self.hsr >> 10 & 15

    @property
    def immediate(self) -> int:
        """The 16-bit constant of HVC, and of SVC taken to Hyp mode."""
        return self.hsr & 0xFFFF


def ipa(hpfar: int, hdfar: int) -> int:
    """The intermediate physical address (40 bits) of a stage-2 fault, from HPFAR and HDFAR (or HIFAR).

    HPFAR holds IPA[39:12] in its bits [31:4]; the offset in the page comes from the virtual address.
    """
    return (hpfar & 0xFFFFFFF0) << 8 | hdfar & 0xFFF


_MAINTENANCE_NAMES: dict[tuple[int, int, int, int], str] = {
    (7, 0, 1, 0): "ICIALLUIS",
    (7, 0, 1, 6): "BPIALLIS",
    (7, 0, 4, 0): "PAR",
    (7, 0, 5, 0): "ICIALLU",
    (7, 0, 5, 1): "ICIMVAU",
    (7, 0, 5, 4): "CP15ISB",
    (7, 0, 5, 6): "BPIALL",
    (7, 0, 5, 7): "BPIMVA",
    (7, 0, 6, 1): "DCIMVAC",
    (7, 0, 6, 2): "DCISW",
    (7, 0, 8, 0): "ATS1CPR",
    (7, 0, 8, 1): "ATS1CPW",
    (7, 0, 8, 2): "ATS1CUR",
    (7, 0, 8, 3): "ATS1CUW",
    (7, 0, 10, 1): "DCCMVAC",
    (7, 0, 10, 2): "DCCSW",
    (7, 0, 10, 4): "CP15DSB",
    (7, 0, 10, 5): "CP15DMB",
    (7, 0, 11, 1): "DCCMVAU",
    (7, 0, 14, 1): "DCCIMVAC",
    (7, 0, 14, 2): "DCCISW",
    (8, 0, 3, 0): "TLBIALLIS",
    (8, 0, 3, 1): "TLBIMVAIS",
    (8, 0, 3, 2): "TLBIASIDIS",
    (8, 0, 3, 3): "TLBIMVAAIS",
    (8, 0, 5, 0): "ITLBIALL",
    (8, 0, 5, 1): "ITLBIMVA",
    (8, 0, 5, 2): "ITLBIASID",
    (8, 0, 6, 0): "DTLBIALL",
    (8, 0, 6, 1): "DTLBIMVA",
    (8, 0, 6, 2): "DTLBIASID",
    (8, 0, 7, 0): "TLBIALL",
    (8, 0, 7, 1): "TLBIMVA",
    (8, 0, 7, 2): "TLBIASID",
    (8, 0, 7, 3): "TLBIMVAA",
}
_NAME_BITS = 0xFFC1E
"""The bits of an MCR/MRC syndrome that select the register: opc2, opc1, CRn, CRm."""

_NAME_BY_ISS = {
    opc2 << 17 | opc1 << 14 | crn << 10 | crm << 1: name for (crn, opc1, crm, opc2), name in _MAINTENANCE_NAMES.items()
}


def cp15_name(iss: int) -> str | None:
    """The name of the TLB, cache or translation operation that an MCR/MRC syndrome (EC 0x03) names.

    None for every other CP15 register: `Syndrome.crn` and its neighbours then say which.
    """
    return _NAME_BY_ISS.get(iss & _NAME_BITS)
