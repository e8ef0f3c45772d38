# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's input at the device server: in order, all of it, to the right device, and never too much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allstop.devicesrv.console.input_line import InputLine
from allstop.vm.wire.messages import INPUT_WINDOW_BYTES


class Taker:
    """A device with so much room."""

    def __init__(self, room: int = 0, listening: bool = True) -> None:
        self.room = room
        self.listening = listening
        self.got = bytearray()

    def receive(self, data: bytes) -> int:
        taken = min(self.room, len(data))
        self.got += data[:taken]
        self.room -= taken
        return taken


def test_what_nobody_takes_waits_up_to_the_window() -> None:
    counts: list[int] = []
    line = InputLine(counts.append)
    assert line.feed(bytes(INPUT_WINDOW_BYTES))
    assert not line.feed(b"x")
    assert len(line.waiting) == INPUT_WINDOW_BYTES and counts == []


def test_the_device_that_subscribed_last_and_listens_gets_it() -> None:
    line = InputLine(lambda count: None)
    first, second = Taker(10), Taker(10, listening=False)
    line.subscribe(first)
    line.subscribe(second)
    line.feed(b"ab")
    second.listening = True
    line.feed(b"cd")
    second.room = 0
    line.feed(b"ef")
    assert (first.got, second.got, line.waiting) == (b"ab", b"cd", b"ef"), "a full device's input is not another's"


def test_a_device_that_is_known_to_be_opened_goes_before_one_that_only_listens() -> None:
    """Would break: a kernel with a shell on its UART, when the driver of another console is loaded."""
    line, is_open = InputLine(), [True]
    first, second = Taker(10), Taker(10)
    line.subscribe(first, lambda: is_open[0])
    line.subscribe(second)
    line.feed(b"ab")
    first.listening = False
    line.feed(b"cd")
    first.listening, is_open[0] = True, False
    line.feed(b"ef")
    assert (first.got, second.got, line.waiting) == (b"ab", b"cdef", b"")


@given(st.lists(st.binary(max_size=50) | st.integers(0, 60), max_size=40))
def test_everything_arrives_in_order_and_is_counted(course: list[bytes | int]) -> None:
    counts: list[int] = []
    line, taker = InputLine(counts.append), Taker()
    line.subscribe(taker)
    fed = bytearray()
    for step in course:
        if isinstance(step, int):
            taker.room += step
            line.pump()
        elif line.feed(step):
            fed += step
        assert taker.got + line.waiting == fed
        assert sum(counts) == len(taker.got)
        assert not (taker.room and line.waiting)
    assert 0 not in counts


def test_a_device_that_raises_loses_what_waits_and_harms_nobody() -> None:
    class Broken(Taker):
        def receive(self, data: bytes) -> int:
            raise KeyError("jammed")

    failures: list[BaseException] = []
    line = InputLine(failed=failures.append)
    line.subscribe(Broken())
    assert line.feed(b"abc")
    assert [str(failure) for failure in failures] == ["'jammed'"]
    assert not line.waiting
