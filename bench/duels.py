# SPDX-License-Identifier: GPL-2.0-or-later
"""What is compared with a peer: each `Duel` is one row of the table, and knows how to measure both sides once."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from allstop.deploy.processes.processes import child_environment
from allstop.operator_link import OperatorLink
from bench import distribution, echo, guest, peer_guest, qemu
from bench.latency import summarise
from bench.running import PeerError, Running

_PAUSE_S = 0.01  # in which a machine that goes on gets into its guest again
_LINUX_DEADLINE_S = 600.0
_LINUX_OPTIONS = "console=ttyAMA0 earlycon=pl011,0x9000000 panic=-1"


class NotMeasuredError(RuntimeError):
    """A row cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Goal:
    """`at_least` times the peer's speed or, where that is not set, `at_most` times its time or of its own unit."""

    bound: float
    aim: float
    is_speed: bool = False
    is_absolute: bool = False

    def met(self, value: float) -> bool:
        """Whether `value`, a ratio or an absolute figure, is within the bound."""
        return value >= self.bound if self.is_speed else value <= self.bound

    def aimed(self, value: float) -> bool:
        """Whether it is as good as is aimed for."""
        return value >= self.aim if self.is_speed else value <= self.aim


@dataclass(frozen=True)
class Duel:
    """One row. `ours` and `theirs` measure once, in `unit`; `theirs` is None if there is no peer. `peer` names the
    other side. A `title` begins with the subject of the row's number in the table.
    """

    number: int
    title: str
    unit: str
    goal: Goal | None
    peer: str
    ours: Callable[[], float]
    theirs: Callable[[], float] | None

    def ratio(self, ours: float, theirs: float) -> float:
        """Times as fast if speed is the goal, else times as long."""
        return theirs / ours if self.goal is not None and self.goal.is_speed else ours / theirs


@dataclass(frozen=True)
class Extent:
    """How much is measured: `scale` multiplies the usual counts. `kernel` and `initrd` are a distribution's."""

    scale: float = 1.0
    kernel: Path | None = None
    initrd: Path | None = None

    def of(self, usual: int) -> int:
        """So many."""
        return min(max(1, round(usual * self.scale)), peer_guest.MAX_COUNT)


def duels(extent: Extent, link: echo.Echo) -> Iterator[Duel]:
    """Every row, in the order of the table."""
    yield from _computing(extent)
    yield from _accesses(extent, link)
    yield from _stops(extent)
    yield _linux(extent)
    yield from _broadcasts(extent, link)
    yield from _processes()


_SPEED = Goal(0.7, 1.0, is_speed=True)
_SHARING = Goal(1.0, 1.2, is_speed=True)
# Operation, title, rounds, which row, numbers of vCPUs.
_COMPUTED = (
    ("calls", "calls", 10_000, 1, (1, 2)),
    ("memory", "memory", 500, 1, (1, 2)),
    ("branches", "branches", 2_000, 1, (1, 2)),
    ("mixed", "matrix, list, state machine, checksum", 2_000, 1, (1, 2)),
    ("add_own", "LDREX/STREX, a counter each", 10_000_000, 2, (1, 2)),
    ("add_shared", "LDREX/STREX, one counter", 4_000_000, 2, (2,)),
    ("dmb_own", "DMB between a store and a load of one's own", 10_000_000, 2, (1, 2)),
    ("dmb_shared", "DMB between a store and a load of the other's", 4_000_000, 2, (2,)),
)


def _computing(extent: Extent) -> Iterator[Duel]:
    for operation, title, rounds, number, sizes in _COMPUTED:
        for vcpus in sizes:
            ours, theirs = _pair(operation, vcpus, extent.of(rounds), must_agree=True)
            yield Duel(
                number,
                f"{title}, {vcpus} vCPU{'s' * (vcpus > 1)}",
                "us",
                _SPEED if number == 1 else _SHARING,
                "QEMU",
                ours,
                theirs,
            )


def _pair(operation: str, vcpus: int, count: int, must_agree: bool) -> tuple[Callable[[], float], Callable[[], float]]:
    """Both sides of one operation of guests/peers. The results must agree: otherwise it is not the same work."""
    checks: set[str] = set()

    def of(measure: Callable[[int, str, int], peer_guest.Figure]) -> Callable[[], float]:
        def once() -> float:
            figure = measure(vcpus, operation, count)
            checks.add(figure.check)
            if must_agree and len(checks) > 1:
                raise PeerError(f"{operation} came to different results: {', '.join(sorted(checks))}")
            return figure.us

        return once

    return of(peer_guest.ours), of(peer_guest.theirs)


def _accesses(extent: Extent, link: echo.Echo) -> Iterator[Duel]:
    samples, busy_samples = extent.of(1000), extent.of(100)

    def yardstick() -> float:
        return summarise(link.measure(samples)).p50_us

    def beside_spinners() -> float:
        with echo.spinning(3):
            return summarise(link.measure(busy_samples)).p50_us

    def of(operation: int, key: str, vcpus: int, count: int) -> Callable[[], float]:
        return lambda: guest.measure(operation, count, vcpus).operations[key].p50_us

    yield Duel(
        3, "MMIO with syndrome", "us", Goal(1.3, 1.1), "echo", of(guest.MMIO_READ, "mmio_read", 1, samples), yardstick
    )
    stop_world = Goal(4, 2.5)
    yield Duel(
        4,
        "MMIO without syndrome, stop-world, 4 vCPUs, the others off",
        "us",
        stop_world,
        "echo",
        of(guest.FETCHED_READ, "fetched_read", 4, samples),
        yardstick,
    )
    busy = of(guest.FETCHED_READ | guest.BUSY, "fetched_read", 4, busy_samples)
    title = "MMIO without syndrome, stop-world, 4 vCPUs, the others busy"
    yield Duel(4, title, "us", stop_world, "echo beside 3 that compute", busy, beside_spinners)
    yield Duel(4, title, "us", stop_world, "echo", busy, yardstick)


# ---- stop and resume, by an operator ----


def _stops(extent: Extent) -> Iterator[Duel]:
    count = extent.of(100)
    goal = Goal(1.0, 0.33)
    for which, title in enumerate(
        ("stop, until it is confirmed", "resume, until it is confirmed", "stop and resume, both confirmed")
    ):
        yield Duel(
            5,
            f"{title}, 4 busy vCPUs",
            "us",
            goal,
            "QEMU, QMP",
            partial(_part, stop_ours, which, count),
            partial(_part, stop_theirs, which, count),
        )


def _part(measure: Callable[[int, int], tuple[float, ...]], which: int, count: int) -> float:
    return measure(4, count)[which]


def stop_ours(vcpus: int, count: int) -> tuple[float, float, float]:
    """Microseconds, in the median of `count`: pause, resume, both, as `allstop ctl` asks for them."""
    with tempfile.TemporaryDirectory(prefix="bench-stop-") as name:
        folder = Path(name) / "run"
        command = peer_guest.our_command(vcpus, "busy", more=(f"--run-dir={folder}",))
        with peer_guest.start(command) as running:
            running.until("busy:", peer_guest.DEADLINE_S)
            with OperatorLink(folder) as operator:
                return _time_stops(operator.pause, operator.resume, count)


def stop_theirs(vcpus: int, count: int) -> tuple[float, float, float]:
    """The same by QMP: `stop` and `cont`."""
    with tempfile.TemporaryDirectory(prefix="bench-stop-") as name:
        path = Path(name) / "qmp"
        command = peer_guest.qemu_command(vcpus, "busy", more=("-qmp", f"unix:{path},server=on,wait=off"))
        with peer_guest.start(command) as running:
            running.until("busy:", peer_guest.DEADLINE_S)
            with qemu.Qmp(path) as monitor:
                return _time_stops(lambda: monitor.execute("stop"), lambda: monitor.execute("cont"), count)


def _time_stops(stop: Callable[[], object], resume: Callable[[], object], count: int) -> tuple[float, float, float]:
    clock = time.perf_counter_ns
    times: list[tuple[int, int, int]] = []
    for _ in range(count + 5):
        time.sleep(_PAUSE_S)
        began = clock()
        stop()
        stopped = clock()
        resume()
        ended = clock()
        times.append((stopped - began, ended - stopped, ended - began))
    stops, resumes, both = (median(column) / 1000 for column in zip(*times[5:], strict=True))
    return stops, resumes, both


# ---- a distribution's kernel ----


def _linux(extent: Extent) -> Duel:
    def ours() -> float:
        kernel, initrd = _files(extent)
        asked = subprocess.run(
            [*peer_guest.ALLSTOP_RUN, "--help"], capture_output=True, text=True, check=True, env=child_environment()
        )
        if "--initrd" not in asked.stdout:
            raise NotMeasuredError("allstop run has no --initrd yet")
        return _boot(
            [
                *peer_guest.ALLSTOP_RUN,
                "--quiet",
                "--vcpus=2",
                "--memory=256M",
                f"--initrd={initrd}",
                f"--append={_LINUX_OPTIONS}",
                "--",
                str(kernel),
            ]
        )

    def theirs() -> float:
        kernel, initrd = _files(extent)
        return _boot(qemu.command(kernel, 2, ["-initrd", str(initrd), "-append", _LINUX_OPTIONS], memory="256M"))

    return Duel(6, "a distribution's kernel to its init, 2 vCPUs", "s", Goal(4, 1.5), "QEMU", ours, theirs)


def _files(extent: Extent) -> tuple[Path, Path]:
    if extent.kernel is None or extent.initrd is None:
        raise NotMeasuredError("no kernel was given: --kernel and --initrd, or --fetch-kernel DIR")
    return extent.kernel, extent.initrd


def _boot(command: list[str]) -> float:
    with Running(command, child_environment()) as running:
        try:
            return running.until(distribution.SAID_BY_INIT, _LINUX_DEADLINE_S)
        except PeerError as error:
            raise NotMeasuredError(str(error)) from None


# ---- broadcasts and interrupts ----


def _broadcasts(extent: Extent, link: echo.Echo) -> Iterator[Duel]:
    ours, theirs = _pair("tlbi", 5, extent.of(100), must_agree=False)
    yield Duel(7, "TLBI broadcast, 4 busy vCPUs", "us", Goal(20, 5), "QEMU", ours, theirs)
    for operation, title in (("sgi", "SGI to a vCPU that computes"), ("sgi_idle", "SGI to a vCPU in WFI")):
        ours, theirs = _pair(operation, 2, extent.of(500), must_agree=False)
        title = f"{title}, send to handler"
        yield Duel(8, title, "us", Goal(3, 1.5), "echo", ours, lambda: summarise(link.measure(extent.of(1000))).p50_us)
        yield Duel(8, title, "us", None, "QEMU", ours, theirs)


# ---- what processes cost ----


def _processes() -> Iterator[Duel]:
    for key, title in (
        ("Private_Dirty", "private dirty memory of a vCPU's process"),
        ("Pss", "proportional memory (PSS) of a vCPU's process"),
    ):
        yield Duel(
            9,
            f"{title}, 4 vCPUs, small guest",
            "MiB",
            Goal(60, 30, is_absolute=True),
            "QEMU / 4",
            partial(memory_ours, 4, key),
            partial(memory_theirs, 4, key),
        )
    for vcpus, bound, aim in ((4, 1.5, 0.7), (64, 20.0, 5.0)):
        yield Duel(
            10,
            f"start to the guest's first line, {vcpus} vCPUs",
            "s",
            Goal(bound, aim, is_absolute=True),
            "QEMU",
            partial(start_ours, vcpus),
            partial(start_theirs, vcpus) if vcpus <= 8 else None,
        )


def memory_ours(vcpus: int, key: str) -> float:
    """MiB, the mean of the vCPUs' processes, while they compute."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
        folder = Path(name) / "run"
        command = peer_guest.our_command(vcpus, "busy", more=(f"--run-dir={folder}",))
        with peer_guest.start(command) as running:
            running.until("busy:", peer_guest.DEADLINE_S)
            with OperatorLink(folder) as operator:
                pids = [int(vcpu["pid"]) for vcpu in operator.status()["vcpus"]]
            return sum(memory_of(pid, key) for pid in pids) / vcpus


def memory_theirs(vcpus: int, key: str) -> float:
    """MiB of QEMU, devices and all, by vCPU."""
    with peer_guest.start(peer_guest.qemu_command(vcpus, "busy")) as running:
        running.until("busy:", peer_guest.DEADLINE_S)
        return memory_of(running.pid, key) / vcpus


def memory_of(pid: int, key: str) -> float:
    """MiB of a process: Pss, Private_Dirty and others. Source: proc(5), smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def start_ours(vcpus: int) -> float:
    """Seconds from just before the launcher's start to the boot vCPU's first line. The boot vCPU runs when all are
    up."""
    return _first_line(peer_guest.our_command(vcpus, "first"))


def start_theirs(vcpus: int) -> float:
    """Likewise."""
    return _first_line(peer_guest.qemu_command(vcpus, "first"))


def _first_line(command: list[str]) -> float:
    with peer_guest.start(command) as running:
        seconds = running.until("first:", peer_guest.DEADLINE_S)
        running.to_end(peer_guest.DEADLINE_S)
    return seconds
