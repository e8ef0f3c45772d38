# SPDX-License-Identifier: GPL-2.0-or-later
"""The line that says how a test suite ended, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allstop.devicesrv.console.exit_line import ExitLine


@given(st.integers(-1000, 1 << 30), st.integers(1, 40), st.sampled_from([b"\n", b"\r\n"]), st.binary(max_size=60))
def test_it_is_found_in_pieces_of_any_size(code: int, size: int, end: bytes, before: bytes) -> None:
    text = before.replace(b"EXIT", b"") + b"\nEXIT: STATUS=%d" % (code << 1 | 1) + end
    line = ExitLine()
    found = [line.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert [one for one in found if one is not None] == [code]


@pytest.mark.parametrize(
    "text",
    [
        b"EXIT: STATUS=1",
        b"xEXIT: STATUS=1\n",
        b"EXIT: STATUS=\n",
        b"EXIT: STATUS=1x\n",
        b"EXIT: STATUS=99999999999999999\n",
        b"EXIT: STATUS=1\r\r\n",
        b"exit: status=1\n",
        b"y" * 100 + b"EXIT: STATUS=1\n",
    ],
)
def test_nothing_else_is_taken_for_it(text: bytes) -> None:
    assert ExitLine().feed(text) is None
