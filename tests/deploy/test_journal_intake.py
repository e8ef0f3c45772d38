# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals that come from other hosts: what fits is kept as it was, what does not is refused and changes nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.deploy.hosts.journal_files import MOST_BYTES, PIECE_BYTES, JournalFiles
from allstop.deploy.hosts.journal_intake import HostJournals, JournalIntake
from allstop.deploy.outcome.run_folder import RunFolder
from allstop.vm.journal.format import HEADER_BYTES, WINDOW_BYTES, Journal, Kind
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.codec import decode, encode
from allstop.vm.wire.messages import ROLE_WORKER
from allstop.vm.wire.messages_hosts import JournalPiece, JournalsBegun

BEGAN_NS, THERE_NS, ERROR_NS = 7_000_000_000, 5_000_000_000, 60_000
BEGUN = JournalsBegun(THERE_NS, ERROR_NS)
BIG = 2 * PIECE_BYTES + 100


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[JournalIntake]:
    """vCPUs 0 and 1 are here, 2 and 3 there."""
    with (
        contextlib.closing(RunFolder(tmp_path / "run")) as folder,
        contextlib.closing(JournalIntake(folder, ("here", "there"), (0, 0, 1, 1), BEGAN_NS)) as intake,
    ):
        yield intake


def journals(
    process: str = "vcpu-2", role: int = ROLE_WORKER, vcpu: int = 2, count: int = 10_000, close: bool = True
) -> list[JournalPiece]:
    """What a host sends of a vCPU 2 that has written so much, and of a vCPU 3 that has not begun."""
    with contextlib.ExitStack() as stack:
        files = JournalFiles((2, 3), stack)
        recorder = Recorder(files.fds["vcpu-2"], process, role, vcpu)
        for number in range(count):
            recorder.event(Kind.POWERED_ON, 2, number)
        if close:
            recorder.close()
        return [piece for piece in files.pieces() if isinstance(decode(encode(piece)), JournalPiece)]


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("close", [True, False])
def test_a_journal_is_kept_and_says_where_it_comes_from(intake: JournalIntake, tmp_path: Path, close: bool) -> None:
    began_ns = 0
    intake.take(1, BEGUN)
    for piece in journals(close=close):
        intake.take(1, piece)
        began_ns = began_ns or int.from_bytes(piece.data[32:40], "little")
    assert intake.finish() == [] and kept(tmp_path / "run") == ["there/vcpu-2.journal"]
    with Journal(tmp_path / "run" / "there" / "vcpu-2.journal") as journal:
        header = journal.header
        assert (header.name, header.error_ns, header.offset_ns) == ("there/vcpu-2", ERROR_NS, BEGAN_NS - THERE_NS)
        assert header.began_ns == began_ns + BEGAN_NS - THERE_NS
        assert [event.operands[0] for event in journal.events()] == list(range(10_000))
        said = (
            ""
            if close
            else "vcpu-2.journal was not closed, for its process was killed or still runs: all of its "
            "10000 records are there"
        )
        assert journal.conditions == ((said,) if said else ())
    assert close or (tmp_path / "run" / "there" / "vcpu-2.journal").stat().st_size % WINDOW_BYTES == 0


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([JournalPiece(2, 256, 0, bytes(256))], "before JournalsBegun"),
        ([BEGUN, BEGUN], "a second time"),
        ([JournalsBegun(1 << 63, 0)], "a time that no clock shows"),
        ([JournalsBegun(0, 1 << 63)], "a time that no clock shows"),
        ([BEGUN, JournalPiece(0, 256, 0, bytes(256))], "not on its sender's host"),
        ([BEGUN, JournalPiece(4, 256, 0, bytes(256))], "not on its sender's host"),
        ([BEGUN, JournalPiece(65535, 256, 0, bytes(256))], "not on its sender's host"),
        ([BEGUN, JournalPiece(2, 255, 0, bytes(255))], "a size that it cannot have"),
        ([BEGUN, JournalPiece(2, MOST_BYTES + 64, 0, bytes(PIECE_BYTES))], "a size that it cannot have"),
        ([BEGUN, JournalPiece(2, BIG, PIECE_BYTES, bytes(PIECE_BYTES))], "not the next one"),
        ([BEGUN, JournalPiece(2, 256, 1 << 63, b"")], "not the next one"),
        ([BEGUN, JournalPiece(2, 256, 0, bytes(257))], "too short or too long"),
        ([BEGUN, JournalPiece(2, BIG, 0, bytes(PIECE_BYTES + 1))], "too short or too long"),
        ([BEGUN, JournalPiece(2, BIG, 0, bytes(1))], "too short or too long"),
        ([BEGUN, JournalPiece(2, BIG, 0, b"")], "too short or too long"),
        ([BEGUN, JournalPiece(2, 0, 0, b"x")], "too short or too long"),
        ([BEGUN, JournalPiece(3, 0, 0, b""), JournalPiece(3, 0, 0, b"")], "more of a journal than there is"),
    ],
)
def test_what_does_not_fit_is_refused_and_writes_nothing(
    intake: JournalIntake, tmp_path: Path, pieces: list[JournalsBegun | JournalPiece], why: str
) -> None:
    for piece in pieces:
        intake.take_progress()
        intake.take(1, piece)
    assert not intake.take_progress(), "what is refused must not make the end of the run longer"
    assert any(
        f"host there: refused 1 x {word}" in note
        for note in intake.finish()
        for word in ("a piece", "a journal", "a time", "Journal", "more")
    ) and why in " ".join(intake.finish())
    assert kept(tmp_path / "run") == []


def test_more_than_was_said_and_another_size_are_refused(intake: JournalIntake, tmp_path: Path) -> None:
    first, *others = [piece for piece in journals() if piece.vcpu == 2]
    intake.take(1, BEGUN)
    intake.take(1, first)
    for bad in (first, others[0]._replace(size=first.size + 64), others[-1], others[0]._replace(data=b"x" * 9)):
        intake.take(1, bad)
    for piece in others:
        intake.take(1, piece)
    intake.take(1, others[-1])
    notes = intake.finish()
    assert sum(note.count("refused") for note in notes) == 4, notes
    with Journal(tmp_path / "run" / "there" / "vcpu-2.journal") as journal:
        assert (journal.count, journal.damaged) == (10_000, 0)


@pytest.mark.parametrize(
    ("process", "role", "vcpu"),
    [("vcpu-3", ROLE_WORKER, 2), ("coordinator", ROLE_WORKER, 2), ("vcpu-2", ROLE_WORKER, 0), ("vcpu-2", 1, 2)],
)
def test_a_journal_of_somebody_else_is_not_kept(
    intake: JournalIntake, tmp_path: Path, process: str, role: int, vcpu: int
) -> None:
    intake.take(1, BEGUN)
    for piece in journals(process, role, vcpu):
        intake.take(1, piece)
    assert intake.finish() == ["there/vcpu-2.journal is the journal of another process: it is not kept"]
    assert kept(tmp_path / "run") == []


def test_what_is_no_journal_is_not_kept(intake: JournalIntake, tmp_path: Path) -> None:
    intake.take(1, BEGUN)
    intake.take(1, JournalPiece(2, 4096, 0, os.urandom(4096)))
    intake.take(1, JournalPiece(3, 0, 0, b""))
    assert intake.finish() == [
        "there/vcpu-2.journal is no journal, or was cut within its first 256 bytes: it is not kept"
    ]
    assert kept(tmp_path / "run") == []


def test_a_host_that_is_lost_costs_what_it_has_not_sent(intake: JournalIntake, tmp_path: Path) -> None:
    intake.take(1, BEGUN)
    first = journals()[0]
    intake.take(1, first)
    assert intake.finish() == [
        "host there: its journals did not all come, for it ended before it had sent them: what "
        "is missing or cut is that of vcpu-2, vcpu-3"
    ]
    with Journal(tmp_path / "run" / "there" / "vcpu-2.journal") as journal:
        assert journal.count == (PIECE_BYTES - HEADER_BYTES) // 64 and journal.header.host == "there"
        assert len(journal.conditions) == 1 and "was cut" in journal.conditions[0]


def test_a_file_that_is_there_is_not_touched_and_the_rest_is_refused(intake: JournalIntake, tmp_path: Path) -> None:
    (tmp_path / "run" / "there").mkdir()
    (tmp_path / "run" / "there" / "vcpu-2.journal").write_text("precious")
    intake.take(1, BEGUN)
    for piece in journals():
        intake.take(1, piece)
    assert intake.finish() == ["host there: its journals are not kept from vcpu-2 on: File exists"]
    assert (tmp_path / "run" / "there" / "vcpu-2.journal").read_text() == "precious"


SIZES = st.sampled_from([0, 1, 256, 320, PIECE_BYTES, PIECE_BYTES + 64, BIG, MOST_BYTES, MOST_BYTES + 1, 1 << 63])
OFFSETS = st.sampled_from([0, 1, 256, 320, PIECE_BYTES, 2 * PIECE_BYTES, BIG, 1 << 63])
LENGTHS = st.sampled_from([0, 1, 64, 100, 256, 320, PIECE_BYTES - 1, PIECE_BYTES])
PIECES = st.builds(
    lambda vcpu, size, offset, length: JournalPiece(vcpu, size, offset, bytes(length)),
    st.integers(1, 4),
    SIZES,
    OFFSETS,
    LENGTHS,
)


@given(st.lists(PIECES | st.just(BEGUN), max_size=40))
def test_whatever_comes_what_is_taken_is_one_whole_beginning(messages: list[JournalsBegun | JournalPiece]) -> None:
    """Would break: a hole in a file, a file beyond its size, two sizes, anything after the end."""
    checked, taken, sizes = HostJournals((2, 3)), {2: 0, 3: 0}, {}
    for message in messages:
        before = checked.missing
        try:
            if isinstance(message, JournalsBegun):
                checked.begin(message)
                continue
            checked.take(message)
        except ValueError:
            assert checked.missing == before
            continue
        assert checked.clock is not None and message.offset == taken[message.vcpu]
        assert sizes.setdefault(message.vcpu, message.size) == message.size <= MOST_BYTES
        taken[message.vcpu] += len(message.data)
        assert taken[message.vcpu] <= message.size
        assert (taken[message.vcpu] == message.size) == (message.vcpu in checked.complete)
