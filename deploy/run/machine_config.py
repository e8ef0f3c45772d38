# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan of a machine, from what the user asked for. Each host completes it (`deploy/processes/host_memory.py`)."""

from __future__ import annotations

import secrets
from pathlib import Path

from allstop.deploy.options.options import RunOptions
from allstop.vm.boot.images import Image
from allstop.vm.config.machine import GdbSpec, HostsSpec, MachineConfig, SemihostingSpec, SharedFds


def machine_config(
    options: RunOptions,
    image: Image,
    run_dir: Path | None,
    console_fd: int,
    gdb: GdbSpec | None,
    hosts: HostsSpec | None,
) -> MachineConfig:
    """The plan. The device server writes the guest's console to `console_fd`."""
    name = secrets.token_hex(16)
    return MachineConfig(
        **options.told(),
        token=secrets.token_hex(16),
        coordinator_endpoint=f"ipc://@allstop-{name}-c",
        devices_endpoint=f"ipc://@allstop-{name}-d",
        fds=SharedFds(-1, -1, -1, console_fd),
        cores=0,
        run_dir="" if run_dir is None else str(run_dir),
        scenario=options.resolved_events().to_json(),
        gdb=gdb,
        semihosting=_semihosting(options, image),
        hosts=hosts,
    )


def _semihosting(options: RunOptions, image: Image) -> SemihostingSpec | None:
    """What a guest's semihosting calls need; its heap begins on the page behind the image."""
    if not options.semihosting:
        return None
    folder = options.semihosting_dir
    end = max(segment.ipa + segment.memory_bytes for segment in image.segments)
    return SemihostingSpec(
        "" if folder is None else str(folder.absolute()), options.boot.append, (end + 0xFFF) & ~0xFFF
    )
