# SPDX-License-Identifier: GPL-2.0-or-later
"""Records in words."""

from __future__ import annotations

import pytest

from allstop.report.event_text import details
from allstop.vm.control import control
from allstop.vm.journal.format import Event, Kind


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        (control.TLB_FLUSH, "translations"),
        (control.TLB_PAGES, "translations of single pages"),
        (control.CODE_FLUSH | control.INTERRUPT, "translated code"),
        (control.TLB_PAGES | control.CODE_FLUSH, "translations of single pages and translated code"),
    ],
)
def test_a_flush_says_what_was_dropped(requests: int, words: str) -> None:
    assert details(Event(0, Kind.FLUSHED, 1, (requests, 7))) == words
