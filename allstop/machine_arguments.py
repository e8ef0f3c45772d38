# SPDX-License-Identifier: GPL-2.0-or-later
"""The keyword arguments of `Machine`, for type checkers: written by `python -m allstop.cli.generated`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class MachineArguments(TypedDict, total=False):
    """Each option of `allstop run`; README.md says what it means."""

    vcpus: int
    fetch: str
    fetch_handler: str | None
    tlb: str
    decode: str
    memory: str | int
    parameter: int
    seed: int
    time_dilation: int
    append: str
    keep_going: bool
    pin: bool
    journal: bool
    devices: Sequence[str]
    drives: Sequence[str]
    virtio_console: bool
    rng: bool
    testdev: bool
    virtio_legacy: bool
    exit_status_line: bool
    as_shipped: bool
    timeout: float | None
    run_dir: str | os.PathLike[str] | None
    load: int | None
    initrd: str | os.PathLike[str] | None
    dtb: str | os.PathLike[str] | None
    events: str | os.PathLike[str] | Sequence[Mapping[str, Any]]
    console: str
    input: str | os.PathLike[str] | None
    gdb: str | None
    gdb_wait: bool
    semihosting: bool
    semihosting_dir: str | os.PathLike[str] | None
    hosts: str | os.PathLike[str] | None
    cluster: str | None
    cluster_hosts: int | None
