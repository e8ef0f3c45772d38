# SPDX-License-Identifier: GPL-2.0-or-later
"""A network that loses, repeats and delays between a vCPU and its device: each access happens once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allstop.devicesrv.server.reply_cache import IGNORED, ReplyCache


def serve(memory: ReplyCache, performed: list[int], seq: int) -> bytes:
    """What the server does with a request."""
    reply = memory.recall(seq)
    if reply is None:
        performed.append(seq)
        reply = b"reply %d, side effect %d" % (seq, len(performed))
        memory.remember(seq, reply)
    return reply


def test_repeated_request_is_answered_with_the_same_bytes() -> None:
    memory, performed = ReplyCache(), []
    first = serve(memory, performed, 5)
    assert serve(memory, performed, 5) is first
    assert serve(memory, performed, 4) == IGNORED
    assert serve(memory, performed, 6) != first
    assert performed == [5, 6]
    assert (memory.repeats, memory.stale) == (1, 1)


def test_numbers_may_begin_anywhere_and_skip() -> None:
    memory, performed = ReplyCache(), []
    for seq in (0, 7, 1 << 63):
        assert serve(memory, performed, seq)
    assert performed == [0, 7, 1 << 63]


@pytest.mark.parametrize(("seq", "reply"), [(3, b"x"), (2, b"x"), (4, b"")])
def test_a_reply_out_of_order_is_the_servers_fault(seq: int, reply: bytes) -> None:
    memory = ReplyCache()
    memory.remember(3, b"x")
    with pytest.raises(ValueError, match=f"reply {seq} comes after reply 3"):
        memory.remember(seq, reply)
    assert memory.recall(3) == b"x"


@settings(deadline=None)
@given(st.data())
def test_whatever_the_network_does(data: st.DataObject) -> None:
    """The vCPU sends a request until an answer to it comes; every copy may arrive late, often or not at all."""
    memory, performed = ReplyCache(), []
    on_the_way: list[int] = []  # copies of requests, in any order
    answers: dict[int, set[bytes]] = {}
    seq = 1
    for _ in range(data.draw(st.integers(0, 40))):
        action = data.draw(st.sampled_from(("send", "deliver", "lose", "next")))
        if action == "send":
            on_the_way.append(seq)
        elif action == "next" and seq in answers:
            seq += 1
        elif on_the_way and action in ("deliver", "lose"):
            copy = on_the_way.pop(data.draw(st.integers(0, len(on_the_way) - 1)))
            if action == "deliver" and (reply := serve(memory, performed, copy)):
                assert copy == performed[-1], "what is older than the last access is never answered"
                answers.setdefault(copy, set()).add(reply)
    assert performed == sorted(set(performed)), "once each, in order"
    assert set(answers) == set(performed)
    assert all(len(replies) == 1 for replies in answers.values())
