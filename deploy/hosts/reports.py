# SPDX-License-Identifier: GPL-2.0-or-later
"""What each of the other hosts reports at the end: its processes' notes and logs, the pages that moved, its events."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from allstop.deploy.outcome.run_folder import RunFolder

_LOG = re.compile(r"node|vcpu-\d{1,3}")


class HostReports:
    """The reports of hosts by their numbers. Another host can send anything: what does not fit is left out."""

    def __init__(self, names: Sequence[str], vcpu_hosts: Sequence[int]) -> None:
        self._names = names
        self._vcpu_hosts = vcpu_hosts
        self._reports: dict[int, bytes] = {}
        self._events: dict[int, list[tuple[int, int]]] = {}
        self.moved_pages: list[Any] = []

    def __contains__(self, host: int) -> bool:
        return host in self._reports

    def take(self, host: int, report: bytes) -> None:
        """A host reports, and has ended its part."""
        self._reports[host] = report
        with contextlib.suppress(ValueError, TypeError, AttributeError, IndexError):
            raw = json.loads(report)
            self.moved_pages += list(raw.get("pages", []))
            self._events[host] = [(int(done), int(refused)) for done, refused in raw.get("events", [])]

    @property
    def silent(self) -> tuple[int, ...]:
        """The hosts that have left without a report."""
        return tuple(host for host in range(1, len(self._names)) if host not in self._reports)

    @property
    def silent_vcpus(self) -> tuple[int, ...]:
        """The vCPUs of these hosts."""
        return tuple(vcpu for vcpu, host in enumerate(self._vcpu_hosts) if host in self.silent)

    def event_counts(self, index: int) -> tuple[int, int]:
        """How often an event of the scenario was performed on the other hosts, and refused."""
        counts = [events[index] for events in self._events.values() if index < len(events)]
        return sum(done for done, _ in counts), sum(refused for _, refused in counts)

    def keep(self, folder: RunFolder | None) -> list[str]:
        """Write each host's logs into a folder of its own; the notes of all hosts."""
        notes = []
        for host in sorted(self._reports):
            name = self._names[host]
            said, logs = self._read(host)
            notes += [f"host {name}: {note}" for note in said]
            if folder is not None and logs:
                with contextlib.suppress(OSError):  # the verdict cannot be written to a full disk either, and says so
                    folder.make_folder(name)
                    for process, text in logs.items():
                        folder.write_text(f"{name}/{process}.log", text)
        return notes

    def _read(self, host: int) -> tuple[list[str], Mapping[str, str]]:
        try:
            raw = json.loads(self._reports[host])
            notes, logs = [str(note) for note in raw["notes"]], {str(a): str(b) for a, b in raw["logs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return ["its report cannot be read"], {}
        return notes, {name: text for name, text in logs.items() if _LOG.fullmatch(name)}
