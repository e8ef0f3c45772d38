# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's journals as a trace that ui.perfetto.dev and chrome://tracing open: Chrome's trace event format, JSON.

Each process of the run is a named process there, in the order of the run folder; processes of other hosts have their
hosts' names, and all times are by the first host's clock. A record with a duration is a complete event, any other an
instant. The coordinator's stops may overlap, so they are asynchronous events. The trace is written while the journals
are read, because it may be larger than memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allstop.report.event_text import arguments, title
from allstop.report.run import RecordedRun
from allstop.vm.errors import UsageError
from allstop.vm.journal.format import Event, Journal, Kind

_GLOBAL = frozenset({Kind.VIOLATION, Kind.MMIO_WRONG, Kind.LOST, Kind.ENDED, Kind.DEVICE_FAILED})
_CATEGORIES = {"devicesrv": "device", "coordinator": "coordinator"}


def write_trace(run: RecordedRun, out: Path) -> int:
    """Write it to `out`, which appears whole or not at all; the number of its events.

    Raises UsageError when the run kept no journal, OSError when `out` cannot be written."""
    if not run.journals:
        raise UsageError(f"{run.path} holds no journal to make a trace of: run with --journal")
    temporary = out.with_name(f".{out.name}.new")
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            head = json.dumps(
                {"image": run.image, "conditions": run.conditions, "clocks": list(run.clocks)}, ensure_ascii=True
            )
            file.write('{"displayTimeUnit":"ns","otherData":' + head + ',"traceEvents":[')
            separator = "\n"
            for row in rows(run):
                file.write(separator + json.dumps(row, separators=(",", ":")))
                separator = ",\n"
                count += row["ph"] != "M"
            file.write("\n]}\n")
        os.replace(temporary, out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


def rows(run: RecordedRun) -> Iterator[dict[str, Any]]:
    """The trace's events, process by process."""
    origin_ns = run.began_ns
    for number, journal in enumerate(run.journals, 1):
        yield from _names(number, journal)
        for event in journal.events():
            yield from _rows_of(event, number, journal.header.process, origin_ns)


def _names(number: int, journal: Journal) -> Iterator[dict[str, Any]]:
    header = journal.header
    common = {"ph": "M", "pid": number, "tid": number, "ts": 0}
    yield common | {"name": "process_name", "args": {"name": f"{header.name} (process {header.pid})"}}
    yield common | {"name": "process_sort_index", "args": {"sort_index": number}}
    yield common | {"name": "thread_name", "args": {"name": header.name}}


def _rows_of(event: Event, number: int, process: str, origin_ns: int) -> Iterator[dict[str, Any]]:
    row: dict[str, Any] = {"name": title(event), "cat": _CATEGORIES.get(process, "vcpu"), "pid": number, "tid": number}
    took_ns = event.took_ns
    began_us = (event.t_ns - took_ns - origin_ns) / 1000
    if event.kind is Kind.STOPPED:
        row["id"] = event.operand("epoch")
        yield row | {"ph": "b", "ts": began_us, "args": arguments(event)}
        yield row | {"ph": "e", "ts": began_us + took_ns / 1000}
    elif event.kind.is_span:
        yield row | {"ph": "X", "ts": began_us, "dur": took_ns / 1000, "args": arguments(event)}
    else:
        scope = "g" if event.kind in _GLOBAL else "t"
        yield row | {"ph": "i", "s": scope, "ts": began_us, "args": arguments(event)}
