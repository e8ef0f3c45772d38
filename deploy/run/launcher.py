# SPDX-License-Identifier: GPL-2.0-or-later
"""`run`: one machine, from its options to its verdict, leaving nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import BinaryIO

from allstop.deploy.console.end import ConsoleEnd, PtyEnd, TerminalEnd, open_end
from allstop.deploy.console.port import ConsolePort
from allstop.deploy.console.relay import ConsoleRelay
from allstop.deploy.console.status_line import StatusLine
from allstop.deploy.hosts.agents import gather
from allstop.deploy.hosts.gathering import AgentsError
from allstop.deploy.options.console_place import TTY
from allstop.deploy.options.options import RunOptions
from allstop.deploy.outcome.control_file import CONTROL_MODE, CONTROL_NAME, ControlFile
from allstop.deploy.outcome.run_folder import VERDICT_NAME, RunFolder
from allstop.deploy.outcome.telemetry import figures
from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.processes.host_part import HostPart, memory_log
from allstop.deploy.processes.signals import SignalPipe
from allstop.deploy.processes.subreaper import Subreaper
from allstop.deploy.run.conclusion import conclude
from allstop.deploy.run.gdb_listener import open_gdb
from allstop.deploy.run.lifecycle import Lifecycle
from allstop.deploy.run.machine_config import machine_config
from allstop.deploy.run.supervisor import Supervisor
from allstop.vm.boot.boot import Startup
from allstop.vm.errors import HarnessError, UsageError
from allstop.vm.memory.memory import load_image
from allstop.vm.wire.messages import Boot


def _unsaid(sentence: str) -> None:
    """Drop the sentence."""


@dataclass(frozen=True)
class Surroundings:
    """What a run shares with the program that asked for it: descriptors, None where there is none.

    The guest's console goes to `console_fd` unless the options say where; then `copy_fd` gets a copy. `say` tells the
    user where a console is that only the launcher knows. A status line is drawn on `status_fd`, a terminal. The run
    ends when one of `lifeline_fds` becomes readable: the end of a pipe, or the pidfd of a process that exits.
    """

    console_fd: int
    status_fd: int | None = None
    copy_fd: int | None = None
    say: Callable[[str], None] = _unsaid
    lifeline_fds: tuple[int, ...] = ()


def run(options: RunOptions, around: Surroundings) -> Verdict:
    """Run one machine to its end. Main thread only: it handles signals.

    Raises UsageError for a usage error, also one that only the device server can find, and HarnessError when the
    verdict cannot be written to the run folder. Every other failure is a verdict.
    """
    startup = options.startup()
    options.resolved_events()
    options.check_fetch_handler()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(SignalPipe())
        folder = None
        if options.run_dir is not None:
            folder = RunFolder(options.run_dir)
            stack.callback(folder.close)
            stack.callback(folder.remove, CONTROL_NAME)
        stack.enter_context(Subreaper())
        try:
            verdict = _run_machine(options, startup, folder, signals, around)
        except UsageError:
            if folder is not None:
                folder.empty()
            raise
        except AgentsError as error:
            verdict = Verdict("error", str(error), options.vcpus)
        except OSError as error:
            verdict = Verdict("error", f"the host failed the machine: {error}", options.vcpus)
        if folder is not None:
            try:
                folder.write_text(VERDICT_NAME, verdict.to_json() + "\n")
            except OSError as error:
                raise HarnessError(
                    f"the verdict cannot be written to {folder.path}: {error.strerror}; it is "
                    f"{verdict.verdict}: {verdict.sentence}"
                ) from None
        return verdict


def _run_machine(
    options: RunOptions, startup: Startup, folder: RunFolder | None, signals: SignalPipe, around: Surroundings
) -> Verdict:
    create_log = memory_log if folder is None else partial(_create_log, folder)
    with contextlib.ExitStack() as stack:
        others = gather(options.hosts_file(), options.vcpus, create_log, signals.fd)
        stack.callback(others.close)
        status = _status_line(options, around)
        console, console_fd = _open_console(options, around, folder, status, stack)
        gdb = None if options.gdb is None else open_gdb(options.gdb, options.gdb_wait, stack)
        run_dir = None if folder is None else folder.path
        plan = machine_config(options, startup.image, run_dir, console_fd, gdb, others.this_host())

        part = stack.enter_context(HostPart(plan, create_log, others.children))
        load_image(part.config.fds.ram, startup.image)
        others.begin(plan, part.memory, folder)
        if folder is not None:
            _describe_run(folder, part, options, startup)

        boot = Boot(startup.image.entry, startup.r1, startup.r2)
        lifecycle = Lifecycle(part.team, boot, options.timeout_s)
        Supervisor(lifecycle, part, others, console, signals, status, around.lifeline_fds).run()
        if lifecycle.refusal:
            raise UsageError(lifecycle.refusal)
        console.finish(lambda fd: not lifecycle.interrupted_before and _writable(fd, signals.fd))
        if folder is not None:
            with contextlib.suppress(OSError):  # the verdict cannot be written to a full disk either, and says so
                folder.write_text("figures.json", json.dumps(figures(part.control_page)) + "\n")
        return conclude(lifecycle, part.memory, others, console, folder, options.symbols)


def _status_line(options: RunOptions, around: Surroundings) -> StatusLine | None:
    return None if around.status_fd is None or options.console.kind == TTY else StatusLine(around.status_fd)


def _open_console(
    options: RunOptions,
    around: Surroundings,
    folder: RunFolder | None,
    status: StatusLine | None,
    stack: contextlib.ExitStack,
) -> tuple[ConsolePort, int]:
    """The guest's console, for as long as `stack`, and the descriptor that the device server writes it to. Raises
    UsageError."""
    end = _console_end(options, around, stack)
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    stack.callback(os.close, read_fd)
    stack.callback(os.close, write_fd)
    os.set_blocking(read_fd, False)
    logs = [] if folder is None else [stack.enter_context(folder.create("console.log"))]
    if around.copy_fd is not None:
        logs.append(stack.enter_context(os.fdopen(around.copy_fd, "wb", buffering=0, closefd=False)))
    clear = status.clear if status is not None and end.on_terminal else lambda: None
    relay = ConsoleRelay(read_fd, end.out_fd, logs, clear, end.returns)
    return ConsolePort(relay, end, options.console.takes_input or options.input is not None), write_fd


def _console_end(options: RunOptions, around: Surroundings, stack: contextlib.ExitStack) -> ConsoleEnd:
    """The user's end of the console, for as long as `stack`. Raises UsageError."""
    input_fd = options.open_input()
    if input_fd > 0:
        stack.callback(os.close, input_fd)
    end = open_end(options.console, around.console_fd, input_fd, stack.enter_context)
    stack.callback(end.close)
    if isinstance(end, PtyEnd):
        around.say(f"the console is {end.path}")
    elif isinstance(end, TerminalEnd) and around.status_fd is not None:
        around.say("the console is this terminal: Ctrl-A x leaves, Ctrl-A Ctrl-A sends Ctrl-A")
    return end


def _create_log(folder: RunFolder, name: str) -> BinaryIO:
    return folder.create(f"{name}.log")


def _describe_run(folder: RunFolder, part: HostPart, options: RunOptions, startup: Startup) -> None:
    """Write what others read of the run while it lasts: run.json, and control.json for operators."""
    folder.write_text("run.json", _record(part, options, startup))
    if options.journal:
        folder.make_folder("journal")
    folder.write_text(CONTROL_NAME, ControlFile.of_machine(part.config).to_json(), CONTROL_MODE)


def _record(part: HostPart, options: RunOptions, startup: Startup) -> str:
    """run.json: what was asked for and what is started, without the run's secrets."""
    config = asdict(part.config)
    del config["token"]
    if config["hosts"] is not None:
        del config["hosts"]["secret_key"]
    commands = {member.name: [sys.executable, *member.arguments(part.memory.config_fd)] for member in part.team}
    record = {
        "image": str(options.image.absolute()),
        "timeout_s": options.timeout_s,
        "boot": options.boot.record(startup),
        "config": config,
        "commands": commands,
    }
    return json.dumps(record, indent=2) + "\n"


def _writable(fd: int, signal_fd: int) -> bool:
    """Wait until fd may be written to; False when a signal asks to give up."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.register(signal_fd, select.POLLIN)
    return all(ready != signal_fd for ready, _ in poll.poll())
