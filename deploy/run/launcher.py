# SPDX-License-Identifier: GPL-2.0-or-later
"""`run`: one machine, from its options to its verdict, leaving nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO

from allstop.deploy.console.end import ConsoleEnd, PtyEnd, TerminalEnd, open_end
from allstop.deploy.console.port import ConsolePort
from allstop.deploy.console.relay import ConsoleRelay
from allstop.deploy.console.status_line import StatusLine
from allstop.deploy.errors import HarnessError, UsageError
from allstop.deploy.hosts.agents import Agents, AgentsError
from allstop.deploy.hosts.bounces import bounces
from allstop.deploy.hosts.hosts_file import place_vcpus
from allstop.deploy.hosts.journal_intake import JournalIntake
from allstop.deploy.options.console_place import TTY
from allstop.deploy.options.options import RunOptions
from allstop.deploy.outcome.control_file import CONTROL_MODE, CONTROL_NAME, ControlFile
from allstop.deploy.outcome.run_folder import VERDICT_NAME, RunFolder
from allstop.deploy.outcome.telemetry import EXIT_KINDS, audit, counters, figures, latencies, undefined_accesses
from allstop.deploy.outcome.verdict import Verdict
from allstop.deploy.processes.members import Member, members
from allstop.deploy.processes.processes import ChildProcess
from allstop.deploy.processes.signals import SignalPipe
from allstop.deploy.processes.subreaper import Subreaper
from allstop.deploy.processes.zygote import Zygote
from allstop.deploy.run.lifecycle import Lifecycle
from allstop.deploy.run.shared_memory import Assembly, assemble
from allstop.deploy.run.supervisor import Supervisor
from allstop.vm.boot.boot import Startup
from allstop.vm.events.scenario import Scenario
from allstop.vm.wire.messages import ROLE_DEBUGGER, ROLE_HOST, Boot


def _unsaid(sentence: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Surroundings:
    """What a run shares with whoever asked for it: descriptors, None where there is none.

    The guest's console goes to `console_fd` unless the options say where; then `copy_fd` gets a copy. `say` tells the
    user where a console is that only the launcher knows. A status line is drawn on `status_fd`, a terminal. The run
    ends when one of `lifeline_fds` becomes readable: a pipe that ends, a pidfd whose process does.
    """

    console_fd: int
    status_fd: int | None = None
    copy_fd: int | None = None
    say: Callable[[str], None] = _unsaid
    lifeline_fds: tuple[int, ...] = ()


def run(options: RunOptions, around: Surroundings) -> Verdict:
    """Run one machine to its end. Main thread only: signals are handled here.

    Raises UsageError for what was asked wrongly, also when only the device server could tell, and HarnessError when the
    verdict cannot be kept in the run folder.
    Everything else that can go wrong is a verdict.
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
    hosts = options.hosts_file()
    with contextlib.ExitStack() as stack:
        agents = None
        placement: tuple[int, ...] = ()
        if hosts is not None:
            placement = place_vcpus(hosts.hosts, options.vcpus)
            agents = Agents(hosts, placement)
            stack.callback(agents.close)
            agents.gather(lambda name: _create_log(name, folder), signals.fd)
        team = members(options.vcpus, options.gdb is not None, placement, () if agents is None else agents.names)
        end = _console_end(options, around, stack)
        assembly = assemble(options, startup.image, None if folder is None else folder.path, stack, agents)
        if agents is not None:
            agents.send_plans(assembly.config)
        watched = around.status_fd is not None and options.console.kind != TTY
        status = StatusLine(around.status_fd) if watched and around.status_fd is not None else None
        logs = [] if folder is None else [stack.enter_context(folder.create("console.log"))]
        if around.copy_fd is not None:
            logs.append(stack.enter_context(os.fdopen(around.copy_fd, "wb", buffering=0, closefd=False)))
        relay = ConsoleRelay(
            assembly.console_fd,
            end.out_fd,
            logs,
            status.clear if status and end.on_terminal else lambda: None,
            end.returns,
        )
        console = ConsolePort(relay, end, options.console.takes_input or options.input is not None)
        if folder is not None:
            folder.write_text("run.json", _record(assembly, team, options, startup))
            if options.journal:
                folder.make_folder("journal")
                if agents is not None:
                    agents.intake = JournalIntake(folder, agents.names, placement, agents.began_ns)
                    stack.callback(agents.intake.close)
            folder.write_text(CONTROL_NAME, ControlFile.of_machine(assembly.config).to_json(), CONTROL_MODE)

        def start(member: Member) -> ChildProcess:
            if member.role == ROLE_HOST and agents is not None:
                return agents.child(member.vcpu)
            own_fds = assembly.debugger_fds if member.role == ROLE_DEBUGGER else ()
            return ChildProcess(
                member, assembly.config_fd, (*assembly.inherited_fds, *own_fds), _create_log(member.name, folder)
            )

        zygote = Zygote(assembly.config_fd, assembly.inherited_fds, lambda member: _create_log(member.name, folder))
        stack.callback(zygote.close)
        lifecycle = Lifecycle(team, Boot(startup.image.entry, startup.r1, startup.r2), options.timeout_s)
        supervisor = Supervisor(
            lifecycle, team, start, zygote, assembly.page, console, signals, status, around.lifeline_fds, agents
        )
        stack.callback(supervisor.close)
        supervisor.run(assembly.config)
        if lifecycle.refusal:
            raise UsageError(lifecycle.refusal)
        console.finish(lambda fd: not lifecycle.interrupted_before and _writable(fd, signals.fd))
        if folder is not None:
            with contextlib.suppress(OSError):  # a disk that is full is the verdict's to tell
                folder.write_text("figures.json", json.dumps(figures(assembly.page)) + "\n")
        notes = [] if agents is None else _hosts_reports(agents, folder)
        if agents is not None and agents.intake is not None:
            notes += agents.intake.finish()
        if agents is not None and lifecycle.verdict not in ("lost", "error"):  # of those it is no news
            notes += [
                f"host {name} did not tell in time what its vCPUs have done: the figures may lack some, and "
                "their accesses to devices were not compared"
                for name in agents.untold
            ]
        wrong = audit(assembly.page, options.keep_going, () if agents is None else agents.untold_vcpus)
        verdict = _verdict(lifecycle, console, assembly, notes, agents, options.symbols() if agents is not None else {})
        return verdict if options.keep_going else verdict.overruled(wrong)


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


def _create_log(name: str, folder: RunFolder | None) -> BinaryIO:
    """Where a process writes to: a file of the run folder, or memory that is gone with the run."""
    if folder is not None:
        return folder.create(f"{name}.log")
    return os.fdopen(os.memfd_create(f"allstop-{name}.log", os.MFD_CLOEXEC), "r+b", buffering=0)


def _record(assembly: Assembly, team: Sequence[Member], options: RunOptions, startup: Startup) -> str:
    """run.json: what was asked for and what is started; the token is nobody's business."""
    config = asdict(assembly.config)
    del config["token"]
    if config["hosts"] is not None:
        del config["hosts"]["secret_key"]
    commands = {member.name: [sys.executable, *member.arguments(assembly.config_fd)] for member in team}
    return (
        json.dumps(
            {
                "image": str(options.image.absolute()),
                "timeout_s": options.timeout_s,
                "boot": options.boot.record(startup),
                "config": config,
                "commands": commands,
            },
            indent=2,
        )
        + "\n"
    )


def _writable(fd: int, signal_fd: int) -> bool:
    """Wait until fd may be written to; False when a signal says that nobody wants it any more."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.register(signal_fd, select.POLLIN)
    return all(ready != signal_fd for ready, _ in poll.poll())


def _hosts_reports(agents: Agents, folder: RunFolder | None) -> list[str]:
    """Keep the logs of the other hosts' processes in a folder for each host; the notes that they have."""
    notes = []
    if agents.refused:
        notes.append(f"launcher: refused {agents.refused} x a connection without a key of this run")
    for name, said, logs in agents.reports():
        notes += [f"host {name}: {note}" for note in said]
        if folder is not None and logs:
            with contextlib.suppress(OSError):  # a disk that is full is the verdict's to tell
                folder.make_folder(name)
                for process, text in logs.items():
                    folder.write_text(f"{name}/{process}.log", text)
    return notes


def _verdict(
    lifecycle: Lifecycle,
    console: ConsolePort,
    assembly: Assembly,
    hosts_notes: Sequence[str],
    agents: Agents | None,
    found: dict[str, int],
) -> Verdict:
    page, scenario, notes_fd = assembly.page, Scenario.from_json(assembly.config.scenario), assembly.config.fds.notes
    counts = counters(page)
    notes = list(lifecycle.notes)
    notes += os.pread(notes_fd, os.fstat(notes_fd).st_size, 0).decode(errors="replace").splitlines()
    notes += hosts_notes
    events = []
    for index, event in enumerate(scenario.events):
        done, refused = page.event_counts(index)
        if agents is not None:
            elsewhere = agents.event_counts(index)
            done, refused = done + elsewhere[0], refused + elsewhere[1]
        events.append({"name": event.name, "action": event.action, "done": done, "refused": refused})
        if not done:
            why = f"it was refused {refused} times: the logs say why" if refused else "its trigger never fired"
            notes.append(f"event {event.name} ({event.action}) never happened: {why}")
    notes += undefined_accesses(page)
    notes += console.notes
    return Verdict(
        verdict=lifecycle.verdict,
        sentence=lifecycle.sentence,
        vcpus=page.vcpus,
        wall_s=round(lifecycle.guest_s, 6),
        guest_status=lifecycle.guest_status,
        exits={kind: counts.pop(kind) for kind in EXIT_KINDS},
        latencies=latencies(page),
        counters=counts,
        notes=tuple(notes),
        events=tuple(events),
        bounces=() if agents is None else tuple(bounces(agents, assembly.config.fds.pages, found)),
    )
