# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as its folder shows it, even an incomplete one: the run may still go on, or was killed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from allstop.deploy.outcome.run_folder import VERDICT_NAME
from allstop.deploy.outcome.verdict import Verdict
from allstop.vm.errors import UsageError
from allstop.vm.journal.format import FOLDER, SUFFIX, Journal, JournalError

_TAIL_BYTES = 16384
_SILENT = {"gdbserver", "node"}  # keeps no journal: what a debugger does is in the vCPUs' journals
_AGENT = "host "  # before a host's name: its agent, which keeps no journal either


class RecordedRun:
    """What a run folder holds. `conditions` are sentences about what is missing or damaged.

    `config` is the machine's configuration as in run.json, `figures` the counters and histograms of each vCPU (empty
    where the run left none), `console` and `words` the ends of the console and of each process's log. `processes` are
    all of them, by name: `vcpu-0`, or `there/vcpu-3` on a host other than the first.
    """

    def __init__(self, path: Path) -> None:
        """Read it. Raises UsageError when `path` is no run folder."""
        self.path = path
        self.conditions: list[str] = []
        run = self._run()
        self.image = str(run.get("image", "?"))
        self.config: dict[str, Any] = run["config"]
        self.commands: dict[str, list[str]] = {
            str(name): [str(word) for word in words] for name, words in dict(run.get("commands", {})).items()
        }
        self.verdict = self._verdict()
        self.figures = self._figures()
        self.console = self._tail("console.log")
        self._elsewhere = dict(_hosts(self.config))
        self.processes = [
            *self.commands,
            *(f"{host}/{process}" for host, vcpus in self._elsewhere.items() for process in ("node", *vcpus)),
        ]
        self.words = {name: self._tail(f"{name.replace(_AGENT, 'host-')}.log") for name in self.processes}
        self.journals: list[Journal] = []
        with contextlib.ExitStack() as stack:
            self._open_journals(stack)
            self._files = stack.pop_all()

    def __enter__(self) -> RecordedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def began_ns(self) -> int:
        """When the first journal began, by the monotonic clock."""
        return min((journal.header.began_ns for journal in self.journals), default=0)

    @property
    def clocks(self) -> Iterator[str]:
        """A sentence for each other host with journals here: how well its times match the first host's."""
        errors = {journal.header.host: journal.header.error_ns for journal in self.journals if journal.header.host}
        for host, error_ns in errors.items():
            how = (
                "and the error is unknown"
                if error_ns is None
                else f"right within {error_ns / 1000:.1f} us, as its clock was when the run began"
            )
            yield f"Times of host {host} are shown by the first host's clock, {how}."

    def _run(self) -> dict[str, Any]:
        if not self.path.is_dir():
            raise UsageError(f"{self.path} is no folder: name the folder of a run, what its --run-dir named")
        try:
            run = json.loads((self.path / "run.json").read_text())
            dict(run["config"])
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} is no run folder, for it holds no run.json: name what a run's --run-dir named"
            ) from None
        except OSError as error:
            raise UsageError(f"{self.path / 'run.json'} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f"{self.path} is no run folder of this allstop: its run.json is not what a run writes"
            ) from None
        return dict(run)

    def _verdict(self) -> Verdict | None:
        try:
            return Verdict.from_json((self.path / VERDICT_NAME).read_text())
        except FileNotFoundError:
            self.conditions.append("there is no verdict: the run still goes on, or its launcher was killed")
        except (OSError, ValueError, KeyError, TypeError):
            self.conditions.append("verdict.json cannot be read, or is not of this allstop")
        return None

    def _figures(self) -> list[dict[str, Any]]:
        try:
            return [
                {
                    "counters": {str(name): int(n) for name, n in vcpu["counters"].items()},
                    "histograms": {
                        str(name): [(float(ns), int(n)) for ns, n in buckets]
                        for name, buckets in vcpu["histograms"].items()
                    },
                }
                for vcpu in json.loads((self.path / "figures.json").read_text())
            ]
        except FileNotFoundError:
            if self.verdict is not None:
                self.conditions.append("there is no figures.json: counters and histograms of single vCPUs are missing")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.conditions.append("figures.json cannot be read: counters and histograms of single vCPUs are missing")
        return []

    def _tail(self, name: str) -> str:
        try:
            with (self.path / name).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                data = file.read()
        except OSError:
            return ""
        text = data.decode(errors="replace")
        return text if size <= _TAIL_BYTES else "[...] " + text.partition("\n")[2]

    def _open_journals(self, stack: contextlib.ExitStack) -> None:
        names = {path: path.name for path in (self.path / FOLDER).glob(f"*{SUFFIX}")}
        for host in self._elsewhere:
            names |= {path: f"{host}/{path.name}" for path in (self.path / host).glob(f"*{SUFFIX}")}
        there = set()
        for path in sorted(names, key=_order):
            try:
                journal = stack.enter_context(Journal(path, names[path]))
            except JournalError as error:
                self.conditions.append(str(error))
            except OSError as error:
                self.conditions.append(f"{names[path]} cannot be read: {error.strerror}")
            else:
                self.journals.append(journal)
                self.conditions += journal.conditions
                there.add(names[path].removesuffix(SUFFIX))
        if self.config.get("journal"):
            for name in sorted(set(self.processes) - there):
                if name.rpartition("/")[2] not in _SILENT and not name.startswith(_AGENT):
                    self.conditions.append(f"{name} has no journal that can be read")


def _hosts(config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Of each host but the first: its name, and its vCPUs' processes."""
    with contextlib.suppress(KeyError, TypeError, ValueError):  # on one host, or of an older allstop
        hosts = config["hosts"]
        for number, name in enumerate(map(str, hosts["names"])):
            if number:
                yield name, [f"vcpu-{vcpu}" for vcpu, where in enumerate(hosts["vcpu_hosts"]) if where == number]


def _order(path: Path) -> tuple[bool, int, str]:
    """Servers first, then vCPUs by number."""
    prefix, _, number = path.name.removesuffix(SUFFIX).partition("-")
    is_vcpu = prefix == "vcpu" and number.isdecimal()
    return is_vcpu, int(number) if is_vcpu else 0, path.name
