# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario files: TOML with a `seed` and `[[event]]` tables. An error names its line and key."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from allstop.vm.events.vocabulary import MAX_EVENTS, Event, EventError, event, shown

_HEADER = re.compile(r"\s*\[\[\s*event\s*\]\]")
_TABLE = re.compile(r"\s*\[")
_KEY = re.compile(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=")
_SYMBOL = re.compile(r"(?P<name>[^+]+?)\s*(?:\+\s*(?P<offset>0[xX][0-9a-fA-F]+|[0-9]+))?")


class ScenarioError(ValueError):
    """A scenario cannot be used; the text says where and why."""


@dataclass(frozen=True)
class Scenario:
    """Events, and the seed of their choices. `seed` None: the run's own. Raises ScenarioError for more than MAX_EVENTS
    events, and for two of one name."""

    events: tuple[Event, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if len(self.events) > MAX_EVENTS:
            raise ScenarioError(f"a scenario has at most {MAX_EVENTS} events, not {len(self.events)}")
        names = [found.name for found in self.events]
        for name in names:
            if names.count(name) > 1:
                raise ScenarioError(f"two events have the name {name!r}")

    def to_json(self) -> str:
        """As JSON, for `from_json`."""
        return json.dumps({"seed": self.seed, "events": [found.record() for found in self.events]})

    @classmethod
    def from_json(cls, text: str) -> Scenario:
        """Inverse of `to_json`; an empty text is an empty scenario. Raises ValueError."""
        if not text:
            return cls()
        raw = json.loads(text)
        return cls(tuple(event(record, number) for number, record in enumerate(raw["events"], 1)), raw["seed"])

    def resolved(self, address_of: Callable[[str], int | None]) -> Scenario:
        """With addresses for the image's symbols. Raises ScenarioError for one that the image does not have."""
        return replace(self, events=tuple(_resolved(found, address_of) for found in self.events))


def parse(text: str, path: str) -> Scenario:
    """The scenario in `text`, which was read from `path`. Raises ScenarioError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: no TOML: {error}") from None
    except RecursionError:
        raise ScenarioError(f"{path}: its values are nested too deeply") from None
    except ValueError:  # of `int`, for a number of thousands of digits
        raise ScenarioError(f"{path}: a number in it has too many digits") from None
    lines = text.splitlines()
    for key in raw:
        if key not in ("seed", "event"):
            raise ScenarioError(
                f"{path}:{_line(lines, None, key)}: {key!r} is no key of a scenario: it has seed and [[event]]"
            )
    seed = raw.get("seed")
    if seed is not None and not (isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 1 << 32):
        raise ScenarioError(f"{path}:{_line(lines, None, 'seed')}: seed must be a number of 32 bits, not {shown(seed)}")
    tables = raw.get("event", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ScenarioError(f"{path}: a scenario has one [[event]] table or more")
    if len(tables) > MAX_EVENTS:
        raise ScenarioError(f"{path}: a scenario has at most {MAX_EVENTS} events, not {len(tables)}")
    events: list[Event] = []
    for number, table in enumerate(tables, 1):
        try:
            found = event(table, number)
            if any(found.name == other.name for other in events):
                raise EventError(f"another event has the name {found.name!r} already", "name")
        except EventError as error:
            line = _line(lines, number, error.key)
            raise ScenarioError(f"{path}:{line}: event {number}: {error}") from None
        events.append(found)
    return Scenario(tuple(events), seed)


def _line(lines: list[str], table: int | None, key: str | None) -> int:
    """The line, from 1, of `key` in the `table`th event (None: outside of any), or of the table's own header."""
    seen, header = 0, 1
    for number, line in enumerate(lines, 1):
        if _HEADER.match(line):
            seen += 1
            if seen == table:
                header = number
        elif _TABLE.match(line) and table is None:
            break
        found = _KEY.match(line)
        if found and found[1] == key and seen == (table or 0):
            return number
    return header


def _resolved(found: Event, address_of: Callable[[str], int | None]) -> Event:
    changes: dict[str, Any] = {}
    for key in ("page", "executes"):
        value = getattr(found, key)
        if not isinstance(value, str) or value == "pc":
            continue
        match = _SYMBOL.fullmatch(value)
        address = address_of(match["name"]) if match else None
        if match is None or address is None:
            raise ScenarioError(f"event {found.name}: {key}: the image has no symbol {value!r}; give an address")
        changes[key] = address + int(match["offset"] or "0", 0) & 0xFFFF_FFFF
    return replace(found, **changes)
