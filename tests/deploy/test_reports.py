# SPDX-License-Identifier: GPL-2.0-or-later
"""The other hosts' reports: what fits is kept, whatever else another host sends."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.hosts.reports import HostReports
from allstop.deploy.outcome.run_folder import RunFolder

NAMES, PLACEMENT = ("here", "there", "yonder"), (0, 1, 2, 1)


def report(**values: object) -> bytes:
    return json.dumps({"notes": [], "logs": {}, "pages": [], "events": []} | values).encode()


def test_hosts_that_have_left_without_a_report_and_their_vcpus() -> None:
    reports = HostReports(NAMES, PLACEMENT)
    assert reports.silent == (1, 2) and reports.silent_vcpus == (1, 2, 3)
    reports.take(1, report())
    assert 1 in reports and reports.silent == (2,) and reports.silent_vcpus == (2,)


def test_events_are_added_up_and_pages_collected() -> None:
    reports = HostReports(NAMES, PLACEMENT)
    reports.take(1, report(events=[[2, 1], [0, 0]], pages=[[1]]))
    reports.take(2, report(events=[[3, 0]], pages=[[2]]))
    assert [reports.event_counts(index) for index in range(3)] == [(5, 1), (0, 0), (0, 0)]
    assert reports.moved_pages == [[1], [2]]


def test_logs_go_to_a_folder_for_each_host_under_names_that_a_log_has(tmp_path: Path) -> None:
    """Would break: another host that chooses where this one writes."""
    reports = HostReports(NAMES, PLACEMENT)
    reports.take(1, report(notes=["so"], logs={"vcpu-1": "one", "node": "two", "../vcpu-1": "bad", "run.json": "bad"}))
    folder = RunFolder(tmp_path / "run")
    try:
        assert reports.keep(folder) == ["host there: so"]
    finally:
        folder.close()
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["run/there/node.log", "run/there/vcpu-1.log"]


ANYTHING = st.recursive(st.none() | st.integers() | st.text(), st.lists)
TABLES = st.dictionaries(st.sampled_from(("notes", "logs", "pages", "events")), ANYTHING)


@given(st.binary() | (ANYTHING | TABLES).map(lambda value: json.dumps(value).encode()))
def test_another_host_can_send_anything(data: bytes) -> None:
    reports = HostReports(NAMES, PLACEMENT)
    reports.take(1, data)
    assert reports.silent == (2,)
    assert all(note.startswith("host there: ") for note in reports.keep(None))
    reports.event_counts(0)
