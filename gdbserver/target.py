# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPU's registers by gdb's numbers, and the target description for it. Source: GDB manual, appendix G."""

from __future__ import annotations

from dataclasses import dataclass

from allstop.vm.arm.registers import BANKED, CORE, CP15, DOUBLES


@dataclass(frozen=True, slots=True)
class Register:
    """One register: our name for it, and its width."""

    name: str
    width_bytes: int

    def to_hex(self, value: int) -> str:
        """As gdb writes it: in the guest's byte order, which is little-endian."""
        return value.to_bytes(self.width_bytes, "little").hex()


_SYSTEM = (*BANKED, *CP15)
REGISTERS = (
    *(Register(name, 4) for name in CORE),
    *(Register(name, 8) for name in DOUBLES),
    *(Register(name, 4) for name in ("fpscr", *_SYSTEM)),
)
"""In the order of gdb's numbers."""
_CORE_TYPES = {"sp": "data_ptr", "pc": "code_ptr"}


def _description() -> bytes:
    lines = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
        '<target version="1.0">',
        "<architecture>arm</architecture>",
        '<feature name="org.gnu.gdb.arm.core">',
    ]
    lines += [f'<reg name="{name}" bitsize="32" type="{_CORE_TYPES.get(name, "uint32")}"/>' for name in CORE]
    lines += ["</feature>", '<feature name="org.gnu.gdb.arm.vfp">']
    lines += [f'<reg name="{name}" bitsize="64" type="ieee_double"/>' for name in DOUBLES]
    lines += [
        '<reg name="fpscr" bitsize="32" type="int" group="float"/>',
        "</feature>",
        '<feature name="org.allstop.arm.system">',
    ]
    lines += [f'<reg name="{name}" bitsize="32" type="uint32" group="system" save-restore="no"/>' for name in _SYSTEM]
    return "\n".join([*lines, "</feature>", "</target>", ""]).encode()


TARGET_XML = _description()
