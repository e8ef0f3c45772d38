# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processes of a machine share, made before the first of them starts: memory, a pipe, the configuration."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from allstop.coordinator.node.memory.node_memory import NodeMemory
from allstop.deploy.hosts.agents import Agents
from allstop.deploy.options.options import RunOptions
from allstop.deploy.run.gdb_listener import open_gdb
from allstop.vm.boot.images import Image
from allstop.vm.config.machine import HostsSpec, MachineConfig, SemihostingSpec, SharedFds
from allstop.vm.config.policies import TLB_DISCIPLINES
from allstop.vm.control.control import ControlPage
from allstop.vm.memory import stage2
from allstop.vm.memory.memory import create_memory, load_image


@dataclass(frozen=True)
class Assembly:
    """What every process of a machine is given.

    `inherited_fds` go to each of them under the same numbers. `console_fd` is the reading end of the console's pipe,
    non-blocking, for the launcher alone. `debugger_fds` go to the gdb server besides.
    """

    config: MachineConfig
    config_fd: int
    inherited_fds: tuple[int, ...]
    page: ControlPage
    console_fd: int
    debugger_fds: tuple[int, ...] = ()


def assemble(
    options: RunOptions, image: Image, run_dir: Path | None, stack: contextlib.ExitStack, agents: Agents | None = None
) -> Assembly:
    """Make it all; `stack` closes every descriptor. `agents` are the machine's other hosts, gathered.

    Raises OSError when the host refuses memory or descriptors, UsageError where gdb's address cannot be had.
    """
    cores = len(os.sched_getaffinity(0))
    control_fd = _memory("control", ControlPage.size_bytes(options.vcpus), stack)
    page = ControlPage.create(
        control_fd, options.vcpus, cores, TLB_DISCIPLINES.index(options.tlb), options.time_dilation
    )
    ram_fd = _memory("ram", options.memory_bytes, stack)
    load_image(ram_fd, image)
    stage2_fd = _memory("stage2", stage2.size_bytes(options.memory_bytes), stack)
    stage2.build_in(stage2_fd, options.memory_bytes)
    console_fd, console_write_fd = os.pipe2(os.O_CLOEXEC)
    stack.callback(os.close, console_fd)
    stack.callback(os.close, console_write_fd)
    os.set_blocking(console_fd, False)
    swap_fd = swap_file(run_dir, stack)
    notes_fd = os.memfd_create("allstop-notes", os.MFD_CLOEXEC)
    stack.callback(os.close, notes_fd)
    pages_fd = os.memfd_create("allstop-pages", os.MFD_CLOEXEC)
    stack.callback(os.close, pages_fd)
    name = secrets.token_hex(16)
    gdb = None if options.gdb is None else open_gdb(options.gdb, options.gdb_wait, stack)
    hosts = None if agents is None else _share(agents, page, (control_fd, ram_fd, stage2_fd, swap_fd), stack)
    config = MachineConfig(
        **options.told(),
        token=secrets.token_hex(16),
        coordinator_endpoint=f"ipc://@allstop-{name}-c",
        devices_endpoint=f"ipc://@allstop-{name}-d",
        fds=SharedFds(control_fd, ram_fd, stage2_fd, console_write_fd, swap_fd, notes_fd, pages_fd),
        cores=cores,
        launcher_pid=os.getpid(),
        run_dir="" if run_dir is None else str(run_dir),
        scenario=options.resolved_events().to_json(),
        gdb=gdb,
        semihosting=_semihosting(options, image),
        hosts=hosts,
    )
    text = config.to_json().encode()
    config_fd = _memory("config", len(text), stack)
    os.pwrite(config_fd, text, 0)
    several = () if agents is None or hosts is None else (hosts.doorbell_fd, *agents.inherited_fds)
    inherited = (control_fd, ram_fd, stage2_fd, console_write_fd, swap_fd, notes_fd, pages_fd, *several)
    return Assembly(config, config_fd, inherited, page, console_fd, () if gdb is None else (gdb.fd, gdb.notice_fd))


def _share(agents: Agents, page: ControlPage, fds: tuple[int, int, int, int], stack: contextlib.ExitStack) -> HostsSpec:
    """This host's part of a machine on several: all pages are here at first."""
    doorbell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    stack.callback(os.close, doorbell_fd)
    spec = agents.spec(0, doorbell_fd)
    memory = NodeMemory(*fds)
    memory.share(doorbell_fd, [vcpu for vcpu in range(page.vcpus) if vcpu not in spec.own_vcpus], True)
    agents.told = memory.tell
    agents.began_ns = memory.clock_base()
    return spec


def _semihosting(options: RunOptions, image: Image) -> SemihostingSpec | None:
    """What a guest's calls to its host need; its heap begins on the page behind the image."""
    if not options.semihosting:
        return None
    folder = options.semihosting_dir
    end = max(segment.ipa + segment.memory_bytes for segment in image.segments)
    return SemihostingSpec(
        "" if folder is None else str(folder.absolute()), options.boot.append, (end + 0xFFF) & ~0xFFF
    )


def swap_file(run_dir: Path | None, stack: contextlib.ExitStack) -> int:
    """A file on disk that has no name, and so is gone with the run. It grows when a page is swapped out."""
    return stack.enter_context(tempfile.TemporaryFile(dir=run_dir, buffering=0)).fileno()


def _memory(name: str, size_bytes: int, stack: contextlib.ExitStack) -> int:
    fd = create_memory(f"allstop-{name}", size_bytes)
    stack.callback(os.close, fd)
    return fd
