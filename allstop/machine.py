# SPDX-License-Identifier: GPL-2.0-or-later
"""`Machine`: the command's powers in Python.

The machine's launcher is a process of its own, so that threads, signals and crashes of the user's program do the
machine no harm, and the other way round. Two descriptors are its lifelines: a socket that `stop` shuts down, and a
pidfd of the program, which tells of its death however it dies. Both work although a fork of the program may have
inherited them. Nothing else is shared but three memory files that the launcher writes: verdict, messages, console.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO

from allstop.deploy.errors import HarnessError, UsageError
from allstop.deploy.options.boot_options import boot_options
from allstop.deploy.options.console_place import ConsolePlace
from allstop.deploy.options.gdb_address import gdb_address
from allstop.deploy.options.options import (
    DEFAULT_MEMORY,
    RunOptions,
    device,
    drive,
    handler,
    memory_size,
    path_of,
    scenario,
)
from allstop.deploy.outcome.verdict import USAGE_EXIT_CODE, Verdict
from allstop.deploy.processes.fork_server import Forked, ForkServer
from allstop.deploy.processes.processes import child_environment, describe_exit
from allstop.vm.events.scenario import Scenario, ScenarioError
from allstop.vm.events.vocabulary import EventError, event

_STOP_DEADLINE_S = 10.0
_PTY_LINE = "allstop: the console is "


class Machine:
    """One machine, run once: `with Machine(image="guest.elf", vcpus=4) as machine: verdict = machine.wait()`.

    The arguments are those of `allstop run`, under the same names, with the same defaults; `memory` is a size such as
    "64M" or a number of bytes, `devices` a list of "FILE.py:Class@ADDRESS", `events` a scenario's file, or a list of
    events as they are written there, as mappings, `fetch_handler` a "FILE.py:function", `drives` a list of "FILE" or
    "FILE,MODE"; `console` is as `--console`, and with `input="-"` the guest is typed to by `send`. Raises UsageError at
    once for what cannot be right. Entering the context starts the machine; leaving it ends the machine if it still
    runs. `fork_server` forks the machine's launcher, which saves time where many machines are run.
    """

    def __init__(
        self,
        image: str | os.PathLike[str],
        *,
        vcpus: int = 1,
        memory: str | int = DEFAULT_MEMORY,
        timeout: float | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        fetch: str = "stop-world",
        tlb: str = "broadcast",
        decode: str = "full",
        devices: Sequence[str] = (),
        seed: int = 0,
        parameter: int = 0,
        load: int | None = None,
        as_shipped: bool = False,
        keep_going: bool = False,
        journal: bool = False,
        events: str | os.PathLike[str] | Sequence[Mapping[str, Any]] = (),
        fetch_handler: str | None = None,
        pin: bool = False,
        initrd: str | os.PathLike[str] | None = None,
        append: str = "",
        dtb: str | os.PathLike[str] | None = None,
        drives: Sequence[str] = (),
        virtio_console: bool = False,
        rng: bool = False,
        testdev: bool = False,
        virtio_legacy: bool = False,
        console: str = "stdio",
        input: str | os.PathLike[str] | None = None,
        gdb: str | None = None,
        gdb_wait: bool = False,
        semihosting: bool = False,
        semihosting_dir: str | os.PathLike[str] | None = None,
        exit_status_line: bool = False,
        hosts: str | os.PathLike[str] | None = None,
        cluster: str | None = None,
        cluster_hosts: int | None = None,
        time_dilation: int = 1,
        fork_server: ForkServer | None = None,
    ) -> None:
        if isinstance(devices, (str, bytes)) or not isinstance(devices, Iterable):
            raise UsageError(f"devices must be a list of FILE.py:Class@ADDRESS, not {devices!r}")
        if isinstance(drives, (str, bytes)) or not isinstance(drives, Iterable):
            raise UsageError(f"drives must be a list of FILE or FILE,MODE, not {drives!r}")
        options = RunOptions(
            image=path_of("image", image),
            vcpus=vcpus,
            memory_bytes=memory_size(memory),
            timeout_s=timeout,
            run_dir=None if run_dir is None else path_of("run folder", run_dir),
            fetch=fetch,
            tlb=tlb,
            decode=decode,
            seed=seed,
            parameter=parameter,
            load_ipa=load,
            devices=tuple(map(device, devices)),
            as_shipped=as_shipped,
            keep_going=keep_going,
            journal=journal,
            pin=pin,
            events=_scenario(events),
            fetch_handler=None if fetch_handler is None else handler(fetch_handler),
            boot=boot_options(initrd, append, dtb),
            drives=tuple(map(drive, drives)),
            virtio_console=virtio_console,
            rng=rng,
            testdev=testdev,
            virtio_legacy=virtio_legacy,
            console=ConsolePlace.parse(console),
            input=None if input is None else path_of("input", input),
            gdb=None if gdb is None else gdb_address(gdb),
            gdb_wait=gdb_wait,
            semihosting=semihosting,
            semihosting_dir=None if semihosting_dir is None else path_of("folder for semihosting", semihosting_dir),
            exit_status_line=exit_status_line,
            hosts=None if hosts is None else path_of("hosts file", hosts),
            cluster=cluster,
            cluster_hosts=cluster_hosts,
            time_dilation=time_dilation,
        )
        options.startup()
        options.resolved_events()
        options.check_fetch_handler()
        self._arguments = _arguments(options)
        self._typed = str(options.input) == "-"
        self._fork_server = fork_server
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._files = contextlib.ExitStack()
        self._outcome: Verdict | HarnessError | UsageError | None = None
        self._last_console = ""

    def __enter__(self) -> Machine:
        """Start the machine. Raises HarnessError when the host has no process or memory left."""
        if self._process is not None:
            raise HarnessError("this machine has been started before: make another one")
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as until_started:
            try:
                self._out, self._errors, self._console_file = (
                    stack.enter_context(_memory_file(name)) for name in ("verdict", "errors", "console")
                )
                lifeline, self._lifeline = socket.socketpair()
                until_started.enter_context(lifeline)
                stack.enter_context(self._lifeline)
                ourselves = os.pidfd_open(os.getpid())
                until_started.callback(os.close, ourselves)
                console_fd = self._console_file.fileno()
                arguments = (
                    "run",
                    "--json",
                    f"--console-fd={console_fd}",
                    f"--lifeline-fd={lifeline.fileno()}",
                    f"--lifeline-fd={ourselves}",
                    *self._arguments,
                )
                pass_fds = (console_fd, lifeline.fileno(), ourselves)
                if self._fork_server is not None and not self._typed:
                    self._process = self._fork_server.start(
                        arguments, self._out.fileno(), self._errors.fileno(), pass_fds
                    )
                    stack.callback(self._process.close)
                else:
                    self._process = subprocess.Popen(
                        (sys.executable, "-P", "-m", "allstop.cli.main", *arguments),
                        stdin=subprocess.PIPE if self._typed else subprocess.DEVNULL,
                        bufsize=0,
                        stdout=self._out,
                        stderr=self._errors,
                        start_new_session=True,
                        pass_fds=pass_fds,
                        env=child_environment(),
                    )
                self._ended_fd = (
                    os.dup(self._process.pidfd)
                    if isinstance(self._process, Forked)
                    else os.pidfd_open(self._process.pid)
                )
                stack.callback(os.close, self._ended_fd)
            except OSError as error:
                raise HarnessError(f"the launcher could not be started: {error}") from None
            if self._process.stdin is not None:
                stack.callback(self._process.stdin.close)
            self._files = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        try:
            self.wait(_STOP_DEADLINE_S)
        except TimeoutError:
            self._launcher.kill()
            with contextlib.suppress(HarnessError):
                self.wait()
        except (HarnessError, UsageError):
            pass  # `wait` tells; here there is only something to end, and it has ended
        finally:
            self._last_console = self.console
            self._files.close()

    @property
    def console(self) -> str:
        """What the guest has written on its console so far."""
        if self._process is None or self._console_file.closed:
            return self._last_console
        return _text_of(self._console_file)

    @property
    def console_path(self) -> str:
        """The pseudo-terminal of `console="pty"`, "" until there is one."""
        said = "" if self._process is None or self._errors.closed else _text_of(self._errors)
        return next((line.removeprefix(_PTY_LINE) for line in said.splitlines() if line.startswith(_PTY_LINE)), "")

    def send(self, text: str | bytes) -> None:
        """Type on the console of a machine that was made with `input="-"`. Comes back when the launcher has it, which
        may take until the guest has read what was typed before. Raises HarnessError when the run is over."""
        stdin = self._launcher.stdin
        if stdin is None:
            raise UsageError('only a machine with input="-" can be typed to')
        data = memoryview(text.encode() if isinstance(text, str) else text)
        try:
            while data:
                data = data[stdin.write(data) or 0 :]
        except (OSError, ValueError):
            raise HarnessError("the run is over: nobody reads what is typed") from None

    @property
    def launcher_pid(self) -> int:
        """The process number of the machine's launcher; the machine's processes are its children."""
        return self._launcher.pid

    @property
    def verdict(self) -> Verdict | None:
        """How the run ended; None while it lasts. Raises as `wait` does."""
        return None if self._outcome is None and self._launcher.poll() is None else self.wait()

    def wait(self, timeout: float | None = None) -> Verdict:
        """Wait for the end of the run, whatever it is: look at the verdict.

        Raises TimeoutError when the run lasts longer than `timeout` seconds from now (it goes on), UsageError when
        the run folder was refused, HarnessError when there is no verdict because the launcher itself was lost.
        """
        if self._outcome is None:
            try:
                status = self._launcher.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"the machine still runs after {timeout:g} s") from None
            self._outcome = self._read_outcome(status)
        if isinstance(self._outcome, Verdict):
            return self._outcome
        raise self._outcome

    def has_ended(self, timeout: float) -> bool:
        """Whether the run is over, or is so `timeout` seconds from now."""
        if self._outcome is None and self._launcher.poll() is None:
            poller = select.poll()
            poller.register(self._ended_fd, select.POLLIN)
            return bool(poller.poll(timeout * 1000))
        return True

    def stop(self) -> None:
        """End the run, as Ctrl-C would; `wait` then gives its verdict. Nothing happens when it is over."""
        if self._process is not None:
            with contextlib.suppress(OSError):  # it is over, or has been stopped before
                self._lifeline.shutdown(socket.SHUT_RDWR)
            self._lifeline.close()

    def _read_outcome(self, status: int) -> Verdict | HarnessError | UsageError:
        """What a launcher that left with `status` has left behind."""
        sentence = _text_of(self._errors).strip().rpartition("\n")[2].removeprefix("allstop: ")
        if status == USAGE_EXIT_CODE:
            return UsageError(sentence)
        try:
            return Verdict.from_json(_text_of(self._out))
        except (ValueError, KeyError, TypeError):
            return HarnessError(sentence or f"the launcher {describe_exit(status)}")

    @property
    def _launcher(self) -> subprocess.Popen[bytes] | Forked:
        if self._process is None:
            raise HarnessError("the machine has not been started: use it in a with statement")
        return self._process


def _arguments(options: RunOptions) -> list[str]:
    """The command line that asks for the same."""
    arguments = [
        f"--vcpus={options.vcpus}",
        f"--memory={options.memory_bytes}",
        f"--fetch={options.fetch}",
        f"--tlb={options.tlb}",
        f"--decode={options.decode}",
        f"--seed={options.seed}",
        f"--parameter={options.parameter}",
        f"--time-dilation={options.time_dilation}",
    ]
    if options.timeout_s is not None:
        arguments.append(f"--timeout={options.timeout_s}")
    if options.run_dir is not None:
        arguments.append(f"--run-dir={options.run_dir}")
    if options.load_ipa is not None:
        arguments.append(f"--load={options.load_ipa:#x}")
    if options.as_shipped:
        arguments.append("--as-shipped")
    if options.keep_going:
        arguments.append("--keep-going")
    if options.journal:
        arguments.append("--journal")
    if options.events.events:
        arguments.append(f"--events-json={options.events.to_json()}")
    if options.fetch_handler is not None:
        arguments.append(f"--fetch-handler={options.fetch_handler.path}:{options.fetch_handler.function_name}")
    if options.semihosting:
        arguments.append("--semihosting")
    if options.semihosting_dir is not None:
        arguments.append(f"--semihosting-dir={options.semihosting_dir}")
    if options.exit_status_line:
        arguments.append("--exit-status-line")
    if options.pin:
        arguments.append("--pin")
    if options.hosts is not None:
        arguments.append(f"--hosts={options.hosts}")
    if options.cluster is not None:
        arguments.append(f"--cluster={options.cluster}")
    if options.cluster_hosts is not None:
        arguments.append(f"--cluster-hosts={options.cluster_hosts}")
    arguments += options.boot.arguments()
    arguments += (f"--drive={spec.path},{spec.mode}" for spec in options.drives)
    arguments += (
        f"--{name.replace('_', '-')}"
        for name in ("virtio_console", "rng", "testdev", "virtio_legacy")
        if getattr(options, name)
    )
    arguments.append(f"--console={options.console}")
    if options.input is not None:
        arguments.append(f"--input={options.input}")
    if options.gdb is not None:
        arguments.append(f"--gdb={options.gdb}")
    if options.gdb_wait:
        arguments.append("--gdb-wait")
    arguments += (f"--device={spec.path}:{spec.class_name}@{spec.ipa:#x}" for spec in options.devices)
    return [*arguments, "--", str(options.image)]


def _scenario(events: str | os.PathLike[str] | Sequence[Mapping[str, Any]]) -> Scenario:
    """A scenario's file, or its events. Raises UsageError."""
    if isinstance(events, (str, os.PathLike)):
        return scenario(path_of("scenario", events))
    try:
        return Scenario(tuple(event(raw, number) for number, raw in enumerate(events, 1)))
    except (EventError, ScenarioError, TypeError, AttributeError) as error:
        raise UsageError(f"the events cannot be as they are: {error}") from None


def _memory_file(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(f"allstop-{name}", os.MFD_CLOEXEC), "r+b", buffering=0)


def _text_of(file: BinaryIO) -> str:
    """All of a memory file that somebody else writes to, without moving the position that both share."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
