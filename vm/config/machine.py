# SPDX-License-Identifier: GPL-2.0-or-later
"""What one machine is made of: the launcher writes it, every process of the run reads it.

It travels as JSON in an inherited memory file (`--config-fd N`), because it carries the run's token, and a command
line can be read by other users. The descriptors in `fds` are inherited under the same numbers.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from allstop.vm.config.policies import DECODERS as DECODERS
from allstop.vm.config.policies import FETCH_POLICIES as FETCH_POLICIES
from allstop.vm.config.policies import TLB_DISCIPLINES as TLB_DISCIPLINES

RAM_BASE = 0x4000_0000
MAX_MEMORY_BYTES = 0xB000_0000
MAX_VCPUS = 128
MAX_TIME_DILATION = 1000
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
    pages: int = -1


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
class HostsSpec:
    """One host's view of a machine on several: it is `index`; host 0 has the launcher and the servers.

    `endpoints` are the nodes', `vcpu_hosts` says for each vCPU on which host it is, `public_keys` are the hosts' (Z85)
    and `secret_key` is this one's. `listen_fds` are bound sockets: the node's, and on host 0 those of the coordinator
    and the device server, whose remote addresses are `coordinator_endpoint` and `devices_endpoint`. The node is called
    by `doorbell_fd`. Whoever is not heard of for `deadline_s` is taken for dead. `names` are for sentences.
    `journal_fds` are files without a name for journals that have no run folder to lie in, by their processes' names.
    `trip_s` is how long a message takes from the first host to the farthest one and back.
    """

    index: int
    endpoints: tuple[str, ...]
    vcpu_hosts: tuple[int, ...]
    public_keys: tuple[str, ...]
    secret_key: str
    doorbell_fd: int
    listen_fds: tuple[int, ...]
    coordinator_endpoint: str = ""
    devices_endpoint: str = ""
    deadline_s: float = 5.0
    names: tuple[str, ...] = ()
    journal_fds: dict[str, int] = field(default_factory=dict)
    trip_s: float = 0.0

    @property
    def own_vcpus(self) -> tuple[int, ...]:
        """The vCPUs of this host."""
        return tuple(vcpu for vcpu, host in enumerate(self.vcpu_hosts) if host == self.index)


@dataclass(frozen=True)
class MachineConfig:
    """One machine, as the processes of one host see it.

    Endpoints are ZeroMQ addresses in the abstract socket namespace, which leaves no file behind. `token` (hex)
    must open every connection. `cores` is the number of host cores that the machine may use: a vCPU that waits in a
    loop gives its core away only where `vcpus` exceeds it. `launcher_pid` is the parent of every process of the run:
    what each of them hands to `lifetime.tie_to_parent`. `as_shipped` runs the engine without what makes it fit for
    several processes, for the conformance gate to be seen red. `keep_going` counts violations and goes on. `journal`
    has every process keep one, in `run_dir` or where `hosts` says. `scenario` is the events', as
    `allstop.vm.events.scenario` writes it; its symbols are resolved. `pin` gives each vCPU one core, by its number.
    `drives`, `virtio_console`, `rng` and `testdev` are virtio devices; `virtio_legacy` gives all of them legacy
    transports. `semihosting` None takes no calls to the host. `exit_status_line` takes the verdict from a line that
    the guest prints (`devicesrv/console/exit_line.py`). `hosts` None is a machine on this host alone.
    `time_dilation` is how many times slower than the hosts' the guest's clock goes.
    """

    vcpus: int
    memory_bytes: int
    token: str
    coordinator_endpoint: str
    devices_endpoint: str
    fds: SharedFds
    cores: int
    tlb: str = TLB_DISCIPLINES[0]
    fetch: str = FETCH_POLICIES[0]
    decode: str = DECODERS[0]
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
    hosts: HostsSpec | None = None
    time_dilation: int = 1

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
        if raw["hosts"] is not None:
            hosts: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in raw["hosts"].items()
            }
            raw["hosts"] = HostsSpec(**hosts)
        return cls(**raw)

    @classmethod
    def from_fd(cls, fd: int) -> MachineConfig:
        """Read the configuration from an inherited memory file, without moving its shared file position."""
        return cls.from_json(os.pread(fd, os.fstat(fd).st_size, 0).decode())
