# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine without processes: its shared memory, one vCPU in this process, others in forked children.

`run()` holds the GIL, so whatever has to happen while a guest runs happens in another process. Nothing here can
hang a test run: a child dies of its alarm, and a vCPU in this process is told to quit by a watchdog.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import pickle
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from allstop.vcpu_worker.engine import EXIT_HVC, EXIT_REQUEST, Vcpu
from allstop.vm.board import mpidr
from allstop.vm.config.limits import RAM_BASE
from allstop.vm.control.control import COUNTER_NAMES, ControlPage
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory

DEADLINE_S = 15
_PR_SET_PDEATHSIG = 1


def _fork(body: Callable[[], None]) -> int:
    """Fork a process that runs `body` and ends; it dies with this one, and of its alarm."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(DEADLINE_S)
        if os.getppid() == parent:
            body()
    finally:
        os._exit(0)


class ChildFailedError(Exception):
    """What went wrong in a child, with its traceback; or how it died."""


class Child:
    """A forked process that computes something."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        self.pid = _fork(lambda: self._send(writer, compute))
        os.close(writer)
        self._status: int | None = None

    def _send(self, writer: int, compute: Callable[[], Any]) -> None:
        os.close(self._reader)
        try:
            outcome = (True, compute())
        except BaseException:
            outcome = (False, traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))

    def result(self) -> Any:
        """What it computed. Raises ChildFailedError."""
        data = b""
        while chunk := os.read(self._reader, 1 << 16):
            data += chunk
        self.close()
        if not data:
            raise ChildFailedError(f"the child died, wait status {self._status}")
        good, value = pickle.loads(data)
        if not good:
            raise ChildFailedError(value)
        return value

    @property
    def is_done(self) -> bool:
        """Whether it has computed its result, or died."""
        return bool(select.select([self._reader], [], [], 0)[0])

    def cpu_s(self) -> float:
        """The CPU time that it has used. Source: proc(5)."""
        with open(f"/proc/{self.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def close(self, kill: bool = False) -> None:
        """Wait for its end."""
        if self._status is None:
            if kill:
                os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitpid(self.pid, 0)[1]
            os.close(self._reader)


class Machine:
    """Shared memory of a machine, and its vCPUs. Guests are words that a test puts into RAM."""

    RAM = RAM_BASE
    CODE = RAM_BASE + 0x1_0000
    DATA = RAM_BASE + 0x2_0000
    VECTORS = RAM_BASE + 0x3_0000
    TABLES = RAM_BASE + 0x4_0000
    DEVICE = 0x0900_0000

    def __init__(
        self, vcpus: int = 1, memory_bytes: int = 4 << 20, cores: int = 2, tlb: int = 0, time_dilation: int = 1
    ) -> None:
        self.memory_bytes = memory_bytes
        self.control_fd = create_memory("test-control", ControlPage.size_bytes(vcpus))
        self.ram_fd = create_memory("test-ram", memory_bytes)
        self.stage2_fd = create_memory("test-stage2", stage2.size_bytes(memory_bytes))
        self.page = ControlPage.create(self.control_fd, vcpus, cores, tlb, time_dilation)
        self.ram = mmap.mmap(self.ram_fd, 0)
        self.stage2 = mmap.mmap(self.stage2_fd, 0)
        stage2.build(memoryview(self.stage2), memory_bytes)
        for vcpu in range(vcpus):
            self.page.set_power(vcpu, self.page.POWER_ON)
        self._here: list[Vcpu] = []
        self._children: list[Child] = []
        self._watchdogs: list[tuple[int, int]] = []

    def close(self) -> None:
        """Free everything."""
        for vcpu in self._here:
            vcpu.close()
        for child in self._children:
            child.close(kill=True)
        barked = 0
        for pid, writer in self._watchdogs:
            with contextlib.suppress(BrokenPipeError):
                os.write(writer, b".")
            barked |= os.waitpid(pid, 0)[1]
            os.close(writer)
        self.ram.close()
        self.stage2.close()
        for fd in (self.control_fd, self.ram_fd, self.stage2_fd):
            os.close(fd)
        assert not barked, "a vCPU in this process did not come back by itself, and was told to quit"

    # Memory

    def put(self, ipa: int, *words: int) -> None:
        """Write words, behind the engine's back."""
        struct.pack_into(f"<{len(words)}I", self.ram, ipa - RAM_BASE, *words)

    def put_thumb(self, ipa: int, *halfwords: int) -> None:
        """Write halfwords; one that does not fit in 16 bits is a wide instruction, first halfword uppermost."""
        split = [half for word in halfwords for half in ((word,) if word < 0x10000 else (word >> 16, word & 0xFFFF))]
        struct.pack_into(f"<{len(split)}H", self.ram, ipa - RAM_BASE, *split)

    def word(self, ipa: int) -> int:
        """The word in RAM."""
        value: int = struct.unpack_from("<I", self.ram, ipa - RAM_BASE)[0]
        return value

    def entry(self, ipa: int) -> int:
        """The level-3 entry of stage 2 of the page of `ipa`."""
        offset = stage2.LEVEL3_OFFSET + (ipa - RAM_BASE) // 4096 * 8
        value: int = struct.unpack_from("<Q", self.stage2, offset)[0]
        return value

    def set_entry(self, ipa: int, value: int) -> None:
        """Change that entry, as another vCPU does."""
        struct.pack_into("<Q", self.stage2, stage2.LEVEL3_OFFSET + (ipa - RAM_BASE) // 4096 * 8, value)

    # vCPUs

    def vcpu(self, number: int = 0, as_shipped: bool = False) -> Vcpu:
        """vCPU `number` in this process, powered on at CODE. A process can hold one at a time."""
        reader, writer = os.pipe()
        pid = _fork(lambda: self._watch(reader, number))
        os.close(reader)
        self._watchdogs.append((pid, writer))
        vcpu = self._open(number, as_shipped)
        self._here.append(vcpu)
        return vcpu

    def _open(self, number: int, as_shipped: bool) -> Vcpu:
        vcpu = Vcpu(self.control_fd, self.ram_fd, self.stage2_fd, number, mpidr(number), as_shipped)
        vcpu.power_on(self.CODE, 0, 0, 0)
        return vcpu

    def _watch(self, reader: int, number: int) -> None:
        if not select.select([reader], [], [], DEADLINE_S - 2)[0]:
            self.page.post(number, self.page.QUIT)
            os._exit(1)

    def child(self, number: int, body: Callable[[Vcpu], Any], as_shipped: bool = False) -> Child:
        """A forked process that holds vCPU `number`, powered on at CODE, and computes `body(vcpu)`."""

        def compute() -> Any:
            for inherited in self._here:
                inherited.close()
            vcpu = self._open(number, as_shipped)
            try:
                return body(vcpu)
            finally:
                vcpu.close()

        child = Child(compute)
        self._children.append(child)
        return child

    def fork(self, compute: Callable[[], Any]) -> Child:
        """A forked process without a vCPU."""
        child = Child(compute)
        self._children.append(child)
        return child

    def call(self, vcpu: Vcpu, number: int = 0) -> int:
        """Run to the guest's next HVC and return its immediate."""
        while (leave := vcpu.run()).kind == EXIT_REQUEST:
            assert not self.page.requests(number) & self.page.QUIT, "told to quit"
        assert leave.kind == EXIT_HVC, leave
        return leave.hsr & 0xFFFF

    def counter(self, name: str, vcpu: int = 0) -> int:
        """A counter of the control page, by its name there."""
        return self.page.counters(vcpu)[COUNTER_NAMES.index(name)]

    @staticmethod
    def until(condition: Callable[[], Any], what: str) -> None:
        """Wait for `condition`; fails when it does not come true in time."""
        deadline = time.monotonic() + DEADLINE_S - 5
        while not condition():
            assert time.monotonic() < deadline, f"did not happen: {what}"
            time.sleep(0.0005)


@pytest.fixture
def machines() -> Iterator[Callable[..., Machine]]:
    """Makes machines: machines(vcpus=1, memory_bytes=4 MiB, cores=2, tlb=0, time_dilation=1)."""
    with contextlib.ExitStack() as stack:

        def make(*arguments: int, **named: int) -> Machine:
            made = Machine(*arguments, **named)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def machine(machines: Callable[..., Machine]) -> Machine:
    """A machine of one vCPU and 4 MiB."""
    return machines()
