# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's part of semihosting: files, the console, the clock and the end of the run, for the calls of all vCPUs.

A handle is the guest's number for something open: the console (":tt"), or a file of the folder that the user named.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from allstop.devicesrv.guest_time import GuestTime
from allstop.devicesrv.semihosting.host_folder import HostFolder
from allstop.vm.arm.semihosting import (
    APPLICATION_EXIT,
    CENTISECOND_NS,
    CONSOLE,
    FAILED,
    FEATURE_BYTES,
    FEATURES,
    MOST_BYTES,
    Call,
)
from allstop.vm.config.machine import SemihostingSpec
from allstop.vm.wire.messages import HostCall, HostReturn

_MOST_OPEN = 64
_WRITES = 4  # from this mode on ":tt" is stdout or stderr, and a file is written to
# Mode 0 to 11: r, rb, r+, r+b, w, wb, w+, w+b, a, ab, a+, a+b.
_FLAGS = (
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_CREAT | os.O_APPEND,
)
# The errors whose number is not the same everywhere; the guest's C library is newlib's, by convention.
_ERRORS = {errno.ENAMETOOLONG: 91, errno.ELOOP: errno.EACCES, errno.ENOSYS: 88}


@dataclass
class _Open:
    """What a handle stands for: a file, the console, or the list of features (`text`)."""

    fd: int = -1
    writes: bool = False
    text: bytes | None = None
    position: int = 0


class Semihosting:
    """Performs calls. `console` prints; `keyboard(n)` gives up to n bytes that were typed, none at the end of the
    input; `finish` ends the run with a status and a sentence. No call of a guest raises."""

    def __init__(
        self,
        spec: SemihostingSpec,
        console: Callable[[bytes], None],
        finish: Callable[[int, str], None],
        keyboard: Callable[[int], bytes] = lambda most: b"",
        guest_time: GuestTime | None = None,
    ) -> None:
        self._folder = HostFolder(spec.folder)
        self._console, self._finish, self._keyboard = console, finish, keyboard
        self._open: dict[int, _Open] = {}
        self._guest_time = guest_time or GuestTime()
        self._operations: dict[int, Callable[[HostCall], tuple[int, bytes]]] = {
            Call.OPEN: self._open_file,
            Call.CLOSE: self._close_file,
            Call.WRITE: self._write,
            Call.READ: self._read,
            Call.READC: self._read_character,
            Call.ISTTY: self._is_tty,
            Call.SEEK: self._seek,
            Call.FLEN: self._length,
            Call.REMOVE: self._remove,
            Call.RENAME: self._rename,
            Call.CLOCK: self._clock,
            Call.TIME: self._time,
            Call.ELAPSED: self._elapsed,
            Call.WRITE0: self._print,
        }

    def perform(self, vcpu: int, call: HostCall) -> HostReturn:
        """Do it."""
        if call.operation in (Call.EXIT, Call.EXIT_EXTENDED):
            self._exit(vcpu, call)
            return HostReturn(call.seq, 0, 0, b"")
        try:
            operation = self._operations.get(call.operation)
            if operation is None:
                raise OSError(errno.ENOSYS, "no such operation")
            value, data = operation(call)
            return HostReturn(call.seq, value, 0, data)
        except OSError as error:
            number = error.errno or errno.EIO
            return HostReturn(call.seq, FAILED, _ERRORS.get(number, number), b"")

    def close(self) -> None:
        """Close every file."""
        for entry in self._open.values():
            if entry.fd >= 0:
                os.close(entry.fd)
        self._open.clear()

    def _exit(self, vcpu: int, call: HostCall) -> None:
        """`number` is the reason, `handle` the status, which counts for one of the reasons only."""
        if call.number != APPLICATION_EXIT:
            self._finish(1, f"vCPU {vcpu} ended the run by semihosting for reason 0x{call.number:x}")
            return
        status = call.handle
        self._finish(status, f"vCPU {vcpu} exited with status {status} by semihosting")

    def _entry(self, call: HostCall) -> _Open:
        entry = self._open.get(call.handle)
        if entry is None:
            raise OSError(errno.EBADF, "no such handle")
        return entry

    def _open_file(self, call: HostCall) -> tuple[int, bytes]:
        mode = call.number
        if mode > 11:
            raise OSError(errno.EINVAL, "no such mode")
        if len(self._open) >= _MOST_OPEN:
            raise OSError(errno.EMFILE, "too many files are open")
        if call.data == CONSOLE:
            entry = _Open(writes=mode >= _WRITES)
        elif call.data == FEATURES:
            if mode >= _WRITES or mode & 2:
                raise OSError(errno.EACCES, "it cannot be written to")
            entry = _Open(text=FEATURE_BYTES)
        else:
            flags = _FLAGS[mode // 2]
            entry = _Open(self._folder.open(call.data, flags), bool(flags & (os.O_WRONLY | os.O_RDWR)))
        handle = next(n for n in range(1, _MOST_OPEN + 1) if n not in self._open)
        self._open[handle] = entry
        return handle, b""

    def _close_file(self, call: HostCall) -> tuple[int, bytes]:
        entry = self._entry(call)
        del self._open[call.handle]
        if entry.fd >= 0:
            os.close(entry.fd)
        return 0, b""

    def _print(self, call: HostCall) -> tuple[int, bytes]:
        self._console(call.data)
        return 0, b""

    def _write(self, call: HostCall) -> tuple[int, bytes]:
        """The number of bytes that were written."""
        entry = self._entry(call)
        if not entry.writes:
            raise OSError(errno.EBADF, "it was opened for reading")
        if entry.fd >= 0:
            return os.write(entry.fd, call.data), b""
        self._console(call.data)
        return len(call.data), b""

    def _read(self, call: HostCall) -> tuple[int, bytes]:
        entry = self._entry(call)
        most = min(call.number, MOST_BYTES)
        if entry.text is not None:
            data = entry.text[entry.position : entry.position + most]
            entry.position += len(data)
        elif entry.fd >= 0:
            data = os.read(entry.fd, most)
        elif entry.writes:
            raise OSError(errno.EBADF, "it was opened for writing")
        else:
            data = self._keyboard(most)
        return len(data), data

    def _read_character(self, call: HostCall) -> tuple[int, bytes]:
        data = self._keyboard(1)
        return (data[0] if data else FAILED), b""

    def _is_tty(self, call: HostCall) -> tuple[int, bytes]:
        entry = self._entry(call)
        return int(entry.fd < 0 and entry.text is None), b""

    def _seek(self, call: HostCall) -> tuple[int, bytes]:
        entry = self._entry(call)
        if entry.text is not None:
            entry.position = call.number
        elif entry.fd >= 0:
            os.lseek(entry.fd, call.number, os.SEEK_SET)
        else:
            raise OSError(errno.ESPIPE, "a console has no positions")
        return 0, b""

    def _length(self, call: HostCall) -> tuple[int, bytes]:
        entry = self._entry(call)
        if entry.text is not None:
            return len(entry.text), b""
        if entry.fd < 0:
            raise OSError(errno.ESPIPE, "a console has no length")
        return min(os.fstat(entry.fd).st_size, FAILED - 1), b""

    def _remove(self, call: HostCall) -> tuple[int, bytes]:
        self._folder.remove(call.data)
        return 0, b""

    def _rename(self, call: HostCall) -> tuple[int, bytes]:
        self._folder.rename(call.data, call.more)
        return 0, b""

    def _clock(self, call: HostCall) -> tuple[int, bytes]:
        return self._guest_time.elapsed_ns() // CENTISECOND_NS & 0x7FFF_FFFF, b""

    def _elapsed(self, call: HostCall) -> tuple[int, bytes]:
        return self._guest_time.elapsed_ns(), b""

    def _time(self, call: HostCall) -> tuple[int, bytes]:
        return self._guest_time.seconds() & 0xFFFF_FFFF, b""
