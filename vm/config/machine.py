# SPDX-License-Identifier: GPL-2.0-or-later
"""What one machine is made of: the launcher writes it, every process of the run reads it.

It travels as JSON in an inherited memory file (`--config-fd N`), because it carries the run's token, and a command
line can be read by other users. The descriptors in `fds` are inherited under the same numbers.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from allstop.vm.config.limits import RAM_BASE
from allstop.vm.config.options import GuestOptions, told_elsewhere
from allstop.vm.config.specs import DeviceSpec, DriveSpec, HandlerSpec


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
class GdbSpec:
    """The gdb server's socket: `fd` is bound, and inherited by the gdb server alone, as is
    `notice_fd`, the user's stderr. `waits` has the machine wait for a debugger before its first instruction."""

    fd: int
    notice_fd: int
    waits: bool


@dataclass(frozen=True)
class SemihostingSpec:
    """Semihosting is allowed: the folder in which the guest may open files ("": none), the
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
    by `doorbell_fd`. A host that is silent for `deadline_s` counts as dead. `names` are for sentences.
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


@dataclass(frozen=True, kw_only=True)
class MachineConfig(GuestOptions):
    """One machine, as the processes of one host see it: the options that concern them, and what they share.

    Endpoints are ZeroMQ addresses in the abstract socket namespace, which leaves no file behind. `token` (hex) must
    open every connection. `cores` is the number of host cores that the machine may use: a vCPU that waits in a loop
    gives its core away only where `vcpus` exceeds it. `launcher_pid` is the parent of every process of the run: what
    each of them hands to `lifetime.tie_to_parent`. Journals lie in `run_dir`, or where `hosts` says. `scenario` is the
    events', as `allstop.vm.events.scenario` writes it; its symbols are resolved. `semihosting` None takes no calls to
    the host. `hosts` None is a machine on this host alone.
    """

    token: str
    coordinator_endpoint: str
    devices_endpoint: str
    fds: SharedFds
    cores: int
    launcher_pid: int = 0
    gdb: GdbSpec | None = None
    scenario: str = ""
    run_dir: str = ""
    stop_deadline_s: float = 1.5
    operator_lease_s: float = 10.0
    semihosting: SemihostingSpec | None = None
    hosts: HostsSpec | None = None

    def for_host(self, hosts: HostsSpec) -> MachineConfig:
        """This machine for another host, which fills in its own values."""
        return replace(
            self,
            hosts=hosts,
            fds=SharedFds(-1, -1, -1),
            coordinator_endpoint=hosts.coordinator_endpoint,
            devices_endpoint=hosts.devices_endpoint,
            run_dir="",
            gdb=None,
            launcher_pid=0,
            **told_elsewhere(),
        )

    def to_json(self) -> str:
        """The form that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MachineConfig:
        """Inverse of `to_json`; raises ValueError or TypeError on anything else."""
        raw: dict[str, Any] = json.loads(text)
        for name, kind in _NESTED.items():
            if raw[name] is not None:
                raw[name] = kind(**{key: _as_tuple(value) for key, value in raw[name].items()})
        for name, kind in _LISTS.items():
            raw[name] = tuple(kind(**each) for each in raw[name])
        return cls(**raw)

    @classmethod
    def from_fd(cls, fd: int) -> MachineConfig:
        """Read the configuration from an inherited memory file, without moving its shared file position."""
        return cls.from_json(os.pread(fd, os.fstat(fd).st_size, 0).decode())


_NESTED: dict[str, type[Any]] = {
    "fds": SharedFds,
    "fetch_handler": HandlerSpec,
    "gdb": GdbSpec,
    "semihosting": SemihostingSpec,
    "hosts": HostsSpec,
}
_LISTS: dict[str, type[Any]] = {"devices": DeviceSpec, "drives": DriveSpec}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
