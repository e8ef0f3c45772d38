# SPDX-License-Identifier: GPL-2.0-or-later
"""PROTOCOL.md says what the code does: it is what the code generates."""

from __future__ import annotations

from pathlib import Path

from allstop.vm.wire.messages import NUMBERS
from allstop.vm.wire.protocol import protocol_page

PAGE = Path(__file__).resolve().parents[3] / "PROTOCOL.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == protocol_page(), "run: python -m allstop.vm.wire.protocol > PROTOCOL.md"


def test_every_message_is_documented_with_its_number() -> None:
    page = protocol_page()
    for kind, number in NUMBERS.items():
        section = page.split(f"\n### {number} {kind.__name__}\n")[1].split("\n### ")[0]
        prose = section.strip().splitlines()[0]
        assert len(prose) > 10 and not prose.startswith("*"), f"{kind.__name__} has no documentation"
        assert all(f"| {name} | " in section for name in kind._fields)
