# SPDX-License-Identifier: GPL-2.0-or-later
"""Stage-1 remap, as the guest's kernel would do it: a virtual page gets another frame, and its old frame is reused.

The page's contents are copied first, so a guest that does not write to the page meanwhile, and has no other mapping of
the frame, does not notice. Source: ARM ARM (DDI 0406C), B3.5, short descriptors.
"""

from __future__ import annotations

from allstop.vcpu_worker.engine import Vcpu

_PAGE = 4096
_EAE = 1 << 31


class Remap:
    """Remaps pages of the guest whose tables `vcpu` uses. A page that is at its new frame goes back to its old one."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._homes: dict[int, int] = {}

    def perform(self, gva: int, to: int, fill: int, ipi: bool) -> str:
        """Map the page of `gva` to the frame `to`, invalidate, fill the old frame; "" or why not."""
        vcpu, page = self._vcpu, gva & ~0xFFF
        at = self._entry_of(page)
        if isinstance(at, str):
            return at
        entry = _word(vcpu, at)
        if entry is None or not entry & 2:
            return (
                f"the page {page:#010x} is not mapped"
                if not (entry or 0) & 3
                else (f"the page {page:#010x} is part of a large page, which remap does not split")
            )
        old = entry & ~0xFFF
        if old == to:
            to = self._homes.get(page, to)
        if old == to:
            return f"the page {page:#010x} is mapped to {to:#010x} already"
        contents, there = vcpu.read_ram(old, _PAGE), vcpu.read_ram(to, _PAGE)
        if contents is None or there is None:
            return f"the frame {old if contents is None else to:#010x} is not in the guest's memory"
        if there != there[:4] * (_PAGE // 4):  # neither untouched nor filled by us
            return f"the frame {to:#010x} is in use: name one that the guest does not touch"
        vcpu.write_ram(to, contents)
        self._homes.setdefault(page, old)
        vcpu.write_ram(at, (to | entry & 0xFFF).to_bytes(4, "little"))
        vcpu.shootdown(ipi)
        vcpu.reuse_frame(old, fill)
        return ""

    def _entry_of(self, gva: int) -> int | str:
        """The physical address of the second-level entry for `gva`, or why there is none."""
        vcpu = self._vcpu
        if not vcpu.cp15(1, 0, 0, 0) & 1:
            return "the vCPU's MMU is off: there is no table to change"
        ttbcr = vcpu.cp15(2, 0, 0, 2)
        if ttbcr & _EAE:
            return "the vCPU's tables are of the long format, which remap does not know"
        low = ttbcr & 7
        if low and gva >> 32 - low:
            base, low = vcpu.cp15(2, 0, 0, 1), 0
        else:
            base = vcpu.cp15(2, 0, 0, 0)
        table = base & 0xFFFF_FFFF & ~((1 << 14 - low) - 1)
        first = _word(vcpu, table | gva >> 20 << 2)
        if first is None or first & 3 != 1:
            return f"the page {gva:#010x} is not mapped by a table of small pages"
        return first & ~0x3FF | (gva >> 12 & 0xFF) << 2


def _word(vcpu: Vcpu, ipa: int) -> int | None:
    data = vcpu.read_ram(ipa, 4)
    return None if data is None else int.from_bytes(data, "little")
