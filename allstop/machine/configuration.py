# SPDX-License-Identifier: GPL-2.0-or-later
"""What one machine is made of: the launcher writes it, every process of the run reads it.

It travels as JSON in an inherited memory file (`--config-fd N`), because it carries the run's token, and a command
line can be read by other users. The descriptors in `fds` are inherited under the same numbers.
"""
from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

RAM_BASE = 0x4000_0000
MAX_MEMORY_BYTES = 0xB000_0000
MAX_VCPUS = 128
TLB_DISCIPLINES = ("broadcast", "ipi", "local", "early")
FETCH_POLICIES = ("stop-world", "unprotected", "validate", "abort", "user")
DECODERS = ("full", "kvm")
DRIVE_MODES = ("cow", "ro", "rw")


@dataclass(frozen=True)
class SharedFds:
    """Inherited descriptors of the machine's shared memory."""

    control: int
    ram: int
    stage2: int
    console: int = -1
    swap: int = -1
    notes: int = -1


@dataclass(frozen=True)
class DeviceSpec:
    """A user's own device: `FILE.py:Class@ADDRESS`."""

    path: str
    class_name: str
    ipa: int


@dataclass(frozen=True)
class DriveSpec:
    """A drive: its image, and one of DRIVE_MODES."""

    path: str
    mode: str = "cow"


@dataclass(frozen=True)
class HandlerSpec:
    """A user's own function: `FILE.py:function`."""

    path: str
    function_name: str


@dataclass(frozen=True)
class GdbSpec:
    """Where a debugger may come in: `fd` is a socket that is bound, inherited by the gdb server alone, as is
    `notice_fd`, the user's stderr. `waits` has the machine wait for a debugger before its first instruction."""

    fd: int
    notice_fd: int
    waits: bool


@dataclass(frozen=True)
class SemihostingSpec:
    """That a guest may call its host, and what it finds there: the folder in which it may open files ("": none), the
    command line that it is told, and where its heap may begin."""

    folder: str = ""
    command_line: str = ""
    heap_base: int = RAM_BASE


@dataclass(frozen=True)
class MachineConfig:
    """One machine on one host.

    Endpoints are ZeroMQ addresses in the abstract socket namespace, which leaves no file behind. `token` (hex)
    must open every connection. `cores` is the number of host cores that the machine may use: a vCPU that waits in a
    loop gives its core away only where `vcpus` exceeds it. `launcher_pid` is the parent of every process of the run:
    what each of them hands to `lifetime.tie_to_parent`. `as_shipped` runs the engine without what makes it fit for
    several processes, for the conformance gate to be seen red. `keep_going` counts violations and goes on. `journal`
    has every process keep one, in `run_dir`. `scenario` is the events', as `allstop.events.scenario` writes it; its
    symbols are resolved. `pin` gives each vCPU one core, by its number. `drives`, `virtio_console`, `rng` and `testdev`
    are virtio devices; `virtio_legacy` gives all of them legacy transports. `semihosting` None takes no calls to the
    host. `exit_status_line` takes the verdict from a line that the guest prints (`devicesrv/exit_line.py`).
    """

    vcpus: int
    memory_bytes: int
    token: str
    coordinator_endpoint: str
    devices_endpoint: str
    fds: SharedFds
    cores: int
    tlb: str = "broadcast"
    fetch: str = "stop-world"
    decode: str = "full"
    seed: int = 0
    launcher_pid: int = 0
    as_shipped: bool = False
    keep_going: bool = False
    journal: bool = False
    pin: bool = False
    gdb: GdbSpec | None = None
    parameter: int = 0
    scenario: str = ""
    run_dir: str = ""
    stop_deadline_s: float = 1.5
    operator_lease_s: float = 10.0
    devices: tuple[DeviceSpec, ...] = field(default=())
    fetch_handler: HandlerSpec | None = None
    drives: tuple[DriveSpec, ...] = field(default=())
    virtio_console: bool = False
    rng: bool = False
    testdev: bool = False
    virtio_legacy: bool = False
    semihosting: SemihostingSpec | None = None
    exit_status_line: bool = False

    def to_json(self) -> str:
        """The form that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MachineConfig:
        """Inverse of `to_json`; raises ValueError or TypeError on anything else."""
        raw = json.loads(text)
        raw["fds"] = SharedFds(**raw["fds"])
        raw["devices"] = tuple(DeviceSpec(**device) for device in raw["devices"])
        raw["drives"] = tuple(DriveSpec(**drive) for drive in raw["drives"])
        if raw["fetch_handler"] is not None:
            raw["fetch_handler"] = HandlerSpec(**raw["fetch_handler"])
        if raw["gdb"] is not None:
            raw["gdb"] = GdbSpec(**raw["gdb"])
        if raw["semihosting"] is not None:
            raw["semihosting"] = SemihostingSpec(**raw["semihosting"])
        return cls(**raw)

    @classmethod
    def from_fd(cls, fd: int) -> MachineConfig:
        """Read the configuration from an inherited memory file, without moving its shared file position."""
        return cls.from_json(os.pread(fd, os.fstat(fd).st_size, 0).decode())
