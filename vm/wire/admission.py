# SPDX-License-Identifier: GPL-2.0-or-later
"""A server's second listener, for the machine's other hosts."""

from __future__ import annotations

import os
import sys
from collections import Counter

import zmq

from allstop.vm.config.machine import HostsSpec, MachineConfig
from allstop.vm.wire.channel import ChannelError
from allstop.vm.wire.messages import ROLE_NODE, ROLE_WORKER, Hello
from allstop.vm.wire.security import Guard, KeyPair, open_to_hosts


def admit_hosts(
    socket: zmq.Socket[bytes], context: zmq.Context[zmq.Socket[bytes]], hosts: HostsSpec | None, place: int
) -> Guard | None:
    """Have the server's socket listen for the other hosts, too; None where there are none. `place` is that of its
    descriptor in `listen_fds`: 0 the node's, 1 the coordinator's, 2 the device server's. Raises ChannelError."""
    if hosts is None:
        return None
    endpoint = (hosts.endpoints[hosts.index], hosts.coordinator_endpoint, hosts.devices_endpoint)[place]
    guard = Guard(context, hosts.public_keys)
    try:
        open_to_hosts(
            socket,
            endpoint,
            hosts.listen_fds[place],
            KeyPair(hosts.public_keys[hosts.index], hosts.secret_key),
            2 * hosts.deadline_s,
        )
    except zmq.ZMQError as error:
        guard.close()
        raise ChannelError(f"cannot listen on {endpoint}: {error}") from None
    guard.watch(socket)
    return guard


def is_at_home(hosts: HostsSpec | None, key: str, hello: Hello) -> bool:
    """Whether a Hello comes from the host whose process says it: `key` is that of the connection, "" for one of this
    host's own. Another host has workers, of its own vCPUs, and one node."""
    if hosts is None:
        return True
    if key and key not in hosts.public_keys:
        return False
    host = hosts.public_keys.index(key) if key else hosts.index
    if hello.role == ROLE_WORKER:
        return hosts.vcpu_hosts[hello.vcpu : hello.vcpu + 1] == (host,)
    return (hello.role == ROLE_NODE and hello.vcpu == host) if key else hello.role != ROLE_NODE


def report_refusals(config: MachineConfig, who: str, refused: Counter[str]) -> None:
    """Say in the process's log what it has refused and, where the machine is on several hosts and strangers may call,
    in the verdict's notes, too."""
    for reason, count in (+refused).most_common(10):
        line = f"{who}: refused {count} x {reason}\n"
        sys.stderr.write(line)
        if config.hosts is not None and config.fds.notes >= 0:
            os.write(config.fds.notes, line.encode(errors="replace"))
