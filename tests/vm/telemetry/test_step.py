# SPDX-License-Identifier: GPL-2.0-or-later
"""A measured step: activity, counter, histogram and journal record from one declaration."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from allstop.vm.control import control
from allstop.vm.control.control import ControlPage
from allstop.vm.journal.format import Journal, Kind
from allstop.vm.journal.recorder import Recorder
from allstop.vm.memory.memory import create_memory
from allstop.vm.telemetry.step import NO_VCPU, Telemetry


@pytest.fixture
def control_page() -> Iterator[ControlPage]:
    fd = create_memory("test-control", ControlPage.size_bytes(2))
    yield ControlPage.create(fd, 2, 2)
    os.close(fd)


def test_a_step_says_counts_measures_and_writes(control_page: ControlPage, tmp_path: Path) -> None:
    path = tmp_path / "vcpu-1.journal"
    telemetry = Telemetry(control_page, 1, Recorder(str(path), "vcpu-1", 0, 1))
    step = telemetry.step(
        activity=control.ACTIVITY_MMIO,
        counter=control.COUNT_MMIO_READ,
        histogram=control.HISTOGRAM_MMIO,
        record=Recorder.MMIO,
    )
    began_ns = step.begin(0x0900_0000)
    assert control_page.describe(1) == "waiting for the device at 0x09000000"
    assert time.perf_counter_ns() - began_ns < 10_000_000_000
    step.end(began_ns, 1, 0x0900_0000, 4, False, 7, 0)
    telemetry.close()
    assert control_page.counters(1)[control.COUNT_MMIO_READ] == 1
    assert sum(control_page.histogram(1, control.HISTOGRAM_MMIO)) == 1
    with Journal(path) as journal:
        (event,) = journal.events()
    assert (event.kind, event.vcpu, event.operands[:5]) == (Kind.MMIO, 1, (0x0900_0000, 4, 0, 7, 0))
    assert 0 < event.took_ns < 10_000_000_000


def test_a_step_that_is_only_measured_writes_nothing(control_page: ControlPage, tmp_path: Path) -> None:
    path = tmp_path / "vcpu-0.journal"
    telemetry = Telemetry(control_page, 0, Recorder(str(path), "vcpu-0", 0))
    step = telemetry.step(histogram=control.HISTOGRAM_FETCH, record=Recorder.FETCHED)
    step.measure(step.begin(), 0)
    telemetry.close()
    assert sum(control_page.histogram(0, control.HISTOGRAM_FETCH)) == 1
    with Journal(path) as journal:
        assert not list(journal.events())


def test_without_a_journal_a_step_is_counted_and_measured(control_page: ControlPage) -> None:
    telemetry = Telemetry(control_page, control.DEVICES, None)
    step = telemetry.step(counter=control.COUNT_HVC, histogram=control.HISTOGRAM_STOP, record=Recorder.STOP_GRANTED)
    step.end(step.begin(), 0, 1, 0)
    assert step.is_kept
    assert control_page.counters(0)[control.COUNT_HVC] == 1
    assert sum(control_page.histogram(0, control.HISTOGRAM_STOP)) == 1
    assert control_page.describe(control.DEVICES) == "starting"  # a step without an activity says none


def test_a_step_of_which_only_a_record_is_kept_is_not_kept_without_a_journal(control_page: ControlPage) -> None:
    assert not Telemetry(control_page, 0, None).step(record=Recorder.EXIT).is_kept


def test_a_note_is_counted_and_written_with_its_words(control_page: ControlPage, tmp_path: Path) -> None:
    path = tmp_path / "devicesrv.journal"
    telemetry = Telemetry(control_page, control.DEVICES, Recorder(str(path), "devicesrv", 2))
    telemetry.note(Recorder.MMIO_WRONG, 1, 0x0900_0000, 4, counter=control.COUNT_MMIO_WRONG, text="why")
    telemetry.note(Recorder.RESUMED, NO_VCPU)
    telemetry.activity(control.ACTIVITY_DEVICE, 0x0900_0000)
    telemetry.close()
    assert control_page.counters(1)[control.COUNT_MMIO_WRONG] == 1
    assert control_page.describe(control.DEVICES) == "in the device at 0x09000000"
    with Journal(path) as journal:
        wrong, resumed = journal.events()
    assert (wrong.kind, wrong.vcpu, wrong.operands, wrong.text) == (Kind.MMIO_WRONG, 1, (0x0900_0000, 4, 0, 0), "why")
    assert (resumed.kind, resumed.vcpu, resumed.text) == (Kind.RESUMED, 0xFFFF, "")


def test_a_note_without_a_journal_is_counted(control_page: ControlPage) -> None:
    telemetry = Telemetry(control_page, 0, None)
    telemetry.note(Recorder.FETCH_RETRIED, 0, 0x4000_0000, counter=control.COUNT_FETCH_RETRY)
    telemetry.close()
    assert control_page.counters(0)[control.COUNT_FETCH_RETRY] == 1
