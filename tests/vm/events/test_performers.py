# SPDX-License-Identifier: GPL-2.0-or-later
"""Every action has exactly one performer and a line in the docs, and every performer and line has its action."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from allstop.devicesrv.server import reply_events
from allstop.vcpu_worker.events import actions
from allstop.vm.events.performers import Performers, rows_of
from allstop.vm.events.vocabulary import ACTIONS, DEVICES, WORKER, Action, event

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
REGISTRIES = (actions.performs, reply_events.performs, reply_events.performs_reply)
NAMES = {WORKER: "a worker", DEVICES: "the device server"}


def test_every_row_has_one_performer_and_every_performer_a_row() -> None:
    registered = [name for registry in REGISTRIES for name in registry.names]
    assert sorted(registered) == sorted(ACTIONS)
    assert not any(registry.missing for registry in REGISTRIES)
    assert actions.performs.names == {name for name, row in ACTIONS.items() if row.performer == WORKER}


def test_a_performer_without_a_row_and_a_second_one_are_refused() -> None:
    performs: Performers[object] = Performers(rows_of(WORKER))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="reply-drop is no action of this process"):
        performs("reply-drop")
    performs("stall")(lambda: None)
    with pytest.raises(ValueError, match="stall has a performer already"):
        performs("stall")
    assert "stall" not in performs.missing and "kill" in performs.missing


def line(row: Action) -> str:
    """The row as docs/events.md has it."""
    either = " or ".join(f"`{key}`" for key in row.either)
    keys = ", ".join(filter(None, (either, *(f"`{key}`" for key in row.keys if key not in row.either))))
    return f"| `{row.name}` | {keys} | {NAMES[row.performer]} | {row.meaning} |"


def test_the_page_has_the_table_of_the_rows() -> None:
    section = PAGE.partition("## Actions")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `.*$", section, re.MULTILINE)
    assert shown == [line(row) for row in ACTIONS.values()]


def test_an_event_for_now_leaves_its_trigger_behind() -> None:
    timed = event({"action": "stall", "for_ms": 3, "at_ms": 7, "every_ms": 9, "vcpu": 1})
    assert event(timed.immediate_record(), immediate=True).for_ms == 3
    assert set(timed.immediate_record()) == {"action", "name", "for_ms", "vcpu"}


@pytest.mark.parametrize("row", ACTIONS.values(), ids=lambda row: row.name)
def test_a_row_names_keys_that_there_are(row: Action) -> None:
    assert set(row.needs) | set(row.either) <= set(row.keys)
    assert row.meaning and not row.meaning.endswith(".")
