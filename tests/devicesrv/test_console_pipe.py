# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server's end of the console's pipe: every byte, in order, without ever waiting but at the end."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest

from allstop.devicesrv.console.console import Console

PIPE_BYTES = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, Console]]:
    """The reader's end, and the console on the other."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    console = Console(writer)
    yield reader, console
    console.close(0)
    os.close(reader)


def test_what_waits_goes_before_what_comes_later(pipe: tuple[int, Console]) -> None:
    reader, console = pipe
    console.write(b"a" * PIPE_BYTES + b"b")
    assert os.read(reader, PIPE_BYTES) == b"a" * PIPE_BYTES
    console.write(b"c")  # the pipe has room again, and b has not been passed on yet
    assert console.drain()
    assert os.read(reader, 10) == b"bc"
    console.write(b"d")
    assert os.read(reader, 10) == b"d"


def test_closing_waits_for_a_reader_that_reads(pipe: tuple[int, Console]) -> None:
    reader, console = pipe
    text = bytes(place % 251 for place in range(100 * PIPE_BYTES))
    console.write(text)
    got = bytearray()

    def read() -> None:
        while data := os.read(reader, 1000):
            got.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    unread = console.close(10)
    thread.join()
    assert unread == 0
    assert got == text


def test_closing_does_not_wait_longer_than_it_may(pipe: tuple[int, Console]) -> None:
    _, console = pipe
    console.write(bytes(PIPE_BYTES + 77))
    assert console.close(0.01) == 77
    assert console.close(0.01) == 0


def test_without_a_pipe_nothing_is_kept() -> None:
    console = Console(-1)
    console.write(b"x")
    assert console.drain()
    assert console.close(1) == 0


def test_a_reader_that_is_gone_is_counted(pipe: tuple[int, Console]) -> None:
    reader, console = pipe
    console.write(bytes(PIPE_BYTES + 5))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)
    console.write(b"xyz")
    assert console.drain()
    assert console.lost_bytes == 8
