# SPDX-License-Identifier: GPL-2.0-or-later
"""An agent that goes wrong: `python stub_agent.py STEP ACT ...` does ACT at STEP, and is a real agent until then.

STEP is `call` (nothing was said yet), `ready` (HostReady was said), `plan` (the plan has come), `workers` (its node
runs, its workers are about to be started) or `told` (what HostReady says is what ACT gives). ACT is `exit`, `kill`,
`stop`, or the fields of HostReady to change, as JSON.
"""
from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from allstop.machine.configuration import MachineConfig
from allstop.wire.messages import Message
from allstop.wire.node_messages import HostReady
from deploy import host_agent

STEP, ACT = sys.argv[1:3]


def at(step: str) -> None:
    """Go wrong, if this is the step."""
    if step != STEP:
        return
    print(f"at {step}", file=sys.stderr, flush=True)
    if ACT == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL if ACT == "kill" else signal.SIGSTOP)


class Stub(host_agent.HostAgent):
    """Goes wrong at a step."""

    def _send(self, message: Message) -> None:
        if isinstance(message, HostReady):
            at("call")
            if STEP == "told":
                message = message._replace(**json.loads(ACT))
        super()._send(message)

    def serve(self) -> None:
        at("ready")
        super().serve()

    def _begin(self, plan: MachineConfig) -> None:
        at("plan")
        super()._begin(plan)

    def _start_workers(self) -> None:
        before: Any = self._nursery
        if self._page is not None and self._page.heartbeat(host_agent.control.NODE) and before is not None:
            at("workers")
        super()._start_workers()


host_agent.HostAgent = Stub  # type: ignore[misc]
sys.exit(host_agent.main())
