# SPDX-License-Identifier: GPL-2.0-or-later
"""Framing: what is encoded comes back, in any pieces, and no bytes do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.gdbserver.framing import MAX_PACKET_BYTES, Framing, Interrupt, Packet, Write


@given(st.lists(st.binary(max_size=60), max_size=5), st.lists(st.integers(1, 20), min_size=1))
def test_packets_come_back_in_any_pieces(payloads: list[bytes], cuts: list[int]) -> None:
    sender, receiver = Framing(), Framing()
    data = b"".join(map(sender.encode, payloads))
    found = []
    turn = 0
    while data:
        cut = cuts[turn % len(cuts)]
        found += receiver.receive(data[:cut])
        data = data[cut:]
        turn += 1
    assert [item.payload for item in found if isinstance(item, Packet)] == payloads
    assert [item.data for item in found if isinstance(item, Write)] == [b"+"] * len(payloads)


@pytest.mark.fuzz
@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_garbage_never_raises_and_a_packet_behind_it_is_understood(garbage: list[bytes], acknowledges: bool) -> None:
    framing = Framing()
    framing.acknowledges = acknowledges
    for piece in garbage:
        framing.receive(piece)
    found = framing.receive(b"##00" + Framing().encode(b"qC"))
    assert Packet(b"qC") in found


def test_a_wrong_sum_is_asked_for_again_and_a_reply_repeated() -> None:
    framing = Framing()
    assert framing.receive(b"$g#00") == [Write(b"-")]
    assert framing.receive(b"$g#zz") == [Write(b"-")]
    sent = framing.encode(b"OK")
    assert framing.receive(b"-") == [Write(sent)]
    framing.acknowledges = False
    assert framing.receive(b"-") == []
    assert framing.receive(b"$g#00") == []


def test_ctrl_c_is_seen_between_packets_only() -> None:
    assert Framing().receive(b"\x03") == [Interrupt()]
    assert Framing().receive(b"$X0,1:\x03#%02x" % (sum(b"X0,1:\x03") & 0xFF)) == [Write(b"+"), Packet(b"X0,1:\x03")]


def test_a_packet_that_never_ends_is_not_kept() -> None:
    framing = Framing()
    for _ in range(100):
        framing.receive(b"$" + b"a" * MAX_PACKET_BYTES)
        assert framing.receive(b"a" * MAX_PACKET_BYTES) == []
    assert framing.receive(b"#00$g#67") == [Write(b"+"), Packet(b"g")]
