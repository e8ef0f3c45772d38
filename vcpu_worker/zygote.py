# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m allstop.vcpu_worker.zygote --config-fd N --socket-fd M`: the process from which all workers fork.

Loading a worker's modules and the engine takes most of a worker's start and of its memory. So one process loads them
once and forks the workers, which share unmodified pages copy-on-write. It makes no thread and no ZeroMQ socket, for
those do not survive a fork.

It sends "ready", receives one message with the vCPUs' numbers and a descriptor for each log, answers with the workers'
process ids, and exits. The launcher, as subreaper (`deploy/processes/subreaper.py`), then becomes the workers' parent.
It closes its end of the socket when that is so; only then can they tie their lives to its.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import socket
import sys
import traceback
from typing import NoReturn

from allstop.vcpu_worker.__main__ import live
from allstop.vm.config.limits import MAX_VCPUS
from allstop.vm.config.machine import MachineConfig
from allstop.vm.process.lifetime import show_command_line, tie_to_parent

_MESSAGE_BYTES = 4096


def main() -> int:
    """Fork the workers; the exit status."""
    parser = argparse.ArgumentParser(prog="allstop.vcpu_worker.zygote", description=__doc__)
    parser.add_argument("--config-fd", type=int, required=True)
    parser.add_argument("--socket-fd", type=int, required=True)
    arguments = parser.parse_args()
    config = MachineConfig.from_fd(arguments.config_fd)
    tie_to_parent(config.launcher_pid)
    with contextlib.suppress(RuntimeError, OSError, ValueError):  # each worker fails by itself, with a sentence
        import allstop.vcpu_worker.worker  # noqa: F401
    gc.collect()
    gc.freeze()  # a collection would write to every object, and so unshare its page
    with socket.socket(fileno=arguments.socket_fd) as link:
        link.send(b"ready")
        message, logs, _, _ = socket.recv_fds(link, _MESSAGE_BYTES, MAX_VCPUS)
        vcpus: list[int] = json.loads(message) if message else []
        pids: list[int] = []
        error = ""
        for vcpu, log in zip(vcpus, logs, strict=True):
            try:
                pid = os.fork()
            except OSError as refused:
                error = str(refused)
                break
            if pid == 0:
                os.dup2(log, 1)
                os.dup2(log, 2)
                for fd in logs:
                    os.close(fd)
                _become_worker(config, arguments.config_fd, vcpu, link)
            pids.append(pid)
        link.send(json.dumps({"pids": pids, "error": error}).encode())
    return 0


def _become_worker(config: MachineConfig, config_fd: int, vcpu: int, link: socket.socket) -> NoReturn:
    """The rest of a forked process's life."""
    status = 1
    try:
        show_command_line(
            [sys.executable, "-P", "-m", "allstop.vcpu_worker", "--config-fd", str(config_fd), "--vcpu", str(vcpu)]
        )
        link.recv(1)  # nothing: the end, when the launcher is our parent, or dead
        link.close()
        tie_to_parent(config.launcher_pid)
        status = live(config, vcpu)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
