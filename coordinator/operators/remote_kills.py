# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of vCPUs on other hosts that operators want killed. The agents there can, and the launcher speaks to them.

Those of the first host are killed by operators themselves. This keeps which processes are to be killed and which
operators wait; time comes in with each call, in seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from allstop.vm.config.machine import HostsSpec
from allstop.vm.wire.channel import LAUNCHER
from allstop.vm.wire.messages import Message, Refused
from allstop.vm.wire.messages_hosts import KillVcpu, VcpuKilled

ANSWER_S = 3.0
"""For how long a host may not answer: less than an operator waits."""


class _Wish(NamedTuple):
    operator: bytes
    vcpu: int
    until_s: float


class RemoteKills:
    """Those of one machine of `vcpus`, on `hosts` if these are several. `send(identity, message)` sends."""

    def __init__(self, hosts: HostsSpec | None, vcpus: int, send: Callable[[bytes, Message], None]) -> None:
        self._hosts = hosts
        self._vcpus = vcpus
        self._send = send
        self._wishes: list[_Wish] = []

    def ask(self, operator: bytes, vcpu: int, now_s: float) -> None:
        """An operator wants this one killed."""
        if vcpu >= self._vcpus:
            self._send(operator, Refused(f"the machine has no vCPU {vcpu}"))
        elif self._hosts is None or self._hosts.vcpu_hosts[vcpu] == self._hosts.index:
            self._send(operator, Refused(f"vCPU {vcpu} is on this host, where operators kill processes by themselves"))
        else:
            self._wishes.append(_Wish(operator, vcpu, now_s + ANSWER_S))
            self._send(LAUNCHER, KillVcpu(vcpu))

    def done(self, message: VcpuKilled) -> None:
        """The launcher tells what came of it: all operators that want it killed are told."""
        for operator, vcpu, _ in self._wishes:
            if vcpu == message.vcpu:
                self._send(operator, Refused(message.sentence) if message.sentence else message)
        self._wishes = [wish for wish in self._wishes if wish.vcpu != message.vcpu]

    def look(self, now_s: float) -> None:
        """Time has passed: operators that have waited for too long are told so."""
        while self._wishes and now_s >= self._wishes[0].until_s:
            operator, vcpu, _ = self._wishes.pop(0)
            assert self._hosts is not None
            host = self._hosts.names[self._hosts.vcpu_hosts[vcpu]]
            self._send(
                operator,
                Refused(
                    f"host {host}, which is to kill vCPU {vcpu}, has not answered within "
                    f"{ANSWER_S:g} s: it is slow or stopped"
                ),
            )
