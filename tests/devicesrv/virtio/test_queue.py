# SPDX-License-Identifier: GPL-2.0-or-later
"""The split virtqueue against a simple model of a driver, and against drivers that mean harm."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.devicesrv.virtio.queue import MAX_CHAIN, Chain, Queue, QueueBrokenError, Segment, gather, pieces, scatter
from allstop.vm.config.limits import RAM_BASE

BUFFERS = RAM_BASE + 0x8000


def ready(memory: Any, ring: Any, event_index: bool = False) -> Queue:
    queue = Queue(memory, 256)
    queue.size, queue.descriptors, queue.driver, queue.device = ring.size, ring.descriptors, ring.driver, ring.device
    queue.enable(event_index)
    return queue


@pytest.fixture
def scene(flat_memory: Callable[[], Any], ring_at: Callable[..., Any]) -> tuple[Any, Any, Queue]:
    memory = flat_memory()
    ring = ring_at(memory, RAM_BASE)
    return memory, ring, ready(memory, ring)


piece = st.tuples(st.integers(0, 0x7000).map(lambda offset: BUFFERS + offset), st.integers(0, 600))
buffers = st.tuples(st.lists(piece, max_size=4), st.lists(piece, max_size=4)).filter(lambda both: both[0] or both[1])


@given(st.lists(st.lists(buffers, min_size=1, max_size=1), max_size=40), st.booleans(), st.integers(0, 5))
def test_what_is_offered_is_taken_in_order_and_comes_back(
    flat_memory: Any, ring_at: Any, batches: Any, event_index: bool, shift: int
) -> None:
    """Through many turns of the ring, and through the wrap of its 16-bit indices."""
    memory = flat_memory()
    ring = ring_at(memory, RAM_BASE)
    queue = ready(memory, ring, event_index)
    start = 0x10000 - 8 * shift & 0xFFFF
    ring.index = ring.taken = queue._next = queue._used = queue._told = start
    memory.store16(ring.driver + 2, start)
    memory.store16(ring.device + 2, start)
    for batch in batches:
        for readable, writable in batch:
            ring.chain(*((*one, False) for one in readable), *((*one, True) for one in writable))
            chain = queue.pop()
            assert chain == Chain(0, tuple(Segment(*one) for one in readable), tuple(Segment(*one) for one in writable))
            queue.push(chain, 7)
        assert queue.pop() is None
        assert ring.used() == [(0, 7)] * len(batch)


@given(st.lists(piece, max_size=5), st.integers(0, 3000), st.binary(max_size=3000))
def test_scattered_bytes_are_gathered_again(flat_memory: Any, parts: Any, offset: int, data: bytes) -> None:
    memory = flat_memory()
    segments, at = [], BUFFERS
    for _, length in parts:  # apart from one another
        segments.append(Segment(at, length))
        at += length + 3
    room = max(0, sum(segment.length for segment in segments) - offset)
    scatter(memory, segments, offset, data)
    assert gather(memory, segments, offset, len(data)) == data[:room]
    assert sum(segment.length for segment in pieces(segments, offset, len(data))) == min(room, len(data))


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(1, 8))
def test_the_event_index_asks_for_an_interrupt_when_it_is_passed(
    flat_memory: Any, ring_at: Any, start: int, wanted: int, count: int
) -> None:
    memory = flat_memory()
    ring = ring_at(memory, RAM_BASE)
    queue = ready(memory, ring, event_index=True)
    queue._used = queue._told = start
    memory.store16(ring.driver + 4 + 2 * ring.size, wanted)
    for _ in range(count):
        queue.push(Chain(0, (), ()), 0)
    assert queue.wants_interrupt() == (wanted in {start + step & 0xFFFF for step in range(count)})
    assert not queue.wants_interrupt(), "nothing was given back since"


def test_the_driver_can_do_without_interrupts(scene: Any) -> None:
    memory, ring, queue = scene
    queue.push(Chain(0, (), ()), 0)
    assert queue.wants_interrupt()
    memory.store16(ring.driver, 1)
    queue.push(Chain(0, (), ()), 0)
    assert not queue.wants_interrupt()


def test_with_the_event_index_the_driver_is_asked_to_notify_of_the_next(flat_memory: Any, ring_at: Any) -> None:
    memory = flat_memory()
    ring = ring_at(memory, RAM_BASE)
    queue = ready(memory, ring, event_index=True)
    ring.chain((BUFFERS, 4, False))
    ring.chain((BUFFERS, 4, False))
    assert queue.pop() and queue.pop() and queue.pop() is None
    assert memory.load16(ring.device + 4 + 8 * ring.size) == 2


def test_an_indirect_table_is_followed(scene: Any) -> None:
    memory, ring, queue = scene
    table = BUFFERS + 0x100
    for place in range(20):  # more than the queue has
        ring.descriptor(place, BUFFERS + place, 1, int(place < 19) | 2 * (place > 9), place + 1, table=table)
    ring.descriptor(3, table, 16 * 20, 4)
    ring.offer(3)
    chain = queue.pop()
    assert chain is not None and chain.head == 3
    assert (len(chain.readable), len(chain.writable)) == (10, 10)


OUTSIDE = 0x1000_0000


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (lambda ring: ring.offer(8), "descriptor 8 was made available in a queue of 8"),
        (lambda ring: ring.memory.store16(ring.driver + 2, 9), "9 buffers are available in a queue of 8"),
        (lambda ring: (ring.descriptor(0, 0, 1, 1, 1), ring.descriptor(1, 0, 1, 1, 0), ring.offer(0)), "is a loop"),
        (lambda ring: (ring.descriptor(0, 0, 1, 1, 0), ring.offer(0)), "is a loop"),
        (lambda ring: (ring.descriptor(0, 0, 1, 1, 8), ring.offer(0)), "descriptor 8 follows in a table of 8"),
        (lambda ring: ring.chain((BUFFERS, 1, True), (BUFFERS, 1, False)), "to read follows one to write"),
        (
            lambda ring: (ring.descriptor(0, BUFFERS, 24, 4), ring.offer(0)),
            "a table of indirect descriptors has 24 bytes",
        ),
        (lambda ring: (ring.descriptor(0, BUFFERS, 0, 4), ring.offer(0)), "has 0 bytes"),
        (lambda ring: (ring.descriptor(0, BUFFERS, 16 * MAX_CHAIN + 16, 4), ring.offer(0)), "indirect descriptors has"),
        (lambda ring: (ring.descriptor(0, BUFFERS, 16, 5), ring.offer(0)), "is nested, or has a successor"),
        (
            lambda ring: (
                ring.descriptor(0, BUFFERS, 16, 4),
                ring.descriptor(0, BUFFERS, 16, 4, table=BUFFERS),
                ring.offer(0),
            ),
            "is nested",
        ),
        (lambda ring: (ring.descriptor(0, OUTSIDE, 16, 4), ring.offer(0)), "at 0x10000000"),
        (lambda ring: (ring.descriptor(0, 1 << 63, 16, 4), ring.offer(0)), "at 0x8000000000000000"),
    ],
)
def test_what_can_not_be_breaks_the_queue(scene: Any, what: Callable[[Any], object], sentence: str) -> None:
    memory, ring, queue = scene
    what(ring)
    with pytest.raises(QueueBrokenError, match=sentence):
        queue.pop()


@pytest.mark.parametrize(
    ("size", "descriptors", "driver", "device"),
    [(0, 0, 0, 0), (3, 0, 0, 0), (512, 0, 0, 0), (0xFFFF_FFFF, 0, 0, 0), (8, 8, 0, 0), (8, 0, 1, 0), (8, 0, 0, 2)],
)
def test_a_queue_that_can_not_be_is_not_enabled(
    flat_memory: Any, size: int, descriptors: int, driver: int, device: int
) -> None:
    queue = Queue(flat_memory(), 256)
    queue.size, queue.descriptors = size, RAM_BASE + descriptors
    queue.driver, queue.device = RAM_BASE + driver, RAM_BASE + device
    with pytest.raises(QueueBrokenError):
        queue.enable(False)
    assert not queue.ready


@pytest.mark.fuzz
@given(st.binary(min_size=512, max_size=512), st.booleans(), st.integers(0, 3))
def test_no_rubbish_in_memory_gets_further_than_a_broken_queue(
    flat_memory: Any, ring_at: Any, rubbish: bytes, event_index: bool, size_bits: int
) -> None:
    """The whole area of a small queue is random: the queue gives chains, gives none, or is broken; and it ends."""
    memory = flat_memory(0x4000)
    ring = ring_at(memory, RAM_BASE, 1 << size_bits)
    queue = ready(memory, ring, event_index)
    memory.write(RAM_BASE, rubbish)
    memory.write(ring.driver + 2, struct.pack("<H", rubbish[0] % 4))
    try:
        for _ in range(20):
            chain = queue.pop()
            if chain is None:
                break
            queue.push(chain, 0)
            queue.wants_interrupt()
        else:
            pytest.fail("more chains than were made available")
    except QueueBrokenError:
        pass
