# SPDX-License-Identifier: GPL-2.0-or-later
"""The MMIO oracle's question: was each access of a vCPU performed exactly once, in order, and as the vCPU saw it?

`access_ledger.h` says which process keeps which of the two ledgers in the control page. A worker compares them when it
has taken an answer, and the launcher when all processes have ended.
"""

from __future__ import annotations

from typing import NamedTuple

from allstop.vm.control.control import ControlPage


class Access(NamedTuple):
    """One access to a device: `value` was written, or read. `unassigned`: no device answered."""

    ipa: int
    size: int
    is_write: bool
    value: int
    unassigned: bool

    def __str__(self) -> str:
        where = f"0x{self.ipa:08x}" + (", where no device is" if self.unassigned else "")
        if self.is_write:
            return f"a {self.size}-byte write of 0x{self.value:x} to {where}"
        return f"a {self.size}-byte read of {where}" + ("" if self.unassigned else f" that gave 0x{self.value:x}")


def difference(control_page: ControlPage, vcpu: int) -> str:
    """What is wrong with the accesses of `vcpu`, in one sentence; "" when nothing is.

    An access that is under way may be performed already, or not yet: both are right.
    """
    issued, performed, completed = control_page.accesses(vcpu)
    done, seen = performed[0], completed[0]
    if performed[:2] == completed[:2] or done == seen + 1 == issued:
        return ""
    acts = [Access(*access) for access in performed[2]]
    if done > seen:
        again = len(acts) > 1 and acts[-1][:3] == acts[-2][:3]
        wrong = "was performed twice" if again else "was not the only one that was performed"
    else:
        wrong = "was answered and not performed" if done < seen else "is not what was performed"
    what = f"access {seen}, {Access(*completed[2][-1])}," if seen else "first access"
    last = " and then ".join(map(str, acts[-2:])) or "nothing"
    return (
        f"vCPU {vcpu}'s {what} {wrong}: the devices have done {done} for it where {max(seen, issued)} "
        f"{'was' if max(seen, issued) == 1 else 'were'} asked for, last {last}"
    )
