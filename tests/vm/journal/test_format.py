# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals: what was recorded is read back, whatever happened to the process or to the file."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.deploy.processes.processes import child_environment
from allstop.vm.journal.format import (
    EXIT_NAMES,
    HEADER_BYTES,
    NO_VCPU,
    RECORD_BYTES,
    WINDOW_BYTES,
    Event,
    Journal,
    JournalError,
    Kind,
    mark_origin,
)
from allstop.vm.journal.recorder import Recorder

U64 = st.integers(0, (1 << 64) - 1)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([kind for kind in Kind if kind is not Kind.TEXT]),
        st.integers(0, 0xFFFF),
        st.lists(U64, min_size=6, max_size=6),
        st.text(max_size=150),
    ),
    max_size=30,
)
PER_WINDOW = WINDOW_BYTES // RECORD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def read(path: Path) -> list[Event]:
    with Journal(path) as journal:
        return list(journal.events())


def record(path: Path, count: int, close: bool = True) -> Recorder:
    """A journal of `count` records whose operand is their number."""
    recorder = Recorder(str(path), "vcpu-3", 0, 3)
    for number in range(count):
        recorder.event(Kind.POWERED_ON, 3, number)
    if close:
        recorder.close()
    return recorder


def test_the_native_kinds_are_those_of_the_enumeration() -> None:
    mirrored = {name: value for name, value in vars(Recorder).items() if name.isupper()}
    assert mirrored == {kind.name: kind.value for kind in Kind}


def test_exit_names_are_those_of_the_engine() -> None:
    from allstop.vcpu_worker import engine

    assert (
        tuple(
            name
            for name, _ in sorted(
                (
                    (name.removeprefix("EXIT_"), getattr(engine, name))
                    for name in dir(engine)
                    if name.startswith("EXIT_")
                ),
                key=lambda pair: pair[1],
            )
        )
        == EXIT_NAMES
    )


def test_every_kind_fits_in_a_record() -> None:
    for kind in Kind:
        assert len(kind.operands) <= 6 and kind.meaning
        assert not kind.is_span or kind.operands[-1] == "took_ns"


@settings(max_examples=50, deadline=None)
@given(EVENTS)
def test_what_was_recorded_is_read(events: list[tuple[Kind, int, list[int], str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.journal"
        recorder = Recorder(str(path), "devicesrv", 1)
        before_ns = time.monotonic_ns()
        for kind, vcpu, operands, words in events:
            if kind.is_span:
                recorder.span(kind, vcpu, before_ns, *operands[:5])
            else:
                recorder.event(kind, vcpu, *operands)
            recorder.text(words)
        recorder.close()
        found = read(path)
    assert [(event.kind, event.vcpu, event.text) for event in found] == [
        (kind, vcpu, words) for kind, vcpu, _, words in events
    ]
    for event, (kind, _, operands, _) in zip(found, events, strict=True):
        if kind.is_span:
            assert event.operands[:-1] == tuple(operands[: len(kind.operands) - 1])
            assert event.t_ns - event.took_ns == before_ns
        else:
            assert event.operands == tuple(operands[: len(kind.operands)]) and event.took_ns == 0
    times = [event.t_ns for event in found]
    assert times == sorted(times) and all(t_ns >= before_ns for t_ns in times)


def test_the_header_says_whose_journal_it_is(folder: Path) -> None:
    record(folder / "x.journal", 2)
    with Journal(folder / "x.journal") as journal:
        header = journal.header
        assert (header.process, header.role, header.vcpu, header.pid) == ("vcpu-3", 0, 3, os.getpid())
        assert header.closed and (header.records, header.dropped, journal.count) == (2, 0, 2)
        assert abs(header.began_unix_ns / 1e9 - time.time()) < 60
        assert journal.conditions == () and header.began_ns <= journal.ended_ns
    assert (folder / "x.journal").stat().st_size == HEADER_BYTES + 2 * RECORD_BYTES


def test_a_number_below_zero_is_nobody_or_nothing(folder: Path) -> None:
    recorder = Recorder(str(folder / "x.journal"), "x", 1)
    recorder.event(Kind.FINISHED, -1, -1)
    recorder.close()
    assert read(folder / "x.journal")[0][2:4] == (NO_VCPU, ((1 << 64) - 1,))


def test_words_that_are_no_unicode_do_no_harm(folder: Path) -> None:
    recorder = Recorder(str(folder / "x.journal"), "x", 1)
    recorder.event(Kind.FAILED, 0)
    recorder.text("lone \ud800 surrogate")
    recorder.close()
    assert read(folder / "x.journal")[0].text == "lone ? surrogate"


def test_a_journal_larger_than_a_window(folder: Path) -> None:
    count = 2 * PER_WINDOW + 77
    record(folder / "x.journal", count)
    assert [event.operands[0] for event in read(folder / "x.journal")] == list(range(count))


def test_a_stretch_of_time(folder: Path) -> None:
    record(folder / "x.journal", 3000)
    every = read(folder / "x.journal")
    since_ns, until_ns = every[1000].t_ns, every[2000].t_ns
    with Journal(folder / "x.journal") as journal:
        some = list(journal.events(since_ns, until_ns))
    assert some == [event for event in every if since_ns <= event.t_ns <= until_ns] and len(some) > 900


@pytest.mark.parametrize("offset_ns", [-(10**14), 0, 12345])
def test_times_of_another_host_are_the_first_hosts(folder: Path, offset_ns: int) -> None:
    """Would break: a stretch of time that is looked for by the wrong clock."""
    record(folder / "x.journal", 3000)
    with Journal(folder / "x.journal") as journal:
        every, header = list(journal.events()), journal.header
        assert (header.name, header.host, header.offset_ns, header.error_ns) == ("vcpu-3", "", 0, 0)
    with (folder / "x.journal").open("r+b") as file:
        mark_origin(file.fileno(), "there", offset_ns, 60_000)
    with Journal(folder / "x.journal", "there/x.journal") as journal:
        there = journal.header
        assert (there.name, there.offset_ns, there.error_ns) == ("there/vcpu-3", offset_ns, 60_000)
        assert there.began_ns == header.began_ns + offset_ns
        assert list(journal.events()) == [event._replace(t_ns=event.t_ns + offset_ns) for event in every]
        since_ns, until_ns = every[1000].t_ns + offset_ns, every[2000].t_ns + offset_ns
        some = list(journal.events(since_ns, until_ns))
        assert some[0].t_ns == since_ns and some[-1].t_ns == until_ns and 900 < len(some) < 1200
        assert journal.ended_ns == every[-1].t_ns + offset_ns


def test_a_clock_that_nobody_compared_is_unknown(folder: Path) -> None:
    record(folder / "x.journal", 0)
    with (folder / "x.journal").open("r+b") as file:
        mark_origin(file.fileno(), "h" * 63, 5, 0)
    with Journal(folder / "x.journal") as journal:
        assert (journal.header.host, journal.header.error_ns) == ("h" * 63, None)
        assert journal.ended_ns == journal.header.began_ns


def test_a_journal_in_a_file_without_a_name(folder: Path) -> None:
    """The descriptor stays its owner's."""
    path = folder / "x.journal"
    with path.open("x+b") as file:
        recorder = Recorder(file.fileno(), "vcpu-3", 0, 3)
        for number in range(PER_WINDOW + 5):
            recorder.event(Kind.POWERED_ON, 3, number)
        recorder.close()
        assert os.fstat(file.fileno()).st_size == HEADER_BYTES + (PER_WINDOW + 5) * RECORD_BYTES
    assert [event.operands[0] for event in read(path)] == list(range(PER_WINDOW + 5))
    with pytest.raises(OSError, match="vcpu-3"):
        Recorder(1 << 20, "vcpu-3", 0, 3)
    with pytest.raises(TypeError):
        Recorder(1.5, "vcpu-3", 0, 3)  # type: ignore[arg-type]


@pytest.mark.processes
def test_a_process_that_is_killed_loses_nothing(folder: Path) -> None:
    """It says how far it got; all of that must be there, and nothing that it did not write."""
    code = (
        "import sys; from allstop.vm.journal.recorder import Recorder\n"
        "r = Recorder(sys.argv[1], 'vcpu-0', 0, 0)\n"
        "n = 0\n"
        "while True:\n"
        "    r.event(r.POWERED_ON, 0, n); n += 1\n"
        "    if n % 1000 == 0: print(n, flush=True)\n"
    )
    path = folder / "x.journal"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(path)], stdout=subprocess.PIPE, env=child_environment()
    ) as writer:
        assert writer.stdout is not None
        for _ in range(30):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max([said, *map(int, writer.stdout.read().split())])
    with Journal(path) as journal:
        numbers = [event.operands[0] for event in journal.events()]
        conditions = journal.conditions
    assert numbers == list(range(len(numbers))) and said <= len(numbers) <= said + 1000
    assert len(conditions) == 1 and f"all of its {len(numbers)} records are there" in conditions[0]


@pytest.mark.parametrize("left", [1, 10, 63])
def test_a_torn_record_is_left_out_and_said(folder: Path, left: int) -> None:
    """A writer killed within a record has stored some of it, but not the sequence."""
    path = folder / "x.journal"
    recorder = record(path, 5, close=False)
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 5 * RECORD_BYTES)
        file.write(bytes([255]) * min(left, 8) + bytes(4) + bytes([255]) * max(0, left - 12))
    with Journal(path) as journal:
        assert [event.operands[0] for event in journal.events()] == [0, 1, 2, 3, 4]
        assert "except one that was being written" in journal.conditions[0]
    recorder.close()


@pytest.mark.parametrize("records", [0, 1, 6, 9])
@pytest.mark.parametrize("more", [0, 1, 63])
def test_a_journal_that_is_cut_keeps_what_comes_before(folder: Path, records: int, more: int) -> None:
    path = folder / "x.journal"
    record(path, 10)
    os.truncate(path, HEADER_BYTES + records * RECORD_BYTES + more)
    with Journal(path) as journal:
        assert [event.operands[0] for event in journal.events()] == list(range(records))
        assert journal.conditions == (
            f"x.journal was cut: the first {records} of its 10 records are there, and none of these is lost",
        )


def test_a_journal_that_was_not_closed_and_is_cut(folder: Path) -> None:
    path = folder / "x.journal"
    recorder = record(path, PER_WINDOW + 100, close=False)
    os.truncate(path, HEADER_BYTES + 50 * RECORD_BYTES + 9)
    assert len(read(path)) == 50
    with Journal(path) as journal:
        assert journal.conditions[0].startswith("x.journal was cut, or ")
    recorder.close()


def test_damaged_records_are_left_out_and_counted(folder: Path) -> None:
    path = folder / "x.journal"
    record(path, 10)
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 3 * RECORD_BYTES)
        file.write(bytes(RECORD_BYTES))
        file.seek(HEADER_BYTES + 7 * RECORD_BYTES + 8)
        file.write(b"\x01")  # a record that looks like one, in a place that is another's
    with Journal(path) as journal:
        assert [event.operands[0] for event in journal.events()] == [0, 1, 2, 4, 5, 6, 8, 9]
        assert journal.conditions == ("x.journal has 2 damaged records, which are left out",)


@pytest.mark.fuzz
@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=1000), st.booleans())
def test_any_bytes_are_a_journal_or_one_sentence(data: bytes, with_header: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.journal"
        if with_header:
            record(path, 0)
            data = path.read_bytes() + data
        path.write_bytes(data)
        try:
            read(path)
        except JournalError as error:
            assert "\n" not in str(error) and "x.journal" in str(error)


def test_another_format_is_refused(folder: Path) -> None:
    path = folder / "x.journal"
    record(path, 1)
    with path.open("r+b") as file:
        file.seek(8)
        file.write((2).to_bytes(4, "little"))
    with pytest.raises(JournalError, match="format 2"):
        Journal(path)


def test_a_journal_that_exists_is_not_touched(folder: Path) -> None:
    (folder / "x.journal").write_text("precious")
    with pytest.raises(FileExistsError):
        Recorder(str(folder / "x.journal"), "x", 0)
    assert (folder / "x.journal").read_text() == "precious"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda r: r.event(),
        lambda r: r.event(1),
        lambda r: r.event(1, 2, *range(7)),
        lambda r: r.span(1, 2),
        lambda r: r.span(1, 2, 3, *range(6)),
        lambda r: r.event("x", 2),
        lambda r: r.event(1, 2, "x"),
        lambda r: r.text(3),
    ],
)
def test_wrong_arguments_record_nothing(folder: Path, wrong: Callable[[Recorder], None]) -> None:
    recorder = Recorder(str(folder / "x.journal"), "x", 0)
    with pytest.raises(TypeError):
        wrong(recorder)
    recorder.close()
    assert read(folder / "x.journal") == []


def test_a_closed_recorder_takes_no_more(folder: Path) -> None:
    recorder = record(folder / "x.journal", 3)
    recorder.event(Kind.POWERED_ON, 0, 4)
    recorder.text("more")
    recorder.close()
    assert len(read(folder / "x.journal")) == 3


@pytest.mark.processes
def test_where_there_is_no_room_records_are_dropped_and_counted(folder: Path) -> None:
    """A file system that is full must neither kill the process nor lose what is there."""
    code = (
        "import resource, signal, sys; from allstop.vm.journal.recorder import Recorder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({WINDOW_BYTES + 4096},) * 2)\n"
        "r = Recorder(sys.argv[1], 'x', 0, 0)\n"
        f"for n in range({PER_WINDOW + 100}): r.event(r.POWERED_ON, 0, n)\n"
        "r.close()\n"
    )
    path = folder / "x.journal"
    subprocess.run([sys.executable, "-P", "-c", code, str(path)], check=True, env=child_environment())
    there = PER_WINDOW - HEADER_BYTES // RECORD_BYTES
    lost = 100 + HEADER_BYTES // RECORD_BYTES
    with Journal(path) as journal:
        assert [event.operands[0] for event in journal.events()] == list(range(there))
        assert journal.conditions == (f"x.journal lacks {lost} records, for which the file system had no room",)


def test_a_journal_is_read_while_it_is_written(folder: Path) -> None:
    recorder = record(folder / "x.journal", 10, close=False)
    for number in itertools.count(10):
        recorder.event(Kind.POWERED_ON, 0, number)
        if number == 20:
            break
    assert len(read(folder / "x.journal")) == 21
    recorder.close()


def test_the_page_lists_every_kind() -> None:
    text = (Path(__file__).parents[3] / "docs" / "journal.md").read_text()
    listed = [line for line in text.partition("## The records")[2].splitlines() if line.startswith("| ")]
    told = {f"| {kind.value} | {kind.name} | {', '.join(kind.operands)} | {kind.meaning} |" for kind in Kind}
    assert {line for line in listed if not line.startswith("| number")} == told
