# SPDX-License-Identifier: GPL-2.0-or-later
"""Events in words."""
from __future__ import annotations

import pytest

from allstop.machine import control
from allstop.wire.journal import Event, Kind
from stress.event_words import details


@pytest.mark.parametrize(("requests", "words"), [
    (control.TLB_FLUSH, "translations"),
    (control.TLB_PAGES, "translations of single pages"),
    (control.CODE_FLUSH | control.INTERRUPT, "translated code"),
    (control.TLB_PAGES | control.CODE_FLUSH, "translations of single pages and translated code"),
])
def test_a_flush_says_what_was_dropped(requests: int, words: str) -> None:
    assert details(Event(0, Kind.FLUSHED, 1, (requests, 7))) == words
