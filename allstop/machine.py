# SPDX-License-Identifier: GPL-2.0-or-later
"""`Machine`: the command's powers in Python.

Every process of a machine imports the package `allstop`, and with it this module, which therefore loads the launcher's
modules only when a machine is made.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; `typing` is slow to load
if TYPE_CHECKING:
    import inspect
    import os
    from types import TracebackType
    from typing import Unpack

    from allstop.deploy.outcome.verdict import Verdict
    from allstop.deploy.processes.fork_server import ForkServer
    from allstop.deploy.processes.launcher_process import LauncherProcess
    from allstop.machine_arguments import MachineArguments

_STOP_DEADLINE_S = 10.0


class _Signature:
    """The signature of `Machine`, with every option of the table, for `help` and `inspect.signature`."""

    def __get__(self, machine: Machine | None, owner: type[Machine]) -> inspect.Signature:
        from inspect import Parameter, Signature

        from allstop.deploy.options.options import RunOptions
        from allstop.vm.config.options import rows

        options = [
            Parameter(row.word, Parameter.KEYWORD_ONLY, default=row.kind.public(row.default))
            for row in rows(RunOptions)
            if not row.option.hidden
        ]
        image = Parameter("image", Parameter.POSITIONAL_OR_KEYWORD)
        return Signature([image, *options, Parameter("fork_server", Parameter.KEYWORD_ONLY, default=None)])


class Machine:
    """One machine, run once: `with Machine(image="guest.elf", vcpus=4) as machine: verdict = machine.wait()`.

    The arguments are those of `allstop run`, under the same names, with the same defaults. `memory` is a size such as
    "64M" or a number of bytes; `devices` and `drives` are lists; `events` is a scenario's file, or a list of events as
    they are written there, as mappings; with `input="-"` the guest is typed to by `send`. Raises UsageError at once for
    what cannot be right. Entering the context starts the machine; leaving it ends the machine if it still runs.
    `fork_server` forks the machine's launcher, which saves time where many machines are run.
    """

    __signature__ = _Signature()

    def __init__(
        self,
        image: str | os.PathLike[str],
        *,
        fork_server: ForkServer | None = None,
        **given: Unpack[MachineArguments],
    ) -> None:
        from allstop.deploy.options.options import RunOptions
        from allstop.vm.config.options import of_python, to_arguments
        from allstop.vm.config.paths import path_of

        options = RunOptions(path_of("image", image), **of_python(RunOptions, given))
        options.startup()
        options.resolved_events()
        options.check_fetch_handler()
        self._arguments = [*to_arguments(options), "--", str(options.image)]
        self._typed = str(options.input) == "-"
        self._fork_server = fork_server
        self._process: LauncherProcess | None = None

    def __enter__(self) -> Machine:
        """Start the machine. Raises HarnessError when the host has no process or memory left."""
        from allstop.deploy.processes.launcher_process import LauncherProcess
        from allstop.vm.errors import HarnessError

        if self._process is not None:
            raise HarnessError("this machine has been started before: make another one")
        self._process = LauncherProcess(self._arguments, self._typed, self._fork_server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import contextlib

        from allstop.vm.errors import HarnessError, UsageError

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
            self._launcher.close()

    @property
    def console(self) -> str:
        """What the guest has written on its console so far."""
        return "" if self._process is None else self._process.console

    @property
    def console_path(self) -> str:
        """The pseudo-terminal of `console="pty"`, "" until there is one."""
        return "" if self._process is None else self._process.console_path

    def send(self, text: str | bytes) -> None:
        """Type on the console of a machine that was made with `input="-"`. Comes back when the launcher has it, which
        may take until the guest has read what was typed before. Raises HarnessError when the run is over."""
        self._launcher.send(text.encode() if isinstance(text, str) else text)

    @property
    def launcher_pid(self) -> int:
        """The process number of the machine's launcher; the machine's processes are its children."""
        return self._launcher.pid

    @property
    def verdict(self) -> Verdict | None:
        """How the run ended; None while it lasts. Raises as `wait` does."""
        return self.wait() if self._launcher.has_ended(0) else None

    def wait(self, timeout: float | None = None) -> Verdict:
        """Wait for the end of the run, whatever it is: look at the verdict.

        Raises TimeoutError when the run lasts longer than `timeout` seconds from now (it goes on), UsageError when
        the run folder was refused, HarnessError when there is no verdict because the launcher itself was lost.
        """
        return self._launcher.wait(timeout)

    def has_ended(self, timeout: float) -> bool:
        """Whether the run is over, or is so `timeout` seconds from now."""
        return self._launcher.has_ended(timeout)

    def stop(self) -> None:
        """End the run, as Ctrl-C would; `wait` then gives its verdict. Nothing happens when it is over."""
        if self._process is not None:
            self._process.stop()

    @property
    def _launcher(self) -> LauncherProcess:
        if self._process is None:
            from allstop.vm.errors import HarnessError

            raise HarnessError("the machine has not been started: use it in a with statement")
        return self._process
