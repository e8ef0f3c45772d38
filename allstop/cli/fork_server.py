# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m allstop.cli.fork_server --socket-fd N`: forks processes that are `allstop` with arguments.

`allstop.deploy.processes.fork_server` says why. It makes no thread and no ZeroMQ socket, because neither survives a
fork. A request is a message with descriptors: a socket for the answers, the arguments as JSON, and the descriptors that
the new process gets under the numbers in the message. The answers are its process number, with a pidfd, and at the end
its exit status.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from allstop.cli.main import load, main
from allstop.deploy.processes.fork_server import MAX_FDS, MESSAGE_BYTES
from allstop.deploy.processes.processes import printable
from allstop.vm.process.lifetime import show_command_line


def serve(link: socket.socket) -> None:
    """Serve until the client is gone."""
    poller = select.poll()
    poller.register(link, select.POLLIN)
    launchers: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: process number, and the socket for its exit status
    while True:
        for fd, _ in poller.poll():
            if fd != link.fileno():
                pid, asker = launchers.pop(fd)
                poller.unregister(fd)
                os.close(fd)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                answer(asker, {"status": status})
                asker.close()
                continue
            message, fds, _, _ = socket.recv_fds(link, MESSAGE_BYTES, MAX_FDS)
            if not message:
                return
            if not fds:
                continue  # no descriptor was left for the answer: the client notices that
            asker = socket.socket(fileno=fds[0])
            numbers: list[int] = json.loads(message)["numbers"]
            try:
                pid, pidfd = start(numbers, fds[1:])
            except OSError as error:
                answer(asker, {"error": str(error)})
                asker.close()
                continue
            finally:  # before the answer: from then on only the launcher has them
                for each in fds[1:]:
                    os.close(each)
            answer(asker, {"pid": pid}, pidfd)
            launchers[pidfd] = pid, asker
            poller.register(pidfd, select.POLLIN)


def start(numbers: Sequence[int], fds: Sequence[int]) -> tuple[int, int]:
    """Fork one; its process number, and a pidfd. Raises OSError, and then there is none."""
    if len(fds) != len(numbers) + 1:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    pid = os.fork()
    if pid == 0:
        become(numbers, fds)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def answer(asker: socket.socket, what: dict[str, object], *fds: int) -> None:
    """Answer; the client may be gone."""
    try:
        socket.send_fds(asker, [json.dumps(what).encode()], list(fds))
    except OSError as error:
        print(f"fork server: {printable(str(error))}", file=sys.stderr)


def become(numbers: Sequence[int], fds: Sequence[int]) -> NoReturn:
    """The rest of a forked process's life. The first descriptor is its arguments, the others get `numbers`."""
    status = 4
    try:
        above = max((*numbers, *map(int, os.listdir("/proc/self/fd")))) + 1
        held = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
        os.closerange(3, above)
        for fd, number in zip(held[1:], numbers, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        arguments: list[str] = json.loads(os.pread(held[0], os.fstat(held[0]).st_size, 0))
        os.close(held[0])
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        show_command_line([sys.executable, "-P", "-m", "allstop.cli.main", *arguments])
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:  # SystemExit of a parser, too
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else status
    finally:
        os._exit(status)


def run() -> int:
    """The program; the exit status."""
    parser = argparse.ArgumentParser(prog="allstop.cli.fork_server", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True)
    fd = parser.parse_args().socket_fd
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load("run")
    gc.collect()
    gc.freeze()  # a collection would write to every object and unshare its page
    with socket.socket(fileno=fd) as link:
        serve(link)
    return 0


if __name__ == "__main__":
    sys.exit(run())
