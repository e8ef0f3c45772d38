# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals of another host: what was written is sent, all of it and no more, and the files have no name."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from allstop.deploy.hosts.journal_files import PIECE_BYTES, JournalFiles, used_bytes
from allstop.vm.journal.format import HEADER_BYTES, RECORD_BYTES, WINDOW_BYTES, Kind
from allstop.vm.journal.recorder import Recorder
from allstop.vm.wire.channel import MAX_FRAME_BYTES
from allstop.vm.wire.codec import encode
from allstop.vm.wire.messages import ROLE_WORKER

IN_A_WINDOW = (WINDOW_BYTES - HEADER_BYTES) // RECORD_BYTES


@pytest.fixture
def files() -> Iterator[JournalFiles]:
    with contextlib.ExitStack() as stack:
        yield JournalFiles((3, 5), stack)


def record(files: JournalFiles, count: int, close: bool = True) -> Recorder:
    recorder = Recorder(files.fds["vcpu-3"], "vcpu-3", ROLE_WORKER, 3)
    for number in range(count):
        recorder.event(Kind.POWERED_ON, 3, number if number % 2 else 0)
    if close:
        recorder.close()
    return recorder


def sent(files: JournalFiles, vcpu: int) -> bytes:
    """The pieces of a vCPU put together, which must be in order and fit into frames."""
    data = b""
    for piece in files.pieces():
        assert len(piece.data) <= PIECE_BYTES and len(encode(piece)) < MAX_FRAME_BYTES
        if piece.vcpu == vcpu:
            assert piece.offset == len(data) and len(piece.data) == min(PIECE_BYTES, piece.size - piece.offset)
            data += piece.data
            size = piece.size
    assert size == len(data)
    return data


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(
    "count",
    [
        0,
        1,
        2,
        IN_A_WINDOW - 1,
        IN_A_WINDOW,
        IN_A_WINDOW + 1,
        PIECE_BYTES // RECORD_BYTES - HEADER_BYTES // RECORD_BYTES,
    ],
)
def test_what_was_written_is_sent_and_not_the_zeros_behind(files: JournalFiles, count: int, close: bool) -> None:
    """Killed or not: a process that was killed leaves up to a window of zeros, and records whose end is zeros count."""
    recorder = record(files, count, close)
    data = sent(files, 3)
    assert len(data) == HEADER_BYTES + count * RECORD_BYTES
    assert data == os.pread(files.fds["vcpu-3"], len(data), 0)
    assert not any(os.pread(files.fds["vcpu-3"], 2 * WINDOW_BYTES, len(data)))
    recorder.close()


def test_a_record_that_was_being_written_is_sent(files: JournalFiles) -> None:
    """So that its reader says that there was one."""
    recorder = record(files, 5, False)
    os.pwrite(files.fds["vcpu-3"], b"\1" * 8, HEADER_BYTES + 5 * RECORD_BYTES)
    assert used_bytes(files.fds["vcpu-3"]) == HEADER_BYTES + 6 * RECORD_BYTES
    recorder.close()


def test_nothing_written_is_one_empty_piece(files: JournalFiles) -> None:
    assert [(piece.vcpu, piece.size, piece.offset, piece.data) for piece in files.pieces()] == [
        (3, 0, 0, b""),
        (5, 0, 0, b""),
    ]


def test_the_files_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with contextlib.ExitStack() as stack:
        files = JournalFiles((3,), stack)
        record(files, 10)
        assert not list(tmp_path.iterdir())


def test_a_host_without_a_place_for_temporary_files_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with contextlib.ExitStack() as stack, pytest.raises(OSError):
        JournalFiles((3,), stack)
