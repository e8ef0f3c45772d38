# SPDX-License-Identifier: GPL-2.0-or-later
"""The console relay: everything arrives in order, and a reader that is slow, stuck or gone holds up neither guest nor
launcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

import allstop.deploy.console.relay
from allstop.deploy.console.relay import ConsoleRelay


class Pipes:
    """A guest that writes, a relay, and a user that reads."""

    def __init__(self) -> None:
        self.source, self.guest = os.pipe()
        self.user, self.out = os.pipe()
        os.set_blocking(self.source, False)
        os.set_blocking(self.user, False)
        self.log = os.fdopen(os.memfd_create("test-log"), "r+b", buffering=0)
        self.cleared = 0
        self.relay = ConsoleRelay(self.source, self.out, [self.log], self.clear)

    def clear(self) -> None:
        self.cleared += 1

    def print(self, data: bytes) -> None:
        """The guest writes, and the relay takes it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.guest, view[:4096]) :]
            assert self.relay.read()

    def seen(self) -> bytes:
        """What the user can read now."""
        data = b""
        while True:
            try:
                part = os.read(self.user, 1 << 16)
            except BlockingIOError:
                return data
            if not part:
                return data
            data += part

    def close(self) -> None:
        for fd in (self.source, self.guest, self.user, self.out):
            if fd >= 0:
                os.close(fd)
        self.log.close()


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    made.close()


def never(fd: int) -> bool:
    raise AssertionError("there was nothing to wait for")


def test_text_passes_through_to_user_and_log(pipes: Pipes) -> None:
    pipes.print(b"hello\nwor")
    pipes.relay.write()
    assert pipes.seen() == b"hello\nwor" and not pipes.relay.at_line_start
    pipes.print(b"ld\n")
    pipes.relay.write()
    assert pipes.seen() == b"ld\n" and pipes.relay.at_line_start
    pipes.log.seek(0)
    assert pipes.log.read() == b"hello\nworld\n"
    assert pipes.cleared == 2


def test_reading_nothing_is_no_news(pipes: Pipes) -> None:
    assert not pipes.relay.read()
    pipes.relay.write()
    assert pipes.cleared == 0


def test_a_slow_reader_gets_everything_in_order_and_blocks_nobody(pipes: Pipes) -> None:
    data = bytes(range(256)) * 2048  # more than a pipe holds
    pipes.print(data)
    pipes.relay.write()
    assert pipes.relay.pending
    seen = b""
    while pipes.relay.pending:
        seen += pipes.seen()
        pipes.relay.write()
    assert seen + pipes.seen() == data


def test_the_rest_is_written_at_the_end(pipes: Pipes) -> None:
    data = b"x" * (1 << 18)
    pipes.print(data)
    os.write(pipes.guest, b"last words")
    seen = bytearray()

    def drain(fd: int) -> bool:
        seen.extend(pipes.seen())
        return True

    pipes.relay.finish(drain)
    assert bytes(seen) + pipes.seen() == data + b"last words"


def test_nobody_waits_for_a_stuck_reader_after_being_told_not_to(pipes: Pipes) -> None:
    pipes.print(b"x" * (1 << 18))
    pipes.relay.finish(lambda fd: False)
    assert pipes.relay.pending


def test_what_nobody_reads_is_bounded_and_the_loss_counted(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allstop.deploy.console.relay, "MAX_PENDING_BYTES", 1000)
    pipes.print(b"a" * 900)
    pipes.print(b"b" * 900)
    assert pipes.relay.dropped_bytes == 800
    pipes.relay.write()
    assert pipes.seen() == b"a" * 900 + b"b" * 100


def test_a_reader_who_has_left_is_forgotten(pipes: Pipes) -> None:
    os.close(pipes.user)
    pipes.user = -1
    pipes.print(b"hello?")
    pipes.relay.write()
    assert not pipes.relay.pending
    pipes.print(b"again?")
    assert not pipes.relay.pending
    pipes.relay.finish(never)
    pipes.log.seek(0)
    assert pipes.log.read() == b"hello?again?"


def test_a_closed_output_is_a_reader_who_has_left(pipes: Pipes) -> None:
    relay = ConsoleRelay(pipes.source, os.open(os.devnull, os.O_RDONLY), [], lambda: None)
    try:
        os.write(pipes.guest, b"hello?")
        relay.finish(_always)
        assert not relay.pending
    finally:
        os.close(relay.out_fd)


_always: Callable[[int], bool] = bool
