# SPDX-License-Identifier: GPL-2.0-or-later
"""The vCPU's part of semihosting: it decodes calls, and reads and writes the guest's memory for them.

R0 is the operation, R1 its parameter or the address of a block of words; the answer goes to R0. The device server does
files, the console and the end of the run. Addresses are the guest's virtual ones, with its kernel's rights. A guest can
ask for anything: a block, string or buffer outside memory, a senseless length, an unknown operation. The answer is
-1 then, and the call is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from allstop.vcpu_worker.context import VcpuContext
from allstop.vcpu_worker.engine import Exit
from allstop.vcpu_worker.liveness import RunIsOver
from allstop.vm.arm import psr
from allstop.vm.arm.semihosting import APPLICATION_EXIT, FAILED, MOST_BYTES, TICKS_PER_S, Call
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import SemihostingSpec
from allstop.vm.control.control import COUNT_SEMIHOSTING_BAD
from allstop.vm.wire.messages import HostReturn, Shutdown

_PAGE = 4096
_LONGEST_NAME = 4096
_MOST_AT_ONCE = 1 << 20  # of one call: it may read and write less than it was asked to
_EFAULT, _EINVAL, _ENOSYS = 14, 22, 88


class _BadCallError(Exception):
    """The guest's call is invalid; the argument is the error number."""


class Semihosting:
    """The calls of one vCPU."""

    def __init__(self, context: VcpuContext, spec: SemihostingSpec) -> None:
        self._spec = spec
        self._vcpu = context.vcpu
        self._number = context.number
        self._control_page = context.control_page
        self._devices = context.devices
        self._coordinator = context.coordinator
        self._memory_end = context.ram_end
        self._errno = 0
        self._order: Literal["little", "big"] = "little"
        self._operations: dict[int, Callable[[int], int | None]] = {
            Call.OPEN: self._open,
            Call.CLOSE: lambda block: self._of_handle(Call.CLOSE, block),
            Call.WRITEC: self._print_character,
            Call.WRITE0: self._print,
            Call.WRITE: self._write,
            Call.READ: self._read,
            Call.READC: lambda parameter: self._ask(Call.READC).value & FAILED,
            Call.ISERROR: lambda block: self._words(block, 1)[0] >> 31,
            Call.ISTTY: lambda block: self._of_handle(Call.ISTTY, block),
            Call.SEEK: self._seek,
            Call.FLEN: lambda block: self._of_handle(Call.FLEN, block),
            Call.REMOVE: self._remove,
            Call.RENAME: self._rename,
            Call.CLOCK: lambda parameter: self._ask(Call.CLOCK).value,
            Call.TIME: lambda parameter: self._ask(Call.TIME).value,
            Call.ERRNO: lambda parameter: self._errno,
            Call.GET_CMDLINE: self._command_line,
            Call.HEAPINFO: self._heap,
            Call.EXIT: self._exit,
            Call.EXIT_EXTENDED: self._exit_extended,
            Call.ELAPSED: self._elapsed,
            Call.TICKFREQ: lambda parameter: TICKS_PER_S,
        }

    def handle(self, leave: Exit) -> None:
        """Perform the call of this exit. Raises RunIsOver when it ends the run."""
        self._order = "big" if leave.cpsr & psr.E else "little"
        operation, parameter = self._vcpu.core()[:2]
        perform = self._operations.get(operation)
        try:
            if perform is None:
                raise _BadCallError(_ENOSYS)
            answer = perform(parameter)
        except _BadCallError as error:
            self._control_page.count(self._number, COUNT_SEMIHOSTING_BAD)
            self._errno, answer = error.args[0], FAILED
        if answer is not None:
            self._vcpu.set_core(0, answer)

    def _ask(
        self, operation: Call, handle: int = 0, number: int = 0, data: bytes = b"", more: bytes = b""
    ) -> HostReturn:
        """Have the device server do it; its error becomes the guest's errno."""
        answer = self._devices.ask_host(operation, handle, number, data, more)
        if answer.error:
            self._errno = answer.error
        return answer

    # The guest's memory

    def _page_of(self, gva: int, write: bool) -> tuple[int, int]:
        """The physical address of this byte, and how many bytes follow on its page; (0, 0) outside memory."""
        ipa = self._vcpu.translate(gva & FAILED, write, True)
        if ipa is None or not RAM_BASE <= ipa < self._memory_end:
            return 0, 0
        return ipa, _PAGE - ipa % _PAGE

    def _available(self, gva: int, size: int, write: bool) -> int:
        """How many of these bytes are in memory, from the first one on."""
        available = 0
        while available < size:
            _, room = self._page_of(gva + available, write)
            if not room:
                break
            available += room
        return min(available, size)

    def _load(self, gva: int, size: int) -> bytes:
        """Read the guest's memory. Raises _BadCallError."""
        data = bytearray()
        while len(data) < size:
            ipa, room = self._page_of(gva + len(data), False)
            piece = self._vcpu.read_ram(ipa, min(room, size - len(data))) if room else None
            if piece is None:
                raise _BadCallError(_EFAULT)
            data += piece
        return bytes(data)

    def _store(self, gva: int, data: bytes) -> None:
        """Write all of it, or nothing. Raises _BadCallError."""
        if self._available(gva, len(data), True) < len(data):
            raise _BadCallError(_EFAULT)
        done = 0
        while done < len(data):
            ipa, room = self._page_of(gva + done, True)
            if not room or not self._vcpu.write_ram(ipa, data[done : done + room]):
                raise _BadCallError(_EFAULT)  # another vCPU has unmapped it since
            done += room

    def _words(self, gva: int, count: int) -> tuple[int, ...]:
        data = self._load(gva, 4 * count)
        return tuple(int.from_bytes(data[at : at + 4], self._order) for at in range(0, len(data), 4))

    def _store_words(self, gva: int, *words: int) -> None:
        self._store(gva, b"".join(word.to_bytes(4, self._order) for word in words))

    def _name(self, gva: int, size: int) -> bytes:
        if size > _LONGEST_NAME:
            raise _BadCallError(_EINVAL)
        return self._load(gva, size)

    # The operations

    def _open(self, block: int) -> int:
        name, mode, size = self._words(block, 3)
        return self._ask(Call.OPEN, number=mode, data=self._name(name, size)).value

    def _of_handle(self, operation: Call, block: int) -> int:
        return self._ask(operation, self._words(block, 1)[0]).value

    def _print_character(self, gva: int) -> None:
        self._ask(Call.WRITE0, data=self._load(gva, 1))

    def _print(self, gva: int) -> None:
        """A string that ends with a zero; one that is too long ends there."""
        done = 0
        while done < _MOST_AT_ONCE:
            _, room = self._page_of(gva + done, False)
            if not room:
                raise _BadCallError(_EFAULT)
            piece, zero, _ = self._load(gva + done, room).partition(b"\0")
            if piece:
                self._ask(Call.WRITE0, data=piece)
            if zero:
                return
            done += room
        raise _BadCallError(_EINVAL)

    def _write(self, block: int) -> int:
        """The number of bytes that were not written."""
        handle, gva, size = self._words(block, 3)
        most, done = min(size, _MOST_AT_ONCE), 0
        while done < most:
            length = self._available(gva + done, min(most - done, MOST_BYTES), False)
            if not length and not done:
                raise _BadCallError(_EFAULT)
            answer = self._ask(Call.WRITE, handle, data=self._load(gva + done, length)) if length else None
            if answer is None or answer.error or not answer.value:
                if not done:
                    return FAILED
                break
            done += answer.value
        return size - done

    def _read(self, block: int) -> int:
        """The number of bytes that were not read."""
        handle, gva, size = self._words(block, 3)
        most, done = min(size, _MOST_AT_ONCE), 0
        while done < most:
            length = self._available(gva + done, min(most - done, MOST_BYTES), True)
            if not length and not done:
                raise _BadCallError(_EFAULT)
            answer = self._ask(Call.READ, handle, length) if length else None
            if answer is not None and answer.error and not done:
                return FAILED
            if answer is None or answer.error or not answer.data:
                break
            self._store(gva + done, answer.data)
            done += len(answer.data)
            if len(answer.data) < length:
                break
        return size - done

    def _seek(self, block: int) -> int:
        handle, position = self._words(block, 2)
        return self._ask(Call.SEEK, handle, position).value

    def _remove(self, block: int) -> int:
        name, size = self._words(block, 2)
        return self._ask(Call.REMOVE, data=self._name(name, size)).value

    def _rename(self, block: int) -> int:
        old, old_size, new, new_size = self._words(block, 4)
        return self._ask(Call.RENAME, data=self._name(old, old_size), more=self._name(new, new_size)).value

    def _command_line(self, block: int) -> int:
        gva, size = self._words(block, 2)
        line = self._spec.command_line.encode()
        if size < len(line) + 1:
            raise _BadCallError(_EINVAL)
        self._store(gva, line + b"\0")
        self._store_words(block + 4, len(line))
        return 0

    def _heap(self, block: int) -> int:
        """The heap grows from behind the image, the stack from the end of memory, and they share what is between."""
        base, end = self._spec.heap_base, self._memory_end & FAILED
        self._store_words(self._words(block, 1)[0], base, end, end, base)
        return 0

    def _elapsed(self, block: int) -> int:
        ticks = self._ask(Call.ELAPSED).value
        self._store_words(block, ticks & FAILED, ticks >> 32 & FAILED)
        return 0

    def _exit(self, reason: int) -> None:
        self._end(reason, 0)

    def _exit_extended(self, block: int) -> None:
        self._end(*self._words(block, 2))

    def _end(self, reason: int, status: int) -> None:
        self._ask(Call.EXIT, status if reason == APPLICATION_EXIT else 0, reason)
        self._coordinator.wait(Shutdown)
        raise RunIsOver
