# SPDX-License-Identifier: GPL-2.0-or-later
"""`--fetch user`: a user's function decides about an access without syndrome (KVM_EXIT_ARM_NISV)."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from allstop.vm.arm import psr
from allstop.vm.config.specs import HandlerSpec
from allstop.vm.process.user_code import function, words

if TYPE_CHECKING:
    from allstop.vcpu_worker.engine import Exit, Vcpu

_PAGE = 4096
Answer: TypeAlias = int | None | Literal["abort"]


class FetchHandlerError(Exception):
    """The user's function raised an exception or gave an invalid answer; the text is one sentence about it."""


@dataclass(frozen=True, slots=True)
class NoSyndrome:
    """An access that trapped without a syndrome, as the user's function gets it.

    `vcpu` is the vCPU's number; `pc` and `cpsr` are the guest's at the instruction, which is a Thumb one where `thumb`;
    `hsr` and `hdfar` (the virtual address) are the trap's, `ipa` is the physical address, `is_write` HSR.WnR. The
    methods answer for the moment of the call only: other vCPUs run on.
    """

    vcpu: int
    pc: int
    cpsr: int
    hsr: int
    hdfar: int
    ipa: int
    is_write: bool
    thumb: bool
    _vcpu: Vcpu = field(repr=False, compare=False)

    def read_virtual(self, gva: int, size: int) -> bytes | None:
        """`size` bytes of RAM from a virtual address on, with the rights of the guest's mode at the trap; None where
        one of them does not translate, or is not RAM."""
        data = b""
        while len(data) < size:
            at = gva + len(data) & 0xFFFFFFFF
            ipa = self._vcpu.translate(at, False, psr.privileged(self.cpsr))
            piece = None if ipa is None else self._vcpu.read_ram(ipa, min(size - len(data), _PAGE - at % _PAGE))
            if piece is None:
                return None
            data += piece
        return data

    def read_physical(self, ipa: int, size: int) -> bytes | None:
        """`size` bytes of RAM from an intermediate physical address on; None where that is not all RAM."""
        return self._vcpu.read_ram(ipa, size)

    def registers(self) -> tuple[int, ...]:
        """r0 to r15 in the guest's mode; r15 is `pc`."""
        return self._vcpu.core()[:16]


class FetchHandler:
    """Calls the user's function and checks its answer. Construction raises UserCodeError."""

    def __init__(self, spec: HandlerSpec, vcpu: Vcpu, number: int) -> None:
        self._name = f"{spec.path}:{spec.function_name}"
        self._ask = function(spec.path, spec.function_name)
        self._vcpu = vcpu
        self._number = number

    def ask(self, trap: Exit) -> Answer:
        """A word to emulate, None to enter again, or "abort". Raises FetchHandlerError."""
        thumb = bool(trap.cpsr & psr.T)
        given = NoSyndrome(
            self._number, trap.pc, trap.cpsr, trap.hsr, trap.hdfar, trap.ipa, trap.is_write == 1, thumb, self._vcpu
        )
        try:
            answer = self._ask(given)
        except (Exception, SystemExit) as error:
            traceback.print_exception(error)
            raise FetchHandlerError(
                f"the fetch handler {self._name} raised {words(error)} at vCPU {self._number}'s {trap.pc:#010x}"
            ) from error
        if answer is None or isinstance(answer, str) and answer == "abort":
            return None if answer is None else "abort"
        if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < 1 << 32:
            return int(answer)
        raise FetchHandlerError(
            f"the fetch handler {self._name} answered {_shown(answer)} at vCPU {self._number}'s "
            f'{trap.pc:#010x}: it must be an instruction word of 32 bits, None or "abort"'
        )


def _shown(answer: object) -> str:
    try:
        text = repr(answer)
    except Exception:
        text = f"a {type(answer).__name__}"
    return "".join(character if character.isprintable() else " " for character in text)[:80]
