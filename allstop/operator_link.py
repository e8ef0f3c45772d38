# SPDX-License-Identifier: GPL-2.0-or-later
"""An operator's connection to a running machine: what `allstop ctl` does, as methods."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import zmq

from allstop.deploy.outcome.control_file import find_run
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.wire.channel import OPERATOR_PREFIX, Channel, ChannelError
from allstop.vm.wire.codec import MalformedError
from allstop.vm.wire.messages import (
    ALL_VCPUS,
    MAX_MEMORY_READ_BYTES,
    ROLE_OPERATOR,
    EventInjected,
    FlushTlbs,
    InjectEvent,
    MachinePaused,
    MachineResumed,
    Memory,
    Message,
    PauseMachine,
    QueryStatus,
    ReadMemory,
    ReadRegisters,
    Refused,
    Registers,
    ResumeMachine,
    RunStopped,
    Status,
    StopRun,
    TlbsFlushed,
)
from allstop.vm.wire.messages_hosts import KillVcpu, VcpuKilled

OPEN_DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 10.0
_LOOK_S = 0.25
M = TypeVar("M", bound=Message)


class RefusedError(RuntimeError):
    """The machine refused; the text is one sentence."""


class OperatorLink:
    """A connection to the run whose folder is `run_dir`.

    Every method raises UsageError when the run is over or gone, HarnessError when it does not answer, and RefusedError
    where it says so.
    """

    def __init__(self, run_dir: Path, deadline_s: float = OPEN_DEADLINE_S) -> None:
        """Connect within `deadline_s`, and wait for a machine that is starting. Raises UsageError if `run_dir` holds no
        running machine, HarnessError if the machine does not answer."""
        self._run_dir = run_dir
        self._control = find_run(run_dir)
        self.vcpus = self._control.vcpus
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._channel = Channel.open(
                self._context,
                self._control.endpoint,
                OPERATOR_PREFIX + secrets.token_hex(8).encode(),
                self._control.token,
                ROLE_OPERATOR,
                deadline_s=deadline_s,
            )
        except (ChannelError, MalformedError) as error:
            self._context.term()
            find_run(run_dir)  # raises when that is why
            raise HarnessError(str(error)) from None
        except BaseException:
            self._context.term()
            raise

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()
        self._context.term()

    def __enter__(self) -> OperatorLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """The state of the machine, as the message Status describes it."""
        report: dict[str, Any] = json.loads(self._ask(QueryStatus(), Status).report)
        return report

    def pause(self) -> int:
        """Stop the world until `resume` by any operator; the number of the stop."""
        return self._ask(PauseMachine(), MachinePaused).epoch

    def resume(self) -> None:
        """End a pause."""
        self._ask(ResumeMachine(), MachineResumed)

    def registers(self, vcpu: int | None = None) -> dict[int, dict[str, int]]:
        """The registers of one vCPU, or of all in one stop, by their names."""
        found: dict[int, dict[str, int]] = {}
        self._channel.send(ReadRegisters(ALL_VCPUS if vcpu is None else vcpu))
        for _ in range(self.vcpus if vcpu is None else 1):
            answer = self._answer(Registers)
            found[answer.vcpu] = json.loads(answer.registers)
        return dict(sorted(found.items()))

    def memory(self, ipa: int, length_bytes: int) -> Iterator[bytes]:
        """Guest RAM, in pieces, while the machine may run."""
        end = ipa + length_bytes
        while ipa < end:
            data = self._ask(ReadMemory(ipa, min(end - ipa, MAX_MEMORY_READ_BYTES)), Memory).data
            yield data
            ipa += len(data)

    def flush_tlbs(self) -> None:
        """Have every vCPU drop its translations."""
        self._ask(FlushTlbs(), TlbsFlushed)

    def inject(self, event: Mapping[str, Any], vcpu: int | None = None) -> None:
        """Inject an event now, on `vcpu` or on any: see `allstop.vm.events.vocabulary`."""
        self._ask(InjectEvent(ALL_VCPUS if vcpu is None else vcpu, json.dumps(dict(event))), EventInjected)

    def host_of(self, vcpu: int) -> str:
        """The name of the host that has `vcpu`, "" if that is the first or only one."""
        return "".join(self._control.hosts[vcpu : vcpu + 1])

    def kill(self, vcpu: int) -> int:
        """Kill the process of `vcpu`, as an accident would; its number on its host. The run is lost then."""
        if self.host_of(vcpu):
            return self._ask(KillVcpu(vcpu), VcpuKilled).pid
        pid = int(self.status()["vcpus"][vcpu]["pid"])
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            raise RefusedError(f"vCPU {vcpu} has no process") from None
        try:
            if _parent(pid) != self._control.pid:
                raise RefusedError(f"process {pid} is not the worker of vCPU {vcpu}")
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            raise RefusedError(f"the process of vCPU {vcpu} is dead already") from None
        finally:
            os.close(pidfd)
        return pid

    def stop(self) -> None:
        """End the run, with verdict `error`."""
        self._ask(StopRun(), RunStopped)

    def _ask(self, request: Message, kind: type[M]) -> M:
        self._channel.send(request)
        return self._answer(kind)

    def _answer(self, kind: type[M]) -> M:
        end_s = time.monotonic() + ANSWER_DEADLINE_S
        while time.monotonic() < end_s:
            try:
                message = self._channel.receive(_LOOK_S)
            except MalformedError as error:
                raise HarnessError(f"the coordinator answers what is {error}") from None
            if isinstance(message, kind):
                return message
            if isinstance(message, Refused):
                raise RefusedError(message.sentence)
            if message is None and find_run(self._run_dir) != self._control:
                raise UsageError(f"the run in {self._run_dir} is another one by now")
        raise HarnessError(f"the coordinator did not answer within {ANSWER_DEADLINE_S:g} s")


def _parent(pid: int) -> int:
    """The parent of a process whose number our pidfd keeps from being reused. Source: proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
