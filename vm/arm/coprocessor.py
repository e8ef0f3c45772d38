# SPDX-License-Identifier: GPL-2.0-or-later
"""Accesses to CP14 and CP15, in words. Pure.

An access is an MCR, MRC, MCRR or MRRC as the control page keeps it: the A32 instruction without condition
and registers.
ARM DDI 0406C: A8.8.98, A8.8.99, A8.8.107, A8.8.108; names from tables B3-42 and C11-1.
"""

from __future__ import annotations

_PAIR = 0x0C40_0E00
_PAIR_MASK = 0x0FE0_0E00
_READ = 1 << 20

# cp, opc1, CRn, CRm, opc2: what guests are known to ask for, so that a sentence can name it.
_NAMES = {
    (14, 0, 0, 0, 0): "DBGDIDR",
    (14, 0, 0, 1, 0): "DBGDSCRint",
    (14, 0, 0, 2, 2): "DBGDSCRext",
    (14, 0, 0, 5, 0): "DBGDTRRXint",
    (14, 0, 0, 6, 0): "DBGWFAR",
    (14, 0, 0, 7, 0): "DBGVCR",
    (14, 0, 1, 0, 0): "DBGDRAR",
    (14, 0, 1, 0, 4): "DBGOSLAR",
    (14, 0, 1, 1, 4): "DBGOSLSR",
    (14, 0, 1, 3, 4): "DBGOSDLR",
    (14, 0, 1, 4, 4): "DBGPRCR",
    (14, 0, 1, 5, 4): "DBGPRSR",
    (14, 0, 2, 0, 0): "DBGDSAR",
    (14, 0, 7, 0, 7): "DBGDEVID2",
    (14, 0, 7, 1, 7): "DBGDEVID1",
    (14, 0, 7, 2, 7): "DBGDEVID",
    (14, 0, 7, 8, 6): "DBGCLAIMSET",
    (14, 0, 7, 9, 6): "DBGCLAIMCLR",
    (14, 0, 7, 14, 6): "DBGAUTHSTATUS",
    (14, 1, 0, 0, 0): "TRCTRACEIDR",
    (14, 6, 0, 0, 0): "TEECR",
    (14, 7, 0, 0, 0): "JIDR",
    (15, 0, 1, 1, 0): "SCR",
    (15, 0, 1, 1, 1): "SDER",
    (15, 0, 1, 1, 2): "NSACR",
    (15, 0, 12, 0, 1): "MVBAR",
    (15, 0, 14, 0, 0): "CNTFRQ",
    (15, 0, 14, 2, 1): "CNTP_CTL",
    (15, 0, 14, 3, 1): "CNTV_CTL",
    (15, 0, 9, 12, 0): "PMCR",
    (15, 0, 9, 13, 0): "PMCCNTR",
    (15, 0, 9, 13, 1): "PMXEVTYPER",
    (15, 4, 1, 1, 0): "HCR",
    (15, 4, 5, 2, 0): "HSR",
    (15, 4, 12, 0, 0): "HVBAR",
    (15, 4, 0, 0, 5): "VMPIDR",
}


def describe_access(access: int) -> str:
    """What the guest did: "read p15 0 c9 c12 0 (PMCR)", in the order of the assembler: opc1, CRn, CRm, opc2."""
    verb = "read" if access & _READ else "wrote"
    cp = access >> 8 & 15
    if access & _PAIR_MASK == _PAIR:
        return f"{verb} the 64-bit register p{cp} {access >> 4 & 15} c{access & 15}"
    place = (cp, access >> 21 & 7, access >> 16 & 15, access & 15, access >> 5 & 7)
    _, opc1, crn, crm, opc2 = place
    name = f" ({_NAMES[place]})" if place in _NAMES else ""
    return f"{verb} p{cp} {opc1} c{crn} c{crm} {opc2}{name}"
