# SPDX-License-Identifier: GPL-2.0-or-later
"""Operators' reads of guest RAM, also of pages that are on another host.

On one host memory is read at once. On several a page that is away has to come here first, and the coordinator has
other things to do meanwhile: the first read that waits is looked at with each turn of its loop, at most `_LOOK_MS`
apart, and goes on where it was. Nothing here waits, and nothing waits for it: the nodes move pages also while the world
is stopped, the coordinator's want is a word of its own beside those of the vCPUs and the devices (`coordinator_want` in
control_page.h), and a page that came is kept as for a vCPU's instruction, until it is read, some milliseconds at most,
so that hosts that fight for a page do not starve the reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from allstop.coordinator.node.page_directory import home_of
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.control.control import ControlPage
from allstop.vm.memory.stage2 import PAGE_BYTES, Unread, read_guest, read_page_here
from allstop.vm.wire.messages import MAX_MEMORY_READ_BYTES, Memory, Message, Refused

PAGE_S = 3.0
"""How long a page may take to come: less than a host may be silent."""
READ_S = 8.0
"""How long a read may take with all its pages, and with those of reads before it: less than an operator waits."""
_LOOK_MS = 1


@dataclass
class _Read:
    """A read that waits for a page, and the data that it has."""

    operator: bytes
    ipa: int
    length_bytes: int
    until_s: float
    page_until_s: float | None = None  # of the page that it waits for
    data: bytes = b""


class MemoryReads:
    """The reads of one machine's operators. `send(identity, message)` sends. Times are those of a monotonic clock."""

    def __init__(
        self, config: MachineConfig, control_page: ControlPage, send: Callable[[bytes, Message], None]
    ) -> None:
        self._config = config
        self._control_page = control_page
        self._send = send
        self._reads: deque[_Read] = deque()
        self._wants = False

    def wait_ms(self, most_ms: int) -> int:
        """How long the coordinator may sleep, `most_ms` at most."""
        return min(most_ms, _LOOK_MS) if self._reads else most_ms

    def ask(self, operator: bytes, ipa: int, length_bytes: int, now_s: float) -> None:
        """An operator wants to read: it is answered now or, when a page has come or will not come, by `look`."""
        ram_bytes = self._config.memory_bytes
        if not 0 < length_bytes <= MAX_MEMORY_READ_BYTES:
            self._send(operator, Refused(f"1 to {MAX_MEMORY_READ_BYTES} bytes can be read at once, not {length_bytes}"))
        elif not RAM_BASE <= ipa <= RAM_BASE + ram_bytes - length_bytes:
            self._send(
                operator,
                Refused(
                    f"{length_bytes} bytes at {ipa:#010x} are not all in the guest's memory, "
                    f"which is {RAM_BASE:#010x} to {RAM_BASE + ram_bytes - 1:#010x}"
                ),
            )
        elif self._config.hosts is None:
            self._send(operator, Memory(ipa, read_guest(self._config, ipa, length_bytes)))
        else:
            self._reads.append(_Read(operator, ipa, length_bytes, now_s + READ_S))
            self.look(now_s)

    def look(self, now_s: float) -> None:
        """Time has passed: a page may have come."""
        while self._reads:
            read = self._reads[0]
            before = len(read.data)
            unread = self._go_on(read)
            if read.page_until_s is None or len(read.data) > before:
                read.page_until_s = now_s + PAGE_S
            if unread is not None and now_s < min(read.page_until_s, read.until_s):
                return
            self._reads.popleft()
            if unread is None:
                self._send(read.operator, Memory(read.ipa, read.data))
            else:
                self._leave()
                late = now_s < read.page_until_s
                self._send(read.operator, Refused(self._late(read) if late else self._sentence(read, unread)))

    def _go_on(self, read: _Read) -> Unread | None:
        """Read on, up to a page that cannot be read now; None when all of it is there."""
        while (left_bytes := read.length_bytes - len(read.data)) > 0:
            ipa = read.ipa + len(read.data)
            length_bytes = min(left_bytes, PAGE_BYTES - ipa % PAGE_BYTES)
            found = read_page_here(self._config, self._control_page, ipa, length_bytes)
            if found is Unread.AWAY:
                self._wants = True
                self._control_page.want_page(ipa)
            if isinstance(found, Unread):
                return found
            read.data += found
            self._leave()
        return None

    def _leave(self) -> None:
        if self._wants:
            self._wants = False
            self._control_page.leave_page()

    def _late(self, read: _Read) -> str:
        return (
            f"{len(read.data)} of {read.length_bytes} bytes at {read.ipa:#010x} came within {READ_S:g} s: ask for "
            "less, or when no other operator reads"
        )

    def _sentence(self, read: _Read, unread: Unread) -> str:
        hosts = self._config.hosts
        assert hosts is not None
        page = (read.ipa + len(read.data)) // PAGE_BYTES
        name = f"the page at {page * PAGE_BYTES:#010x}"
        if unread is Unread.CHANGING:
            return f"{name} was being changed whenever it was looked at for {PAGE_S:g} s: pause the machine first"
        return (
            f"{name} is on another host and did not come within {PAGE_S:g} s: {_asked(hosts, page)} is slow or stopped"
        )


def _asked(hosts: HostsSpec, page: int) -> str:
    """The hosts that the page may come from, as far as this host knows: its home knows which host has it."""
    home = home_of(page, len(hosts.endpoints))
    asked = [home] if home != hosts.index else [host for host in range(len(hosts.endpoints)) if host != hosts.index]
    return " or ".join(f"host {hosts.names[host]}" for host in asked)
